/** Vectors and scores of texts: asks the engine, and says in the client's words what it refuses. */
import type { Embeddings, Rankings } from "../engine/client.ts";
import { EngineError } from "../engine/errors.ts";
import { MOST_INPUT_TOKENS } from "../engine/protocol.ts";
import type { PromptPart } from "../engine/protocol.ts";
import type { PriorityClass } from "../engine/sharing.ts";
import type { LoadedModel } from "../models/loaded-model.ts";
import { clientClosed } from "./client-words.ts";
import { ApiError, contextExceeded, emptyPrompt, fromEngineError } from "./openai/api-error.ts";
import { checkToken } from "./openai/generation-fields.ts";
import { assertWorthReading } from "./openai/prompt-cut.ts";
import type { PromptCut } from "./openai/prompt-cut.ts";
import type { RerankRequest } from "./openai/rerank-request.ts";
import type { NamedInput } from "./openai/text-inputs.ts";

type InputField = "input" | "content" | "documents";

/** The field that the inputs came in, and what errors call each of them. */
interface InputNames {
  readonly field: InputField;
  readonly params: readonly string[];
}

export interface EmbeddingInputs {
  /** That they came in. */
  readonly field: "input" | "content";
  readonly inputs: readonly NamedInput[];
  /** Absent: all of each is read. */
  readonly cut?: PromptCut | undefined;
}

/** Who asks for them, and how soon they are wanted. */
export interface InputsAsker {
  readonly owner: string;
  readonly priority: PriorityClass;
  /** After so many ms they are of no use any more; undefined is never. */
  readonly withinMs: number | undefined;
  /** Aborts when the client has gone. */
  readonly signal: AbortSignal;
}

/**
 * @returns Vectors of the model's size, in the order of the inputs, and the tokens that each input has.
 * @throws {ApiError} 400 when the model makes none, for an input that is too long or no token of the model; what
 * the engine said; 504 when it takes too long; `client_closed` when the client has gone.
 */
export async function embed(
  model: LoadedModel,
  { field, inputs, cut }: EmbeddingInputs,
  asker: InputsAsker,
): Promise<Embeddings> {
  const { embeddings: facts, vocabSize } = model.facts;
  // Vectors are computed in a context of their own, where no adapter is applied.
  if (facts === undefined || model.applied.length > 0) {
    throw new ApiError("unsupported_value", `The model '${model.id}' makes no embeddings.`, "model");
  }
  const parts = inputs.map(({ param, pieces }) => {
    let [bytes, ids] = [0, 0];
    for (const piece of pieces) {
      if (piece.kind === "text") bytes += Buffer.byteLength(piece.text);
      else ids += piece.tokens.length;
    }
    assertWorthReading(bytes, facts.contextTokens, { field, param, cut });
    if (cut === undefined && ids > facts.contextTokens)
      throw contextExceeded(field, facts.contextTokens, bytes === 0 ? ids : undefined, param);
    return pieces.map((piece): PromptPart => {
      if (piece.kind === "text") return { text: piece.text, special: false };
      const { tokens, start = 0 } = piece;
      for (const [i, token] of tokens.entries()) checkToken(token, vocabSize, `${piece.param}[${start + i}]`);
      return { tokens };
    });
  });
  const names = { field, params: inputs.map(({ param }) => param) };
  const { owner, priority } = asker;
  const who = { owner, priority, keep: cut?.tokens };
  return inTime(asker, names, (signal) => model.engine.embed(parts, signal, who));
}

/**
 * @returns A score for each document, in order, 0 to 1, and the tokens of query and document together.
 * @throws {ApiError} As `embed`.
 */
export async function rank(
  model: LoadedModel,
  { query, documents, listedAs }: Pick<RerankRequest, "query" | "documents" | "listedAs">,
  asker: InputsAsker,
): Promise<Rankings> {
  const { embeddings: facts, ranking, contextTokens } = model.facts;
  if (!ranking || model.applied.length > 0) {
    throw new ApiError("unsupported_value", `The model '${model.id}' cannot rank documents.`, "model");
  }
  const longest = facts?.contextTokens ?? contextTokens;
  assertWorthReading(Buffer.byteLength(query), longest, { field: "documents", param: "query" });
  const params = documents.map((_, i) => `${listedAs}[${i}]`);
  const parts = documents.map((text, i): PromptPart[] => {
    assertWorthReading(Buffer.byteLength(text), longest, {
      field: "documents",
      param: params[i] ?? "documents",
    });
    return [{ text, special: false }];
  });
  const { owner, priority } = asker;
  return inTime(asker, { field: "documents", params }, (signal) =>
    model.engine.rank([{ text: query, special: false }], parts, signal, { owner, priority }),
  );
}

async function inTime<T>(
  { signal, withinMs }: InputsAsker,
  names: InputNames,
  ask: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const late = new AbortController();
  const timer =
    withinMs === undefined ? undefined : setTimeout(() => late.abort(), Math.ceil(withinMs)).unref();
  try {
    return await ask(withinMs === undefined ? signal : AbortSignal.any([signal, late.signal]));
  } catch (error) {
    if (signal.aborted) throw clientClosed();
    if (late.signal.aborted)
      throw fromEngineError(new EngineError("deadline_exceeded", "Too late."), names.field);
    throw error instanceof EngineError ? asShown(error, names) : error;
  } finally {
    clearTimeout(timer);
  }
}

function asShown(error: EngineError, { field, params }: InputNames): ApiError {
  const { index = -1, contextTokens = 0, promptTokens } = error.details ?? {};
  const param = params[index] ?? field;
  if (error.code === "context_exceeded") return contextExceeded(field, contextTokens, promptTokens, param);
  if (error.code === "empty_prompt") return emptyPrompt(param);
  if (error.code !== "invalid_request") return fromEngineError(error, field);
  // As its client calls it.
  const all = (params[0] ?? field).replace(/\[.*$/, "");
  return new ApiError(
    "invalid_value",
    `Invalid '${all}': one request may have at most ${MOST_INPUT_TOKENS} tokens.`,
    all,
  );
}
