/** `truncate_prompt_tokens`: how much of a prompt's end is read, and how long a text may be of which it is the end. */
import type { Limits } from "../config/limits.ts";
import { MAX_BYTES_PER_CONTEXT_TOKEN, TEXT_SLACK_BYTES } from "../http/limits.ts";
import { ApiError, contextExceeded } from "./api-error.ts";
import type { PromptField } from "./api-error.ts";
import { belowMinimum } from "./validation.ts";

export interface PromptCut {
  /** Most that are read; -1 is what the context holds. */
  readonly tokens: number;
  /** Of a text that would not fit as a whole. */
  readonly mostBytes: number;
}

/** @throws {ApiError} 400 for 0. */
export function readPromptCut(tokens: number | undefined, limits: Limits): PromptCut | undefined {
  if (tokens === 0) throw belowMinimum("truncate_prompt_tokens", 1, 0);
  return tokens === undefined ? undefined : { tokens, mostBytes: limits["max-tokenize-bytes"] };
}

/** How many of a prompt's last tokens are read at most. */
export function keptTokens(cut: PromptCut | undefined, contextTokens: number): number {
  if (cut === undefined) return Infinity;
  // One is left to be generated.
  return cut.tokens === -1 ? contextTokens - 1 : cut.tokens;
}

/** Where a text came in, and whether its end is enough. */
interface ReadText {
  readonly field: PromptField;
  /** What errors call it; absent: as the field. */
  readonly param?: string;
  readonly cut?: PromptCut | undefined;
}

/**
 * @param bytes About how many the text has.
 * @throws {ApiError} 400 for a text so long that counting its tokens would only take time.
 */
export function assertWorthReading(bytes: number, contextTokens: number, text: ReadText): void {
  const { field, param = field, cut } = text;
  if (bytes <= contextTokens * MAX_BYTES_PER_CONTEXT_TOKEN + TEXT_SLACK_BYTES) return;
  if (cut === undefined) throw contextExceeded(field, contextTokens, undefined, param);
  if (bytes <= cut.mostBytes) return;
  throw new ApiError(
    "string_above_max_length",
    `Invalid '${param}': of more than ${cut.mostBytes} bytes 'truncate_prompt_tokens' cannot read the end ` +
      "(--max-tokenize-bytes).",
    param,
  );
}
