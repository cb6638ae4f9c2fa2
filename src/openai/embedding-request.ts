/** What an embeddings request asks for, read from its JSON body. */
import { z } from "zod";
import { MOST_INPUTS } from "../../engine/protocol.ts";
import type { PriorityClass } from "../../engine/sharing.ts";
import { emptyPrompt } from "./api-error.ts";
import { prepareBody } from "./generation-fields.ts";
import type { RequestLimits } from "./generation-fields.ts";
import { priorityField, readPriority } from "./priority-field.ts";
import { readPromptCut } from "./prompt-cut.ts";
import type { PromptCut } from "./prompt-cut.ts";
import { isEmptyInput, namedInputs, readNamedInputs } from "./text-inputs.ts";
import type { NamedInput } from "./text-inputs.ts";
import { ignoredFields } from "./unsupported.ts";
import { integer, parseWith } from "./validation.ts";

export const embeddingSchema = z.object({
  model: z.string().optional(),
  input: namedInputs,
  encoding_format: z.enum(["float", "base64"]).optional(),
  dimensions: integer(1).optional(),
  truncate_prompt_tokens: integer(-1).optional(),
  priority: priorityField.optional(),
});

const KNOWN: ReadonlySet<string> = new Set(Object.keys(embeddingSchema.shape));

export interface EmbeddingRequest {
  readonly model: string | undefined;
  /** None of them is only empty texts. */
  readonly inputs: readonly NamedInput[];
  readonly base64: boolean;
  /** Length of the vectors; undefined is the model's own. */
  readonly dimensions: number | undefined;
  /** Undefined: all of each input is read. */
  readonly cut: PromptCut | undefined;
  readonly priority: PriorityClass | undefined;
  readonly ignoredFields: readonly string[];
}

/** @throws {ApiError} 400 for what is wrong. */
export function readEmbeddingRequest(
  body: Readonly<Record<string, unknown>>,
  { strictParams, limits }: RequestLimits,
): EmbeddingRequest {
  const present = prepareBody(body, limits);
  const fields = parseWith(embeddingSchema, present);
  const ignored = ignoredFields(present, KNOWN, { endpoint: "embeddings", strict: strictParams });
  const inputs = readNamedInputs(present["input"], "input", MOST_INPUTS);
  for (const input of inputs) if (isEmptyInput(input)) throw emptyPrompt(input.param);
  return {
    model: fields.model,
    inputs,
    base64: fields.encoding_format === "base64",
    dimensions: fields.dimensions,
    cut: readPromptCut(fields.truncate_prompt_tokens, limits),
    priority: readPriority(fields.priority),
    ignoredFields: ignored,
  };
}
