/** Log probabilities in the two shapes of OpenAI, chat's list of tokens and legacy completions' parallel arrays, and in vLLM's of a prompt. */
import { promptLogprobsAt } from "../../engine/prompt-logprobs.ts";
import type { PromptLogprobs, TokenId, TokenLogprobs } from "../../engine/protocol.ts";
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

/** How tokens are written. */
export interface TokenNaming {
  readonly table: TokenTable;
  /** As `token_id:5` instead of their text, for clients that need to tell those with the same text apart. */
  readonly asIds: boolean;
}

export function chatLogprobs(tokens: readonly DeltaToken[], naming: TokenNaming): ChatTokenJson[] {
  return tokens.flatMap(({ token, logprobs }) =>
    logprobs === undefined
      ? []
      : [
          {
            ...tokenJson(token, logprobs.logprob, naming),
            top_logprobs: logprobs.top.map(([id, logprob]) => tokenJson(id, logprob, naming)),
          },
        ],
  );
}

export interface LegacyLogprobsJson {
  readonly tokens: string[];
  readonly token_logprobs: (number | null)[];
  readonly top_logprobs: (Record<string, number> | null)[];
  readonly text_offset: number[];
}

/** Legacy logprobs over a whole answer, which may come in pieces. */
export class LegacyLogprobs {
  readonly #naming: TokenNaming;
  #offset: number;

  /** @param promptCharacters Offsets count from the start of the prompt. */
  constructor(naming: TokenNaming, promptCharacters: number) {
    this.#naming = naming;
    this.#offset = promptCharacters;
  }

  /** Tokens without a log probability are left out. */
  next(tokens: readonly DeltaToken[]): LegacyLogprobsJson {
    const json = emptyLegacyLogprobs();
    for (const { token, logprobs } of tokens) {
      if (logprobs === undefined) continue;
      this.#offset = addToken(json, { token, logprobs }, this.#offset, this.#naming);
    }
    return json;
  }
}

/**
 * Every token of a prompt, the first without a log probability, because nothing comes before it.
 * @param hidden How many of the first tokens are no part of the prompt's text: a begin token that was added.
 */
export function promptLogprobs(
  tokens: readonly DeltaToken[],
  naming: TokenNaming,
  hidden: number,
): LegacyLogprobsJson {
  const json = emptyLegacyLogprobs();
  let offset = 0;
  for (const [i, token] of tokens.entries()) {
    const next = addToken(json, token, offset, naming);
    if (i >= hidden) offset = next;
  }
  return json;
}

interface PromptTokenJson {
  readonly logprob: number;
  /** 1 for the most likely; null for a token that is none of the alternatives. */
  readonly rank: number | null;
  readonly decoded_token: string;
}

/** vLLM's shape: of each token of a prompt, itself and its alternatives by id; null for the first. */
export function promptLogprobsJson(
  ofPrompt: PromptLogprobs | undefined,
  tokens: readonly TokenId[],
  table: TokenTable,
): (Readonly<Record<string, PromptTokenJson>> | null)[] | null {
  if (ofPrompt === undefined) return null;
  return tokens.map((token, i) => {
    const logprobs = promptLogprobsAt(ofPrompt, i);
    if (logprobs === undefined) return null;
    const json: Record<string, PromptTokenJson> = {};
    const add = (id: TokenId, logprob: number, rank: number | null): void => {
      json[id] ??= { logprob, rank, decoded_token: tokenText(id, { table, asIds: false }) };
    };
    for (const [rank, [id, logprob]] of logprobs.top.entries()) add(id, logprob, rank + 1);
    add(token, logprobs.logprob, null);
    return json;
  });
}

/** The token arrays of the first, then those of the second. */
export function joinLegacyLogprobs(
  first: LegacyLogprobsJson,
  second: LegacyLogprobsJson,
): LegacyLogprobsJson {
  return {
    tokens: [...first.tokens, ...second.tokens],
    token_logprobs: [...first.token_logprobs, ...second.token_logprobs],
    top_logprobs: [...first.top_logprobs, ...second.top_logprobs],
    text_offset: [...first.text_offset, ...second.text_offset],
  };
}

function emptyLegacyLogprobs(): LegacyLogprobsJson {
  return { tokens: [], token_logprobs: [], top_logprobs: [], text_offset: [] };
}

/** @returns The offset of the next token. */
function addToken(
  json: LegacyLogprobsJson,
  { token, logprobs }: DeltaToken,
  offset: number,
  naming: TokenNaming,
): number {
  json.tokens.push(tokenText(token, naming));
  json.token_logprobs.push(logprobs?.logprob ?? null);
  json.top_logprobs.push(logprobs === undefined ? null : topJson(token, logprobs, naming));
  json.text_offset.push(offset);
  return offset + characterStarts(naming.table.bytes(token));
}

/**
 * The alternatives asked for, and the token itself where it is none of them, as OpenAI has it. Of tokens with the
 * same text the most likely counts.
 */
function topJson(
  token: TokenId,
  { logprob, top }: TokenLogprobs,
  naming: TokenNaming,
): Record<string, number> | null {
  if (top.length === 0) return null;
  const byText = new Map<string, number>();
  for (const [id, ofId] of [...top, [token, logprob] as const]) {
    const text = tokenText(id, naming);
    if (!byText.has(text)) byText.set(text, ofId);
  }
  return Object.fromEntries(byText);
}

/** Characters that begin in these bytes: a character split over two tokens belongs to the first. */
export function characterStarts(bytes: Uint8Array): number {
  let count = 0;
  for (const byte of bytes) if ((byte & 0xc0) !== 0x80) count++;
  return count;
}

function tokenJson(token: TokenId, logprob: number, naming: TokenNaming): TokenLogprobJson {
  const { table } = naming;
  return {
    token: tokenText(token, naming),
    logprob,
    bytes: table.isControl(token) ? null : [...table.bytes(token)],
  };
}

/** The token's text; one that is no whole character is written as its bytes, as OpenAI does. */
function tokenText(token: TokenId, { table, asIds }: TokenNaming): string {
  if (asIds) return `token_id:${token}`;
  const bytes = table.bytes(token);
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return `bytes:${Array.from(bytes, (byte) => `\\x${byte.toString(16).padStart(2, "0")}`).join("")}`;
  }
}
