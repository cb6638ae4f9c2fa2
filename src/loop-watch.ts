/** Tells when something has held up the event loop, since everybody waits then: streams, new clients, the metrics. */
import type { Log } from "./deps.ts";

const TICK_MS = 250;
/** A pause that a reader of a stream sees as one. */
const HELD_UP_MS = 500;
/** Longer lists say no more. */
const MAX_TOLD = 5;
/** Paths are what clients make of them. */
const MAX_ROUTE_CHARS = 100;

export interface LoopWatchOptions {
  readonly nowMs: () => number;
  /** Method and path of each request that is being answered. */
  readonly open: () => Iterable<string>;
  readonly log: Pick<Log, "warn">;
  readonly onStall: () => void;
}

export class LoopWatch {
  readonly #options: LoopWatchOptions;
  #lastMs: number;

  constructor(options: LoopWatchOptions) {
    this.#options = options;
    this.#lastMs = options.nowMs();
  }

  /** Until the process ends, which it does not hold up. */
  start(): void {
    setInterval(() => this.tick(), TICK_MS).unref();
  }

  /** For a timer to call. The request that is to blame is among those whose answers have not gone out. */
  tick(): void {
    const nowMs = this.#options.nowMs();
    const lateMs = nowMs - this.#lastMs - TICK_MS;
    this.#lastMs = nowMs;
    if (lateMs < HELD_UP_MS) return;
    this.#options.onStall();
    const counts = new Map<string, number>();
    for (const route of this.#options.open()) counts.set(route, (counts.get(route) ?? 0) + 1);
    const open = [...counts]
      .slice(0, MAX_TOLD)
      .map(([route, count]) => ({ route: route.slice(0, MAX_ROUTE_CHARS), count }));
    this.#options.log.warn({ ms: Math.round(lateMs), open }, "the event loop was held up");
  }
}
