/** A timeline in Chrome's trace event format, which Perfetto and chrome://tracing open. */
import { ADMISSION_NUMBERS, ENTRY_NUMBERS } from "../../engine/timeline.ts";
import type { RecordedCall, RecordedStep, Timeline } from "../../engine/timeline.ts";

/** Times in µs. */
export interface TraceEvent {
  readonly name: string;
  /** `X` is a span, `C` a counter, `M` a name for a process or a thread, `b` and `e` begin and end a request's wait. */
  readonly ph: "X" | "C" | "M" | "b" | "e";
  readonly pid: number;
  readonly tid: number;
  readonly ts?: number;
  readonly dur?: number;
  readonly cat?: string;
  readonly id?: number;
  readonly args?: Readonly<Record<string, unknown>>;
}

/** Shown as processes: the step loop, what each slot computes, and the requests that wait. */
const LOOP = 1;
const SLOTS = 2;
const WAITING = 3;

export function traceEvents(timeline: Timeline): TraceEvent[] {
  const names = new Map(timeline.requests.map(({ request, id }) => [request, id]));
  return [
    nameOf(LOOP, "step loop"),
    nameOf(SLOTS, "slots"),
    nameOf(WAITING, "queue"),
    ...Array.from({ length: timeline.config.slots }, (_, slot): TraceEvent => ({
      name: "thread_name",
      ph: "M",
      pid: SLOTS,
      tid: slot,
      args: { name: `slot ${slot}` },
    })),
    ...timeline.steps.flatMap((step) => stepEvents(step, names)),
    ...waits(timeline),
  ];
}

function nameOf(pid: number, name: string): TraceEvent {
  return { name: "process_name", ph: "M", pid, tid: 0, args: { name } };
}

function stepEvents(step: RecordedStep, names: ReadonlyMap<number, string>): TraceEvent[] {
  const { startMs, planMs, sideMs, running, queued, creditMs, calls, why } = step;
  const last = calls.at(-1);
  const callsEndMs = last === undefined ? startMs + planMs : last.startMs + (last.ms ?? 0) + last.sampleMs;
  const loop = (name: string, fromMs: number, ms: number, args?: TraceEvent["args"]): TraceEvent =>
    span({ pid: LOOP, tid: 0 }, { name, fromMs, ms, args });
  return [
    loop(`step ${step.step}`, startMs, callsEndMs + sideMs - startMs, { running, queued, creditMs, why }),
    loop("plan", startMs, planMs),
    ...calls.flatMap((call) => [
      ...(call.draftMs === undefined ? [] : [loop("draft model", call.startMs - call.draftMs, call.draftMs)]),
      loop(call.kind, call.startMs, call.ms ?? 0, {
        predictedMs: call.predictedMs,
        passes: call.passes,
        drafts: call.drafts,
        failed: call.ms === undefined,
      }),
      ...(call.sampleMs > 0 ? [loop("sample", call.startMs + (call.ms ?? 0), call.sampleMs)] : []),
      ...slotEvents(call, names),
    ]),
    ...(sideMs > 0 ? [loop("side work", callsEndMs, sideMs)] : []),
    { name: "requests", ph: "C", pid: LOOP, tid: 0, ts: startMs * 1000, args: { running, queued } },
  ];
}

function slotEvents(call: RecordedCall, names: ReadonlyMap<number, string>): TraceEvent[] {
  const events: TraceEvent[] = [];
  for (let at = 0; at < call.entries.length; at += ENTRY_NUMBERS) {
    const [slot = 0, request = -1, position = 0, tokens = 0] = call.entries.slice(at, at + ENTRY_NUMBERS);
    const what = request === -1 ? "plug" : call.kind;
    const args = { request: names.get(request), position, tokens };
    events.push(
      span({ pid: SLOTS, tid: slot }, { name: what, fromMs: call.startMs, ms: call.ms ?? 0, args }),
    );
  }
  return events;
}

/** From arrival to the step that admits; of a request that was admitted before the first step nothing is known. */
function waits({ steps, requests }: Timeline): TraceEvent[] {
  const admittedMs = new Map<number, number>();
  for (const { admitted, startMs } of steps) {
    for (let at = 0; at < admitted.length; at += ADMISSION_NUMBERS)
      admittedMs.set(admitted[at] ?? -1, startMs);
  }
  return requests.flatMap(({ request, id, owner, promptTokens, arrivalMs, endMs, end }) => {
    const untilMs = admittedMs.get(request) ?? (end === "cancelled" ? endMs : undefined);
    if (untilMs === undefined) return [];
    const both = { name: id, cat: "wait", pid: WAITING, tid: 0, id: request } as const;
    return [
      { ...both, ph: "b", ts: arrivalMs * 1000, args: { owner, promptTokens } },
      { ...both, ph: "e", ts: untilMs * 1000 },
    ] satisfies TraceEvent[];
  });
}

interface Span {
  readonly name: string;
  readonly fromMs: number;
  readonly ms: number;
  readonly args?: TraceEvent["args"];
}

function span(track: Pick<TraceEvent, "pid" | "tid">, { name, fromMs, ms, args }: Span): TraceEvent {
  const times = { ts: fromMs * 1000, dur: ms * 1000 };
  return { name, ph: "X", ...track, ...times, ...(args === undefined ? {} : { args }) };
}
