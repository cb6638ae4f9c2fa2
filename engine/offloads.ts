/**
 * Carries out what a plan gives to the prefill worker: starts it, shares the time between it and the engine's own steps, and
 * puts what it has computed into the slot. What goes wrong with it costs a prompt the time, never its request.
 */
import { statSync } from "node:fs";
import { performance } from "node:perf_hooks";
import { isWanted, landOffload, noteOffloaded } from "./scheduler/offload.ts";
import { truncateSlot } from "./scheduler/transitions.ts";
import { noteWorkerTime, workerRestMs } from "./scheduler/worker-time.ts";
import { warn } from "./warn.ts";
import type { Backend } from "./backend.ts";
import type { FlightRecorder } from "./flight-recorder.ts";
import type { PrefillReports } from "./prefill-reports.ts";
import type { PrefillComputer } from "./prefill-worker/client.ts";
import type { Offload, SchedulerState } from "./scheduler/types.ts";
import type { SpillStore } from "./spill-store.ts";
import type { StepRecord } from "./step-record.ts";

/** Changes cut rests short; so many of the last rests are owed at most before they are not cut any more. */
const MOST_OWED_RESTS = 3;
/** Those are so much longer, and no longer than that, whoever wants to be heard. */
const FIRM_FACTOR = 1.25;
const MOST_FIRM_MS = 500;
/** A worker that says nothing for so long, while it has the device, has failed. */
const SILENT_MS = 60_000;
/** So many failures in a row are no accident. */
const MOST_FAILURES = 2;

interface Parts {
  readonly state: SchedulerState;
  readonly backend: Backend;
  readonly computer: PrefillComputer;
  readonly store: SpillStore;
  readonly record: StepRecord;
  readonly recorder: FlightRecorder;
  readonly prefills: PrefillReports;
  /** Something is to be done. */
  readonly wake: () => void;
}

/** Bytes of the file, or that there is none. */
type Outcome = { readonly bytes: number } | "failed";

/** A rest of the engine. `firm`: whatever changes. */
interface Rest {
  readonly ms: number;
  readonly firm: boolean;
}

export class Offloads {
  readonly #parts: Parts;
  /** What it computes, which may be what nobody wants any more. */
  #current: Offload | undefined;
  #startMs = 0;
  #outcome: Outcome | undefined;
  /** The streams have had their tokens since it was computed. */
  #streamsServed = false;
  #failures = 0;
  #gone = false;
  /** Runs while it has the device: what was left of the time in which it has to say something, and since when. */
  #silence: NodeJS.Timeout | undefined;
  #silentMs = SILENT_MS;
  #listensSinceMs = 0;
  /** What rests that were cut short have left to it, and since when it has the device; undefined: it stands still. */
  #owedMs = 0;
  #goingSinceMs: number | undefined;
  /** Of what it computes. */
  #deviceMs = 0;

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  /** Whether the worker computes, or would if it were let. */
  get busy(): boolean {
    return this.#current !== undefined && this.#outcome === undefined;
  }

  /** From now on it can be given prompts. */
  noteReady(): void {
    Object.assign(this.#parts.state.offload, { employed: true, ready: true });
    this.#parts.wake();
  }

  /** What it computes has failed, and it will be given nothing more. */
  noteGone(): void {
    this.#gone = true;
    Object.assign(this.#parts.state.offload, { employed: false, ready: false });
    this.#parts.wake();
  }

  begin(offload: Offload): void {
    const { state, recorder, prefills } = this.#parts;
    state.offload.ready = false;
    this.#current = offload;
    this.#startMs = performance.now();
    this.#outcome = undefined;
    this.#streamsServed = false;
    this.#owedMs = 0;
    this.#deviceMs = 0;
    this.#silentMs = SILENT_MS;
    recorder.beginOffload(state, offload, this.#startMs);
    const { request, slot, tokens } = offload;
    prefills.begin({ entries: [{ request, slot, tokens, position: 0, sample: false }] }, this.#startMs);
    void this.#await(offload);
  }

  /**
   * Between native calls: fills the slot with what has been computed, and lets go of what nobody wants.
   * @param onWait Called before that takes time.
   */
  async settle(onWait: () => void): Promise<void> {
    const offload = this.#current;
    const { state, computer, store, recorder, wake } = this.#parts;
    const { offload: offered } = state;
    if (offload === undefined) {
      // A step that failed before it was begun.
      offered.current = undefined;
      return;
    }
    const wanted = offered.current === offload && isWanted(state, offload);
    if (!wanted) recorder.endOffload("left", performance.now());
    if (!wanted && offered.current === offload) {
      offered.current = undefined;
      computer.cancel();
    }
    const outcome = this.#outcome;
    if (outcome === undefined) return;
    if (wanted && outcome !== "failed" && !this.#streamsServed) {
      this.#streamsServed = true;
      // They have waited while the worker computed, and reading its cells takes as long as two of their steps.
      if (hasStreams(state)) return wake();
    }
    if (wanted) {
      onWait();
      if (outcome !== "failed" && state.inCopies.has(offload.slot)) {
        // A queued copy would be of what the slot has now, which is not the worker's fault.
        this.#noteFailed(offload);
      } else this.#count(offload, outcome !== "failed" && (await this.#land(offload, outcome.bytes)));
    }
    this.#current = undefined;
    offered.ready = !this.#gone;
    store.dropTransfer();
  }

  /** The engine computes: the worker stands still. */
  hold(): void {
    if (!this.busy) return;
    this.#parts.computer.hold();
    this.#noteStill();
  }

  go(): void {
    this.#parts.computer.go();
    if (!this.busy || this.#goingSinceMs !== undefined) return;
    this.#goingSinceMs = performance.now();
    this.#listen();
  }

  /** Counts how long it has had the device, up to now. */
  #noteStill(): void {
    const nowMs = performance.now();
    const ms = nowMs - (this.#goingSinceMs ?? nowMs);
    if (this.#goingSinceMs !== undefined) this.#silentMs -= nowMs - this.#listensSinceMs;
    this.#goingSinceMs = undefined;
    clearTimeout(this.#silence);
    this.#owedMs = Math.max(0, this.#owedMs - ms);
    this.#deviceMs += ms;
    this.#parts.recorder.offloadRan(ms);
    this.#parts.state.offload.restedMs += ms;
  }

  /** How long the worker has the device behind a step that took so long, in ms; undefined where it needs none. */
  rest(stepMs: number): Rest | undefined {
    if (!this.busy) return undefined;
    const { state } = this.#parts;
    const ms = workerRestMs(state, stepMs, state.justDecoded !== undefined);
    this.#owedMs += ms;
    const firm = this.#owedMs > MOST_OWED_RESTS * ms;
    return { ms: firm ? Math.min(FIRM_FACTOR * ms, MOST_FIRM_MS) : ms, firm };
  }

  close(): void {
    clearTimeout(this.#silence);
    this.#parts.computer.close();
    this.#parts.store.dropTransfer();
  }

  async #await(offload: Offload): Promise<void> {
    const { state, computer, store, wake } = this.#parts;
    const { tokens } = offload;
    try {
      const onProgress = (length: number): void => this.#noteProgress(offload, length);
      const bytes = await computer.compute(tokens, store.createTransfer(), onProgress);
      this.#noteStill();
      noteWorkerTime(state, tokens.length, this.#deviceMs);
      this.#outcome = { bytes };
    } catch (error) {
      this.#noteStill();
      this.#outcome = "failed";
      if (isWanted(state, offload)) warn("A prompt could not be computed by the prefill worker", error);
    }
    wake();
  }

  #noteProgress(offload: Offload, length: number): void {
    if (this.#current !== offload) return;
    const { state, record, prefills, wake } = this.#parts;
    if (state.offload.current === offload) noteOffloaded(state, length);
    const { request, slot, tokens } = offload;
    const entry = { request, slot, tokens: tokens.subarray(0, length), position: 0, sample: false };
    prefills.advance({ entries: [entry] }, performance.now());
    // Where there are no streams, the server hears nothing else, and would take the engine for stuck.
    record.alive = true;
    this.#silentMs = SILENT_MS;
    if (this.#goingSinceMs !== undefined) this.#listen();
    // Else the next step tells of it, for which no rest is cut short.
    if (!hasStreams(state)) wake();
  }

  #listen(): void {
    clearTimeout(this.#silence);
    this.#listensSinceMs = performance.now();
    this.#silence = setTimeout(() => this.#giveUp("it says nothing"), this.#silentMs).unref();
  }

  #giveUp(reason: string): void {
    warn("The prefill worker is given up", reason);
    this.#parts.computer.close();
    if (this.busy) this.#outcome = "failed";
    this.noteGone();
  }

  async #land(offload: Offload, bytes: number): Promise<boolean> {
    const { state, backend, store } = this.#parts;
    const { slot: id, tokens } = offload;
    const slot = state.slots[id];
    if (slot === undefined) return false;
    const { hits, keepUntilMs } = slot;
    truncateSlot(slot, 0);
    backend.truncate(id, 0);
    try {
      const path = store.transferPath;
      // Native code ends the process for a file that is cut short.
      if (statSync(path).size !== bytes) throw new Error("the file is not what was written");
      await backend.loadCells(id, path, tokens);
      landOffload(state, offload);
      Object.assign(slot, { hits, keepUntilMs });
      return true;
    } catch (error) {
      backend.truncate(id, 0);
      warn(`The cells of ${tokens.length} tokens could not be read`, error);
      return false;
    }
  }

  #count(offload: Offload, landed: boolean): void {
    const { record, recorder } = this.#parts;
    if (landed) {
      this.#failures = 0;
      recorder.endOffload("landed", performance.now());
      record.offload.prompts += 1;
      record.offload.tokens += offload.tokens.length;
      record.offload.ms += performance.now() - this.#startMs;
      return;
    }
    this.#noteFailed(offload);
    this.#failures += 1;
    if (this.#failures === MOST_FAILURES && !this.#gone) this.#giveUp("it fails again and again");
  }

  /** The engine computes it after all. */
  #noteFailed({ request }: Offload): void {
    const { state, record, recorder } = this.#parts;
    recorder.endOffload("failed", performance.now());
    state.offload.current = undefined;
    state.offload.failed = request;
    record.offload.failures += 1;
  }
}

/** Whether anybody waits for a token, which those who are paused do not. */
function hasStreams({ slots }: SchedulerState): boolean {
  return slots.some(({ holder }) => holder?.phase === "decode" && !holder.paused);
}
