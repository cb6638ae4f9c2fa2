/** `GET /openapi.json`. */
import type { AppDeps } from "../deps.ts";
import { jsonReply } from "../http/reply.ts";
import { openApiDocument } from "./openapi-document.ts";
import type { AppContext } from "./env.ts";

export function openApi(_c: AppContext, deps: AppDeps): Response {
  return jsonReply(openApiDocument(deps.config.version));
}
