/**
 * Who has what: a virtual counter of service for each owner, its share of the slots and its waiting requests.
 *
 * The owner with the least service per weight goes first. One that comes back from idle starts where the least
 * served of the others is: nobody saves up service, and nobody has to pay for having been there first.
 */
import { DEFAULT_POLICY } from "../sharing.ts";
import type { FairnessConfig, OwnerPolicy } from "../sharing.ts";
import { pushWaiting, removeWaiting } from "./waiting-heap.ts";
import { CLASSES } from "./types.ts";
import type { OwnerState, ScheduledRequest, SchedulerConfig, SchedulerState } from "./types.ts";

/** What tokens cost in service; computing a prompt is cheaper by the token than generating. */
const PROMPT_TOKEN_COST = 1;
const REUSED_TOKEN_COST = 0.1;
const OUTPUT_TOKEN_COST = 2;

/** Owners without requests that are remembered for their counters; they are API keys, and few. */
const MOST_IDLE_OWNERS = 1000;

export const DEFAULT_FAIRNESS: FairnessConfig = {
  owners: new Map(),
  others: DEFAULT_POLICY,
  agingQuantumMs: 30_000,
  evict: true,
  ttftLimitMs: Infinity,
};

export function fairnessOf({ fairness }: SchedulerConfig): FairnessConfig {
  return fairness ?? DEFAULT_FAIRNESS;
}

export function policyOf({ config }: SchedulerState, owner: string): OwnerPolicy {
  const { owners, others } = fairnessOf(config);
  return owners.get(owner) ?? others;
}

/** What giving this request a slot is charged to its owner's counter, in token costs over the weight. */
export function admissionCost(request: ScheduledRequest, reuse: number, { policy }: OwnerState): number {
  if (request.charged) return 0;
  const computed = request.prompt.length - reuse;
  return (computed * PROMPT_TOKEN_COST + reuse * REUSED_TOKEN_COST) / policy.weight;
}

export function ownerOf(state: SchedulerState, name: string): OwnerState {
  const known = state.owners.get(name);
  if (known !== undefined) return known;
  const owner: OwnerState = {
    name,
    policy: policyOf(state, name),
    served: 0,
    running: 0,
    waiting: 0,
    waitingTokens: 0,
    heaps: Array.from({ length: CLASSES }, () => []),
  };
  state.owners.set(name, owner);
  forgetIdle(state, owner);
  return owner;
}

/** Puts a request among those that wait. */
export function startWaiting(state: SchedulerState, request: ScheduledRequest): void {
  const owner = ownerOf(state, request.tenant);
  if (isIdle(owner)) owner.served = Math.max(owner.served, leastServed(state));
  owner.waiting += 1;
  owner.waitingTokens += request.prompt.length;
  state.queue.set(request.id, request);
  if (!request.paused) makeEligible(state, request);
}

/** Takes a request from those that wait. */
export function stopWaiting(state: SchedulerState, request: ScheduledRequest): void {
  if (!state.queue.delete(request.id)) return;
  makeIneligible(state, request);
  const owner = ownerOf(state, request.tenant);
  owner.waiting -= 1;
  owner.waitingTokens -= request.prompt.length;
  noteIdle(state, owner);
}

/** Lets a waiting request compete for slots. */
export function makeEligible(state: SchedulerState, request: ScheduledRequest): void {
  const heap = ownerOf(state, request.tenant).heaps[request.priority];
  if (heap !== undefined && request.heapIndex < 0) pushWaiting(heap, request);
}

/** Leaves a waiting request where it is and out of the competition. */
export function makeIneligible(state: SchedulerState, request: ScheduledRequest): void {
  const heap = ownerOf(state, request.tenant).heaps[request.priority];
  if (heap !== undefined && request.heapIndex >= 0) removeWaiting(heap, request);
}

/** Notes that a request got a slot, with so many tokens of its prompt found computed. */
export function startRunning(state: SchedulerState, request: ScheduledRequest, reuse: number): void {
  const owner = ownerOf(state, request.tenant);
  owner.running += 1;
  owner.served += admissionCost(request, reuse, owner);
  request.charged = true;
}

export function stopRunning(state: SchedulerState, request: ScheduledRequest): void {
  const owner = ownerOf(state, request.tenant);
  owner.running -= 1;
  noteIdle(state, owner);
}

export function chargeOutput(state: SchedulerState, request: ScheduledRequest): void {
  const owner = ownerOf(state, request.tenant);
  owner.served += OUTPUT_TOKEN_COST / owner.policy.weight;
}

function isIdle({ running, waiting }: OwnerState): boolean {
  return running === 0 && waiting === 0;
}

/** Of those who have requests; what it was when the last of them left, while nobody has. */
function leastServed(state: SchedulerState): number {
  let least = Infinity;
  for (const owner of state.owners.values()) if (!isIdle(owner)) least = Math.min(least, owner.served);
  return least === Infinity ? state.virtualFloor : least;
}

function noteIdle(state: SchedulerState, owner: OwnerState): void {
  if (!isIdle(owner)) return;
  for (const other of state.owners.values()) if (!isIdle(other)) return;
  state.virtualFloor = Math.max(state.virtualFloor, owner.served);
}

/** An idle owner behind the floor would be lifted to it anyway. */
function forgetIdle(state: SchedulerState, newest: OwnerState): void {
  if (state.owners.size <= MOST_IDLE_OWNERS) return;
  for (const owner of state.owners.values())
    if (owner !== newest && isIdle(owner) && state.owners.size > MOST_IDLE_OWNERS / 2)
      state.owners.delete(owner.name);
}
