/** Changes of a request while it runs or waits: whether it is paused, and its class. */
import { makeEligible, makeIneligible } from "./owners.ts";
import type { RequestId } from "../protocol.ts";
import type { SchedulerState } from "./types.ts";

/**
 * Leaves a request out of every step from now on, or takes it in again. It keeps its slot while nobody needs it, and
 * its output in any case.
 * @returns Whether there is such a request.
 */
export function setPaused(state: SchedulerState, id: RequestId, paused: boolean, nowMs: number): boolean {
  const request = state.requests.get(id);
  if (request === undefined) return false;
  // Whoever is paused waits for nothing, and must not have grown old by that.
  if (request.paused && !paused) request.waitingSinceMs = nowMs;
  if (request.paused) request.pausedMs += nowMs - request.pausedSinceMs;
  request.pausedSinceMs = nowMs;
  if (paused) request.forecastMs = undefined;
  request.paused = paused;
  if (request.phase !== "queued") return true;
  if (paused) makeIneligible(state, request);
  else makeEligible(state, request);
  return true;
}

/**
 * Moves a request to another class, where it keeps its place by arrival.
 * @param priority 0 to `CLASSES - 1`.
 * @returns Whether there is such a request.
 */
export function setPriority(state: SchedulerState, id: RequestId, priority: number): boolean {
  const request = state.requests.get(id);
  if (request === undefined) return false;
  const eligible = request.heapIndex >= 0;
  if (eligible) makeIneligible(state, request);
  if (priority !== request.priority) request.forecastMs = undefined;
  request.priority = priority;
  if (eligible) makeEligible(state, request);
  return true;
}
