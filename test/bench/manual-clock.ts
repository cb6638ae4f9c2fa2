/** A clock that stands still until a test moves it. */
import type { BenchClock } from "../../bench/clock.ts";

export interface ManualClock extends BenchClock {
  /** Moves on and runs what is due by then. */
  advance(ms: number): void;
}

export function createManualClock(): ManualClock {
  let nowMs = 0;
  const due = new Map<() => void, number>();
  return {
    nowMs: () => nowMs,
    after: (delayMs, callback) => {
      due.set(callback, nowMs + delayMs);
      return () => void due.delete(callback);
    },
    advance: (ms) => {
      nowMs += ms;
      for (const [callback, atMs] of due) {
        if (atMs > nowMs) continue;
        due.delete(callback);
        callback();
      }
    },
  };
}
