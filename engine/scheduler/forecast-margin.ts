/**
 * By how much first tokens come later than was forecast, so that who is let in under a deadline is answered within it
 * nearly always: a quantile of real over predicted times, followed from one request to the next.
 *
 * Those count whose forecast was near what they had allowed. Of the others it does not matter, and what delays a first
 * token by a little is much of a short time. Where the margin itself keeps all of them away, it comes back with the time, or
 * a server that is never idle would refuse them for ever.
 */
import { isExpired } from "./deadlines.ts";
import type { ScheduledRequest, SchedulerState } from "./types.ts";

/** Part of the requests that are to come within the margin. */
const WITHIN = 0.97;
/** How far it moves with one that does not; it comes back with those that do. */
const STEP = 0.06;
/** While nothing is known. */
export const FIRST_MARGIN = 1.25;
/** Where an engine that has nothing to do tries again. */
export const LEAST_MARGIN = 1.1;
const MOST_MARGIN = 1.8;
/** What is predicted to take less of the time that was allowed than this teaches nothing. */
const NEAR = 1 / 3;
/** So long without anybody who teaches anything, it lets in somebody who may. */
const UNTAUGHT_MS = 10_000;

/** The first token of a request is there. */
export function noteFirstToken(state: SchedulerState, request: ScheduledRequest, nowMs: number): void {
  const { forecastMs, arrivalMs } = request;
  request.firstTokenMs = nowMs;
  if (forecastMs !== undefined) learn(state, request, nowMs - arrivalMs > state.margin * forecastMs, nowMs);
}

/** It leaves without one. */
export function noteNoToken(state: SchedulerState, request: ScheduledRequest, nowMs: number): void {
  const { cancelled, forecastMs, output } = request;
  if (forecastMs !== undefined && output.length === 0 && !cancelled && isExpired(request, nowMs))
    learn(state, request, true, nowMs);
}

/** A request was refused whose first token was foreseen after so long, though it allows so much. */
export function noteTooLate(state: SchedulerState, foreseenMs: number, askedMs: number, nowMs: number): void {
  if (foreseenMs * LEAST_MARGIN > askedMs || nowMs - state.marginTaughtMs < UNTAUGHT_MS) return;
  state.marginTaughtMs = nowMs;
  state.margin = Math.max(LEAST_MARGIN, state.margin - STEP);
}

function learn(state: SchedulerState, request: ScheduledRequest, isLater: boolean, nowMs: number): void {
  const { forecastMs = 0, firstTokenByMs, arrivalMs } = request;
  request.forecastMs = undefined;
  if (forecastMs < NEAR * (firstTokenByMs - arrivalMs)) return;
  state.marginTaughtMs = nowMs;
  const moved = state.margin + STEP * (isLater ? WITHIN : WITHIN - 1);
  state.margin = Math.min(MOST_MARGIN, Math.max(LEAST_MARGIN, moved));
}
