/**
 * Lays a decode call out over the slots: which gaps between decoding slots are closed with a throw-away token.
 *
 * Closing a gap makes one wide device pass of two narrow ones. The best choice over all gaps is found by going
 * through the runs once from the left, keeping the cheapest way to cover each beginning.
 */
import { decodePassMs } from "./cost-model.ts";
import { adjacentRuns } from "./passes.ts";
import type { Running } from "./admission.ts";
import type { SchedulerConfig, SchedulerState, SlotId } from "./types.ts";

export interface DecodeLayout {
  /** Slots that do not decode and get a throw-away token, ascending. */
  readonly plugs: readonly SlotId[];
  /** Number of slots in each device pass. */
  readonly passWidths: readonly number[];
}

/** Of all of these slots. */
export function cellsOf(running: readonly Running[]): number {
  let cells = 0;
  for (const { length } of running) cells += length;
  return cells;
}

/** Whether gaps may be closed at all: what is plugged must be taken back. */
export function mayPlug({ canRewind, plugGaps }: SchedulerConfig): boolean {
  return canRewind && plugGaps !== false;
}

/**
 * The cheapest layout of a step that guesses so many tokens in each slot.
 * @param length Cells of a slot in this step, whoever has it.
 */
export function slotLayout(
  { config, cost }: SchedulerState,
  decoding: readonly Running[],
  length: (slot: SlotId) => number,
  drafts: number,
): DecodeLayout {
  // A pass reads as many cells of each slot as its longest one has: a longer slot would slow the others down.
  let longest = 0;
  for (const { length: cells } of decoding) longest = Math.max(longest, cells);
  const slots = decoding.map((r) => r.slot);
  const canPlug = (slot: SlotId): boolean => mayPlug(config) && length(slot) <= longest;
  const cheapest = decodeLayout(slots, canPlug, (width) => decodePassMs(cost, width, drafts));
  if (!config.deterministic) return cheapest;
  const mayHold = (slot: SlotId): boolean =>
    config.canRewind &&
    slot >= 0 &&
    slot < config.slots &&
    !slots.includes(slot) &&
    length(slot) < config.contextTokens;
  return withoutLoneSlots(slots, cheapest, mayHold);
}

/** The layout with every lone slot given a neighbour, where one may be plugged. */
export function withoutLoneSlots(
  slots: readonly SlotId[],
  layout: DecodeLayout,
  canPlug: (slot: SlotId) => boolean,
): DecodeLayout {
  const used = new Set([...slots, ...layout.plugs]);
  for (const slot of slots) {
    if (used.has(slot - 1) || used.has(slot + 1)) continue;
    const neighbour = [slot + 1, slot - 1].find((candidate) => canPlug(candidate));
    if (neighbour !== undefined) used.add(neighbour);
  }
  const ascending = [...used].sort((a, b) => a - b);
  return {
    plugs: ascending.filter((slot) => !slots.includes(slot)),
    passWidths: adjacentRuns(ascending).map(({ first, last }) => last - first + 1),
  };
}

/**
 * @param slots The decoding slots, ascending.
 * @param canPlug Whether a slot that does not decode may get a throw-away token.
 * @param passMs What a pass over so many adjacent slots costs.
 */
export function decodeLayout(
  slots: readonly SlotId[],
  canPlug: (slot: SlotId) => boolean,
  passMs: (width: number) => number,
): DecodeLayout {
  // Nearly always, and every step asks.
  if (slots.length === 0 || (slots.at(-1) ?? 0) - (slots[0] ?? 0) === slots.length - 1)
    return { plugs: [], passWidths: slots.length === 0 ? [] : [slots.length] };
  const runs = adjacentRuns(slots);
  /** By width, as far as they have been asked for: the same ones are needed again and again. */
  const known = new Float64Array((slots.at(-1) ?? 0) - (slots[0] ?? 0) + 2);
  /** Cheapest cover of the first `i` runs, and the first run of its last pass. */
  const bestMs = [0];
  const bestFrom = [0];
  /** The first run from which all gaps up to here may be closed. */
  let open = 0;
  for (const [i, { first: start, last }] of runs.entries()) {
    if (i > 0 && !gapIsOpen(runs[i - 1]?.last ?? 0, start, canPlug)) open = i;
    let leastMs = Infinity;
    let leastFrom = i;
    for (let from = i; from >= open; from--) {
      const width = last - (runs[from]?.first ?? 0) + 1;
      const ms = (bestMs[from] ?? 0) + (known[width] || (known[width] = passMs(width)));
      if (ms >= leastMs) continue;
      leastMs = ms;
      leastFrom = from;
    }
    bestMs.push(leastMs);
    bestFrom.push(leastFrom);
  }
  const plugs: SlotId[] = [];
  const passWidths: number[] = [];
  for (let end = runs.length; end > 0; end = bestFrom[end] ?? 0) {
    const from = bestFrom[end] ?? 0;
    passWidths.unshift((runs[end - 1]?.last ?? 0) - (runs[from]?.first ?? 0) + 1);
    for (let run = end - 1; run > from; run--) {
      for (let slot = (runs[run]?.first ?? 0) - 1; slot > (runs[run - 1]?.last ?? 0); slot--)
        plugs.unshift(slot);
    }
  }
  return { plugs, passWidths };
}

function gapIsOpen(last: SlotId, next: SlotId, canPlug: (slot: SlotId) => boolean): boolean {
  for (let slot = last + 1; slot < next; slot++) if (!canPlug(slot)) return false;
  return true;
}
