/**
 * Who of the waiting requests gets a slot in this step, and which cells it starts from.
 *
 * In order of arrival, with one exception: a request whose prompt begins like one that is being computed right now
 * waits for that prefix and copies it. The wait costs it nothing, because prompts are computed one at a time in
 * order of arrival, and its slot is kept free for it.
 */
import { commonPrefixLength } from "./prefix-reuse.ts";
import { chooseSlot } from "./slot-choice.ts";
import type { SlotChoice } from "./slot-choice.ts";
import type { RequestId } from "../protocol.ts";
import type {
  Assignment,
  BoundaryOperation,
  ScheduledRequest,
  SchedulerState,
  SlotId,
  StepPlan,
} from "./types.ts";

/** A request that holds a slot in this step, at the length it has when the step begins. */
export interface Running {
  readonly request: ScheduledRequest;
  readonly slot: SlotId;
  readonly length: number;
}

export function runningRequests(state: SchedulerState): Running[] {
  const running: Running[] = [];
  for (const slot of state.slots) {
    const request = slot.owner === undefined ? undefined : state.requests.get(slot.owner);
    if (request !== undefined && !request.cancelled)
      running.push({ request, slot: slot.id, length: slot.length });
  }
  return running;
}

/** Gives free slots to waiting requests; adds them to `running`. */
export function admit(
  state: SchedulerState,
  running: Running[],
  nowMs: number,
  why: string[],
): Pick<StepPlan, "assignments" | "held" | "boundary"> {
  const assignments: Assignment[] = [];
  const copies: BoundaryOperation[] = [];
  const cuts: BoundaryOperation[] = [];
  const overwritten = new Set<SlotId>();
  const busy = state.slots.filter((slot) => slot.owner !== undefined).map((slot) => slot.id);
  const held: RequestId[] = [];
  for (const request of state.queue.values()) {
    if (busy.length + held.length === state.slots.length) break;
    const choice = chooseSlot(request, state, { busy, overwritten }, nowMs);
    if (choice === undefined) break;
    const leader = prefixInTheMaking(request, choice, running, state);
    if (leader !== undefined) {
      held.push(request.id);
      why.push(`hold ${request.id} for the prefix of ${leader.id}`);
      continue;
    }
    const { slot, reuse, copyFrom } = choice;
    assignments.push({ request: request.id, slot, reuse, copyFrom });
    if (copyFrom !== undefined) {
      copies.push({ type: "copy", from: copyFrom, to: slot });
      overwritten.add(slot);
    }
    const length = state.slots[copyFrom ?? slot]?.length ?? 0;
    if (length > reuse) cuts.push({ type: "truncate", slot, length: reuse });
    running.push({ request, slot, length: reuse });
    busy.push(slot);
    busy.sort((a, b) => a - b);
    const source = copyFrom === undefined ? "" : ` copied from slot ${copyFrom}`;
    why.push(`admit ${request.id} to slot ${slot}, reuse ${reuse}${source}`);
  }
  // Copies first: the cells that one of them takes may be cut for another request.
  return { assignments, held, boundary: [...copies, ...cuts] };
}

/**
 * The request that is computing a prefix which `request` could copy and which saves more than the copy costs over
 * what can be reused already.
 */
function prefixInTheMaking(
  request: ScheduledRequest,
  { reuse, copyFrom }: SlotChoice,
  running: readonly Running[],
  { config, cost }: SchedulerState,
): ScheduledRequest | undefined {
  if (!config.canRewind || !request.reusePrefix) return undefined;
  const copyMs = copyFrom === undefined ? cost.copyMs : 0;
  for (const { request: leader, length } of running) {
    const prefillEnd = leader.prompt.length - 1;
    if (length >= prefillEnd || leader.cacheKey !== request.cacheKey) continue;
    const most = Math.min(prefillEnd, request.prompt.length - 1);
    const common = commonPrefixLength(request.prompt, leader.prompt, most);
    // What is there already can be copied now.
    if (common <= length) continue;
    const whole = common === most && leader.prompt.length === request.prompt.length;
    const wanted = whole ? common : Math.floor(common / config.prefillChunk) * config.prefillChunk;
    if (wanted > reuse && (wanted - reuse) * cost.prefillScale * cost.prefillTokenMs > copyMs) return leader;
  }
  return undefined;
}
