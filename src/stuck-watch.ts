/**
 * Tells a stuck engine from a slow one: by silence that is many times longer than anything it has needed so far.
 *
 * Counts ticks instead of reading a clock, so that time in which this process itself stood still is no silence.
 */
import type { StepReport } from "../engine/step-report.ts";

/** Every step is refined from the ones before; one that takes this many times the slowest is none any more. */
const STEP_FACTOR = 20;
/** Loading runs the longest native calls several times, to measure them. */
const LOAD_FACTOR = 2;
/** The weights may have left the page cache since they were loaded first. */
const RELOAD_FACTOR = 10;
const LEAST_RELOAD_MS = 60_000;
/** How far the slowest step is forgotten with each step: an accident counts for some hundred of them. */
const FORGET = 0.99;

export class StuckWatch {
  readonly #floorMs: number;
  #silentMs = 0;
  #slowestStepMs = 0;
  #loadMs = 0;

  /** @param floorMs Silence that is never taken for the end, however fast the engine was. */
  constructor(floorMs: number) {
    this.#floorMs = floorMs;
  }

  /** Silence allowed while requests are open, in ms. */
  get limitMs(): number {
    return Math.max(this.#floorMs, STEP_FACTOR * this.#slowestStepMs, LOAD_FACTOR * this.#loadMs);
  }

  /** The engine has shown that it lives. */
  heard(): void {
    this.#silentMs = 0;
  }

  loaded(loadMs: number): void {
    this.heard();
    this.#loadMs = Math.max(this.#loadMs, loadMs);
  }

  stepped({ decodeMs, prefillMs, sampleMs }: StepReport): void {
    this.heard();
    this.#slowestStepMs = Math.max(decodeMs + prefillMs + sampleMs, this.#slowestStepMs * FORGET);
  }

  /**
   * Call it every `passedMs`.
   * @param waitingFor What the engine owes; undefined when it may be silent.
   * @returns Whether it is stuck.
   */
  tick(passedMs: number, waitingFor: "requests" | "load" | undefined): boolean {
    if (waitingFor === undefined) {
      this.heard();
      return false;
    }
    this.#silentMs += passedMs;
    const reloadMs = Math.max(LEAST_RELOAD_MS, RELOAD_FACTOR * this.#loadMs);
    return this.#silentMs > (waitingFor === "load" ? reloadMs : this.limitMs);
  }
}
