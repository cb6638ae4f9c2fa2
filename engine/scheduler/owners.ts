/**
 * Who has what: a virtual counter of service for each owner, its share of the slots and its waiting requests.
 *
 * The owner with the least service per weight goes first. One that comes back from idle starts where the least
 * served of the others is: nobody saves up service, and nobody has to pay for having been there first.
 */
import { DEFAULT_POLICY } from "../sharing.ts";
import type { FairnessConfig, OwnerPolicy } from "../sharing.ts";
import { OrderedHeap } from "./ordered-heap.ts";
import { lineCount, lineOf, longLineOf } from "./reserve.ts";
import { hasComeBack, pushWaiting, removeWaiting, waitedSinceMs } from "./waiting-heap.ts";
import { noReturns } from "./returns.ts";
import type { ClassLines, OwnerState, ScheduledRequest, SchedulerConfig, SchedulerState } from "./types.ts";

/** What tokens cost in service; computing a prompt is cheaper by the token than generating. */
const PROMPT_TOKEN_COST = 1;
const REUSED_TOKEN_COST = 0.1;
const OUTPUT_TOKEN_COST = 2;

/** Tokens that a request is taken to generate where neither it nor anything measured tells. */
export const ASSUMED_OUTPUT = 128;

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

/** Requests of an owner in a class that may be given a slot. */
export function inLine(owner: OwnerState | undefined, priority: number): number {
  return (owner?.heaps[priority]?.length ?? 0) + inLongLine(owner, priority);
}

/** The same of those whose prompts are long, where slots are kept for others. */
export function inLongLine(owner: OwnerState | undefined, priority: number): number {
  return owner?.heaps[longLineOf(priority)]?.length ?? 0;
}

/** What giving this request a slot is charged to its owner's counter, in token costs over the weight. */
export function admissionCost(request: ScheduledRequest, reuse: number, { policy }: OwnerState): number {
  return request.charged ? 0 : promptCost(request, reuse, policy);
}

function promptCost({ prompt }: ScheduledRequest, reuse: number, { weight }: OwnerPolicy): number {
  return ((prompt.length - reuse) * PROMPT_TOKEN_COST + reuse * REUSED_TOKEN_COST) / weight;
}

/**
 * Of what a request has been charged for a prompt that is still being computed, the part that is not yet: service not had
 * yet. What it has reused is of no use before the rest is there.
 */
export function chargedAhead(request: ScheduledRequest, { policy }: OwnerState): number {
  const { phase, cachedTokens, reachedTokens, output, evictions } = request;
  // What is computed once more has been charged before.
  if (phase !== "prefill" || output.length > 0 || evictions > 0) return 0;
  const computed = Math.max(0, reachedTokens - cachedTokens);
  return promptCost(request, cachedTokens, policy) - computedCost(computed, policy);
}

/** What computing so many prompt tokens comes to, in token costs over the weight. */
export function computedCost(tokens: number, { weight }: OwnerPolicy): number {
  return (tokens * PROMPT_TOKEN_COST) / weight;
}

/** What of an owner decides when it is its turn. */
export interface Standing {
  readonly served: number;
  readonly running: number;
  readonly weight: number;
  /** Arrival of the first of its requests. */
  readonly arrival: number;
}

/** Less service first; where that is equal, fewer slots, then arrival. */
export function goesBefore(a: Standing, b: Standing): boolean {
  if (a.served !== b.served) return a.served < b.served;
  const [slotsA, slotsB] = [a.running / a.weight, b.running / b.weight];
  return slotsA === slotsB ? a.arrival < b.arrival : slotsA < slotsB;
}

export function noOwners(
  config: SchedulerConfig,
): Pick<SchedulerState, "owners" | "busyOwners" | "idleOwners" | "lines"> {
  return {
    owners: new Map(),
    busyOwners: new OrderedHeap((a, b) => a.served < b.served),
    idleOwners: new Set(),
    lines: noLines(config),
  };
}

function noLines(config: SchedulerConfig): ClassLines[] {
  return Array.from({ length: lineCount(config) }, (_, line): ClassLines => {
    const standing = ({ served, running, policy, heaps }: OwnerState): Standing => ({
      served,
      running,
      weight: policy.weight,
      arrival: heaps[line]?.[0]?.arrival ?? Infinity,
    });
    const sinceMs = ({ waitedSinceMs: since }: OwnerState): number => since[line] ?? Infinity;
    return {
      byTurn: new OrderedHeap((a, b) => goesBefore(standing(a), standing(b))),
      byAge: new OrderedHeap((a, b) => sinceMs(a) < sinceMs(b)),
      waiting: 0,
    };
  });
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
    waitingOutput: 0,
    returns: noReturns(),
    heaps: Array.from({ length: lineCount(state.config) }, () => []),
    waitedSinceMs: Array.from({ length: lineCount(state.config) }, () => Infinity),
  };
  state.owners.set(name, owner);
  return owner;
}

/** Whether its own limit ends it, and not that of its slot. */
export function saysHowMuch(
  { prompt, maxNew }: ScheduledRequest,
  { contextTokens }: SchedulerConfig,
): boolean {
  return prompt.length + maxNew < contextTokens;
}

/** Tokens that it still wants to say as far as it says so, or what most say. */
export function outputLeft(request: ScheduledRequest, config: SchedulerConfig): number {
  const left = request.maxNew - request.output.length;
  return saysHowMuch(request, config) ? left : Math.min(left, ASSUMED_OUTPUT);
}

/** Puts a request among those that wait. */
export function startWaiting(state: SchedulerState, request: ScheduledRequest): void {
  const { owner } = request;
  if (isIdle(owner)) {
    owner.served = Math.max(owner.served, leastServed(state));
    state.idleOwners.delete(owner);
    state.busyOwners.place(owner);
  }
  owner.waiting += 1;
  owner.waitingTokens += request.countedTokens;
  owner.waitingOutput += outputLeft(request, state.config);
  state.queue.set(request.id, request);
  if (!request.paused) makeEligible(state, request);
}

/** Takes a request from those that wait. */
export function stopWaiting(state: SchedulerState, request: ScheduledRequest): void {
  if (!state.queue.delete(request.id)) return;
  makeIneligible(state, request);
  const { owner } = request;
  owner.waiting -= 1;
  owner.waitingTokens -= request.countedTokens;
  owner.waitingOutput -= outputLeft(request, state.config);
  noteIdle(state, owner);
}

/** Lets a waiting request compete for slots. */
export function makeEligible(state: SchedulerState, request: ScheduledRequest): void {
  const { owner } = request;
  const line = lineOf(state.config, request);
  const heap = owner.heaps[line];
  const lines = state.lines[line];
  if (heap === undefined || lines === undefined || request.heapIndex >= 0) return;
  pushWaiting(heap, request);
  lines.waiting += 1;
  if (request.heapIndex === 0 || isLedByOneBack(heap)) placeInLine(state, owner, line);
}

/** Leaves a waiting request where it is and out of the competition. */
export function makeIneligible(state: SchedulerState, request: ScheduledRequest): void {
  const { owner } = request;
  const line = lineOf(state.config, request);
  const heap = owner.heaps[line];
  const lines = state.lines[line];
  if (heap === undefined || lines === undefined || request.heapIndex < 0) return;
  const matters = request.heapIndex === 0 || isLedByOneBack(heap);
  removeWaiting(heap, request);
  lines.waiting -= 1;
  if (matters) placeInLine(state, owner, line);
}

/** Whether somebody behind the first may have waited for longer. */
function isLedByOneBack([head]: readonly ScheduledRequest[]): boolean {
  return head !== undefined && hasComeBack(head);
}

/** After the first request of one of its lines, the one that has waited for longest, or whether there is any, has changed. */
function placeInLine({ lines }: SchedulerState, owner: OwnerState, line: number): void {
  const heap = owner.heaps[line] ?? [];
  const some = heap.length > 0;
  owner.waitedSinceMs[line] = waitedSinceMs(heap);
  for (const owners of [lines[line]?.byTurn, lines[line]?.byAge]) {
    if (some) owners?.place(owner);
    else owners?.remove(owner);
  }
}

/** After its service or its slots have changed; it has requests still. */
function placeByTurn({ busyOwners, lines }: SchedulerState, owner: OwnerState): void {
  busyOwners.place(owner);
  for (let line = 0; line < lines.length; line++)
    if ((owner.heaps[line]?.length ?? 0) > 0) lines[line]?.byTurn.place(owner);
}

/** Notes that a request got a slot, with so many tokens of its prompt found computed. */
export function startRunning(state: SchedulerState, request: ScheduledRequest, reuse: number): void {
  const { owner } = request;
  owner.running += 1;
  owner.served += admissionCost(request, reuse, owner);
  request.charged = true;
  placeByTurn(state, owner);
}

/** Takes back that tokens of its prompt were found computed, of a request that has just got its slot. */
export function chargeWholePrompt(state: SchedulerState, request: ScheduledRequest): void {
  const { owner } = request;
  // What is computed once more has been charged before.
  if (request.output.length === 0 && request.evictions === 0) {
    owner.served +=
      promptCost(request, 0, owner.policy) - promptCost(request, request.cachedTokens, owner.policy);
    request.reachedTokens = 0;
  }
  request.cachedTokens = 0;
  placeByTurn(state, owner);
}

export function stopRunning(state: SchedulerState, request: ScheduledRequest): void {
  const { owner } = request;
  owner.running -= 1;
  placeByTurn(state, owner);
  noteIdle(state, owner);
}

export function chargeOutput(state: SchedulerState, request: ScheduledRequest): void {
  const { owner } = request;
  owner.served += OUTPUT_TOKEN_COST / owner.policy.weight;
  placeByTurn(state, owner);
}

function isIdle({ running, waiting }: OwnerState): boolean {
  return running === 0 && waiting === 0;
}

/**
 * The least service that any of those has had who have requests, without what they have been charged ahead; what it
 * was when the last of them left, while nobody has.
 */
function leastServed({ busyOwners, virtualFloor, slots }: SchedulerState): number {
  if (busyOwners.first === undefined) return virtualFloor;
  let least = busyOwners.first.served;
  const ahead = new Map<OwnerState, number>();
  for (const slot of slots) {
    const request = slot.holder;
    if (request === undefined) continue;
    const { owner } = request;
    const charged = (ahead.get(owner) ?? 0) + chargedAhead(request, owner);
    ahead.set(owner, charged);
    least = Math.min(least, owner.served - charged);
  }
  return least;
}

function noteIdle(state: SchedulerState, owner: OwnerState): void {
  if (!isIdle(owner)) return;
  state.busyOwners.remove(owner);
  state.idleOwners.add(owner);
  if (state.busyOwners.size === 0) state.virtualFloor = Math.max(state.virtualFloor, owner.served);
  if (state.idleOwners.size > MOST_IDLE_OWNERS) forgetIdle(state);
}

/** The half that has been idle for longest: most of them would be lifted to the floor anyway. */
function forgetIdle({ owners, idleOwners }: SchedulerState): void {
  for (const owner of idleOwners) {
    if (idleOwners.size <= MOST_IDLE_OWNERS / 2) return;
    idleOwners.delete(owner);
    owners.delete(owner.name);
  }
}
