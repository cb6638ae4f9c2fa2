/**
 * When a step loop computes and when it rests: for turns of its engine on a device that others use too, for those of its
 * prefill worker, and until there is something to do.
 */
import { performance } from "node:perf_hooks";
import type { DeviceLease } from "./device-lease.ts";
import type { LoopSleep } from "./loop-sleep.ts";
import type { Offloads } from "./offloads.ts";
import { nextDeadlineMs } from "./scheduler/deadlines.ts";
import { noteDeviceShare } from "./scheduler/device-share.ts";
import type { SchedulerState } from "./scheduler/types.ts";
import type { StepCounts } from "./step-counts.ts";
import type { StepLoopLinks } from "./step-loop-links.ts";

interface Parts {
  readonly state: SchedulerState;
  readonly links: Pick<StepLoopLinks, "sideWork" | "lease">;
  readonly sleep: LoopSleep;
  readonly counts: StepCounts;
  /** Sends what has been computed. */
  readonly send: () => void;
}

export class DeviceTurns {
  readonly #parts: Parts;
  /** Absent where the device is the engine's alone. */
  readonly #lease: DeviceLease | undefined;
  /** Where there is a prefill worker. It computes in its engine's turns. */
  offloads: Offloads | undefined;
  #roundMs = 0;
  /** What had been waited for the device when the round began, and when the last one that computed ended. */
  #waitedMs = 0;
  #notedMs: number;
  #closed = false;

  constructor(parts: Parts) {
    this.#parts = parts;
    this.#lease = parts.links.lease;
    // What loading has waited is no round's.
    this.#notedMs = this.#lease?.waitedMs ?? 0;
    if (this.#lease !== undefined) this.#lease.onChange = () => parts.sleep.rouse();
  }

  /** A round of the loop begins. */
  beginRound(): void {
    this.#parts.sleep.beginRound();
    this.#roundMs = performance.now();
    this.#waitedMs = this.#lease?.waitedMs ?? 0;
  }

  /** Of the round so far, without waits for the device, in ms. */
  get workedMs(): number {
    return performance.now() - this.#roundMs - ((this.#lease?.waitedMs ?? 0) - this.#waitedMs);
  }

  /** Whether the loop may compute. Where it may not, it has asked for the device and is woken when it has it. */
  mayCompute(): boolean {
    const lease = this.#lease;
    if (lease === undefined || lease.leftMs > 0 || !this.#hasWork) return true;
    this.#parts.counts.rests();
    this.offloads?.hold();
    if (lease.held) lease.free(true);
    else lease.want();
    return false;
  }

  /** Between native calls: others have the device, if they are to have it now. Resolves when it is the engine's again. */
  async between(): Promise<void> {
    const lease = this.#lease;
    if (lease === undefined || lease.leftMs > 0) return;
    this.#parts.counts.rests();
    this.offloads?.hold();
    // What has been computed travels meanwhile.
    this.#parts.send();
    await lease.turn();
  }

  /** The engine rests: its worker may compute. */
  go(): void {
    if (this.#lease?.held !== false) this.offloads?.go();
  }

  /** Behind a round: the prefill worker's turn where it computed, and else a sleep until there is something to do. */
  async pause(worked: boolean): Promise<void> {
    const { state, sleep, counts, send } = this.#parts;
    const lease = this.#lease;
    const { workedMs } = this;
    if (lease !== undefined && worked) {
      noteDeviceShare(state, { workedMs, waitedMs: lease.waitedMs - this.#notedMs }, performance.now());
      this.#notedMs = lease.waitedMs;
    }
    const rest = worked ? this.offloads?.rest(workedMs) : undefined;
    if ((worked && rest === undefined) || this.#closed) return;
    counts.rests();
    send();
    if (rest !== undefined && lease !== undefined) {
      // Else a turn that one call fills would leave the worker none.
      await this.between();
      this.go();
    } else if (this.offloads?.busy !== true) lease?.free(false);
    const turnMs = lease?.held === true ? lease.leftMs : Infinity;
    const leftMs = Math.min(turnMs, nextDeadlineMs(state) - performance.now());
    await sleep.sleep(Math.min(rest?.ms ?? Infinity, leftMs), rest?.firm);
  }

  /** Nothing is waited for any more. */
  close(): void {
    this.#closed = true;
    this.#parts.sleep.wake();
    this.#lease?.close();
  }

  get #hasWork(): boolean {
    const { state, links } = this.#parts;
    return state.requests.size > 0 || links.sideWork.pending || this.offloads?.busy === true;
  }
}
