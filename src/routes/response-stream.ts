/** Sends a response as a stream of events, while it is made or from what is kept of it. */
import type { AppDeps } from "../deps.ts";
import { eventFrame } from "../http/sse.ts";
import { outcomeOf } from "../metrics/outcome.ts";
import { ApiError, internalError } from "../openai/api-error.ts";
import type { EndEvent, OutputEvent } from "../openai/responses/output-events.ts";
import { ResponseEvents } from "../openai/responses/response-events.ts";
import type { ResponseEvent } from "../openai/responses/response-events.ts";
import type { ResponseRecord } from "../responses/record.ts";
import { ResponseRun } from "../responses/response-run.ts";
import type { AppContext } from "./env.ts";
import { eventStream } from "./event-stream.ts";

/** Clients of this API watch for events, not bytes, and give up on a silent stream; seconds. */
const MAX_SILENCE_SECONDS = 15;

export interface ResponseStreamOptions {
  /** Only events with a higher number are sent; -1 is all. */
  readonly after: number;
  readonly headers: Readonly<Record<string, string>>;
}

export function streamResponse(
  c: AppContext,
  deps: AppDeps,
  record: ResponseRecord,
  { after, headers }: ResponseStreamOptions,
): Response {
  const machine = new ResponseEvents(record.head);
  return eventStream(c, frames(c, deps, { record, machine, after }), headers, {
    keepAliveMs: Math.min(deps.config.sseKeepAliveSeconds, MAX_SILENCE_SECONDS) * 1000,
    // It is no event of the response and repeats the last number, so that a client can go on from there.
    keepAlive: () => eventFrame({ type: "keepalive", sequence_number: Math.max(machine.lastSequence, 0) }),
  });
}

/** Notes what became of a response for log and metrics. */
export function noteEnd(c: AppContext, end: EndEvent): void {
  if (end.kind !== "end") return;
  const notes = c.get("notes");
  notes.outcome = "ok";
  notes.promptTokens = end.usage.input_tokens;
  notes.outputTokens = end.usage.output_tokens;
}

interface FrameSource {
  readonly record: ResponseRecord;
  readonly machine: ResponseEvents;
  readonly after: number;
}

async function* frames(
  c: AppContext,
  deps: AppDeps,
  { record, machine, after }: FrameSource,
): AsyncGenerator<string, void, void> {
  const write = (events: readonly ResponseEvent[]): string =>
    events
      .filter((event) => event.sequence_number > after)
      .map(eventFrame)
      .join("");
  const opening = write(machine.begin());
  if (opening !== "") yield opening;
  for await (const event of eventsOf(record)) {
    if (event.kind === "failed" && record instanceof ResponseRun) noteFailure(c, deps, record.error);
    if (event.kind === "end") noteEnd(c, event);
    const text = write(machine.push(event));
    if (text !== "") yield text;
  }
}

function eventsOf(record: ResponseRecord): AsyncIterable<OutputEvent> | Iterable<OutputEvent> {
  return record instanceof ResponseRun ? record.follow() : record.log;
}

function noteFailure(c: AppContext, deps: AppDeps, error: unknown): void {
  const notes = c.get("notes");
  const { status, code } = error instanceof ApiError ? error : internalError();
  // As its client sees it: what somebody has cancelled, or could not be, has not gone wrong here.
  notes.outcome = outcomeOf(status, code);
  notes.error = code;
  if (status < 500) return;
  deps.log.error({ requestId: c.get("requestId"), err: error }, "stream failed");
}
