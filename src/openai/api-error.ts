/** The errors a client can see: one table of codes with status and type, and the JSON that carries them. */
import type { EngineError } from "../../engine/errors.ts";
import type { Allowance } from "../../engine/sharing.ts";
import { RETRY_AFTER_SECONDS } from "../http/limits.ts";
import { allowanceHeaders, retryHeaders } from "./limit-headers.ts";

interface ErrorKind {
  readonly status: number;
  readonly type: string;
  /** False where OpenAI sends `code: null`, a text where it has one code for several errors. */
  readonly codeOnWire?: false | string;
  /** Clients may try again after this many seconds. */
  readonly retryAfter?: number;
  /** Clients retry every 5xx unless told that it is of no use. */
  readonly shouldRetry?: false;
}

const REQUEST = "invalid_request_error";
const SERVER = "server_error";

/** The one place that says which error has which status. */
const KINDS = {
  array_above_max_length: { status: 400, type: REQUEST },
  context_length_exceeded: { status: 400, type: REQUEST },
  decimal_above_max_value: { status: 400, type: REQUEST },
  decimal_below_min_value: { status: 400, type: REQUEST },
  empty_array: { status: 400, type: REQUEST },
  empty_string: { status: 400, type: REQUEST },
  integer_above_max_value: { status: 400, type: REQUEST },
  integer_below_min_value: { status: 400, type: REQUEST },
  invalid_function_parameters: { status: 400, type: REQUEST },
  invalid_json: { status: 400, type: REQUEST, codeOnWire: false },
  invalid_messages: { status: 400, type: REQUEST },
  invalid_order: { status: 400, type: REQUEST, codeOnWire: false },
  invalid_schema: { status: 400, type: REQUEST, codeOnWire: false },
  invalid_type: { status: 400, type: REQUEST },
  invalid_value: { status: 400, type: REQUEST },
  malformed_request: { status: 400, type: REQUEST },
  missing_required_parameter: { status: 400, type: REQUEST },
  previous_response_not_found: { status: 400, type: REQUEST },
  string_above_max_length: { status: 400, type: REQUEST },
  template_limit: { status: 400, type: REQUEST },
  unknown_parameter: { status: 400, type: REQUEST },
  unsupported_parameter: { status: 400, type: REQUEST },
  unsupported_value: { status: 400, type: REQUEST },
  invalid_api_key: { status: 401, type: REQUEST },
  key_not_allowed: { status: 403, type: REQUEST },
  host_not_allowed: { status: 403, type: REQUEST },
  origin_not_allowed: { status: 403, type: REQUEST },
  model_not_found: { status: 404, type: REQUEST },
  unknown_url: { status: 404, type: REQUEST, codeOnWire: false },
  method_not_allowed: { status: 405, type: REQUEST, codeOnWire: false },
  request_not_found: { status: 404, type: REQUEST },
  /** By somebody who may, through `/v1/requests`. */
  request_cancelled: { status: 409, type: REQUEST, shouldRetry: false },
  response_not_found: { status: 404, type: REQUEST, codeOnWire: false },
  request_timeout: { status: 408, type: REQUEST },
  request_too_large: { status: 413, type: REQUEST },
  unsupported_media_type: { status: 415, type: REQUEST },
  /** 429 is about the client's own limits, never about the server being full. */
  request_limit_exceeded: { status: 429, type: "requests", codeOnWire: "rate_limit_exceeded" },
  token_limit_exceeded: { status: 429, type: "tokens", codeOnWire: "rate_limit_exceeded" },
  deadline_unreachable: { status: 429, type: "requests" },
  headers_too_large: { status: 431, type: REQUEST },
  /** Nobody reads it: the client has gone. The number is the one nginx logs. */
  client_closed: { status: 499, type: REQUEST },
  internal_error: { status: 500, type: SERVER },
  engine_error: { status: 500, type: SERVER },
  engine_crashed: { status: 500, type: SERVER, shouldRetry: false },
  template_error: { status: 500, type: SERVER, shouldRetry: false },
  engine_restarting: { status: 503, type: SERVER, retryAfter: RETRY_AFTER_SECONDS },
  model_failed: { status: 503, type: SERVER, shouldRetry: false },
  model_loading: { status: 503, type: SERVER, retryAfter: RETRY_AFTER_SECONDS },
  server_draining: { status: 503, type: SERVER, retryAfter: RETRY_AFTER_SECONDS },
  server_overloaded: { status: 503, type: SERVER, retryAfter: RETRY_AFTER_SECONDS },
  /** A client that still waits for it would not have set that time. */
  deadline_exceeded: { status: 504, type: SERVER, shouldRetry: false },
  too_many_requests_on_connection: { status: 503, type: SERVER, retryAfter: RETRY_AFTER_SECONDS },
} as const satisfies Record<string, ErrorKind>;

export type ApiErrorCode = keyof typeof KINDS;

/** What clients see of a code; where they see none, the code itself. */
export function shownCode(code: ApiErrorCode): string {
  const { codeOnWire = false }: ErrorKind = KINDS[code];
  return codeOnWire === false ? code : codeOnWire;
}

export interface ApiErrorExtra {
  /** Further keys inside `error`, such as the numbers the message speaks of. */
  readonly fields?: Readonly<Record<string, number>>;
  readonly headers?: Readonly<Record<string, string>>;
}

/** OpenAI's envelope; all four keys are always there. */
export interface ErrorBody {
  readonly error: {
    readonly message: string;
    readonly type: string;
    readonly param: string | null;
    readonly code: string | null;
    readonly [extra: string]: string | number | null;
  };
}

/** An error meant for a client; its message holds nothing a client may not know. */
export class ApiError extends Error {
  override readonly name = "ApiError";
  readonly code: ApiErrorCode;
  /** The request field at fault, such as `messages[0].content`. */
  readonly param: string | undefined;
  readonly #extra: ApiErrorExtra;

  constructor(code: ApiErrorCode, message: string, param?: string, extra: ApiErrorExtra = {}) {
    super(message);
    this.code = code;
    this.param = param;
    this.#extra = extra;
  }

  /** The same error about another field. */
  withParam(param: string): ApiError {
    return new ApiError(this.code, this.message, param, this.#extra);
  }

  /** The same error in other words: those of a dialect that has other names. */
  reworded(words: (text: string) => string): ApiError {
    const param = this.param === undefined ? undefined : words(this.param);
    return new ApiError(this.code, words(this.message), param, this.#extra);
  }

  get status(): number {
    return KINDS[this.code].status;
  }

  get body(): ErrorBody {
    const kind: ErrorKind = KINDS[this.code];
    return {
      error: {
        message: this.message,
        type: kind.type,
        param: this.param ?? null,
        code: kind.codeOnWire === false ? null : (kind.codeOnWire ?? this.code),
        ...this.#extra.fields,
      },
    };
  }

  get headers(): Readonly<Record<string, string>> {
    const kind: ErrorKind = KINDS[this.code];
    return {
      ...(kind.retryAfter === undefined ? {} : { "retry-after": String(kind.retryAfter) }),
      ...(kind.shouldRetry === undefined ? {} : { "x-should-retry": "false" }),
      ...this.#extra.headers,
    };
  }
}

/** What the prompt is called in OpenAI's sentences, and the field it came in. */
export type PromptField = "messages" | "prompt" | "input" | "content" | "documents" | "logit_bias";

/**
 * OpenAI's sentence, which clients look for word by word. `promptTokens` is undefined for a text that was too
 * long to be worth counting.
 */
export function contextExceeded(
  field: PromptField,
  contextTokens: number,
  promptTokens: number | undefined,
  param: string = field,
): ApiError {
  const amount = promptTokens === undefined ? `more than ${contextTokens}` : String(promptTokens);
  return new ApiError(
    "context_length_exceeded",
    `This model's maximum context length is ${contextTokens} tokens. However, your ${field} resulted in ` +
      `${amount} tokens. Please reduce the length of the ${field}.`,
    param,
    {
      fields: {
        ...(promptTokens === undefined ? {} : { n_prompt_tokens: promptTokens }),
        n_ctx: contextTokens,
      },
    },
  );
}

/** The same, for a bound that the operator has set below the model's. */
function promptTooLong(field: PromptField, most: number, promptTokens: number): ApiError {
  return new ApiError(
    "context_length_exceeded",
    `This server's maximum prompt length is ${most} tokens (--max-prompt-tokens). However, your ${field} resulted ` +
      `in ${promptTokens} tokens. Please reduce the length of the ${field}.`,
    field,
    { fields: { n_prompt_tokens: promptTokens, n_ctx: most } },
  );
}

export function emptyPrompt(param: string): ApiError {
  return new ApiError("empty_string", `Invalid '${param}': it must hold at least one token.`, param);
}

/** The fields of a request that narrow what can be drawn; undefined where it has none. */
export interface NarrowingFields {
  /** What asks for a grammar. */
  readonly grammar: string | undefined;
  /** What bans tokens. */
  readonly bans: string | undefined;
  /** What asks for several choices. */
  readonly choices: string | undefined;
}

/** Says what an engine's error means to a client. The engine's own words stay in the log. */
export function fromEngineError(
  error: EngineError,
  field: PromptField,
  narrowing?: NarrowingFields,
): ApiError {
  switch (error.code) {
    case "context_exceeded":
      return contextExceeded(field, error.details?.["contextTokens"] ?? 0, error.details?.["promptTokens"]);
    case "prompt_too_long":
      return promptTooLong(
        field,
        error.details?.["maxPromptTokens"] ?? 0,
        error.details?.["promptTokens"] ?? 0,
      );
    case "empty_prompt":
      return emptyPrompt(field);
    case "invalid_request":
      return new ApiError("invalid_value", "The engine refused a value of this request.");
    case "grammar_rejected":
      return new ApiError(
        "invalid_value",
        "The model's engine cannot use the grammar of this request.",
        narrowing?.grammar,
      );
    case "no_token_allowed":
      return new ApiError(
        "invalid_value",
        "The grammar and the banned tokens of this request leave the model nothing to generate.",
        narrowing?.bans ?? narrowing?.grammar,
      );
    case "too_many_choices": {
      const { choices = 0, most = 0 } = error.details ?? {};
      const message = `Invalid '${narrowing?.choices ?? "n"}': ${choices} choices are asked for, and at most ${most} can be open at a time for this API key.`;
      return new ApiError("invalid_value", message, narrowing?.choices);
    }
    case "queue_full": {
      const predictedMs = error.details?.["predictedMs"];
      const why =
        predictedMs === undefined
          ? "The server's queue is full (--max-queued)."
          : `The first token would come after about ${Math.ceil(predictedMs)} ms, later than this server lets anybody wait (--ttft-limit).`;
      const headers = retryHeaders(error);
      return new ApiError("server_overloaded", `${why} Please try again later.`, undefined, { headers });
    }
    case "owner_queue_full":
    case "owner_tokens_exceeded":
    case "first_token_too_late":
      return ownLimitError(error, error.code);
    case "deadline_exceeded":
      return new ApiError("deadline_exceeded", "The request was not answered within the time it allowed.");
    case "draining":
      return new ApiError("server_draining", "The server is shutting down and takes no new requests.");
    case "engine_exited":
      return new ApiError("engine_restarting", "The model's engine stopped. Please try again.");
    case "engine_crashed":
      return new ApiError("engine_crashed", "The model's engine stopped each time it computed this request.");
    case "decode_failed":
      return new ApiError("engine_error", "The model's engine failed to compute this request.");
    case "model_not_found":
    case "model_invalid":
    case "out_of_memory":
    case "runtime_incompatible":
    case "gpu_unavailable":
    case "draft_unfit":
    case "internal":
      return internalError();
  }
}

/** Details are numbers by name; a refusal for a limit brings those of the allowance. */
function allowanceIn({ details = {} }: EngineError): Allowance {
  const { requests = 0, requestsLeft = 0, requestsResetMs = 0, tokens, tokensLeft, tokensResetMs } = details;
  const counted = { requests, requestsLeft, requestsResetMs };
  if (tokens === undefined) return counted;
  return { ...counted, tokens, tokensLeft: tokensLeft ?? 0, tokensResetMs: tokensResetMs ?? 0 };
}

/** What the client's own limits or wishes forbid for now. */
function ownLimitError(
  error: EngineError,
  code: "owner_queue_full" | "owner_tokens_exceeded" | "first_token_too_late",
): ApiError {
  const { limit = 0, predictedMs = 0 } = error.details ?? {};
  const headers = { ...retryHeaders(error), ...allowanceHeaders(allowanceIn(error)) };
  switch (code) {
    case "owner_queue_full": {
      const most = limit === 1 ? "1 request" : `${limit} requests`;
      const message = `Rate limit reached: ${most} of this API key may wait, and no more. Please try again later.`;
      return new ApiError("request_limit_exceeded", message, undefined, { headers });
    }
    case "owner_tokens_exceeded": {
      const message = `Rate limit reached: requests of this API key with ${limit} prompt tokens may wait. Please try again later.`;
      return new ApiError("token_limit_exceeded", message, undefined, { headers });
    }
    case "first_token_too_late": {
      // More than it allows is only the time in which it comes nearly surely, which the engine may not have told.
      const { enoughMs = predictedMs } = error.details ?? {};
      const [about, most] = [Math.round(predictedMs), Math.floor(enoughMs) + 1];
      const message = `The first token would come after about ${about} ms, or up to ${most} ms, and the request allows less.`;
      return new ApiError("deadline_unreachable", message, undefined, {
        headers,
        fields: { predicted_ttft_ms: about },
      });
    }
  }
}

/** Says nothing of the cause; `requestId` lets the operator find it in the log. */
export function internalError(requestId?: string): ApiError {
  const reference =
    requestId === undefined ? "" : ` Please give the request id ${requestId} when you report it.`;
  return new ApiError("internal_error", `The server had an error while processing your request.${reference}`);
}
