/**
 * In which order the prompts of running requests are computed: by class, in a class those first whose streams stand still
 * since their engine died, owners in turn, and of one owner by arrival. A class one of whose prompts has waited for a
 * quantum goes with the one above, as it does for slots: else prompts of higher classes that keep coming would keep it in
 * its slot for ever. All of it does, since within a class who has had less goes before who has waited. A prompt whose beginning
 * others are held for goes with the highest of their classes, as far as that (`holds.ts`).
 *
 * Of the owners whoever has had less service goes first, and among equals whoever has fewer slots. What an owner has been
 * charged for prompts that are still being computed does not count, since it has not had it yet: so who comes back to a
 * busy server with one prompt does not wait for those that others have begun, however long they are.
 */
import { chargedAhead, fairnessOf, goesBefore } from "./owners.ts";
import { CLASSES } from "./types.ts";
import type { RequestId } from "../protocol.ts";
import type { Running } from "./admission.ts";
import type { OwnerState, SchedulerState } from "./types.ts";

/** Sorts `prefilling` as well. @param lent Classes of those that wait for one of these prompts, where they are higher. */
export function inPrefillOrder(
  state: SchedulerState,
  prefilling: Running[],
  lent: ReadonlyMap<RequestId, number>,
  nowMs: number,
): Running[] {
  const byArrival = prefilling.sort((a, b) => a.request.arrival - b.request.arrival);
  if (byArrival.length < 2) return byArrival;
  const aged = agedClasses(state, byArrival, nowMs);
  const ahead = new Map<OwnerState, number>();
  const before = Array.from({ length: CLASSES }, () => new Map<OwnerState, number>());
  const prompts = byArrival.flatMap((running) => {
    const { request } = running;
    const owner = state.owners.get(request.tenant);
    if (owner === undefined) return [];
    const own = aged[request.priority] ?? request.priority;
    const priority = Math.min(own, lent.get(request.id) ?? own);
    const turn = before[priority]?.get(owner) ?? 0;
    before[priority]?.set(owner, turn + 1);
    ahead.set(owner, (ahead.get(owner) ?? 0) + chargedAhead(request, owner));
    return [{ running, owner, turn, priority }];
  });
  const inLine = prompts.map(({ running, owner, turn, priority }) => ({
    running,
    turn,
    priority,
    standing: {
      served: owner.served - (ahead.get(owner) ?? 0),
      running: owner.running,
      weight: owner.policy.weight,
      arrival: running.request.arrival,
    },
  }));
  inLine.sort(
    (a, b) =>
      a.priority - b.priority ||
      Number(b.running.request.interrupted) - Number(a.running.request.interrupted) ||
      a.turn - b.turn ||
      (goesBefore(a.standing, b.standing) ? -1 : 1),
  );
  return inLine.map(({ running }) => running);
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
