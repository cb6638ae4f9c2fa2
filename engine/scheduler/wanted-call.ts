/** What is left of a planned call when it is its turn: requests may have gone since the step was planned. */
import { isCurrent } from "./transitions.ts";
import type { PlannedCall, SchedulerState } from "./types.ts";

/**
 * The call without the entries nobody wants any more; gaps are closed only as planned.
 * @returns Undefined when nobody wants any of it.
 */
export function wantedCall(state: SchedulerState, call: PlannedCall): PlannedCall | undefined {
  let real = 0;
  let current = 0;
  for (const entry of call.entries) {
    if (entry.request === undefined) continue;
    real += 1;
    if (isCurrent(state, entry)) current += 1;
  }
  if (current === 0) return undefined;
  // Nearly always, and every call asks.
  if (current === real) return call;
  const wanted = call.entries.filter((entry) => isCurrent(state, entry));
  const tokens = wanted.reduce((sum, entry) => sum + entry.tokens.length, 0);
  return { ...call, entries: wanted, tokens, unscaledMs: 0 };
}
