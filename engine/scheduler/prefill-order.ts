/**
 * In which order the prompts of running requests are computed: by class, in a class those first whose streams stand still
 * since their engine died, owners in turn, and of one owner by arrival.
 *
 * Of the owners whoever has had less service goes first, and among equals whoever has fewer slots. What an owner has been
 * charged for prompts that are still being computed does not count, since it has not had it yet: so who comes back to a
 * busy server with one prompt does not wait for those that others have begun, however long they are.
 */
import { chargedAhead, goesBefore } from "./owners.ts";
import { CLASSES } from "./types.ts";
import type { Running } from "./admission.ts";
import type { OwnerState, SchedulerState } from "./types.ts";

/** Sorts `prefilling` as well. */
export function inPrefillOrder(state: SchedulerState, prefilling: Running[]): Running[] {
  const byArrival = prefilling.sort((a, b) => a.request.arrival - b.request.arrival);
  if (byArrival.length < 2) return byArrival;
  const ahead = new Map<OwnerState, number>();
  const before = Array.from({ length: CLASSES }, () => new Map<OwnerState, number>());
  const prompts = byArrival.flatMap((running) => {
    const { request } = running;
    const owner = state.owners.get(request.tenant);
    if (owner === undefined) return [];
    const turn = before[request.priority]?.get(owner) ?? 0;
    before[request.priority]?.set(owner, turn + 1);
    ahead.set(owner, (ahead.get(owner) ?? 0) + chargedAhead(request, owner));
    return [{ running, owner, turn }];
  });
  const inLine = prompts.map(({ running, owner, turn }) => ({
    running,
    turn,
    priority: running.request.priority,
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
