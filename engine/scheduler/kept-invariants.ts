/** What must hold of files, checkpoints and the tree of prefixes, and of what a plan does with them. */
import { MOST_CHECKPOINTS, heldBytes } from "./checkpoint-transitions.ts";
import { transferMs } from "./cost-model.ts";
import { ROUNDING_MS, expect } from "./invariant.ts";
import { isSound } from "./lost-prefixes.ts";
import { pinKey } from "./pins.ts";
import { mayCutTo, reusableOf } from "./prefix-reuse.ts";
import { commonWithSlots } from "./slot-prefixes.ts";
import type {
  Checkpoint,
  CheckpointId,
  SchedulerState,
  Slot,
  SlotId,
  SpillId,
  SpilledPrefix,
  StepPlan,
} from "./types.ts";

/** @returns The prefixes that are read, by their slots. */
export function checkSpill(
  { slots, spill, inCopies, config }: SchedulerState,
  { boundary }: StepPlan,
): Map<SlotId, SpilledPrefix> {
  const restored = new Map<SlotId, SpilledPrefix>();
  const gone = new Set<SpillId>();
  let bytes = 0;
  let last = 0;
  for (const operation of boundary) {
    const { type } = operation;
    const turn = ["checkpoint", "save", "restore", "copy", "rewind", "truncate"].indexOf(type);
    const removal = type === "drop" || type === "forget";
    expect(turn >= last || removal, "cells are saved before they change");
    if (!removal) last = turn;
    if (type === "drop") {
      expect(
        spill?.prefixes.has(operation.spill) === true && !gone.has(operation.spill),
        "what is dropped is there",
      );
      gone.add(operation.spill);
    }
    if (type === "save") {
      const { slot, prefix } = operation;
      const cells = slots[slot];
      expect(!inCopies.has(slot), "cells that are not there yet are not saved");
      expect(
        !(spill?.prefixes.has(prefix.id) ?? true) && prefix.id >= (spill?.nextId ?? Infinity),
        "names are not given twice",
      );
      expect(
        cells?.length === prefix.length &&
          prefix.tokens.every((token, i) => token === cells.tokens[i]) &&
          cells.cacheKey === prefix.cacheKey,
        "what is saved is what the slot holds",
      );
      bytes += prefix.bytes;
    }
    if (type === "restore") {
      const { slot, prefix } = operation;
      const kept = spill?.prefixes.get(prefix.id) ?? spill?.pins.get(prefix.id);
      expect(kept === prefix && !gone.has(prefix.id), "what is read is there");
      expect(!inCopies.has(slot), "no queued copy falls upon what is read");
      expect(prefix.length <= config.contextTokens && !restored.has(slot), "what is read fits its slot");
      restored.set(slot, prefix);
    }
    if (type === "copy")
      expect(
        !restored.has(operation.from) && !restored.has(operation.to),
        "what is read in this step is not copied",
      );
  }
  expect(
    spill === undefined || (spill.order.size === spill.prefixes.size && spill.order.isOrdered()),
    "files are found by their tokens",
  );
  expect(
    spill === undefined || (spill.pinOrder.size === spill.pins.size && spill.pinOrder.isOrdered()),
    "what is pinned is found by its tokens",
  );
  expect(spill === undefined || isSound(spill.lost), "what slots have lost is found by its hash");
  for (const { id, bytes: size } of spill?.prefixes.values() ?? []) bytes += gone.has(id) ? 0 : size;
  const saves = boundary.some(({ type }) => type === "save");
  expect(!saves || bytes <= (spill?.limitBytes ?? 0), "files have no more bytes than they may");
  return restored;
}

/** Whose prompt begins with all of a pinned prefix finds it computed, wherever else it may be. */
export function checkPins(
  { requests, spill, inCopies, config }: SchedulerState,
  { assignments }: StepPlan,
): void {
  if (spill === undefined || config.slotChoice === "oldest") return;
  for (const { request: id, slot, reuse } of assignments) {
    const request = requests.get(id);
    if (request?.reusePrefix !== true) continue;
    let owed = 0;
    for (const pin of spill.pins.values()) {
      if (pin.cacheKey !== pinKey(request.adapters) || pin.length >= request.prompt.length) continue;
      if (pin.tokens.some((token, i) => token !== request.prompt[i])) continue;
      owed = Math.max(owed, reusableOf(request, pin, pin.length, config));
    }
    expect(reuse >= owed || inCopies.has(slot), "what is pinned is found computed");
  }
}

/** @returns What slots come back to. */
export function checkCheckpoints(state: SchedulerState, { boundary }: StepPlan): Map<SlotId, Checkpoint> {
  const { slots, checkpoints, inCopies } = state;
  const back = new Map<SlotId, Checkpoint>();
  const gone = new Set<CheckpointId>();
  const copies = boundary.filter((operation) => operation.type === "copy");
  let bytes = 0;
  let count = checkpoints?.kept.size ?? 0;
  for (const operation of boundary) {
    if (operation.type === "forget") {
      expect(checkpoints?.kept.has(operation.checkpoint) === true, "what is forgotten is there");
      expect(!gone.has(operation.checkpoint), "and is so once");
      gone.add(operation.checkpoint);
      count -= 1;
    }
    if (operation.type === "checkpoint") {
      const { slot: id, checkpoint } = operation;
      const slot = slots[id];
      expect(!inCopies.has(id) && slot?.owner !== undefined, "cells that are there are kept, of who runs");
      expect(
        slot?.length === checkpoint.length && startsWith(slot, checkpoint),
        "a checkpoint is what the slot holds",
      );
      expect(checkpoint.id >= (checkpoints?.nextId ?? Infinity), "names are not given twice");
      bytes += heldBytes(checkpoint);
      count += 1;
    }
    if (operation.type === "rewind") {
      const { slot: id, checkpoint, length } = operation;
      const from = copies.find(({ to }) => to === id)?.from;
      const holder = slots[from ?? id];
      expect(checkpoints?.kept.get(checkpoint.id) === checkpoint, "what a slot comes back to is there");
      expect(length > 0 && mayCutTo(length, checkpoint, state.config), "a slot comes back to what it can");
      expect(
        checkpoints?.needs === "none" || holder?.checkpoints.includes(checkpoint) === true,
        "a slot that comes back has what it needs",
      );
      expect(
        checkpoints?.needs !== "own-cells" ||
          (!inCopies.has(id) && copies.every(({ from: source, to }) => source !== id && to !== id)),
        "no queued copy falls upon a slot that comes back",
      );
      back.set(id, checkpoint);
    }
  }
  for (const id of back.values()) expect(!gone.has(id.id), "what a slot comes back to stays");
  for (const kept of checkpoints?.kept.values() ?? []) bytes += gone.has(kept.id) ? 0 : heldBytes(kept);
  const taken = boundary.some(({ type }) => type === "checkpoint");
  expect(!taken || bytes <= (checkpoints?.limitBytes ?? 0), "checkpoints have no more bytes than they may");
  expect(count <= MOST_CHECKPOINTS, "and are no more than they may be");
  return back;
}

function startsWith(slot: Slot, { tokens, length, cacheKey }: Checkpoint): boolean {
  return (
    slot.length >= length &&
    slot.cacheKey === cacheKey &&
    tokens.every((token, i) => token === slot.tokens[i])
  );
}

export function checkSlotCheckpoints({ slots, checkpoints }: SchedulerState): void {
  const { order, kept } = checkpoints ?? {};
  expect(order?.size === kept?.size && order?.isOrdered() !== false, "checkpoints are found by their tokens");
  for (const checkpoint of checkpoints?.kept.values() ?? []) {
    const holders = slots.filter((slot) => slot.checkpoints.includes(checkpoint));
    expect(holders.length === checkpoint.slots, "who has what a checkpoint needs is counted");
    expect(
      holders.every((slot) => startsWith(slot, checkpoint)),
      "a slot has the tokens of its checkpoints",
    );
    expect(checkpoint.length === checkpoint.tokens.length, "a checkpoint is of its tokens");
  }
  for (const slot of slots)
    slot.checkpoints.forEach((checkpoint, i) => {
      const { id, length } = checkpoint;
      expect(checkpoints?.kept.get(id) === checkpoint, "a slot's checkpoints are there");
      expect(i === 0 || (slot.checkpoints[i - 1]?.length ?? 0) < length, "and in order");
    });
}

/** Files and checkpoints together take no longer than what a stream may wait for a token. */
export function checkKeepingTime(
  { slots, requests, cost, config, spill }: SchedulerState,
  { boundary, keepingMs }: StepPlan,
): void {
  let predictedMs = 0;
  /** Of prefixes that are pinned, which are read however long it takes. */
  let pinnedMs = 0;
  for (const operation of boundary) {
    const { type } = operation;
    if (type === "restore" && cost.spill !== undefined && spill?.pins.has(operation.prefix.id) === true)
      pinnedMs += transferMs(cost.spill.restore, operation.prefix.bytes);
    const costs = type === "save" || type === "restore" ? cost.spill : cost.checkpoint;
    if (costs === undefined) continue;
    if (type === "save" || type === "restore") predictedMs += transferMs(costs[type], operation.prefix.bytes);
    if (type === "checkpoint") predictedMs += transferMs(costs.save, operation.checkpoint.bytes);
    if (type === "rewind") predictedMs += transferMs(costs.restore, operation.checkpoint.bytes);
  }
  expect(Math.abs(predictedMs - keepingMs) < ROUNDING_MS, "what is kept and read is counted");
  const decoding = slots.some(({ owner }) => requests.get(owner ?? "")?.phase === "decode");
  expect(
    !decoding || keepingMs - pinnedMs <= config.itlTargetMs + ROUNDING_MS,
    "files and checkpoints take no longer than the target, but for what is pinned",
  );
}

/** Waiting requests that `checkPrefixes` looks for, since it compares them with every slot. */
const MOST_CHECKED = 8;

/** @throws {EngineError} `internal` where the tree would say something else of a waiting request than comparing. */
export function checkPrefixes({ prefixes, slots, queue }: SchedulerState): void {
  if (prefixes === undefined) return;
  expect(prefixes.isRight(), "the tree of prefixes has what slots have");
  let checked = 0;
  for (const { prompt, cacheKey } of queue.values()) {
    const text = { tokens: prompt, length: prompt.length - 1, cacheKey };
    const found = commonWithSlots({ prefixes }, text);
    const compared = commonWithSlots({ prefixes: undefined }, text);
    const isSame = slots.every((slot) => found(slot) === compared(slot));
    expect(isSame, "looking for a prompt in the tree tells what comparing it with each slot tells");
    if (++checked === MOST_CHECKED) break;
  }
}
