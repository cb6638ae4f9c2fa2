/**
 * Which idle slot a request should take, with its own cells, with a copy of another slot's or with a file's: what costs
 * least, counting what is kept, lost and scattered.
 */
import { prefillTokensMs } from "./cost-model.ts";
import { reuseChance } from "./prefix-value.ts";
import { followersOf, mayHave } from "./returns.ts";
import { Places, ROUNDED } from "./slot-place.ts";
import { reusableOfSlots } from "./slot-prefixes.ts";
import type { KeptFor } from "./returns.ts";
import type { CheckpointPlan, Comeback } from "./checkpoint-plan.ts";
import type { Restorable, SpillPlan } from "./spill-plan.ts";
import type { ScheduledRequest, SchedulerState, Slot, SlotId } from "./types.ts";

export interface SlotChoice {
  readonly slot: SlotId;
  readonly reuse: number;
  /** Undefined when the slot's own cells are kept. */
  readonly copyFrom: SlotId | undefined;
  /** What is read from a file; absent is nothing. */
  readonly restore?: Restorable;
  /** What the slot, or the copy, is brought back to; absent is nothing. */
  readonly comeback?: Comeback;
  /** Whether it is less than what is pinned, since free slots wait for copies and nothing can be read into them; absent is no. */
  readonly isShort?: boolean;
  readonly costMs: number;
}

/** How much of a prompt a slot has, and the checkpoint it has to come back to for that. */
interface Found {
  readonly reuse: number;
  readonly comeback?: Comeback;
}

const NOTHING: Found = { reuse: 0 };

/** What can be copied. */
type Source = Found & { readonly slot: SlotId };

/** What is decided of the slots already, in the step that is being planned. */
export interface TakenSlots {
  /** In use, ascending. */
  readonly busy: readonly SlotId[];
  /** Their cells are replaced in this very step: nothing can be copied from them. */
  readonly overwritten: ReadonlySet<SlotId>;
  /** For whom they are kept. */
  readonly kept: ReadonlyMap<SlotId, KeptFor>;
  /** Absent where nothing is kept in files. */
  readonly spill?: SpillPlan | undefined;
  /** Absent where none are taken. */
  readonly checkpoints?: CheckpointPlan | undefined;
}

/**
 * @returns Undefined when no slot is free. Ties go to the lowest id, which keeps busy slots together.
 */
export function chooseSlot(
  request: ScheduledRequest,
  state: SchedulerState,
  { busy, overwritten, kept, spill, checkpoints }: TakenSlots,
  nowMs: number,
): SlotChoice | undefined {
  const taken = takenOf(state, busy);
  const reuseOf = state.slots.map(reusableOfSlots(request, state));
  if (state.config.slotChoice === "oldest") return oldestSlot(state, reuseOf, taken);
  const comebackIn = checkpoints?.bestFor(request);
  const foundIn = state.slots.map((slot, i): Found => {
    const reuse = reuseOf[i] ?? 0;
    if (comebackIn === undefined) return reuse === 0 ? NOTHING : { reuse };
    const comeback = comebackIn(slot);
    if (comeback === undefined || comeback.reuse <= reuse) return { reuse };
    return { reuse: comeback.reuse, comeback };
  });
  const copied = checkpoints?.goesWithCopies === false ? reuseOf.map((reuse) => ({ reuse })) : foundIn;
  const source = bestSource(copied, overwritten);
  const file = spill?.bestFor(request);
  const computeMs = (reuse: number): number =>
    prefillTokensMs(state.cost, state.config.prefillChunk, request.prompt.length - 1 - reuse, reuse);
  const places = new Places(state, busy, request);
  const candidateOf = (slot: Slot, owed: number): Candidate => {
    const found = foundIn[slot.id] ?? NOTHING;
    const { reuse, comeback } = found;
    const staying = checkpoints?.outlivesSlots === true ? (slot.checkpoints.at(-1)?.length ?? 0) : 0;
    const lossMs = (keep: number): number =>
      residentLossMs(state, slot, Math.max(keep, staying), { request, spill, nowMs });
    const own = comeback === undefined || slot.checkpoints.includes(comeback.checkpoint);
    const keptMs = reuse < owed ? Infinity : (comeback?.ms ?? 0) + computeMs(reuse) + lossMs(own ? reuse : 0);
    const copiedMs =
      source === undefined || source.reuse <= reuse || source.reuse < owed
        ? Infinity
        : state.cost.copyMs + (source.comeback?.ms ?? 0) + computeMs(source.reuse) + lossMs(0);
    const restoredMs =
      file === undefined || file.reuse <= reuse || spill?.mayRestoreInto(slot.id) !== true
        ? Infinity
        : file.ms + computeMs(file.reuse) + lossMs(0);
    const leastMs = Math.min(keptMs, copiedMs, restoredMs) + places.leastMs(slot.id);
    return { slot: slot.id, found, keptMs, copiedMs, restoredMs, leastMs };
  };
  const free = state.slots.filter(
    (slot) => taken[slot.id] !== true && mayHave(request, slot, kept.get(slot.id), state),
  );
  const owed = spill?.owedTo(request) ?? 0;
  const candidates = free.map((slot) => candidateOf(slot, owed)).filter(({ leastMs }) => leastMs < Infinity);
  if (candidates.length > 0 || owed === 0) return cheapest(candidates, { source, file }, places);
  const short = free.map((slot) => candidateOf(slot, 0));
  const choice = cheapest(short, { source, file }, places);
  return choice && { ...choice, isShort: true };
}

/** An idle slot, and what it costs with its own cells, with a copy's and with a file's, without its place. */
interface Candidate {
  readonly slot: SlotId;
  readonly found: Found;
  readonly keptMs: number;
  readonly copiedMs: number;
  readonly restoredMs: number;
  /** Of the three and its place: no less than that. */
  readonly leastMs: number;
}

/**
 * Works out what as few places as possible cost, which takes longer than all the rest: behind one that costs as little
 * as those that are left, none of a higher id could win. Sorts the candidates.
 */
function cheapest(
  candidates: Candidate[],
  { source, file }: { readonly source: Source | undefined; readonly file: Restorable | undefined },
  places: Places,
): SlotChoice | undefined {
  let best: SlotChoice | undefined;
  const consider = (choice: SlotChoice): void => {
    const first = best === undefined || choice.costMs < best.costMs;
    if (first || (choice.costMs === best?.costMs && choice.slot < best.slot)) best = choice;
  };
  candidates.sort((a, b) => a.leastMs - b.leastMs || a.slot - b.slot);
  for (const { slot, found, keptMs, copiedMs, restoredMs, leastMs } of candidates) {
    if (best !== undefined && leastMs > best.costMs) break;
    // Of those that cost the same, a bound is a rounding error less.
    if (best !== undefined && slot > best.slot && leastMs >= ROUNDED * best.costMs) continue;
    const ms = places.ms(slot);
    const common = { slot, copyFrom: undefined };
    consider({ ...common, ...found, costMs: keptMs + ms });
    if (source !== undefined && copiedMs < Infinity) {
      const { slot: copyFrom, ...copied } = source;
      consider({ ...common, ...copied, copyFrom, costMs: copiedMs + ms });
    }
    if (file !== undefined && restoredMs < Infinity)
      consider({ ...common, reuse: file.reuse, restore: file, costMs: restoredMs + ms });
  }
  return best;
}

/** By slot, whether it is in use. */
function takenOf({ slots }: SchedulerState, busy: readonly SlotId[]): boolean[] {
  const taken = slots.map(() => false);
  for (const slot of busy) taken[slot] = true;
  return taken;
}

/** The longest prefix wins, then the longest rest. */
function oldestSlot(
  { slots }: SchedulerState,
  reuseOf: readonly number[],
  taken: readonly boolean[],
): SlotChoice | undefined {
  let best: Slot | undefined;
  for (const slot of slots) {
    if (taken[slot.id] === true) continue;
    const gain = best === undefined ? 1 : (reuseOf[slot.id] ?? 0) - (reuseOf[best.id] ?? 0);
    if (gain > 0 || (gain === 0 && slot.lastUseMs < (best?.lastUseMs ?? 0))) best = slot;
  }
  if (best === undefined) return undefined;
  return { slot: best.id, reuse: reuseOf[best.id] ?? 0, copyFrom: undefined, costMs: 0 };
}

/** The slot whose cells save most when copied: a copy can be cut, or brought back, where the slot itself can. */
function bestSource(foundIn: readonly Found[], overwritten: ReadonlySet<SlotId>): Source | undefined {
  let best: (Found & { slot: SlotId }) | undefined;
  for (const [slot, found] of foundIn.entries())
    if (found.reuse > (best?.reuse ?? 0) && !overwritten.has(slot)) best = { ...found, slot };
  return best;
}

interface Wanted {
  readonly request: ScheduledRequest;
  readonly spill: SpillPlan | undefined;
  readonly nowMs: number;
}

/** What overwriting the cells beyond `keep` is likely to cost later, or now where it is cheaper to save them. */
function residentLossMs(
  state: SchedulerState,
  slot: Slot,
  keep: number,
  { request, spill, nowMs }: Wanted,
): number {
  const lost = slot.length - keep;
  if (lost <= 0) return 0;
  const isWanted =
    slot.followers.length > 0 && followersOf(state, slot).some((follower) => follower !== request);
  const chance = isWanted ? 1 : reuseChance(slot, nowMs);
  const valueMs = chance * prefillTokensMs(state.cost, state.config.prefillChunk, lost, keep);
  return spill === undefined ? valueMs : Math.min(valueMs, spill.savedLossMs(slot, keep, chance));
}
