/** Around every request: its id, its scope, its counters, its span and its one line in the log. */
import { createMiddleware } from "hono/factory";
import { routePath } from "hono/route";
import type { AppDeps } from "../deps.ts";
import { askedPath } from "../http/path.ts";
import { errorReply } from "../http/reply.ts";
import { RequestScope } from "../http/request-signal.ts";
import type { Endpoint } from "../metrics/metrics.ts";
import { outcomeOf } from "../metrics/outcome.ts";
import type { Outcome } from "../metrics/outcome.ts";
import { OPEN_PATHS } from "./authenticate.ts";
import { allowanceHeaders } from "../openai/limit-headers.ts";
import { ApiError, shownCode } from "../openai/api-error.ts";
import type { AppContext, AppEnv, RequestNotes } from "../routes/env.ts";
import { requestTracer, RequestTrace } from "../tracing/request-trace.ts";

/** A client's own id is taken over when it can do no harm in a log or a header. */
const SANE_ID = /^[A-Za-z0-9._-]{1,128}$/;

const OPENAI_VERSION = "2020-10-01";

/** What OpenTelemetry calls what a request asks for; the others have no name there. */
const OPERATIONS: Readonly<Partial<Record<Endpoint, string>>> = {
  chat: "chat",
  completions: "text_completion",
  embeddings: "embeddings",
  responses: "chat",
};

export const observeRequest = (deps: AppDeps) => {
  const tracer = requestTracer(deps.config.version);
  return createMiddleware<AppEnv>(async (c, next) => {
    const startMs = deps.clock.nowMs();
    const given = c.req.header("x-request-id");
    const requestId = given !== undefined && SANE_ID.test(given) ? given : deps.ids.next("req_");
    const scope = new RequestScope(c.req.raw.signal, c.env);
    const notes: RequestNotes = {
      endpoint: "other",
      outcome: undefined,
      error: undefined,
      model: undefined,
      promptTokens: undefined,
      outputTokens: undefined,
      served: undefined,
      allowance: undefined,
    };
    c.set("requestId", requestId);
    c.set("owner", "anonymous");
    c.set("admin", false);
    c.set("scope", scope);
    c.set("notes", notes);
    const { method, path, raw } = c.req;
    const trace = isProbe(path)
      ? undefined
      : RequestTrace.begin(tracer, { method, path, headers: raw.headers });
    scope.onEnd(() => report(c, deps, { startMs, trace }));
    try {
      const most = deps.config.limits["max-requests-per-connection"];
      if (scope.onSocket > most) refuseCrowd(c, most);
      else await (trace === undefined ? next() : trace.run(next));
      c.res.headers.set("x-request-id", requestId);
      const limits = notes.allowance === undefined ? {} : allowanceHeaders(notes.allowance);
      for (const [name, value] of Object.entries(limits)) c.res.headers.set(name, value);
      c.res.headers.set("openai-version", OPENAI_VERSION);
      c.res.headers.set("openai-processing-ms", String(Math.round(deps.clock.nowMs() - startMs)));
    } finally {
      if (!scope.held) scope.end();
    }
  });
};

/** What asks every few seconds and would bury the requests. */
function isProbe(path: string): boolean {
  return OPEN_PATHS.has(path) || path === "/metrics";
}

/** One client that pipelines may not fill the queue for everybody. */
function refuseCrowd(c: AppContext, most: number): void {
  const error = new ApiError(
    "too_many_requests_on_connection",
    `More than ${most} requests at once on one connection (--max-requests-per-connection). Please open more ` +
      "connections.",
    undefined,
    { headers: { connection: "close" } },
  );
  c.get("notes").error = error.code;
  c.res = errorReply(error);
}

interface Observed {
  readonly startMs: number;
  readonly trace: RequestTrace | undefined;
}

function report(c: AppContext, deps: AppDeps, { startMs, trace }: Observed): void {
  const notes = c.get("notes");
  const { status } = c.res;
  const isGone = c.get("scope").signal.aborted;
  const outcome = notes.outcome ?? (isGone ? "cancelled" : outcomeOf(status, notes.error));
  deps.metrics.countRequest(notes.endpoint, outcome);
  if (notes.error !== undefined && status >= 400) deps.metrics.countRejection(notes.error);
  const { model, promptTokens, outputTokens, error } = notes;
  if (trace !== undefined) endTrace(c, trace, outcome);
  const shown = error === undefined ? undefined : shownCode(error);
  const level = OPEN_PATHS.has(c.req.path) ? "debug" : "info";
  deps.log[level](
    {
      requestId: c.get("requestId"),
      method: c.req.method,
      // As it was asked for, which is not always how it is routed.
      path: askedPath(c.req.url),
      status,
      outcome,
      ms: Math.round(deps.clock.nowMs() - startMs),
      owner: c.get("owner"),
      model,
      promptTokens,
      outputTokens,
      ...notes.served?.(),
      error: shown,
      reason: shown === error ? undefined : error,
      retry: c.req.header("x-stainless-retry-count"),
      traceId: trace?.traceId,
    },
    "request",
  );
}

function endTrace(c: AppContext, trace: RequestTrace, outcome: Outcome): void {
  const { endpoint, model, promptTokens, outputTokens, error } = c.get("notes");
  const route = routePath(c, -1);
  trace.end({
    status: c.res.status,
    // What met no route has met the middleware alone.
    route: route === "*" || route === "/*" ? undefined : route,
    error,
    failed: outcome === "server_error" || outcome === "overloaded" || outcome === "late",
    attributes: {
      "gen_ai.operation.name": OPERATIONS[endpoint],
      "gen_ai.provider.name": model === undefined ? undefined : "weft",
      "gen_ai.request.model": model,
      "gen_ai.usage.input_tokens": promptTokens,
      "gen_ai.usage.output_tokens": outputTokens,
      "weft.request_id": c.get("requestId"),
      "weft.owner": c.get("owner"),
      "weft.outcome": outcome,
    },
  });
}
