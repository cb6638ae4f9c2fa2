/** What became of a request, as logs, traces and metrics tell it. */

export type Outcome =
  | "ok"
  | "client_error"
  | "server_error"
  /** The server is full, not ready or going. */
  | "overloaded"
  /** Refused for the key's own limits, or because it could not be in time: neither the client's mistake nor ours. */
  | "limited"
  /** Let in, and not answered within the time that it allowed. */
  | "late"
  | "cancelled";

/**
 * @param status Of the answer, or of the error that ended its stream.
 * @param code Of the error; absent where it was none.
 */
export function outcomeOf(status: number, code?: string): Outcome {
  // By its client, or by whoever else may cancel it.
  if (status === 499 || code === "request_cancelled") return "cancelled";
  if (status === 429) return "limited";
  if (status === 503) return "overloaded";
  if (status === 504) return "late";
  if (status >= 500) return "server_error";
  return status >= 400 ? "client_error" : "ok";
}
