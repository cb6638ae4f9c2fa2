/** Answers what is no request, or never becomes one: the HTTP parser refuses it before the application sees it. */
import { STATUS_CODES } from "node:http";
import type { Limits } from "../config/limits.ts";
import { ApiError } from "../openai/api-error.ts";

/** Whole bytes of an answer that ends its connection. */
export function connectionErrorAnswer(code: string | undefined, limits: Limits): string {
  const { status, body } = toApiError(code, limits);
  const json = JSON.stringify(body);
  return (
    `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ""}\r\ncontent-type: application/json\r\n` +
    `content-length: ${Buffer.byteLength(json)}\r\nconnection: close\r\n\r\n${json}`
  );
}

/** What the adapter cannot make a request of: a host and a target that are no URL. @param error The adapter's. */
export function unreadableRequest({ message, cause }: Error): ApiError {
  // With a cause it is the URL parser's, which takes any path behind a host.
  const isHost =
    message === "Missing host header" ||
    message === "Invalid host header" ||
    (message === "Invalid URL" && cause !== undefined);
  return new ApiError(
    "malformed_request",
    isHost
      ? "The Host header is missing, or is no host's name."
      : "The request target, which is what follows the method, cannot be read.",
  );
}

/** @param code Node's and its parser's. */
function toApiError(code: string | undefined, limits: Limits): ApiError {
  switch (code) {
    case "ERR_HTTP_REQUEST_TIMEOUT":
      return new ApiError(
        "request_timeout",
        `The request did not arrive in time: its headers have ${limits["max-header-seconds"]} s ` +
          `(--max-header-seconds), all of it has ${limits["max-request-seconds"]} s (--max-request-seconds).`,
      );
    case "HPE_HEADER_OVERFLOW":
      return new ApiError(
        "headers_too_large",
        `The headers are larger than ${limits["max-header-bytes"]} bytes, the most this server accepts ` +
          "(--max-header-bytes).",
      );
    case "HPE_CHUNK_EXTENSIONS_OVERFLOW":
      return new ApiError("request_too_large", "The chunk extensions of the body are too large.");
    case undefined:
    default:
      return new ApiError("malformed_request", "This is not an HTTP/1.1 request that the server can read.");
  }
}
