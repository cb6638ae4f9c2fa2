/** Log probabilities in the two shapes of OpenAI: chat's list of tokens, legacy completions' parallel arrays. */
import type { TokenId } from "../../engine/protocol.ts";
import type { DeltaToken } from "../../models/text/text-pipeline.ts";
import type { TokenTable } from "../../models/text/token-table.ts";

interface TokenLogprobJson {
  readonly token: string;
  readonly logprob: number;
  /** Null for control tokens, which have no text. */
  readonly bytes: readonly number[] | null;
}

export interface ChatTokenJson extends TokenLogprobJson {
  readonly top_logprobs: readonly TokenLogprobJson[];
}

export function chatLogprobs(tokens: readonly DeltaToken[], table: TokenTable): ChatTokenJson[] {
  return tokens.flatMap(({ token, logprobs }) =>
    logprobs === undefined
      ? []
      : [
          {
            ...tokenJson(token, logprobs.logprob, table),
            top_logprobs: logprobs.top.map(([id, logprob]) => tokenJson(id, logprob, table)),
          },
        ],
  );
}

export interface LegacyLogprobsJson {
  readonly tokens: string[];
  readonly token_logprobs: number[];
  readonly top_logprobs: (Record<string, number> | null)[];
  readonly text_offset: number[];
}

/** Legacy logprobs over a whole answer, which may come in pieces. */
export class LegacyLogprobs {
  readonly #table: TokenTable;
  #offset: number;

  /** @param promptCharacters Offsets count from the start of the prompt. */
  constructor(table: TokenTable, promptCharacters: number) {
    this.#table = table;
    this.#offset = promptCharacters;
  }

  next(tokens: readonly DeltaToken[]): LegacyLogprobsJson {
    const json: LegacyLogprobsJson = { tokens: [], token_logprobs: [], top_logprobs: [], text_offset: [] };
    for (const { token, logprobs } of tokens) {
      if (logprobs === undefined) continue;
      json.tokens.push(tokenText(token, this.#table));
      json.token_logprobs.push(logprobs.logprob);
      json.top_logprobs.push(this.#top(logprobs.top));
      json.text_offset.push(this.#offset);
      this.#offset += characterStarts(this.#table.bytes(token));
    }
    return json;
  }

  #top(top: readonly (readonly [TokenId, number])[]): Record<string, number> | null {
    if (top.length === 0) return null;
    return Object.fromEntries(top.map(([id, logprob]) => [tokenText(id, this.#table), logprob]));
  }
}

/** Characters that begin in these bytes: a character split over two tokens belongs to the first. */
export function characterStarts(bytes: Uint8Array): number {
  let count = 0;
  for (const byte of bytes) if ((byte & 0xc0) !== 0x80) count++;
  return count;
}

function tokenJson(token: TokenId, logprob: number, table: TokenTable): TokenLogprobJson {
  return {
    token: tokenText(token, table),
    logprob,
    bytes: table.isControl(token) ? null : [...table.bytes(token)],
  };
}

/** The token's text; one that is no whole character is written as its bytes, as OpenAI does. */
function tokenText(token: TokenId, table: TokenTable): string {
  const bytes = table.bytes(token);
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return `bytes:${Array.from(bytes, (byte) => `\\x${byte.toString(16).padStart(2, "0")}`).join("")}`;
  }
}
