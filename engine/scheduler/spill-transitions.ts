/** What becomes of the state when prefixes are written to files, read back and dropped, or when that fails. */
import { EngineError } from "../errors.ts";
import { forgetBeyond, startAnew } from "./checkpoint-transitions.ts";
import { refinedTransfer } from "./cost-model.ts";
import { noLosses } from "./lost-prefixes.ts";
import { PrefixOrder } from "./prefix-order.ts";
import type {
  BoundaryOperation,
  CostModel,
  PinnedPrefix,
  SchedulerConfig,
  SchedulerState,
  SlotId,
  SpillId,
  SpillState,
  SpilledPrefix,
} from "./types.ts";

export function spillState(
  { slots, spillBytes = 0 }: SchedulerConfig,
  { spill }: CostModel,
): SpillState | undefined {
  if (spillBytes <= 0 || spill === undefined) return undefined;
  return {
    lost: noLosses(slots),
    prefixes: new Map(),
    order: new PrefixOrder(),
    pins: new Map(),
    pinOrder: new PrefixOrder(),
    limitBytes: spillBytes,
    nextId: 1,
  };
}

/**
 * At the beginning of a step, as if its files were written and read already; `noteSaved` and the others tell what came of
 * it. A prefix that is saved is known only then.
 */
export function beginSpill(
  { slots, spill }: SchedulerState,
  operation: BoundaryOperation,
  nowMs: number,
): void {
  if (spill === undefined) return;
  if (operation.type === "save") spill.nextId = Math.max(spill.nextId, operation.prefix.id + 1);
  if (operation.type === "drop") forget(spill, operation.spill);
  if (operation.type !== "restore") return;
  const { prefix } = operation;
  const slot = slots[operation.slot];
  if (slot === undefined || slot.owner !== undefined)
    throw new EngineError("internal", `Prefix ${prefix.id} cannot be read into slot ${operation.slot}.`);
  const { length, firstCell, gridEnd, tailEnd, hits, keepUntilMs = 0 } = prefix;
  forgetBeyond(slot, 0);
  slot.tokens.set(prefix.tokens);
  Object.assign(slot, { length, firstCell, gridEnd, tailEnd, hits, keepUntilMs });
  prefix.hits += 1;
  prefix.lastUseMs = nowMs;
}

/**
 * A prefix has been written.
 * @param bytes Of the file.
 * @returns Whether it is kept; it is not where it has become larger than predicted and there is no room.
 */
export function noteSaved(state: SchedulerState, prefix: SpilledPrefix, bytes: number, ms: number): boolean {
  const { spill } = state;
  if (spill === undefined || spilledBytes(spill) + bytes > spill.limitBytes) return false;
  const saved = { ...prefix, bytes };
  spill.prefixes.set(prefix.id, saved);
  spill.order.add(saved);
  learn(state, "save", bytes, ms);
  return true;
}

/** A prefix could not be written: half the room will do, which after some more failures is no more than what is there. */
export function noteSaveFailed({ spill }: SchedulerState): void {
  if (spill !== undefined) spill.limitBytes = Math.max(spilledBytes(spill), Math.floor(spill.limitBytes / 2));
}

export function noteRestored(state: SchedulerState, { bytes }: SpilledPrefix, ms: number): void {
  learn(state, "restore", bytes, ms);
}

function learn(state: SchedulerState, kind: "save" | "restore", bytes: number, ms: number): void {
  const { cost } = state;
  if (cost.spill !== undefined) state.cost = { ...cost, spill: refinedTransfer(cost.spill, kind, bytes, ms) };
}

/** A prefix could not be read: the slot is empty, and its request computes its whole prompt. */
export function noteRestoreFailed(state: SchedulerState, prefix: SpilledPrefix, id: SlotId): void {
  if (state.spill !== undefined) forget(state.spill, prefix.id);
  startAnew(state, id);
}

/**
 * A prefix is pinned: its file has been written, and as much room is gone for others, unless it was reserved for it before.
 * @param isNew Whether it takes room that has been others' until now.
 * @returns Bytes that are gone for others: no more than there were, since an engine that takes the files of another one may
 * have less room than that had.
 */
export function pin({ spill }: SchedulerState, prefix: PinnedPrefix, isNew: boolean): number {
  if (spill === undefined) throw new EngineError("internal", "Nothing can be pinned where nothing is kept.");
  spill.pins.set(prefix.id, prefix);
  spill.pinOrder.add(prefix);
  spill.nextId = Math.max(spill.nextId, prefix.id + 1);
  const takenBytes = isNew ? Math.max(0, Math.min(prefix.bytes, spill.limitBytes)) : 0;
  spill.limitBytes -= takenBytes;
  return takenBytes;
}

/**
 * A prefix is pinned no more, and its room is others' again, also where its file has been lost before.
 * @param takenBytes As `pin` has told.
 */
export function unpin({ spill }: SchedulerState, id: SpillId, takenBytes: number): void {
  if (spill === undefined) return;
  forget(spill, id);
  spill.limitBytes += takenBytes;
}

/** Everything in files is forgotten but what is pinned: each file is read against its digest, whatever else has gone wrong. */
export function forgetSpilled({ spill }: SchedulerState): SpilledPrefix[] {
  const prefixes = [...(spill?.prefixes.values() ?? [])];
  spill?.prefixes.clear();
  spill?.order.clear();
  return prefixes;
}

function forget({ prefixes, order, pins, pinOrder }: SpillState, id: SpillId): void {
  const pinned = pins.get(id);
  if (pinned !== undefined) pinOrder.remove(pinned);
  pins.delete(id);
  const forgotten = prefixes.get(id);
  if (forgotten === undefined) return;
  prefixes.delete(id);
  order.remove(forgotten);
}

export function spilledBytes({ prefixes }: SpillState): number {
  let bytes = 0;
  for (const prefix of prefixes.values()) bytes += prefix.bytes;
  return bytes;
}
