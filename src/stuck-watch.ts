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
/** Inputs of one call are computed one by one, and may be much longer than those of any before. */
const CALL_FACTOR = 10;
/** How far the slowest step is forgotten with each step, and the longest call: an accident counts for some hundred of them. */
const FORGET = 0.99;

/**
 * What an engine owes; `calls`: to come to an end with vectors, scores or pins, whose native calls are as long as what they
 * are given, since other engines wait for the device.
 */
export type Owed = "requests" | "load" | "calls";

export class StuckWatch {
  readonly #floorMs: number;
  #silentMs = 0;
  #slowestStepMs = 0;
  #loadMs = 0;
  #longestCallMs = 0;

  /** @param floorMs Silence that is never taken for the end, however fast the engine was. */
  constructor(floorMs: number) {
    this.#floorMs = floorMs;
  }

  /** Silence allowed while so much is owed, in ms. */
  limitMs(owed: Owed): number {
    if (owed === "requests")
      return Math.max(this.#floorMs, STEP_FACTOR * this.#slowestStepMs, LOAD_FACTOR * this.#loadMs);
    const reloadMs = Math.max(LEAST_RELOAD_MS, RELOAD_FACTOR * this.#loadMs);
    if (owed === "load") return reloadMs;
    return Math.max(this.limitMs("requests"), reloadMs, CALL_FACTOR * this.#longestCallMs);
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

  /** @param ms What a call for vectors or scores has taken on the device. */
  answered(ms: number): void {
    this.#longestCallMs = Math.max(ms, this.#longestCallMs * FORGET);
  }

  /**
   * Call it every `passedMs`.
   * @param waitingFor What the engine owes; undefined when it may be silent.
   * @returns Whether it is stuck.
   */
  tick(passedMs: number, waitingFor: Owed | undefined): boolean {
    if (waitingFor === undefined) {
      this.heard();
      return false;
    }
    this.#silentMs += passedMs;
    return this.#silentMs > this.limitMs(waitingFor);
  }
}
