/** When more clients do not get more tokens of a server, and what the most is. */
import { sideName } from "./format.ts";
import type { LevelSummary } from "./level-summary.ts";
import { median } from "./stats.ts";

/** Of a turn. */
interface Turn {
  readonly side: number;
  readonly concurrency: number;
  readonly summary: Pick<LevelSummary, "outputTokensPerSecond">;
}

export interface Saturation {
  readonly side: number;
  /** Clients with which it had the most. */
  readonly concurrency: number;
  /** Median over rounds. */
  readonly outputTokensPerSecond: number;
}

/** Twice as many clients must get so many times as much, or there is no more to get. */
const GAIN = 1.05;

/**
 * Whether neither server had more with the last level of clients than with the one before.
 * @param turns Of whole levels, in their order, and perhaps of the next one.
 * @param next The level that begins or goes on.
 */
export function isSaturated(turns: readonly Turn[], next: number): boolean {
  const levels = [...new Set(turns.map(({ concurrency }) => concurrency))];
  const [before, last] = levels.slice(-2);
  if (before === undefined || last === undefined || last === next) return false;
  // A server that gives nothing has no more to give.
  return sidesOf(turns).every((side) => {
    const rate = rateOf(turns, side, last);
    return rate === 0 || rate < GAIN * rateOf(turns, side, before);
  });
}

export function saturations(turns: readonly Turn[]): Saturation[] {
  return sidesOf(turns).map((side) => {
    const levels = [...new Set(turns.map(({ concurrency }) => concurrency))];
    const rates = levels.map((concurrency) => ({
      side,
      concurrency,
      outputTokensPerSecond: rateOf(turns, side, concurrency),
    }));
    return rates.reduce((best, one) => (one.outputTokensPerSecond > best.outputTokensPerSecond ? one : best));
  });
}

export function formatSaturation({ side, concurrency, outputTokensPerSecond }: Saturation): string {
  return `${sideName(side)}   most output ${outputTokensPerSecond.toFixed(1)} tok/s, with ${concurrency} ${concurrency === 1 ? "client" : "clients"}`;
}

function sidesOf(turns: readonly Turn[]): number[] {
  return [...new Set(turns.map(({ side }) => side))];
}

function rateOf(turns: readonly Turn[], side: number, level: number): number {
  const own = turns.filter((turn) => turn.side === side && turn.concurrency === level);
  return median(own.map(({ summary }) => summary.outputTokensPerSecond)) ?? 0;
}
