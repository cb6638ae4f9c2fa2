/** The one error type of the engine: a code that callers can branch on, and a message for people. */

export type EngineErrorCode =
  /** No file, or not readable. */
  | "model_not_found"
  /** The file is there but is not a model this runtime can load. */
  | "model_invalid"
  | "out_of_memory"
  /** The installed runtime lacks what the engine needs. */
  | "runtime_incompatible"
  | "gpu_unavailable"
  /** The draft model cannot guess for the model it is given for. */
  | "draft_unfit"
  /** Prompt does not fit the slot. Details: promptTokens, contextTokens. */
  | "context_exceeded"
  /** Prompt is longer than the operator allows. Details: promptTokens, maxPromptTokens. */
  | "prompt_too_long"
  | "empty_prompt"
  | "invalid_request"
  /** The runtime refuses the grammar. */
  | "grammar_rejected"
  /** Grammar, bans and biases of a request leave nothing to draw. */
  | "no_token_allowed"
  /** Too many wait, or the wait is too long for everybody. Details: retryAfterMs. */
  | "queue_full"
  /** Too many of the owner's requests wait, or too many of its prompt tokens. Details: limit, retryAfterMs. */
  | "owner_queue_full"
  | "owner_tokens_exceeded"
  /** More choices of one answer than may ever be open at a time. Details: choices, most. */
  | "too_many_choices"
  /** The first token cannot come as soon as it is asked for. Details: predictedMs, retryAfterMs. */
  | "first_token_too_late"
  /** Its time was up before its first token. */
  | "deadline_exceeded"
  | "draining"
  /** A native call failed. */
  | "decode_failed"
  /** The engine process ended. */
  | "engine_exited"
  /** The engine process ended each time it computed this request. */
  | "engine_crashed"
  | "internal";

export class EngineError extends Error {
  override readonly name = "EngineError";
  readonly code: EngineErrorCode;
  readonly details: Readonly<Record<string, number>> | undefined;

  constructor(code: EngineErrorCode, message: string, details?: Readonly<Record<string, number>>) {
    super(message);
    this.code = code;
    this.details = details;
  }
}

/** Whatever was thrown; what is no error of the engine is a bug of it. */
export function asEngineError(error: unknown): EngineError {
  if (error instanceof EngineError) return error;
  return new EngineError("internal", error instanceof Error ? error.message : String(error));
}
