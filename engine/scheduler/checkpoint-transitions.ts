/** What becomes of the state when checkpoints are taken, come back to and dropped, or when that fails. */
import { EngineError } from "../errors.ts";
import { refinedSize, refinedTransfer } from "./cost-model.ts";
import { chargeWholePrompt } from "./owners.ts";
import { PrefixOrder } from "./prefix-order.ts";
import type {
  BoundaryOperation,
  Checkpoint,
  CheckpointState,
  CostModel,
  SchedulerConfig,
  SchedulerState,
  Slot,
  SlotId,
} from "./types.ts";

/** A plan looks at each of them a few times. */
export const MOST_CHECKPOINTS = 128;

export function checkpointState(
  { canRewind, checkpoints }: SchedulerConfig,
  { checkpoint }: CostModel,
): CheckpointState | undefined {
  if (canRewind || checkpoints === undefined || checkpoint === undefined || checkpoints.bytes <= 0)
    return undefined;
  const { needs, bytes } = checkpoints;
  return { needs, kept: new Map(), order: new PrefixOrder(), limitBytes: bytes, nextId: 1 };
}

/** At the beginning of a step, as if slots had come back already. A checkpoint that is taken is known with `noteTaken` only. */
export function beginCheckpoint(
  { slots, checkpoints }: SchedulerState,
  operation: BoundaryOperation,
  nowMs: number,
): void {
  if (checkpoints === undefined) return;
  if (operation.type === "checkpoint")
    checkpoints.nextId = Math.max(checkpoints.nextId, operation.checkpoint.id + 1);
  if (operation.type === "forget") forget(slots, checkpoints, operation.checkpoint);
  if (operation.type !== "rewind") return;
  const { checkpoint } = operation;
  const slot = slots[operation.slot];
  if (slot === undefined || slot.owner !== undefined)
    throw new EngineError("internal", `Slot ${operation.slot} cannot come back to a checkpoint.`);
  comeBack(slot, checkpoint, checkpoints);
  checkpoint.hits += 1;
  checkpoint.lastUseMs = nowMs;
}

function comeBack(slot: Slot, checkpoint: Checkpoint, { order }: CheckpointState): void {
  const { tokens, length, firstCell, gridEnd, tailEnd, cacheKey } = checkpoint;
  const own = slot.checkpoints.includes(checkpoint);
  forgetBeyond(slot, own ? length : 0);
  Object.assign(slot, { length, firstCell, gridEnd, tailEnd });
  if (own) return;
  slot.tokens.set(tokens);
  slot.hits = checkpoint.hits;
  slot.keepUntilMs = checkpoint.keepUntilMs ?? 0;
  /** By length: two slots may have taken the same one. */
  const before = new Map<number, Checkpoint>();
  order.eachCommon(cacheKey, tokens, length, (other, common) => {
    if (common === other.length) before.set(common, other);
  });
  before.set(length, checkpoint);
  slot.checkpoints = [...before.values()].sort((a, b) => a.length - b.length);
  for (const other of slot.checkpoints) other.slots += 1;
}

/** A slot has no more than its first `length` tokens, whatever it gets behind them: whoever knows of others forgets them. */
export function forgetBeyond(slot: Slot, length: number): void {
  slot.mark.cut(length);
  if ((slot.checkpoints.at(-1)?.length ?? 0) <= length) return;
  for (const checkpoint of slot.checkpoints) if (checkpoint.length > length) checkpoint.slots -= 1;
  slot.checkpoints = slot.checkpoints.filter((checkpoint) => checkpoint.length <= length);
}

/** All cells of one slot are copied to another one. */
export function shareCheckpoints(source: Slot, target: Slot): void {
  forgetBeyond(target, 0);
  target.checkpoints = source.checkpoints;
  for (const checkpoint of target.checkpoints) checkpoint.slots += 1;
}

/** Lets those go that no slot has the cells for. */
export function forgetOrphans({ checkpoints }: SchedulerState): void {
  if (checkpoints === undefined || checkpoints.needs === "none") return;
  for (const checkpoint of checkpoints.kept.values())
    if (checkpoint.slots === 0) {
      checkpoints.kept.delete(checkpoint.id);
      checkpoints.order.remove(checkpoint);
    }
}

/** Everything is forgotten, when all slots are empty. */
export function forgetCheckpoints({ checkpoints }: SchedulerState): void {
  checkpoints?.kept.clear();
  checkpoints?.order.clear();
}

/**
 * A checkpoint has been taken of a slot that still holds its tokens.
 * @returns Whether it is kept; it is not where it has become larger than predicted and there is no room.
 */
export function noteTaken(
  state: SchedulerState,
  id: SlotId,
  predicted: Checkpoint,
  { bytes, ms }: { readonly bytes: number; readonly ms: number },
): boolean {
  const { checkpoints, cost } = state;
  const slot = state.slots[id];
  if (checkpoints === undefined || cost.checkpoint === undefined || slot === undefined) return false;
  const learnt = refinedTransfer(cost.checkpoint, "save", bytes, ms);
  state.cost = { ...cost, checkpoint: refinedSize(learnt, bytes, predicted.bytes) };
  const checkpoint = { ...predicted, bytes, slots: 1 };
  if (checkpoints.kept.size >= MOST_CHECKPOINTS) return false;
  if (checkpointBytes(checkpoints) + heldBytes(checkpoint) > checkpoints.limitBytes) return false;
  checkpoints.kept.set(checkpoint.id, checkpoint);
  checkpoints.order.add(checkpoint);
  slot.checkpoints = [...slot.checkpoints, checkpoint];
  return true;
}

/** A checkpoint could not be taken: half the room will do, which after some more failures is no more than what is there. */
export function noteTakeFailed({ checkpoints }: SchedulerState): void {
  if (checkpoints === undefined) return;
  const half = Math.floor(checkpoints.limitBytes / 2);
  checkpoints.limitBytes = Math.max(checkpointBytes(checkpoints), half);
}

export function noteCameBack(state: SchedulerState, { bytes }: Checkpoint, ms: number): void {
  const { cost } = state;
  if (cost.checkpoint !== undefined)
    state.cost = { ...cost, checkpoint: refinedTransfer(cost.checkpoint, "restore", bytes, ms) };
}

/** A slot could not come back: it is empty, and its request computes its whole prompt. */
export function noteComeBackFailed(state: SchedulerState, { id }: Checkpoint, slot: SlotId): void {
  if (state.checkpoints !== undefined) forget(state.slots, state.checkpoints, id);
  startAnew(state, slot);
}

/** The cells that a request was to go on from are not there. */
export function startAnew(state: SchedulerState, id: SlotId): void {
  const { slots, requests } = state;
  const slot = slots[id];
  if (slot === undefined) return;
  forgetBeyond(slot, 0);
  Object.assign(slot, { length: 0, firstCell: 0, gridEnd: 0, tailEnd: 0, hits: 0, keepUntilMs: 0 });
  const request = requests.get(slot.owner ?? "");
  if (request === undefined) return;
  chargeWholePrompt(state, request);
  if (request.prompt.length + request.output.length > 1) request.phase = "prefill";
}

function forget(slots: readonly Slot[], { kept, order }: CheckpointState, id: number): void {
  const forgotten = kept.get(id);
  if (forgotten === undefined) return;
  kept.delete(id);
  order.remove(forgotten);
  for (const slot of slots)
    if (slot.checkpoints.includes(forgotten))
      slot.checkpoints = slot.checkpoints.filter((checkpoint) => checkpoint !== forgotten);
}

/** Memory of a checkpoint, its tokens included. */
export function heldBytes({ bytes, length }: Pick<Checkpoint, "bytes" | "length">): number {
  return bytes + length * Uint32Array.BYTES_PER_ELEMENT;
}

export function checkpointBytes({ kept }: CheckpointState): number {
  let bytes = 0;
  for (const checkpoint of kept.values()) bytes += heldBytes(checkpoint);
  return bytes;
}
