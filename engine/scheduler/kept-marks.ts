/**
 * Where the mark of a prompt that its client wants kept goes when the slot that has it is given away: to another slot or
 * file with most of the same cells, of which nobody would know otherwise that they are wanted.
 */
import { commonPrefixLength, mayCutTo } from "./prefix-reuse.ts";
import type { SchedulerState, Slot, SlotId, SpilledPrefix, StepPlan } from "./types.ts";

/** What a slot held that somebody wants kept. */
interface KeptCells {
  readonly slot: SlotId;
  readonly tokens: Uint32Array;
  readonly cacheKey: string;
  readonly keepUntilMs: number;
}

/** Of the slots that a plan gives away, as they are before it begins. What it saves takes its mark into its file. */
export function keptCells({ slots }: SchedulerState, plan: StepPlan, nowMs: number): KeptCells[] {
  return plan.assignments.flatMap(({ slot: id }): KeptCells[] => {
    const slot = slots[id];
    if (slot === undefined || slot.keepUntilMs <= nowMs) return [];
    if (plan.boundary.some((operation) => operation.type === "save" && operation.slot === id)) return [];
    const { tokens, length, cacheKey, keepUntilMs } = slot;
    return [{ slot: id, tokens: tokens.slice(0, length), cacheKey, keepUntilMs }];
  });
}

/** Once the slots have what they begin the step with. */
export function passMarksOn(state: SchedulerState, { boundary }: StepPlan, lost: readonly KeptCells[]): void {
  if (lost.length === 0) return;
  const saved = boundary.flatMap((operation) => (operation.type === "save" ? [operation.prefix] : []));
  const holders = [...state.slots, ...(state.spill?.prefixes.values() ?? []), ...saved];
  for (const kept of lost) {
    const most = kept.tokens.length / 2;
    const own = state.slots[kept.slot];
    if (own && own.keepUntilMs >= kept.keepUntilMs && commonTokens(state, kept, own) >= most) continue;
    let best: { readonly holder: Slot | SpilledPrefix; readonly common: number } | undefined;
    for (const holder of holders) {
      const common = commonTokens(state, kept, holder);
      if (common >= most && common > (best?.common ?? 0)) best = { holder, common };
    }
    if (best === undefined) continue;
    best.holder.keepUntilMs = Math.max(best.holder.keepUntilMs ?? 0, kept.keepUntilMs);
  }
}

/** Cells of the kept ones that a slot or file can go on from. */
function commonTokens(
  { config }: SchedulerState,
  { tokens, cacheKey }: KeptCells,
  holder: Slot | SpilledPrefix,
): number {
  if (holder.cacheKey !== cacheKey) return 0;
  const common = commonPrefixLength(tokens, holder.tokens, Math.min(tokens.length, holder.length));
  return mayCutTo(common, holder, config) ? common : 0;
}
