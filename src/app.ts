/** The HTTP application: which path is answered by whom, and what every request passes on its way. */
import { Hono } from "hono";
import type { HonoRequest } from "hono";
import { isMessagesPath, messageErrorReply } from "./anthropic/error-reply.ts";
import type { AppDeps } from "./deps.ts";
import { askedPath, routedPath } from "./http/path.ts";
import { errorReply } from "./http/reply.ts";
import { answerCors, guardHost, guardOrigin } from "./middleware/browser-guard.ts";
import { authenticate } from "./middleware/authenticate.ts";
import { observeRequest } from "./middleware/observe-request.ts";
import { writeBody } from "./middleware/write-body.ts";
import { ApiError, internalError } from "./openai/api-error.ts";
import { chatCompletions } from "./routes/chat-completions.ts";
import { completions } from "./routes/completions.ts";
import { embeddings, nativeEmbedding } from "./routes/embeddings.ts";
import type { AppContext, AppEnv } from "./routes/env.ts";
import { about, health, live, ready, version } from "./routes/health.ts";
import { metrics, pins, props, slotAction, slots } from "./routes/inspect.ts";
import { listAdapters, setDefaultAdapters } from "./routes/lora-adapters.ts";
import { getModel, listModels } from "./routes/models.ts";
import { countMessageTokens, createMessage } from "./routes/messages.ts";
import { infill, nativeCompletion } from "./routes/native-completion.ts";
import { openApi } from "./routes/openapi.ts";
import { cancelRequest, changeRequest, getRequest, listRequests } from "./routes/requests.ts";
import { rerank } from "./routes/rerank.ts";
import {
  cancelResponse,
  countInputTokens,
  createResponse,
  deleteResponse,
  getResponse,
  listInputItems,
} from "./routes/responses.ts";
import { debugTimeline } from "./routes/timeline.ts";
import { applyTemplate, countChatTokens, detokenize, tokenize, tokenizerInfo } from "./routes/tokenize.ts";

type Method = "GET" | "POST" | "PATCH" | "DELETE";
type Handler = (c: AppContext, deps: AppDeps) => Response | Promise<Response>;

/** Paths as `routedPath` leaves them: each also answers under `/v1`, `/openai` and `/openai/v1`. */
export const ROUTES: readonly (readonly [method: Method, path: string, handler: Handler])[] = [
  ["POST", "/chat/completions", chatCompletions],
  ["POST", "/chat/completions/input_tokens", countChatTokens],
  ["POST", "/completions", completions],
  ["POST", "/completion", nativeCompletion],
  ["POST", "/infill", infill],
  ["POST", "/messages", createMessage],
  ["POST", "/messages/count_tokens", countMessageTokens],
  ["POST", "/responses", createResponse],
  ["POST", "/responses/input_tokens", countInputTokens],
  ["GET", "/responses/:id", getResponse],
  ["DELETE", "/responses/:id", deleteResponse],
  ["POST", "/responses/:id/cancel", cancelResponse],
  ["GET", "/responses/:id/input_items", listInputItems],
  ["POST", "/embeddings", embeddings],
  ["POST", "/embedding", nativeEmbedding],
  ["POST", "/deployments/:deployment{.+}/chat/completions", chatCompletions],
  ["POST", "/deployments/:deployment{.+}/completions", completions],
  ["POST", "/deployments/:deployment{.+}/embeddings", embeddings],
  ["POST", "/deployments/:deployment{.+}/responses", createResponse],
  ["POST", "/engines/:deployment{.+}/chat/completions", chatCompletions],
  ["POST", "/engines/:deployment{.+}/completions", completions],
  ["POST", "/engines/:deployment{.+}/embeddings", embeddings],
  ["POST", "/rerank", rerank],
  ["POST", "/reranking", rerank],
  ["GET", "/models", listModels],
  ["GET", "/models/:id{.+}", getModel],
  ["GET", "/lora-adapters", listAdapters],
  ["POST", "/lora-adapters", setDefaultAdapters],
  ["POST", "/tokenize", tokenize],
  ["POST", "/detokenize", detokenize],
  ["POST", "/apply-template", applyTemplate],
  ["GET", "/tokenizer_info", tokenizerInfo],
  ["GET", "/requests", listRequests],
  ["GET", "/requests/:id", getRequest],
  ["PATCH", "/requests/:id", changeRequest],
  ["DELETE", "/requests/:id", cancelRequest],
  ["GET", "/slots", slots],
  ["POST", "/slots/:id", slotAction],
  ["GET", "/props", props],
  ["GET", "/metrics", metrics],
  ["GET", "/debug/timeline", debugTimeline],
  ["GET", "/debug/pins", pins],
  ["GET", "/", about],
  ["GET", "/version", version],
  ["GET", "/openapi.json", openApi],
  ["GET", "/health", health],
  ["GET", "/healthz", health],
  ["GET", "/livez", live],
  ["GET", "/ready", ready],
  ["GET", "/readyz", ready],
];

/** Opens no socket and starts no timer; give its `fetch` to a server. */
export function createApp(deps: AppDeps): Hono<AppEnv> {
  const app = new Hono<AppEnv>({ getPath: (request) => routedPath(request.url) });
  app.onError((error, c) => replyTo(c, toApiError(error, c, deps)));
  app.notFound((c) => replyTo(c, noteError(c, unknownUrl(c.req))));
  app.use(writeBody);
  app.use(observeRequest(deps));
  app.use(guardHost(deps.config));
  app.use(answerCors(deps.config));
  app.use(guardOrigin(deps.config));
  app.use(authenticate(deps.config));
  for (const [method, path, handler] of ROUTES) app.on(method, path, (c) => handler(c, deps));
  // No response has this name: clients that ask for it learn here that it is not offered, and do without.
  app.post("/responses/compact", (c) => replyTo(c, noteError(c, unknownUrl(c.req))));
  for (const [path, methods] of methodsByPath()) {
    app.all(path, (c) => replyTo(c, noteError(c, methodNotAllowed(c.req, methods))));
  }
  return app;
}

/** In the shape that the clients of a path read. */
function replyTo(c: AppContext, error: ApiError): Response {
  if (isMessagesPath(c.req.path)) return messageErrorReply(error, c.get("requestId"));
  return errorReply(error);
}

function toApiError(error: Error, c: AppContext, deps: AppDeps): ApiError {
  if (error instanceof ApiError) return noteError(c, error);
  const requestId = c.get("requestId");
  deps.log.error({ requestId, err: error }, "unexpected error");
  return noteError(c, internalError(requestId));
}

function noteError(c: AppContext, error: ApiError): ApiError {
  c.get("notes").error = error.code;
  return error;
}

function unknownUrl(request: HonoRequest): ApiError {
  return new ApiError("unknown_url", `Invalid URL (${request.method} ${askedPath(request.url)})`);
}

function methodsByPath(): Map<string, readonly Method[]> {
  const methods = new Map<string, readonly Method[]>();
  for (const [method, path] of ROUTES) methods.set(path, [...(methods.get(path) ?? []), method]);
  return methods;
}

function methodNotAllowed(request: HonoRequest, allowed: readonly Method[]): ApiError {
  const names = allowed.flatMap((method) => (method === "GET" ? ["GET", "HEAD"] : [method]));
  const allow = [...names, "OPTIONS"].join(", ");
  return new ApiError(
    "method_not_allowed",
    `Not allowed to ${request.method} on ${askedPath(request.url)} (HINT: Perhaps you meant to make a ` +
      `${allowed[0]} request?)`,
    undefined,
    { headers: { allow } },
  );
}
