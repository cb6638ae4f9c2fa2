/** Sends what the choices of an answer bring: as a stream of events or as one body, with everything noted for log and metrics. */
import type { AppDeps } from "../deps.ts";
import type { Choices, FinishedAnswer } from "../choices.ts";
import type { GenerationUsage } from "../generation-events.ts";
import { jsonReply } from "../http/reply.ts";
import { streamFrames } from "../openai/answer.ts";
import type { EventWriter, StreamFraming, StreamHooks } from "../openai/answer.ts";
import { outcomeOf } from "../metrics/outcome.ts";
import { ApiError, internalError } from "../openai/api-error.ts";
import type { AppContext } from "./env.ts";
import { eventStream } from "./event-stream.ts";

export const IGNORED_PARAMS_HEADER = "x-weft-ignored-params";

export interface AnswerPlan {
  readonly stream: boolean;
  readonly ignoredFields: readonly string[];
  readonly write: EventWriter;
  readonly body: (answer: FinishedAnswer) => object;
  /** Headers beside those that every answer has. */
  readonly headers?: Readonly<Record<string, string>>;
  /** OpenAI's by default. */
  readonly framing?: StreamFraming & {
    /** Writes what is sent in silence; without it, it is a comment. */
    readonly keepAlive: () => string;
  };
}

/** @throws {ApiError} What stops an answer that is not a stream. */
export async function sendAnswer(
  c: AppContext,
  deps: AppDeps,
  choices: Choices,
  plan: AnswerPlan,
): Promise<Response> {
  c.get("notes").served = () => choices.served;
  if (plan.stream) return sendStream(c, deps, choices, plan);
  const answer = await choices.finished();
  noteFinish(c, answer.usage);
  return jsonReply(plan.body(answer), 200, headersOf(plan));
}

function sendStream(c: AppContext, deps: AppDeps, choices: Choices, plan: AnswerPlan): Response {
  const notes = c.get("notes");
  const requestId = c.get("requestId");
  const hooks: StreamHooks = {
    onFinish: (usage) => noteFinish(c, usage),
    onFailure: (error) => {
      if (error === undefined) return;
      const shown = error instanceof ApiError ? error : internalError();
      notes.error = shown.code;
      // What a client asked for may turn out to be impossible only on the way.
      notes.outcome = outcomeOf(shown.status, shown.code);
      if (shown.status < 500) return;
      deps.log.error({ requestId, err: error }, "stream failed");
    },
  };
  const frames = streamFrames(choices, plan.write, hooks, plan.framing);
  const keepAlive = plan.framing?.keepAlive;
  return eventStream(c, frames, headersOf(plan), {
    keepAliveMs: deps.config.sseKeepAliveSeconds * 1000,
    ...(keepAlive === undefined ? {} : { keepAlive }),
  });
}

function headersOf({ headers, ignoredFields }: AnswerPlan): Record<string, string> {
  return { ...headers, ...ignoredHeader(ignoredFields) };
}

function noteFinish(c: AppContext, usage: GenerationUsage): void {
  const notes = c.get("notes");
  notes.outcome = "ok";
  notes.promptTokens = usage.promptTokens;
  notes.outputTokens = usage.completionTokens;
}

/** Tells which fields had no effect; no header without any. */
export function ignoredHeader(fields: readonly string[]): Record<string, string> {
  return fields.length === 0 ? {} : { [IGNORED_PARAMS_HEADER]: fields.join(",") };
}
