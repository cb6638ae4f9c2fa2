/**
 * When requests are no longer worth computing: a heap of the times at which one may be, looked at from the top.
 *
 * A request that has ended leaves its times behind; they are dropped when they come up, or all at once when they are
 * more than those of open requests.
 */
import type { Deadline, ScheduledRequest, SchedulerState } from "./types.ts";

/** Times of ended requests that are never worth sweeping out. */
const SPARE_DEADLINES = 1000;

export function addDeadlines(state: SchedulerState, request: ScheduledRequest): void {
  const { id, startByMs, firstTokenByMs, endByMs } = request;
  for (const atMs of new Set([startByMs, firstTokenByMs, endByMs]))
    if (atMs < Infinity) push(state.deadlines, { id, atMs });
  if (state.deadlines.length <= 3 * state.requests.size + SPARE_DEADLINES) return;
  const open = state.deadlines.filter((deadline) => state.requests.has(deadline.id));
  state.deadlines.length = 0;
  for (const deadline of open) push(state.deadlines, deadline);
}

/** When to look again, in ms; Infinity when no time is set. */
export function nextDeadlineMs({ deadlines }: SchedulerState): number {
  return deadlines[0]?.atMs ?? Infinity;
}

/** Takes the times out that have come. @returns The requests whose time is up. */
export function takeExpired(state: SchedulerState, nowMs: number): ScheduledRequest[] {
  const expired = new Set<ScheduledRequest>();
  while (nextDeadlineMs(state) <= nowMs) {
    const request = state.requests.get(pop(state.deadlines)?.id ?? "");
    if (request !== undefined && !request.cancelled && isExpired(request, nowMs)) expired.add(request);
  }
  return [...expired];
}

/** Whether it has to end now, or cannot have its first token in time any more. */
export function isExpired(request: ScheduledRequest, nowMs: number): boolean {
  const { endByMs, firstTokenByMs, startByMs, output, phase } = request;
  if (endByMs <= nowMs) return true;
  return output.length === 0 && (firstTokenByMs <= nowMs || (phase === "queued" && startByMs <= nowMs));
}

function push(heap: Deadline[], deadline: Deadline): void {
  heap.push(deadline);
  for (let index = heap.length - 1; index > 0;) {
    const parent = (index - 1) >> 1;
    if (timeAt(heap, parent) <= deadline.atMs) return;
    swap(heap, index, parent);
    index = parent;
  }
}

function pop(heap: Deadline[]): Deadline | undefined {
  const first = heap[0];
  const last = heap.pop();
  if (last === undefined || heap.length === 0) return first;
  heap[0] = last;
  for (let index = 0; ;) {
    const left = 2 * index + 1;
    const child = timeAt(heap, left + 1) < timeAt(heap, left) ? left + 1 : left;
    if (timeAt(heap, child) >= last.atMs) return first;
    swap(heap, index, child);
    index = child;
  }
}

function timeAt(heap: readonly Deadline[], index: number): number {
  return heap[index]?.atMs ?? Infinity;
}

function swap(heap: Deadline[], a: number, b: number): void {
  const [x, y] = [heap[a], heap[b]];
  if (x === undefined || y === undefined) return;
  heap[a] = y;
  heap[b] = x;
}
