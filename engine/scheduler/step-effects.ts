/** What a plan or a call does that only those ask about who look at the whole: prefixes that slots lose, tokens that are computed again. */
import type { Assignment, PlannedCall, SchedulerState, StepPlan } from "./types.ts";
import type { PrefixSource } from "../protocol.ts";

/** From where a request has the cells that it begins with. */
export function sourceOf({ restore, checkpoint, copyFrom }: Assignment): PrefixSource {
  if (restore !== undefined) return "file";
  if (checkpoint !== undefined) return "checkpoint";
  return copyFrom === undefined ? "slot" : "copy";
}

/** How many slots lose all they held to what was somewhere else, or to a prompt that is computed: by its source, or `prompt`. */
export type LostPrefixes = { readonly [Source in Exclude<PrefixSource, "slot"> | "prompt"]?: number };

/** Before the plan begins. */
export function lostPrefixes({ slots }: SchedulerState, { assignments }: StepPlan): LostPrefixes | undefined {
  let lost: Record<string, number> | undefined;
  for (const assignment of assignments) {
    const slot = slots[assignment.slot];
    if (slot === undefined || slot.length === 0) continue;
    const source = sourceOf(assignment);
    const own = slot.checkpoints.some(({ id }) => id === assignment.checkpoint);
    if (assignment.reuse > 0 && (source === "slot" || own)) continue;
    lost ??= {};
    const by = assignment.reuse > 0 && source !== "slot" ? source : "prompt";
    lost[by] = (lost[by] ?? 0) + 1;
  }
  return lost;
}

/** Known tokens of a call whose cells its requests have had: they have lost their slots or their engine since. */
export function tokensAgain({ requests }: SchedulerState, { kind, entries }: PlannedCall): number {
  let again = 0;
  for (const { request: id = "", position, tokens } of entries) {
    const end = position + (kind === "decode" ? 1 : tokens.length);
    const before = requests.get(id)?.reachedTokens ?? 0;
    again += Math.max(0, Math.min(end, before) - position);
  }
  return again;
}
