/** What every trace has to be for a viewer to show all of it. */
import type { TraceEvent } from "../../src/routes/trace-events.ts";

/**
 * @returns What is wrong: spans of one thread that overlap without one being within the other, and waits of a request that
 * begin or end twice, or only do one of both.
 */
export function traceFaults(events: readonly TraceEvent[]): string[] {
  return [...overlaps(events), ...loneEnds(events)];
}

const nanos = (micros = Number.NaN): number => Math.round(micros * 1000);

function overlaps(events: readonly TraceEvent[]): string[] {
  const faults: string[] = [];
  const threads = new Map<string, TraceEvent[]>();
  for (const event of events) {
    if (event.ph !== "X") continue;
    const thread = `${event.pid}/${event.tid}`;
    const spans = threads.get(thread) ?? [];
    spans.push(event);
    threads.set(thread, spans);
  }
  for (const spans of threads.values()) {
    const open: { readonly name: string; readonly end: number }[] = [];
    const begun = spans
      .map(({ name, ts, dur }) => ({ name, start: nanos(ts), end: nanos(ts) + nanos(dur) }))
      .sort((a, b) => a.start - b.start || b.end - a.end);
    for (const span of begun) {
      while ((open.at(-1)?.end ?? Infinity) <= span.start) open.pop();
      const outer = open.at(-1);
      if (!(span.end >= span.start)) faults.push(`${span.name} ends before it begins`);
      if (outer !== undefined && span.end > outer.end)
        faults.push(`${span.name} goes on ${span.end - outer.end} ns behind ${outer.name}`);
      open.push(span);
    }
  }
  return faults;
}

function loneEnds(events: readonly TraceEvent[]): string[] {
  const faults: string[] = [];
  const since = new Map<number | undefined, number>();
  for (const { ph, id, name, ts } of events) {
    if (ph !== "b" && ph !== "e") continue;
    if (since.has(id) !== (ph === "e")) faults.push(`${name}: ${ph} twice`);
    if (ph === "b") since.set(id, nanos(ts));
    else if (nanos(ts) < (since.get(id) ?? 0)) faults.push(`${name} ends before it begins`);
    if (ph === "e") since.delete(id);
  }
  for (const id of since.keys()) faults.push(`${id} does not end`);
  return faults;
}
