/**
 * Carries out what a plan gives to the prefill worker: starts it, shares the time between it and the engine's own steps, and
 * puts what it has computed into the slot. What goes wrong with it costs a prompt the time, never its request.
 */
import { performance } from "node:perf_hooks";
import { isWanted, landOffload } from "./scheduler/offload.ts";
import { truncateSlot } from "./scheduler/transitions.ts";
import type { Backend } from "./backend.ts";
import type { PrefillReports } from "./prefill-reports.ts";
import type { PrefillComputer } from "./prefill-worker/client.ts";
import type { Offload, SchedulerState } from "./scheduler/types.ts";
import type { SpillStore } from "./spill-store.ts";
import type { StepRecord } from "./step-record.ts";

/**
 * Time of the worker between two steps, relative to the first of them, within half of the inter-token target: a step of
 * three streams takes 25 ms on 2 cores (135M model), so that each has a token every 175.
 */
const TIMES_STEP = 6;

interface Parts {
  readonly state: SchedulerState;
  readonly backend: Backend;
  readonly computer: PrefillComputer;
  readonly store: SpillStore;
  readonly record: StepRecord;
  readonly prefills: PrefillReports;
  /** Something is to be done. */
  readonly wake: () => void;
}

/** What the worker has come to. */
type Outcome = "computed" | "failed";

export class Offloads {
  readonly #parts: Parts;
  /** What it computes, which may be what nobody wants any more. */
  #current: Offload | undefined;
  #startMs = 0;
  #outcome: Outcome | undefined;
  #gone = false;

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  /** Whether the worker computes. */
  get busy(): boolean {
    return this.#current !== undefined && this.#outcome === undefined;
  }

  /** From now on it can be given prompts. */
  noteReady(): void {
    this.#parts.state.offload.ready = true;
    this.#parts.wake();
  }

  /** What it computes has failed, and it will be given nothing more. */
  noteGone(): void {
    this.#gone = true;
    this.#parts.state.offload.ready = false;
    this.#parts.wake();
  }

  begin(offload: Offload): void {
    const { state, computer, store, prefills, wake } = this.#parts;
    const { request, slot, tokens } = offload;
    const entry = { request, slot, position: 0, sample: false };
    const onProgress = (length: number): void => {
      if (this.#current !== offload) return;
      prefills.advance({ entries: [{ ...entry, tokens: tokens.subarray(0, length) }] }, performance.now());
      wake();
    };
    state.offload.ready = false;
    this.#current = offload;
    this.#startMs = performance.now();
    prefills.begin({ entries: [{ ...entry, tokens }] }, this.#startMs);
    this.#outcome = undefined;
    let computed: Promise<void>;
    try {
      computed = computer.compute(tokens, store.createTransfer(), onProgress);
    } catch (error) {
      computed = Promise.reject(error);
    }
    void this.#await(offload, computed);
  }

  async #await(offload: Offload, computed: Promise<void>): Promise<void> {
    try {
      await computed;
      this.#outcome = "computed";
    } catch (error) {
      this.#outcome = "failed";
      if (isWanted(this.#parts.state, offload))
        report("A prompt could not be computed by the prefill worker", error);
    }
    this.#parts.wake();
  }

  /**
   * Between native calls: fills the slot with what has been computed, and lets go of what nobody wants.
   * @param onWait Called before that takes time.
   */
  async settle(onWait: () => void): Promise<void> {
    const offload = this.#current;
    if (offload === undefined) return;
    const { state, computer, store, record } = this.#parts;
    const { offload: offered } = state;
    const wanted = offered.current === offload && isWanted(state, offload);
    if (!wanted && offered.current === offload) {
      offered.current = undefined;
      computer.cancel();
    }
    if (this.#outcome === undefined) return;
    // A queued copy would be of what the slot has now.
    const copied = state.inCopies.has(offload.slot);
    if (wanted && this.#outcome === "computed" && !copied) {
      onWait();
      await this.#land(offload);
    } else if (wanted) {
      offered.current = undefined;
      record.offload.failures += 1;
    }
    this.#current = undefined;
    offered.ready = !this.#gone;
    store.dropTransfer();
  }

  /** The engine computes: the worker stands still. */
  hold(): void {
    if (this.busy) this.#parts.computer.hold();
  }

  go(): void {
    this.#parts.computer.go();
  }

  /** How long the worker has the device behind a step that took so long, in ms. */
  restMs(stepMs: number): number {
    if (!this.busy) return 0;
    const { itlTargetMs, minPrefillShare } = this.#parts.state.config;
    return Math.max(Math.min(TIMES_STEP * stepMs, itlTargetMs / 2 - stepMs), minPrefillShare * stepMs);
  }

  close(): void {
    this.#parts.computer.close();
    this.#parts.store.dropTransfer();
  }

  async #land(offload: Offload): Promise<void> {
    const { state, backend, store, record } = this.#parts;
    const { slot: id, tokens } = offload;
    const slot = state.slots[id];
    if (slot === undefined) return;
    truncateSlot(slot, 0);
    backend.truncate(id, 0);
    try {
      await backend.loadCells(id, store.transferPath, tokens);
      landOffload(state, offload);
      record.offload.prompts += 1;
      record.offload.tokens += tokens.length;
      record.offload.ms += performance.now() - this.#startMs;
    } catch (error) {
      backend.truncate(id, 0);
      state.offload.current = undefined;
      record.offload.failures += 1;
      report(`The cells of ${tokens.length} tokens could not be read`, error);
    }
  }
}

/** For the log of the server, which reads the standard error of its engines. */
function report(what: string, error: unknown): void {
  process.stderr.write(`warn: ${what}: ${error instanceof Error ? error.message : String(error)}\n`);
}
