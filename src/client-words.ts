/** What a generation fails with, in the words of the API. */
import { EngineError } from "../engine/errors.ts";
import type { Lifecycle } from "./deps.ts";
import type { GenerateRequest } from "./generate-request.ts";
import type { Metrics } from "./metrics/metrics.ts";
import { ApiError, fromEngineError } from "./openai/api-error.ts";
import { banningField } from "./openai/generation-fields.ts";

/**
 * For what is asked of the engine before it has taken the request.
 *
 * @throws {ApiError} What the engine said; `client_closed` when `signal` has aborted.
 */
export async function inClientsWords<T>(
  request: GenerateRequest,
  { metrics, lifecycle }: { readonly metrics: Metrics; readonly lifecycle: Lifecycle },
  signal: AbortSignal,
  ask: () => Promise<T>,
): Promise<T> {
  try {
    return await ask();
  } catch (error) {
    if (signal.aborted) {
      metrics.countDisconnect("admission");
      throw clientClosed();
    }
    throw asShown(error, request, lifecycle);
  }
}

export function asShown(error: unknown, request: GenerateRequest, { draining }: Lifecycle): Error {
  if (draining && error instanceof EngineError && error.code === "engine_exited") {
    return new ApiError("server_draining", "The server shut down before this request was finished.");
  }
  if (error instanceof EngineError) {
    const narrowing = {
      grammar: request.constraint?.param,
      bans: banningField(request.settings),
      choices: request.choice?.askedBy,
    };
    return fromEngineError(error, request.promptField, narrowing);
  }
  return error instanceof Error
    ? error
    : new Error("Something that is no error was thrown.", { cause: error });
}

export function clientClosed(): ApiError {
  return new ApiError("client_closed", "The client has closed the connection.");
}
