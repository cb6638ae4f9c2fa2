/**
 * A scheduler whose slots are all in use and beside which a queue of any length waits, stepped without a device: what
 * planning and bookkeeping themselves take.
 *
 * Whoever ends is replaced at once by a newcomer at the end of the queue, so that every step is like the one before.
 */
import { noteTaken } from "../scheduler/checkpoint-transitions.ts";
import { takeExpired } from "../scheduler/deadlines.ts";
import { allowanceOf, checkRoom } from "../scheduler/entry.ts";
import { DEFAULT_FAIRNESS } from "../scheduler/owners.ts";
import { planStep } from "../scheduler/plan-step.ts";
import {
  appendToken,
  beginStep,
  completeCall,
  createState,
  release,
  releaseCancelled,
  submit,
  truncateSlot,
} from "../scheduler/transitions.ts";
import type { CheckpointNeeds, PlannedCall, SchedulerState, StepPlan } from "../scheduler/types.ts";
import { defaultConfig } from "./config.ts";
import { callMs, DEVICES, measuredCosts } from "./device.ts";

export interface FullSchedulerOptions {
  readonly slots: number;
  /** Requests that wait at any time. */
  readonly waiting: number;
  /** Among whom they are dealt out in turn. */
  readonly owners: number;
  /** Whole number, 0 inclusive to `limit` exclusive. */
  readonly below: (limit: number) => number;
  /** A real clock, in ms. */
  readonly nowMs: () => number;
  /** Of a model that cannot take tokens back, what has to be there to come back to a checkpoint; absent: it can. */
  readonly checkpoints?: CheckpointNeeds | undefined;
}

export interface StepTimes {
  readonly planMs: number;
  /** Everything else that the scheduler does in a step: who ends, who begins, what the cells hold, tokens. */
  readonly applyMs: number;
  /** Taking each newcomer in; undefined when nobody has ended. */
  readonly submitMs: number | undefined;
}

/** Two requests end and two begin in a step of 64 slots: more than most servers see. */
const PROMPT_TOKENS = 256;
const MOST_OUTPUT = 64;
/** Prompts begin with one of so many texts, as with system messages; one of them is always new. */
const TEXTS = 8;
const SHARED_TOKENS = 128;
const VOCABULARY = 50_000;
/** Few enough that pairs of them come again and something is guessed, mostly in vain. */
const OUTPUT_VOCABULARY = 40;

export class FullScheduler {
  readonly #options: FullSchedulerOptions;
  readonly #state: SchedulerState;
  /** Of a device that is simulated. */
  #deviceMs = 0;
  #serial = 0;

  constructor(options: FullSchedulerOptions) {
    this.#options = options;
    const { slots, checkpoints: needs } = options;
    const config = {
      ...defaultConfig("gpu"),
      slots,
      contextTokens: 2048,
      speculate: true,
      maxQueued: Infinity,
      fairness: DEFAULT_FAIRNESS,
      canRewind: needs === undefined,
      ...(needs === undefined ? {} : { checkpoints: { needs, bytes: CHECKPOINTS_BYTES } }),
      ...(needs === "own-cells" ? { windowTokens: WINDOW_TOKENS } : {}),
    };
    const cost = measuredCosts(DEVICES.gpu, config);
    this.#state = createState(config, needs === undefined ? cost : { ...cost, checkpoint: CHECKPOINT_COST });
    for (let i = 0; i < slots + options.waiting; i++) this.#submit();
  }

  /** Requests that wait and requests that hold a slot. */
  get load(): { readonly waiting: number; readonly running: number } {
    const { queue, requests } = this.#state;
    return { waiting: queue.size, running: requests.size - queue.size };
  }

  /** One more request, with all that the engine asks the scheduler about one. @returns The time that took. */
  #submit(): number {
    const { owners, below, nowMs } = this.#options;
    const state = this.#state;
    const serial = this.#serial++;
    const tenant = `owner ${serial % owners}`;
    const text = below(TEXTS);
    const prompt = Uint32Array.from({ length: PROMPT_TOKENS }, (_, i) =>
      text === 0 || i >= SHARED_TOKENS ? below(VOCABULARY) : 1000 * text + i,
    );
    const maxTokens = 1 + below(MOST_OUTPUT);
    const startMs = nowMs();
    checkRoom(state, { tenant, priority: 1 }, this.#deviceMs);
    submit(
      state,
      {
        id: `request ${serial}`,
        tenant,
        priority: 1,
        prompt,
        cacheKey: "",
        reusePrefix: true,
        readsPrompt: false,
        maxTokens,
        resume: NO_TOKENS,
      },
      this.#deviceMs,
    );
    allowanceOf(state, tenant, this.#deviceMs);
    return nowMs() - startMs;
  }

  step(): StepTimes {
    const state = this.#state;
    const { slots, waiting, nowMs } = this.#options;
    const startMs = nowMs();
    releaseCancelled(state, this.#deviceMs);
    takeExpired(state, this.#deviceMs);
    const planFromMs = nowMs();
    const plan = planStep(state, this.#deviceMs);
    const plannedMs = nowMs();
    this.#apply(plan);
    const endMs = nowMs();
    const newcomers = slots + waiting - state.requests.size;
    let submitMs = 0;
    for (let i = 0; i < newcomers; i++) submitMs += this.#submit();
    return {
      planMs: plannedMs - planFromMs,
      applyMs: planFromMs - startMs + endMs - plannedMs,
      submitMs: newcomers === 0 ? undefined : submitMs / newcomers,
    };
  }

  /** Where a slot cannot be cut, which of its cells are left. */
  #noteFirst({ entries }: PlannedCall): void {
    const { slots, config } = this.#state;
    if (config.canRewind) return;
    const kept = config.windowTokens === undefined ? 1 : config.windowTokens + config.batchTokens;
    for (const { slot: id } of entries) {
      const slot = slots[id];
      if (slot !== undefined) slot.firstCell = Math.max(0, slot.length - kept);
    }
  }

  #apply(plan: StepPlan): void {
    const state = this.#state;
    const { below } = this.#options;
    beginStep(state, plan, this.#deviceMs);
    for (const operation of plan.boundary) {
      if (operation.type !== "checkpoint") continue;
      const { slot, checkpoint } = operation;
      noteTaken(state, slot, checkpoint, { bytes: checkpoint.bytes, ms: CHECKPOINT_MS.callMs });
    }
    for (const call of plan.calls) {
      const ms = callMs(DEVICES.gpu, call);
      this.#deviceMs += ms;
      completeCall(state, call, ms);
      this.#noteFirst(call);
      for (const { request: id = "", slot, position, sample } of call.entries) {
        if (!sample) continue;
        // No guess is ever right here.
        const cells = call.drafts > 0 ? state.slots[slot] : undefined;
        if (cells !== undefined) truncateSlot(cells, position + 1);
        const request = state.requests.get(id);
        if (request === undefined) continue;
        appendToken(state, request, below(OUTPUT_VOCABULARY));
        if (request.output.length >= request.maxNew) release(state, request, this.#deviceMs);
      }
    }
  }
}

/** Of a model that cannot take tokens back: room for a few checkpoints of each slot, and what they take. */
const CHECKPOINT_BYTES = 2 ** 20;
const CHECKPOINTS_BYTES = 512 * CHECKPOINT_BYTES;
const CHECKPOINT_MS = { callMs: 0.1, byteMs: 0, scale: 1 };
const CHECKPOINT_COST = {
  fileBytes: CHECKPOINT_BYTES,
  tokenBytes: 0,
  save: CHECKPOINT_MS,
  restore: CHECKPOINT_MS,
};
const WINDOW_TOKENS = 64;

const NO_TOKENS = new Uint32Array(0);
