/** Sends what a generation brings: as a stream of events or as one body, with everything noted for log and metrics. */
import type { AppDeps } from "../deps.ts";
import { clientClosed } from "../generate.ts";
import type { FinishEvent, Generation, GenerationEvent } from "../generate.ts";
import { jsonReply } from "../http/reply.ts";
import { SSE_HEADERS, sseBody } from "../http/sse.ts";
import { streamFrames } from "../openai/answer.ts";
import type { EventWriter } from "../openai/answer.ts";
import { ApiError, internalError } from "../openai/api-error.ts";
import type { AppContext } from "./env.ts";

export const IGNORED_PARAMS_HEADER = "x-weft-ignored-params";

export interface AnswerPlan {
  readonly stream: boolean;
  readonly ignoredFields: readonly string[];
  readonly write: EventWriter;
  readonly body: (events: readonly GenerationEvent[], finish: FinishEvent) => object;
}

/** @throws {ApiError} What stops an answer that is not a stream. */
export async function sendAnswer(
  c: AppContext,
  deps: AppDeps,
  generation: Generation,
  plan: AnswerPlan,
): Promise<Response> {
  const headers = ignoredHeader(plan.ignoredFields);
  if (plan.stream) return sendStream(c, deps, generation, plan);
  const events: GenerationEvent[] = [];
  for await (const event of generation) events.push(event);
  const finish = events.at(-1);
  if (finish?.kind !== "finish") throw clientClosed();
  noteFinish(c, finish);
  return jsonReply(plan.body(events, finish), 200, headers);
}

function sendStream(c: AppContext, deps: AppDeps, generation: Generation, plan: AnswerPlan): Response {
  const scope = c.get("scope");
  const notes = c.get("notes");
  const requestId = c.get("requestId");
  const frames = streamFrames(generation, plan.write, {
    onFinish: (event) => noteFinish(c, event),
    onFailure: (error) => {
      if (error === undefined) return;
      notes.outcome = "server_error";
      notes.error = error instanceof ApiError ? error.code : internalError().code;
      deps.log.error({ requestId, err: error }, "stream failed");
    },
  });
  scope.hold();
  const body = sseBody(frames, {
    keepAliveMs: deps.config.sseKeepAliveSeconds * 1000,
    signal: scope.signal,
    onCancel: () => scope.abort(),
    onEnd: () => scope.end(),
  });
  return new Response(body, { headers: { ...SSE_HEADERS, ...ignoredHeader(plan.ignoredFields) } });
}

function noteFinish(c: AppContext, { usage }: FinishEvent): void {
  const notes = c.get("notes");
  notes.outcome = "ok";
  notes.promptTokens = usage.promptTokens;
  notes.outputTokens = usage.completionTokens;
}

function ignoredHeader(fields: readonly string[]): Record<string, string> {
  return fields.length === 0 ? {} : { [IGNORED_PARAMS_HEADER]: fields.join(",") };
}
