/** Errors in the shape that clients of Anthropic's API read, with everything that OpenAI's have. */
import { jsonReply } from "../http/reply.ts";
import type { ApiError } from "../openai/api-error.ts";

/** By status; all others are the client's. */
const TYPES: Readonly<Record<number, string>> = {
  401: "authentication_error",
  403: "permission_error",
  404: "not_found_error",
  413: "request_too_large",
  429: "rate_limit_error",
  500: "api_error",
  503: "overloaded_error",
  504: "timeout_error",
};

export function isMessagesPath(path: string): boolean {
  return /^\/messages(?:\/|$)/.test(path);
}

export function messageErrorReply(error: ApiError, requestId: string): Response {
  return jsonReply(messageErrorJson(error, requestId), error.status, {
    ...error.headers,
    "request-id": requestId,
  });
}

export function messageErrorJson(error: ApiError, requestId: string) {
  return {
    type: "error",
    error: { ...error.body.error, type: TYPES[error.status] ?? "invalid_request_error" },
    request_id: requestId,
  };
}
