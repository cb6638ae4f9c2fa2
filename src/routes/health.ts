/** What this server is, liveness, readiness and version, for load balancers and for people. */
import type { AppDeps } from "../deps.ts";
import { errorReply, jsonReply } from "../http/reply.ts";
import { ApiError } from "../openai/api-error.ts";
import type { AppContext } from "./env.ts";

/** Whether a model can answer; stays true while the last requests are served. */
export function health(_c: AppContext, deps: AppDeps): Response {
  return takesRequests(deps) ? jsonReply({ status: degraded(deps) ? "degraded" : "ok" }) : notReady(deps);
}

/** Whether new requests are welcome: also while an engine is started again, since they wait for it. */
export function ready(_c: AppContext, deps: AppDeps): Response {
  if (deps.lifecycle.leaving)
    return errorReply(new ApiError("server_draining", "The server is shutting down."));
  return takesRequests(deps) ? jsonReply({ status: degraded(deps) ? "degraded" : "ready" }) : notReady(deps);
}

/** Whether the process answers at all: a model that loads is no reason to restart it. */
export function live(): Response {
  return jsonReply({ status: "ok" });
}

/** For whoever opens the address in a browser. It needs no key, so where there are keys it tells no version. */
export function about(_c: AppContext, { config }: AppDeps): Response {
  return jsonReply({
    name: "weft",
    ...(config.apiKeys.length === 0 ? { version: config.version } : {}),
    links: { models: "/v1/models", health: "/health", openapi: "/openapi.json", metrics: "/metrics" },
  });
}

export function version(_c: AppContext, deps: AppDeps): Response {
  return jsonReply({ version: deps.config.version });
}

function takesRequests({ models }: AppDeps): boolean {
  return models.served.some(({ loaded }) => loaded !== undefined);
}

/** Whether a model that has been up answers late or not at all. */
function degraded({ models }: AppDeps): boolean {
  return models.served.some(({ state }) => state === "restarting" || state === "failed");
}

function notReady({ models }: AppDeps): Response {
  const failed = models.served.length > 0 && models.served.every(({ state }) => state === "failed");
  return errorReply(
    failed
      ? new ApiError("model_failed", "No model could be loaded. The server's log says why.")
      : new ApiError("model_loading", "Loading model"),
  );
}
