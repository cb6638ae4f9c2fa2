/** A prefill worker in simulated time: it has the device behind each step for as long as it would have it behind a real one. */
import { prefillTokensMs } from "../../engine/scheduler/cost-model.ts";
import { isWanted, landOffload, noteOffloaded } from "../../engine/scheduler/offload.ts";
import { truncateSlot } from "../../engine/scheduler/transitions.ts";
import type { Offload, SchedulerState } from "../../engine/scheduler/types.ts";
import { noteWorkerTime, workerRestMs } from "../../engine/scheduler/worker-time.ts";

export class SimulatedWorker {
  readonly #state: SchedulerState;
  /** Its time for a prompt, over what that takes here. */
  readonly #scale: number;
  #job: { readonly offload: Offload; readonly needsMs: number; hadMs: number } | undefined;
  /** Prompts that it has computed. */
  computed = 0;

  constructor(state: SchedulerState, scale: number) {
    this.#state = state;
    this.#scale = scale;
    Object.assign(state.offload, { employed: true, ready: true });
  }

  /** Behind a step. @returns How long the engine rests for it. */
  rest(stepMs: number): number {
    const state = this.#state;
    const { offload, config, cost, justDecoded } = state;
    const { current } = offload;
    if (current === undefined) return 0;
    if (!isWanted(state, current)) {
      this.#end();
      return 0;
    }
    offload.ready = false;
    const tokens = current.tokens.length;
    if (this.#job?.offload !== current) {
      const needsMs = this.#scale * prefillTokensMs(cost, config.prefillChunk, tokens, 0);
      this.#job = { offload: current, needsMs, hadMs: 0 };
    }
    const job = this.#job;
    const leftMs = job.needsMs - job.hadMs;
    const ms =
      stepMs === 0 ? leftMs : Math.min(leftMs, workerRestMs(state, stepMs, justDecoded !== undefined));
    job.hadMs += ms;
    offload.restedMs += ms;
    if (ms < leftMs) noteOffloaded(state, Math.floor((tokens * job.hadMs) / job.needsMs));
    else {
      const slot = state.slots[current.slot];
      if (slot !== undefined) truncateSlot(slot, 0);
      noteWorkerTime(state, tokens, job.needsMs);
      landOffload(state, current);
      this.computed += 1;
      this.#end();
    }
    return ms;
  }

  #end(): void {
    this.#job = undefined;
    Object.assign(this.#state.offload, { current: undefined, ready: true });
  }
}
