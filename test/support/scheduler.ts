/** The scheduler without an engine: a state over a made-up cost model, requests for it, and steps with checked invariants. */
import { checkPlan, checkState } from "../../engine/scheduler/invariants.ts";
import { planStep } from "../../engine/scheduler/plan-step.ts";
import {
  appendToken,
  beginStep,
  completeCall,
  createState,
  release,
  releaseCancelled,
  submit,
  truncateSlot,
} from "../../engine/scheduler/transitions.ts";
import { noteTaken } from "../../engine/scheduler/checkpoint-transitions.ts";
import { noteSaved } from "../../engine/scheduler/spill-transitions.ts";
import type { NewRequest } from "../../engine/scheduler/transitions.ts";
import type {
  CostModel,
  PlannedEntry,
  SchedulerConfig,
  SchedulerState,
  SpillCost,
  StepPlan,
} from "../../engine/scheduler/types.ts";

/** A file has 10 bytes and 4 for each cell; writing or reading it costs 1 ms and a fiftieth of a millisecond a byte. */
export const SPILL_COST: SpillCost = {
  fileBytes: 10,
  tokenBytes: 4,
  save: { callMs: 1, byteMs: 0.02, scale: 1 },
  restore: { callMs: 1, byteMs: 0.02, scale: 1 },
};

/** A checkpoint has 20 bytes, and taking it or coming back to it costs 1 ms. */
const CHECKPOINT_COST: SpillCost = {
  fileBytes: 20,
  tokenBytes: 0,
  save: { callMs: 1, byteMs: 0, scale: 1 },
  restore: { callMs: 1, byteMs: 0, scale: 1 },
};

/** A decode pass costs 10 ms and 1 ms a slot, a prefill call 10 ms and 2 ms a token. */
export function schedulerState(config: Partial<SchedulerConfig> = {}): SchedulerState {
  const whole: SchedulerConfig = {
    slots: 4,
    contextTokens: 200,
    batchTokens: 64,
    prefillChunk: 10,
    itlTargetMs: 100,
    minPrefillShare: 0.5,
    maxQueued: 1000,
    deterministic: false,
    speculate: false,
    speculateAloneTokens: Infinity,
    canRewind: true,
    ...config,
  };
  const cost: CostModel = {
    decodePassMs: Array.from({ length: whole.slots + 1 }, (_, width) => (width === 0 ? 0 : 10 + width)),
    prefillCallMs: 10,
    prefillTokenMs: 2,
    copyMs: 5,
    decodeScale: 1,
    prefillScale: 1,
    checkPassMs: Array.from({ length: 41 }, (_, tokens) => tokens / 4),
    draftScale: 1,
    spill: SPILL_COST,
    checkpoint: CHECKPOINT_COST,
  };
  return createState(whole, cost);
}

/** Prompts have nothing in common unless they are given. */
export function addRequest(
  state: SchedulerState,
  id: string,
  request: Partial<NewRequest> = {},
  nowMs = 0,
): number {
  const first = 1000 * state.nextArrival;
  return submit(
    state,
    {
      id,
      tenant: "a",
      priority: 1,
      prompt: Uint32Array.from({ length: 5 }, (_, i) => first + i),
      cacheKey: "",
      reusePrefix: true,
      readsPrompt: false,
      resume: new Uint32Array(0),
      maxTokens: undefined,
      ...request,
    },
    nowMs,
  );
}

/** What is drawn, always. */
export const DRAWN = 7;

/**
 * Runs one step; every decoded request gets the token `DRAWN`, as often as it was guessed, and leaves with its last one.
 * @param checks Looks at every request there is.
 */
export function runStep(state: SchedulerState, nowMs: number, checks = true): StepPlan {
  releaseCancelled(state, nowMs);
  if (checks) checkState(state);
  const plan = planStep(state, nowMs);
  if (checks) checkPlan(state, plan);
  if (plan.calls.length === 0) return plan;
  beginStep(state, plan, nowMs);
  for (const operation of plan.boundary) {
    if (operation.type === "save") noteSaved(state, operation.prefix, operation.prefix.bytes, 1);
    if (operation.type === "checkpoint") {
      const { slot, checkpoint } = operation;
      noteTaken(state, slot, checkpoint, { bytes: checkpoint.bytes, ms: 1 });
    }
  }
  for (const call of plan.calls) {
    completeCall(state, call, call.predictedMs);
    for (const { slot } of call.entries) noteFirst(state, slot);
    if (call.kind === "prefill") continue;
    for (const entry of call.entries) if (entry.sample) draw(state, entry);
  }
  for (const { owner } of state.slots) {
    const request = state.requests.get(owner ?? "");
    if (request !== undefined && request.output.length >= request.maxNew) release(state, request, nowMs);
  }
  if (checks) checkState(state);
  return plan;
}

/** What a backend would say: a state of all tokens stands for them, or a window has as many more cells as a call. */
function noteFirst({ slots, config }: SchedulerState, id: number): void {
  const slot = slots[id];
  if (slot === undefined || config.canRewind) return;
  const kept = config.windowTokens === undefined ? 1 : config.windowTokens + config.batchTokens;
  slot.firstCell = Math.max(slot.firstCell, slot.length - kept);
}

/** One token, and one more behind each right guess; the cells of the others are taken back. */
function draw(state: SchedulerState, { request: id = "", slot, position, tokens }: PlannedEntry): void {
  const request = state.requests.get(id);
  const cells = state.slots[slot];
  if (request === undefined || cells === undefined) return;
  const most = request.maxNew - request.output.length;
  let drawn = 1;
  while (drawn < Math.min(most, tokens.length) && tokens[drawn] === DRAWN) drawn++;
  if (drawn < tokens.length) truncateSlot(cells, position + drawn);
  for (let i = 0; i < drawn; i++) appendToken(state, request, DRAWN);
}

export function planMs(plan: StepPlan): number {
  return plan.calls.reduce((sum, call) => sum + call.predictedMs, 0);
}
