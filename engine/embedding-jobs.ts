/** What an `embed` or a `rank` asks for, as a sequence of bounded pieces of work. */
import { performance } from "node:perf_hooks";
import { setImmediate } from "node:timers/promises";
import { EngineError } from "./errors.ts";
import { MOST_INPUT_TOKENS, MOST_INPUTS } from "./protocol.ts";
import type { Backend, Embedder } from "./backend.ts";
import type { EmbedCommand, EngineEvent, PromptPart, RankCommand } from "./protocol.ts";

/** After a piece: whether another job may go on before this one. */
export type Turn = "yields" | "keeps";

export type Job = AsyncGenerator<Turn, EngineEvent, void>;

/** Tokenizing is done in pieces too; so many characters take a few milliseconds. */
const CHARS_PER_PIECE = 1 << 15;
/** More characters cannot be fewer tokens than the limit, in any text somebody means. */
const MOST_CHARS = MOST_INPUT_TOKENS * 32;

/**
 * @returns Characters of all inputs.
 * @throws {EngineError} `invalid_request`.
 */
export function checkInputs(command: EmbedCommand | RankCommand): number {
  const inputs = inputsOf(command);
  const count = inputs.length;
  if (count === 0 || count > MOST_INPUTS) {
    const message = `One call takes 1 to ${MOST_INPUTS} inputs, not ${count}.`;
    throw new EngineError("invalid_request", message, { inputs: count });
  }
  const query = command.type === "rank" ? size(command.query) : 0;
  const chars = inputs.reduce((sum, input) => sum + size(input), query);
  if (chars > MOST_CHARS) throw tooMuch();
  return chars;
}

/** Told how many tokens all inputs have, before any is computed; throws where they are too many. */
export type OnTokens = (tokens: number) => void;

export function jobOf(command: EmbedCommand | RankCommand, backend: Backend, onTokens: OnTokens): Job {
  return command.type === "embed"
    ? embedJob(command, backend, onTokens)
    : rankJob(command, backend, onTokens);
}

async function* embedJob({ call, inputs, keep }: EmbedCommand, backend: Backend, onTokens: OnTokens): Job {
  const { embedder } = backend;
  const prepared = yield* tokenized(inputs, backend, async (tokens, index) => {
    const whole = tokens.length === 0 ? tokens : preparedEnd(tokens, keep, embedder);
    checkLength(whole.length, embedder.contextTokens, index);
    return whole;
  });
  onTokens(prepared.reduce((sum, { length }) => sum + length, 0));
  // No part of what the inputs take.
  await embedder.open();
  const vectors: Float32Array[] = [];
  const work = { calls: 0, ms: 0 };
  for (const index of byLength(prepared.map(({ length }) => length))) {
    const pieces = embedder.embed(prepared[index] ?? new Uint32Array(0));
    for (;;) {
      const piece = await timed(pieces.next(), work);
      if (piece.done === true) {
        vectors[index] = normalized(piece.value);
        break;
      }
      // The context holds the half of this input.
      yield "keeps";
    }
    yield "yields";
  }
  return { type: "embedded", call, vectors, tokenCounts: prepared.map(({ length }) => length), work };
}

/** The last tokens of an input, with those that the model wants around them. */
function preparedEnd(tokens: Uint32Array, keep: number | undefined, embedder: Embedder): Uint32Array {
  if (keep !== -1) return embedder.prepare(keep === undefined ? tokens : tokens.slice(-keep));
  let kept = tokens.slice(-embedder.contextTokens);
  for (;;) {
    const prepared = embedder.prepare(kept);
    const surplus = prepared.length - embedder.contextTokens;
    if (surplus <= 0) return prepared;
    // An input without its own begin token gets one, so once may not be enough.
    kept = kept.slice(surplus);
  }
}

async function* rankJob({ call, query, documents }: RankCommand, backend: Backend, onTokens: OnTokens): Job {
  const { embedder } = backend;
  if (!backend.facts.ranking) throw new EngineError("invalid_request", "This model has no ranking head.");
  const queryTokens = backend.tokenize(query, false);
  if (queryTokens.length === 0) throw new EngineError("empty_prompt", "The query has no tokens.");
  const tokenCounts: number[] = [];
  const prepared = yield* tokenized(documents, backend, async (tokens, index) => {
    const count = tokens.length === 0 ? 0 : await embedder.rankedTokens(queryTokens, tokens);
    tokenCounts[index] = count;
    checkLength(count, embedder.contextTokens, index);
    return tokens;
  });
  onTokens(tokenCounts.reduce((sum, count) => sum + count, 0));
  const scores: number[] = [];
  const work = { calls: 0, ms: 0 };
  for (const index of byLength(tokenCounts)) {
    scores[index] = await timed(embedder.rank(queryTokens, prepared[index] ?? new Uint32Array(0)), work);
    yield "yields";
  }
  return { type: "ranked", call, scores, tokenCounts, work };
}

/** One native call. */
async function timed<T>(call: Promise<T>, work: { calls: number; ms: number }): Promise<T> {
  const startMs = performance.now();
  const result = await call;
  work.calls += 1;
  work.ms += performance.now() - startMs;
  return result;
}

async function* tokenized(
  inputs: readonly (readonly PromptPart[])[],
  backend: Backend,
  check: (tokens: Uint32Array, index: number) => Promise<Uint32Array>,
): AsyncGenerator<Turn, Uint32Array[], void> {
  const all: Uint32Array[] = [];
  let chars = 0;
  let total = 0;
  for (const [index, input] of inputs.entries()) {
    const tokens = await check(backend.tokenize(input, false), index);
    total += tokens.length;
    if (total > MOST_INPUT_TOKENS) throw tooMuch();
    all.push(tokens);
    chars += size(input);
    if (chars < CHARS_PER_PIECE) continue;
    chars = 0;
    // No native call follows in which events would be heard.
    await setImmediate();
    yield "yields";
  }
  return all;
}

function checkLength(tokens: number, contextTokens: number, index: number): void {
  if (tokens === 0) throw new EngineError("empty_prompt", `Input ${index} has no tokens.`, { index });
  if (tokens <= contextTokens) return;
  const message = `Input ${index} has ${tokens} tokens, and at most ${contextTokens} can be computed.`;
  throw new EngineError("context_exceeded", message, { index, promptTokens: tokens, contextTokens });
}

/** Indices, shortest first: calls of equal shapes in a row reuse the runtime's graphs. */
function byLength(lengths: readonly number[]): number[] {
  return [...lengths.keys()].sort((a, b) => (lengths[a] ?? 0) - (lengths[b] ?? 0));
}

/** @throws {EngineError} `decode_failed` for a vector without a direction. */
function normalized(vector: Float32Array): Float32Array {
  let squares = 0;
  for (const value of vector) squares += value * value;
  const norm = Math.sqrt(squares);
  if (!Number.isFinite(norm) || norm === 0)
    throw new EngineError("decode_failed", "The model gave no vector for an input.");
  return vector.map((value) => value / norm);
}

function inputsOf(command: EmbedCommand | RankCommand): readonly (readonly PromptPart[])[] {
  return command.type === "embed" ? command.inputs : command.documents;
}

/** In characters, or tokens where it has no text. */
function size(input: readonly PromptPart[]): number {
  return input.reduce((sum, part) => sum + ("text" in part ? part.text.length : part.tokens.length), 0);
}

function tooMuch(): EngineError {
  return new EngineError("invalid_request", `One call takes at most ${MOST_INPUT_TOKENS} tokens.`);
}
