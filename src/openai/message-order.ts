/** OpenAI's order of calls and results, which models do without: asked for with `--strict-params`. */
import { ApiError } from "./api-error.ts";
import type { WireMessage } from "./messages.ts";

/** @throws {ApiError} 400 for a result without a call, and for a call without a result. */
export function checkMessageOrder(messages: readonly WireMessage[]): void {
  /** Called and not answered; undefined where no result may stand. */
  let open: Set<string> | undefined;
  for (const [i, { role, tool_calls: calls, tool_call_id: id }] of messages.entries()) {
    const path = `messages.[${i}].role`;
    if (role === "tool") {
      if (open === undefined || !(id != null && open.delete(id))) throw strayResult(path);
      continue;
    }
    if (open !== undefined && open.size > 0) throw unanswered(open, path);
    open = calls == null || calls.length === 0 ? undefined : new Set(calls.map((call) => call.id ?? ""));
  }
  if (open !== undefined && open.size > 0) throw unanswered(open, `messages.[${messages.length - 1}].role`);
}

function strayResult(path: string): ApiError {
  return new ApiError(
    "invalid_order",
    // OpenAI's spelling, by which clients know it.
    "Invalid parameter: messages with role 'tool' must be a response to a preceeding message with 'tool_calls'.",
    path,
  );
}

function unanswered(ids: ReadonlySet<string>, path: string): ApiError {
  return new ApiError(
    "invalid_order",
    "An assistant message with 'tool_calls' must be followed by tool messages responding to each 'tool_call_id'. " +
      `The following tool_call_ids did not have response messages: ${[...ids].join(", ").slice(0, MOST_IDS)}`,
    path,
  );
}

/** Characters of ids in a message. */
const MOST_IDS = 500;
