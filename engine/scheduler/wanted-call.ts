/** What is left of a planned call when it is its turn: requests may have gone since the step was planned. */
import { isCurrent } from "./transitions.ts";
import type { PlannedCall, SchedulerState } from "./types.ts";

/**
 * The call without the entries nobody wants any more; gaps are closed only as planned.
 * @returns Undefined when nobody wants any of it.
 */
export function wantedCall(state: SchedulerState, call: PlannedCall): PlannedCall | undefined {
  const wanted = call.entries.filter((entry) => isCurrent(state, entry));
  if (wanted.length === 0) return undefined;
  const real = call.entries.filter((entry) => entry.request !== undefined);
  if (wanted.length === real.length) return call;
  const tokens = wanted.reduce((sum, entry) => sum + entry.tokens.length, 0);
  return { ...call, entries: wanted, tokens, unscaledMs: 0 };
}
