/** JSON answers, errors included, with the headers every client expects. */
import type { ApiError } from "../openai/api-error.ts";

export function jsonReply(
  body: object,
  status = 200,
  headers: Readonly<Record<string, string>> = {},
): Response {
  return new Response(JSON.stringify(body), {
    status,
    headers: { "content-type": "application/json", ...headers },
  });
}

export function errorReply(error: ApiError): Response {
  return jsonReply(error.body, error.status, error.headers);
}
