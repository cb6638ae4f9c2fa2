/** A snapshot of slots, queue and totals, for listings and metrics. */
import type { EngineStats, RequestsByClass, SlotState, SlotStats } from "./engine-stats.ts";
import type { RequestId } from "./protocol.ts";
import { checkpointBytes } from "./scheduler/checkpoint-transitions.ts";
import { returnChance } from "./scheduler/lost-prefixes.ts";
import { spilledBytes } from "./scheduler/spill-transitions.ts";
import { CLASSES } from "./scheduler/types.ts";
import type { ScheduledRequest, SchedulerState, Slot } from "./scheduler/types.ts";
import type { StepLoop } from "./step-loop.ts";

export function engineStats({
  state,
  record,
  hasDraftModel,
}: Pick<StepLoop, "state" | "record" | "hasDraftModel">): EngineStats {
  return {
    slots: state.slots.map((slot) => slotStats(state, slot)),
    queued: state.queue.size,
    byClass: byClass(state, record.counts.held),
    running: state.requests.size - state.queue.size,
    contextTokens: state.config.contextTokens,
    steps: record.steps,
    passes: record.passes,
    promptTokens: record.promptTokens,
    reusedTokens: record.reusedTokens,
    outputTokens: record.outputTokens,
    ...waitingStats(state),
    ...(hasDraftModel ? { drafting: state.draft !== undefined } : {}),
    ...spillStats(state),
    ...checkpointStats(state),
    ...workerStats(state),
  };
}

function byClass({ requests }: SchedulerState, heldIds: readonly RequestId[]): RequestsByClass {
  const none = (): number[] => Array.from({ length: CLASSES }, () => 0);
  const counts = { waiting: none(), held: none(), prefilling: none(), decoding: none(), paused: none() };
  const add = (kind: keyof typeof counts, { priority }: ScheduledRequest): void => {
    counts[kind][priority] = (counts[kind][priority] ?? 0) + 1;
  };
  for (const request of requests.values()) add(kindOf(request), request);
  // As of the last plan: some may have left.
  for (const id of heldIds) {
    const request = requests.get(id);
    if (request?.phase === "queued" && !request.paused) add("held", request);
  }
  return counts;
}

function kindOf({ paused, phase }: ScheduledRequest): keyof RequestsByClass {
  if (paused) return "paused";
  if (phase === "queued") return "waiting";
  return phase === "decode" ? "decoding" : "prefilling";
}

/** Owners without a waiting request have what they want, however much that is. */
function waitingStats({ owners }: SchedulerState): Pick<EngineStats, "queuedTokens" | "serviceGap"> {
  let queuedTokens = 0;
  let [least, most] = [Infinity, -Infinity];
  for (const { waiting, waitingTokens, served } of owners.values()) {
    queuedTokens += waitingTokens;
    if (waiting === 0) continue;
    least = Math.min(least, served);
    most = Math.max(most, served);
  }
  return { queuedTokens, serviceGap: Math.max(0, most - least) };
}

function spillStats({ spill }: SchedulerState): Pick<EngineStats, "spill" | "pins"> {
  if (spill === undefined) return {};
  let tokens = 0;
  for (const { length } of spill.prefixes.values()) tokens += length;
  return {
    spill: {
      prefixes: spill.prefixes.size,
      tokens,
      bytes: spilledBytes(spill),
      limitBytes: spill.limitBytes,
      returnChance: returnChance(spill.lost),
    },
    pins: Array.from(spill.pins.values(), ({ name, length, bytes, hits }) => ({
      name,
      tokens: length,
      bytes,
      hits,
    })),
  };
}

function workerStats({ offload }: SchedulerState): Pick<EngineStats, "prefillWorker"> {
  return offload.employed ? { prefillWorker: offload.ready ? "idle" : "busy" } : {};
}

function checkpointStats({ checkpoints }: SchedulerState): Pick<EngineStats, "checkpoints"> {
  if (checkpoints === undefined) return {};
  const { kept, limitBytes } = checkpoints;
  return { checkpoints: { count: kept.size, bytes: checkpointBytes(checkpoints), limitBytes } };
}

function slotStats(state: SchedulerState, slot: Slot): SlotStats {
  const request = slot.owner === undefined ? undefined : state.requests.get(slot.owner);
  const idle = slot.length > 0 ? "resident" : "empty";
  return {
    id: slot.id,
    state: request === undefined ? idle : busyState(request),
    tokens: slot.length,
    requestId: request?.id,
    owner: request?.tenant,
    promptTokens: request?.prompt.length ?? 0,
    cachedTokens: request?.cachedTokens ?? 0,
    outputTokens: request?.output.length ?? 0,
  };
}

function busyState({ paused, phase }: ScheduledRequest): SlotState {
  if (paused) return "paused";
  return phase === "decode" ? "decode" : "prefill";
}
