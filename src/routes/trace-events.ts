/** A timeline in Chrome's trace event format, which Perfetto and chrome://tracing open. */
import { ADMISSION_NUMBERS, ENTRY_NUMBERS } from "../../engine/timeline.ts";
import type { RecordedCall, RecordedRequest, RecordedStep, Timeline } from "../../engine/timeline.ts";

/** Times in µs. */
export interface TraceEvent {
  readonly name: string;
  /** `X` is a span, `i` a moment, `C` a counter, `M` a name for a process or a thread, `b` and `e` begin and end a request's wait. */
  readonly ph: "X" | "i" | "C" | "M" | "b" | "e";
  readonly pid: number;
  readonly tid: number;
  readonly ts?: number;
  readonly dur?: number;
  readonly cat?: string;
  /** Of a moment: it is its thread's alone. */
  readonly s?: "t";
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
    ...timeline.steps.flatMap((step) => [...stepEvents(step, names), ...cellEvents(step, names)]),
    ...offloadEvents(timeline, names),
    ...waits(timeline),
  ];
}

function nameOf(pid: number, name: string): TraceEvent {
  return { name: "process_name", ph: "M", pid, tid: 0, args: { name } };
}

function stepEvents(step: RecordedStep, names: ReadonlyMap<number, string>): TraceEvent[] {
  const { startMs, planMs, sideMs, running, queued, creditMs, calls, why } = step;
  const callsEndMs = callsEnd(step);
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
    { name: "requests", ph: "C", pid: LOOP, tid: 0, ts: micros(startMs), args: { running, queued } },
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

/** Behind the last call and its draws; of a step without calls, behind its plan. */
function callsEnd({ startMs, planMs, calls }: RecordedStep): number {
  const last = calls.at(-1);
  return last === undefined ? startMs + planMs : last.startMs + (last.ms ?? 0) + last.sampleMs;
}

/** Who lost a slot, and what of slots was written and read before the calls. */
function cellEvents(
  { startMs, evicted = [], transfers = [] }: RecordedStep,
  names: ReadonlyMap<number, string>,
): TraceEvent[] {
  return [
    ...evicted.map(({ request, slot, waiter, kind }): TraceEvent => {
      const args = { request: names.get(request), waiter: names.get(waiter), kind };
      return { name: "evict", ph: "i", s: "t", pid: SLOTS, tid: slot, ts: micros(startMs), args };
    }),
    ...transfers.map(({ kind, slot, tokens, startMs: fromMs, ms, failed = false }) =>
      span({ pid: SLOTS, tid: slot }, { name: kind, fromMs, ms, args: { tokens, failed } }),
    ),
  ];
}

/** In the slot that waits for the cells. One under way lasts as long as the timeline. */
function offloadEvents({ steps, offloads }: Timeline, names: ReadonlyMap<number, string>): TraceEvent[] {
  const last = steps.at(-1);
  const nowMs = last === undefined ? 0 : callsEnd(last) + last.sideMs;
  return offloads.map(({ request, slot, tokens, startMs, endMs, deviceMs, end }) => {
    const ms = Math.max(0, (endMs ?? nowMs) - startMs);
    const args = { request: names.get(request), tokens, deviceMs, end };
    return span({ pid: SLOTS, tid: slot }, { name: "prefill worker", fromMs: startMs, ms, args });
  });
}

/** When a request began to run, or lost its slot again. */
interface Turn {
  readonly runs: boolean;
  readonly atMs: number;
}

/**
 * From arrival, or the loss of a slot, to the step that admits, or the end of who has waited until then. Of a request that ran
 * before the first step nothing is known before it loses its slot; who still waits is not shown.
 */
function waits({ steps, requests }: Timeline): TraceEvent[] {
  const turns = new Map<number, Turn[]>();
  const note = (request: number, turn: Turn): void => {
    const own = turns.get(request);
    if (own === undefined) turns.set(request, [turn]);
    else own.push(turn);
  };
  const called = new Set<number>();
  for (const { admitted, evicted = [], calls, startMs } of steps) {
    for (const { request } of evicted) note(request, { runs: false, atMs: startMs });
    for (let at = 0; at < admitted.length; at += ADMISSION_NUMBERS)
      note(admitted[at] ?? -1, { runs: true, atMs: startMs });
    for (const { entries } of calls)
      for (let at = 1; at < entries.length; at += ENTRY_NUMBERS) called.add(entries[at] ?? -1);
  }
  return requests.flatMap((request) => {
    const own = turns.get(request.request) ?? [];
    const ranBefore = own[0]?.runs === false || (own.length === 0 && called.has(request.request));
    const since: Turn = { runs: ranBefore, atMs: request.arrivalMs };
    return waitsOf(request, [since, ...own]);
  });
}

function waitsOf({ request, id, owner, promptTokens, endMs }: RecordedRequest, turns: readonly Turn[]) {
  const both = { name: id, cat: "wait", pid: WAITING, tid: 0, id: request } as const;
  return turns.flatMap(({ runs, atMs }, i): TraceEvent[] => {
    const untilMs = turns[i + 1]?.atMs ?? endMs;
    if (runs || untilMs === undefined) return [];
    // A step that reads what the prefill worker has computed begins before it looks at who waits.
    const untilAtLeastMs = Math.max(atMs, untilMs);
    return [
      { ...both, ph: "b", ts: micros(atMs), args: { owner, promptTokens } },
      { ...both, ph: "e", ts: micros(untilAtLeastMs) },
    ];
  });
}

interface Span {
  readonly name: string;
  readonly fromMs: number;
  readonly ms: number;
  readonly args?: TraceEvent["args"];
}

function span(track: Pick<TraceEvent, "pid" | "tid">, { name, fromMs, ms, args }: Span): TraceEvent {
  const ts = micros(fromMs);
  // The difference of ends that are rounded alike, so that a span that is within another one stays there.
  const times = { ts, dur: (nanos(fromMs + ms) - nanos(fromMs)) / 1000 };
  return { name, ph: "X", ...track, ...times, ...(args === undefined ? {} : { args }) };
}

/** Viewers take times for whole nanoseconds. */
function nanos(ms: number): number {
  return Math.round(ms * 1e6);
}

function micros(ms: number): number {
  return nanos(ms) / 1000;
}
