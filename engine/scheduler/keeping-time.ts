/**
 * The time that files and checkpoints may take in one step, of which both kinds have one share: none of them can be written
 * or read in pieces, and whoever waits for a token waits for all of them.
 */
import type { SchedulerState } from "./types.ts";

/** Where no stream waits: cancellations and new requests do. */
const LONGEST_MS = 2000;

export class KeepingTime {
  /** Spent by what is planned. */
  plannedMs = 0;
  readonly #mostMs: number;

  constructor({ slots, config }: SchedulerState) {
    const decoding = slots.some(({ holder }) => holder?.phase === "decode");
    this.#mostMs = decoding ? config.itlTargetMs : LONGEST_MS;
  }

  get leftMs(): number {
    return this.#mostMs - this.plannedMs;
  }

  spend(ms: number): void {
    this.plannedMs += ms;
  }
}
