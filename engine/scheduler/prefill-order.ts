/**
 * In which order the prompts of running requests are computed: by class, in a class those first whose streams stand still
 * since their engine died, owners in turn, and of one owner by arrival, or those first that are far shorter.
 *
 * A class one of whose prompts has waited for a quantum goes with the one above, as it does for slots: else prompts of
 * higher classes that keep coming would keep it in its slot for ever. All of it does, since within a class who has had less
 * goes before who has waited. A prompt whose beginning others are held for goes with the highest of their classes, as far
 * as that (`holds.ts`).
 *
 * Of the owners it is whoever will have had less service when its prompt is computed, as in weighted fair queueing: what it
 * has had by now and what of the prompt is left. What an owner has been charged for prompts that are not computed yet does not
 * count, since it has not had it. So who comes to a busy server with one short prompt does not wait for a long one that others
 * have begun, and long ones are computed one after the other, since they come no later by being computed. An owner that has no
 * stream yet goes as if those with streams had had as much more as such a prompt takes: else it would wait for the rest of a
 * prompt of one that keeps asking.
 */
import { chargedAhead, computedCost, fairnessOf } from "./owners.ts";
import { prefillEnd } from "./prefill-cells.ts";
import { CLASSES } from "./types.ts";
import type { RequestId } from "../protocol.ts";
import type { Running } from "./admission.ts";
import type { OwnerState, ScheduledRequest, SchedulerState } from "./types.ts";

/**
 * Tokens still to compute up to which prompts are of one size. Prompts of similar lengths are computed in the order in which
 * they came: going by the token delays more than it saves.
 */
const SIZES = [256, 4096];

/** How often later prompts of its owner and class are computed before one, but for those of the same step. */
const MOST_OVERTAKEN = 4;

/** Service is told apart by this part of a token: sums of the same in another order are the same. */
const EXACT = 1e3;

/** What decides between prompts of a class. */
interface Standing {
  readonly priority: number;
  readonly served: number;
  readonly isNew: boolean;
}

/** Sorts `prefilling` as well. @param lent Classes of those prompts that others wait for, with theirs. */
export function inPrefillOrder(
  state: SchedulerState,
  prefilling: Running[],
  lent: ReadonlyMap<RequestId, number>,
  nowMs: number,
): Running[] {
  const byArrival = prefilling.sort((a, b) => a.request.arrival - b.request.arrival);
  if (byArrival.length < 2) return byArrival;
  const aged = agedClasses(state, byArrival, nowMs);
  const had = new Map<OwnerState, number>();
  for (const { request } of byArrival) had.set(request.owner, request.owner.served);
  const streaming = new Set<OwnerState>();
  for (const { holder } of state.slots) {
    if (holder === undefined) continue;
    const { owner, phase } = holder;
    if (phase === "decode") streaming.add(owner);
    // Also for those that are not computed here, or not now.
    const served = had.get(owner);
    if (served !== undefined) had.set(owner, served - chargedAhead(holder, owner));
  }
  /** Of each class, the most that is left of a prompt of an owner without a stream. */
  const newcomersCost = Array.from({ length: CLASSES }, () => 0);
  /** What owners will have had when those of their prompts of each class are computed that go before. */
  const after = Array.from({ length: CLASSES }, () => new Map(had));
  const inOrder = state.config.prefillOrder === "arrival" ? byArrival : shortestFirst(byArrival, lent, state);
  const inLine = inOrder.map((running) => {
    const { request, length } = running;
    const { owner } = request;
    const own = aged[request.priority] ?? request.priority;
    const priority = Math.min(own, lent.get(request.id) ?? own);
    const left = Math.max(0, prefillEnd(request, state.config) - length);
    const served = (after[priority]?.get(owner) ?? 0) + computedCost(left, owner.policy);
    after[priority]?.set(owner, served);
    const isNew = !streaming.has(owner);
    if (isNew)
      newcomersCost[priority] = Math.max(newcomersCost[priority] ?? 0, computedCost(left, owner.policy));
    return { running, priority, left, served, isNew };
  });
  const exact = ({ served, isNew, priority }: Standing): number =>
    Math.round((isNew ? served : served + (newcomersCost[priority] ?? 0)) * EXACT);
  inLine.sort(
    (a, b) =>
      a.priority - b.priority ||
      Number(b.running.request.interrupted) - Number(a.running.request.interrupted) ||
      exact(a) - exact(b) ||
      a.left - b.left ||
      a.running.request.arrival - b.running.request.arrival,
  );
  return inLine.map(({ running }) => running);
}

/** Of one owner and class those first that are not passed, then the shorter by size, and of one size by arrival. */
function shortestFirst(
  byArrival: Running[],
  lent: ReadonlyMap<RequestId, number>,
  { config }: SchedulerState,
): Running[] {
  const size = ({ request, length }: Running): number => {
    const left = prefillEnd(request, config) - length;
    return mayBePassed(request) && !lent.has(request.id)
      ? SIZES.filter((tokens) => left > tokens).length
      : -1;
  };
  // Sorting is stable.
  return byArrival.sort((a, b) => size(a) - size(b));
}

/** Whether a later prompt of its owner may be computed before it, unless others wait for that. */
function mayBePassed({ overtaken, firstTokenByMs, endByMs }: ScheduledRequest): boolean {
  return overtaken < MOST_OVERTAKEN && firstTokenByMs === Infinity && endByMs === Infinity;
}

/** A prompt is computed: those of its owner that came before it and are not yet have been passed once. */
export function notePassed({ slots }: SchedulerState, { owner, arrival }: ScheduledRequest): void {
  for (const { holder } of slots) {
    if (holder?.phase === "prefill" && holder.owner === owner && holder.arrival < arrival)
      holder.overtaken += 1;
  }
}

/** With which class each goes. */
function agedClasses({ config }: SchedulerState, prefilling: readonly Running[], nowMs: number): number[] {
  const aged = Array.from({ length: CLASSES }, (_, priority) => priority);
  const { agingQuantumMs } = fairnessOf(config);
  for (const { request } of prefilling) {
    const quanta = Math.floor((nowMs - request.waitingSinceMs) / agingQuantumMs);
    const above = Math.max(0, request.priority - Math.max(0, quanta));
    aged[request.priority] = Math.min(above, aged[request.priority] ?? above);
  }
  return aged;
}
