/**
 * Waiting requests by arrival, as a binary heap: those of one owner and class, whoever comes, goes or changes class.
 *
 * A request knows its place in the heap, so that one in the middle leaves as cheaply as the first.
 */
import type { ScheduledRequest } from "./types.ts";

type Heap = ScheduledRequest[];

export function pushWaiting(heap: Heap, request: ScheduledRequest): void {
  heap.push(request);
  siftUp(heap, heap.length - 1);
}

/** The request must be in this heap. */
export function removeWaiting(heap: Heap, request: ScheduledRequest): void {
  const index = request.heapIndex;
  const last = heap.pop();
  request.heapIndex = -1;
  if (last === undefined || last === request) return;
  heap[index] = last;
  last.heapIndex = index;
  siftDown(heap, index);
  siftUp(heap, last.heapIndex);
}

/** By arrival, without changing the heap: the first k cost k^2 comparisons at most, however many wait. */
export function* waitingByArrival(heap: readonly ScheduledRequest[]): Generator<ScheduledRequest> {
  const frontier = heap.length > 0 ? [0] : [];
  while (frontier.length > 0) {
    let best = 0;
    for (let i = 1; i < frontier.length; i++)
      if (arrivalAt(heap, frontier[i]) < arrivalAt(heap, frontier[best])) best = i;
    const index = frontier[best] ?? 0;
    const request = heap[index];
    frontier.splice(best, 1);
    for (const child of [2 * index + 1, 2 * index + 2]) if (child < heap.length) frontier.push(child);
    if (request !== undefined) yield request;
  }
}

/** Requests that are looked at for the one that has waited for longest. */
const MOST_LOOKED_AT = 16;

/**
 * Since when the one of them has waited that has waited for longest, in ms; `Infinity` of none. Not always the first: who has
 * lost its slot, or was paused, keeps its place and has waited less than those behind it. Of many such ones at the front
 * those behind the first few are not looked at.
 * @param taken They wait no more.
 */
export function waitedSinceMs(
  heap: readonly ScheduledRequest[],
  taken?: ReadonlySet<ScheduledRequest>,
): number {
  const [head] = heap;
  if (head === undefined) return Infinity;
  if (!hasComeBack(head) && taken?.has(head) !== true) return head.waitingSinceMs;
  let oldestMs = Infinity;
  let looked = 0;
  for (const request of waitingByArrival(heap)) {
    if (taken?.has(request) === true) continue;
    oldestMs = Math.min(oldestMs, request.waitingSinceMs);
    looked += 1;
    // Whoever is behind it came later.
    if (oldestMs <= request.arrivalMs || looked === MOST_LOOKED_AT) break;
  }
  return oldestMs;
}

/** Whether it has waited for less time than it is there: others behind it may have waited for longer. */
export function hasComeBack({ waitingSinceMs, arrivalMs }: ScheduledRequest): boolean {
  return waitingSinceMs > arrivalMs;
}

function arrivalAt(heap: readonly ScheduledRequest[], index = 0): number {
  return heap[index]?.arrival ?? Infinity;
}

function siftUp(heap: Heap, from: number): void {
  const request = heap[from];
  let index = from;
  if (request === undefined) return;
  while (index > 0) {
    const parent = (index - 1) >> 1;
    const above = heap[parent];
    if (above === undefined || above.arrival <= request.arrival) break;
    put(heap, index, above);
    index = parent;
  }
  put(heap, index, request);
}

function siftDown(heap: Heap, from: number): void {
  const request = heap[from];
  let index = from;
  if (request === undefined) return;
  for (;;) {
    const left = 2 * index + 1;
    const child = arrivalAt(heap, left + 1) < arrivalAt(heap, left) ? left + 1 : left;
    const below = heap[child];
    if (below === undefined || below.arrival >= request.arrival) break;
    put(heap, index, below);
    index = child;
  }
  put(heap, index, request);
}

function put(heap: Heap, index: number, request: ScheduledRequest): void {
  heap[index] = request;
  request.heapIndex = index;
}
