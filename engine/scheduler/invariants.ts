/** What must hold of the state and of every plan; checked in tests and, when asked for, at run time. */
import { adapterKeyOf } from "./adapter-turns.ts";
import { MOST_APPOINTMENTS } from "./appointments.ts";
import type { Appointments } from "./appointments.ts";
import { ROUNDING_MS, expect } from "./invariant.ts";
import {
  checkCheckpoints,
  checkKeepingTime,
  checkPins,
  checkPrefixes,
  checkSlotCheckpoints,
  checkSpill,
} from "./kept-invariants.ts";
import { isAway } from "./offload.ts";
import { outputLeft } from "./owners.ts";
import { pinKey } from "./pins.ts";
import { devicePasses } from "./passes.ts";
import { mayBePassed } from "./prefix-first.ts";
import { isOffGrid } from "./joined-cells.ts";
import { prefillCellEnd, prefillEnd } from "./prefill-cells.ts";
import { LAST_CELL_SHARE, REPLAY_SHARE, knownTokens } from "./plan-step.ts";
import { isLong, lineOf, longRoom } from "./reserve.ts";
import { CLASSES } from "./types.ts";
import { waitedSinceMs } from "./waiting-heap.ts";
import type {
  ClassLines,
  OwnerState,
  PlannedCall,
  ScheduledRequest,
  SchedulerState,
  Slot,
  SlotId,
  StepPlan,
} from "./types.ts";

/** @throws {EngineError} `internal`, naming the broken invariant. Call between native calls. */
export function checkState(state: SchedulerState): void {
  const owned = new Set<string>();
  for (const slot of state.slots) {
    expect(slot.length >= 0 && slot.length <= state.config.contextTokens, "a slot's length fits its context");
    expect(slot.firstCell <= slot.length, "the first cell is one of the slot's");
    expect(slot.gridEnd <= slot.tailEnd && slot.tailEnd <= slot.length, "shape marks lie within the slot");
    expect((slot.owner === undefined) === (slot.holder === undefined), "a slot is held by its owner");
    if (slot.owner === undefined) continue;
    expect(!owned.has(slot.owner), "no request has two slots");
    owned.add(slot.owner);
    checkOwner(state, slot);
  }
  for (const [id, request] of state.requests) {
    const waiting = state.queue.has(id);
    expect(waiting !== owned.has(id), "a request is either waiting or in a slot");
    expect((request.phase === "queued") === waiting, "the phase says where a request is");
    expect(request.output.length <= request.maxNew, "no more tokens than asked for");
    expect(knownTokens(request) <= state.config.contextTokens, "prompt and output fit the context");
  }
  checkSlotCheckpoints(state);
  checkPrefixes(state);
  for (const id of state.queue.keys()) expect(state.requests.has(id), "the queue holds known requests");
  for (const owner of state.owners.values()) checkOwnerAccount(state, owner);
  const idle = [...state.owners.values()].filter(({ running, waiting }) => running + waiting === 0);
  expect(
    idle.length === state.idleOwners.size && idle.every((owner) => state.idleOwners.has(owner)),
    "idle owners are known",
  );
  expect(
    state.busyOwners.size === state.owners.size - idle.length && state.busyOwners.isOrdered(),
    "busy owners are in the order of their service",
  );
  state.lines.forEach((lines, line) => checkLines(state, lines, line));
  expect(longRoom(state) >= 0, "long prompts have no more slots than they may");
  checkAppointments(state.appointments);
}

function checkAppointments({ owners, count }: Appointments): void {
  const all = [...owners.values()].flatMap(({ list }) => list);
  expect(all.length === count && count <= MOST_APPOINTMENTS, "no more places are kept than may be");
  for (const { list, keptShare } of owners.values()) {
    expect(
      list.every(({ dueMs }, i) => i === 0 || (list[i - 1]?.dueMs ?? 0) <= dueMs),
      "places are in the order in which they are due",
    );
    expect(keptShare >= 0 && keptShare <= 1, "a share is one");
  }
  expect(new Set(all.map(({ order }) => order)).size === count, "nobody has the place of another");
}

function checkLines(state: SchedulerState, { byTurn, byAge, waiting }: ClassLines, line: number): void {
  const inLine = [...state.owners.values()].filter(({ heaps }) => (heaps[line]?.length ?? 0) > 0);
  for (const heap of [byTurn, byAge]) {
    expect(heap.size === inLine.length && heap.isOrdered(), "who has a line is where it belongs");
    for (const owner of heap.inOrder()) expect(inLine.includes(owner), "who is in line has a line");
  }
  const inLines = inLine.reduce((sum, { heaps }) => sum + (heaps[line]?.length ?? 0), 0);
  expect(waiting === inLines, "who waits in a class is counted");
}

function checkOwnerAccount(state: SchedulerState, owner: OwnerState): void {
  const own = [...state.requests.values()].filter(({ tenant }) => tenant === owner.name);
  const waiting = own.filter(({ phase }) => phase === "queued");
  expect(
    own.every((request) => request.owner === owner),
    "a request knows its owner",
  );
  expect(owner.waiting === waiting.length, "an owner's waiting requests are counted");
  expect(owner.running === own.length - waiting.length, "an owner's slots are counted");
  expect(owner.running <= owner.policy.maxRunning, "no owner has more slots than it may");
  expect(
    owner.waitingTokens === waiting.reduce((sum, { countedTokens }) => sum + countedTokens, 0),
    "an owner's waiting tokens are counted",
  );
  expect(
    owner.waitingOutput === waiting.reduce((sum, request) => sum + outputLeft(request, state.config), 0),
    "what an owner's waiting requests want to say is counted",
  );
  expect(owner.served >= 0 && Number.isFinite(owner.served), "service is a number");
  const since = owner.heaps.map((heap) => waitedSinceMs(heap));
  expect(
    since.every((ms, line) => ms === owner.waitedSinceMs[line]),
    "how long an owner's lines have waited is known",
  );
  let lined = 0;
  owner.heaps.forEach((heap, line) => {
    lined += heap.length;
    heap.forEach((request, i) => {
      const knows = request.heapIndex === i && lineOf(state.config, request) === line;
      expect(knows, "a request knows its place");
      expect(state.queue.get(request.id) === request && !request.paused, "who is in line waits");
      const parent = heap[(i - 1) >> 1];
      expect(i === 0 || (parent?.arrival ?? 0) < request.arrival, "the first in line came first");
    });
  });
  expect(lined === waiting.filter(({ paused }) => !paused).length, "who waits and may run is in line");
}

function checkOwner(state: SchedulerState, slot: Slot): void {
  const request = state.requests.get(slot.owner ?? "");
  expect(
    request !== undefined && request.slot === slot.id && slot.holder === request,
    "slot and owner agree",
  );
  if (request === undefined) return;
  const { prompt, output } = request;
  expect(slot.length < knownTokens(request), "the last known token is never in the cells");
  expect(slot.cacheKey === request.cacheKey, "a slot's cells are of its owner's scope and adapters");
  for (let i = 0; i < slot.length; i++) {
    const known = i < prompt.length ? prompt[i] : output[i - prompt.length];
    expect(slot.tokens[i] === known, "a slot holds the tokens of its owner");
  }
}

/** @throws {EngineError} `internal`. Call before the plan is begun. */
export function checkPlan(state: SchedulerState, plan: StepPlan): void {
  const lengths = new Map(state.slots.map((slot) => [slot.id, slot.length]));
  const given = new Set<number>();
  const lost = new Map(plan.evictions.map(({ slot, request }) => [slot, request]));
  const restored = checkSpill(state, plan);
  checkPins(state, plan);
  const back = checkCheckpoints(state, plan);
  for (const { slot, request, reuse, copyFrom, restore, checkpoint } of plan.assignments) {
    expect(state.slots[slot]?.owner === lost.get(slot) && !given.has(slot), "only free slots are given away");
    given.add(slot);
    const prefix = restored.get(slot);
    const source = back.get(slot) ?? prefix ?? state.slots[copyFrom ?? slot];
    expect(checkpoint === back.get(slot)?.id, "a slot comes back for somebody");
    expect(
      restore === prefix?.id && (prefix === undefined || copyFrom === undefined),
      "a file is read for somebody",
    );
    expect(reuse <= (source?.length ?? 0), "no more is reused than there is");
    const asked = state.requests.get(request);
    const pinned = prefix !== undefined && state.spill?.pins.get(prefix.id) === prefix;
    const scope = pinned ? pinKey(asked?.adapters) : asked?.cacheKey;
    expect(reuse === 0 || source?.cacheKey === scope, "nothing is reused of another scope");
    lengths.set(slot, reuse);
  }
  for (const id of plan.passedOver) {
    const passed = state.requests.get(id);
    expect(passed !== undefined && mayBePassed(passed, new Set()), "nobody is passed over again and again");
  }
  const copies = plan.boundary.filter((operation) => operation.type === "copy");
  copies.forEach(({ from, to }, i) => {
    expect(from !== to && given.has(to), "cells are copied to a slot that is given away");
    expect(
      copies.slice(0, i).every((earlier) => earlier.to !== from && earlier.to !== to),
      "no copy is taken of a copy",
    );
  });
  for (const call of plan.calls) {
    expect((call.adapters?.key ?? "") === plan.turns.current, "a step computes with one set of adapters");
    checkCall(state, call, lengths);
  }
  const decodes = plan.calls.filter((call) => call.kind === "decode");
  expect(
    decodes.length <= 1 && (decodes.length === 0 || plan.calls[0] === decodes[0]),
    "decode comes first, once",
  );
  const admitted = new Set(plan.assignments.map(({ request }) => request));
  for (const { slot, request, waiter } of plan.evictions) {
    const owned = state.slots[slot]?.owner === request;
    expect(owned && admitted.delete(waiter), "who loses a slot loses it for somebody who gets one");
    expect(
      mayTake(state, waiter, state.requests.get(request)),
      "a slot is lost to a higher class or for a fair share only",
    );
  }
  checkWork(state, plan);
  checkTime(state, plan);
  checkRest(state, plan);
}

/**
 * Whoever waits for a token waits for a step that fits, for one cell that has been saved up for, or for streams that stand
 * still since their engine died.
 */
function checkTime(state: SchedulerState, plan: StepPlan): void {
  const { calls, turns, keepingMs } = plan;
  checkKeepingTime(state, plan);
  const [decode, ...cells] = calls;
  if (decode?.kind !== "decode" || cells.length === 0) return;
  const { itlTargetMs, minPrefillShare } = state.config;
  const cellsMs = cells.reduce((sum, { predictedMs }) => sum + predictedMs, 0);
  const roomMs = itlTargetMs - keepingMs - decode.predictedMs;
  const { current, accounts } = state.turns;
  const savedMs =
    turns.current === current ? state.prefillCreditMs : (accounts.get(turns.current)?.creditMs ?? 0);
  const creditMs = savedMs + Math.max(minPrefillShare * decode.predictedMs, roomMs);
  const isReplay = cells.every(
    ({ entries: [entry] }) => state.requests.get(entry?.request ?? "")?.interrupted,
  );
  const replayMs = savedMs + Math.max(REPLAY_SHARE * decode.predictedMs, roomMs);
  const last = cells.at(-1);
  const overMs =
    last !== undefined && isLastOfNewOwner(state, last, decode) ? LAST_CELL_SHARE * itlTargetMs : 0;
  expect(
    cellsMs <= roomMs + overMs + ROUNDING_MS ||
      (cells.length === 1 && cellsMs <= creditMs + ROUNDING_MS) ||
      (isReplay && cellsMs <= replayMs + ROUNDING_MS),
    "a step beside streams fits the target, is one cell that is paid for, ends the prompt of an owner without a stream, or goes on where an engine died",
  );
}

/** Whether a prompt ends with these cells whose owner has no token in the step. */
function isLastOfNewOwner(
  state: SchedulerState,
  { entries: [last] }: PlannedCall,
  { entries }: PlannedCall,
): boolean {
  const request = state.requests.get(last?.request ?? "");
  if (request === undefined || last === undefined) return false;
  return (
    last.position + last.tokens.length >= prefillEnd(request, state.config) &&
    !entries.some((entry) => state.requests.get(entry.request ?? "")?.tenant === request.tenant)
  );
}

/** Streams rest only where they have just had their tokens, and for what fits in front of the next ones. */
function checkRest(state: SchedulerState, plan: StepPlan): void {
  const { calls, assignments, turns, evictions, keepingMs } = plan;
  if (calls.length === 0 || calls[0]?.kind === "decode") return;
  const gone = new Set(evictions.map(({ request }) => request));
  const given = new Set(assignments.map(({ slot }) => slot));
  const streams = state.slots.filter(({ id, owner, length }) => {
    const request = state.requests.get(owner ?? "");
    if (request === undefined || !mayRun(request) || given.has(id) || gone.has(request.id)) return false;
    return adapterKeyOf(request) === turns.current && length >= prefillEnd(request, state.config);
  });
  const cellsMs = calls.reduce((sum, { predictedMs }) => sum + predictedMs, 0);
  expect(
    streams.length === 0 ||
      (state.justDecoded === turns.current && keepingMs + cellsMs <= state.config.itlTargetMs + ROUNDING_MS),
    "streams rest once, behind a decode, for a prompt that fits the target",
  );
}

/** Nobody waits beside a free slot who may have it. */
function checkWork(state: SchedulerState, plan: StepPlan): void {
  const owners = [...state.owners.values()];
  const taken = (name: string): number =>
    [...plan.assignments.map(({ request }) => request), ...plan.held].filter(
      (id) => state.requests.get(id)?.tenant === name,
    ).length;
  const busy = state.slots.filter((slot) => slot.owner !== undefined).length;
  const free = state.slots.length - busy + plan.evictions.length - plan.assignments.length;
  const held = plan.held.length;
  expect(held <= free, "what is held has a slot kept for it");
  checkKept(state, plan);
  const mayLong = checkLong(state, plan);
  const given = new Set([...plan.assignments.map(({ request }) => request), ...plan.held]);
  const able = owners.some(({ name, heaps, running, policy }) => {
    const waits = heaps.some(
      (heap, line) => (line < CLASSES || mayLong) && heap.some(({ id }) => !given.has(id)),
    );
    return waits && running + taken(name) < policy.maxRunning;
  });
  expect(held + plan.kept.length >= free || !able, "nobody waits beside a free slot");
  const lost = new Set(plan.evictions.map(({ slot }) => slot));
  const runs = state.slots.some(
    ({ id, owner }) =>
      !lost.has(id) && owner !== state.offload.current?.request && mayRun(state.requests.get(owner ?? "")),
  );
  const begins = plan.assignments.some(({ request }) => mayRun(state.requests.get(request)));
  expect(plan.calls.length > 0 || !(runs || begins), "whoever can be computed has a call");
}

/** @returns Whether one more long prompt could have a slot behind this plan. */
function checkLong(state: SchedulerState, { evictions, assignments, held }: StepPlan): boolean {
  const isLongOne = (id: string): boolean => isLong(state.config, state.requests.get(id)?.prompt.length ?? 0);
  const lost = evictions.filter(({ request }) => isLongOne(request)).length;
  const given = [...assignments.map(({ request }) => request), ...held].filter(isLongOne).length;
  const room = longRoom(state) + lost - given;
  expect(room >= 0, "slots that are kept for short prompts are given to no long one");
  return room > 0;
}

function checkKept(state: SchedulerState, { kept, assignments, calls }: StepPlan): void {
  expect(kept.length === 0 || calls.length > 0, "slots are kept beside others that compute");
  for (const id of kept) {
    const slot = state.slots[id];
    expect(slot?.owner === undefined && slot?.ended !== undefined, "kept are slots whose request has ended");
    expect(
      assignments.every((given) => given.slot !== id),
      "what is kept is not given away",
    );
  }
}

function mayRun(request: ScheduledRequest | undefined): boolean {
  return request !== undefined && !request.paused && !request.cancelled;
}

function mayTake(state: SchedulerState, id: string, victim: ScheduledRequest | undefined): boolean {
  const waiter = state.requests.get(id);
  if (waiter === undefined || victim === undefined) return false;
  return (
    victim.paused ||
    waiter.priority < victim.priority ||
    (waiter.priority === victim.priority && waiter.tenant !== victim.tenant)
  );
}

function checkCall(state: SchedulerState, call: PlannedCall, lengths: Map<number, number>): void {
  expect(call.entries.length > 0, "a call has entries");
  expect(call.tokens <= state.config.batchTokens, "a call fits the batch");
  let last = -1;
  for (const { slot, position, tokens, sample, everyLogit, request } of call.entries) {
    expect(slot > last, "entries are in ascending order, one per slot");
    last = slot;
    expect(position === lengths.get(slot), "an entry starts where its slot ends");
    const plug = request === undefined;
    if (!plug) lengths.set(slot, position + tokens.length);
    const owner = state.requests.get(request ?? "");
    expect(owner === undefined || mayRun(owner), "who is paused or cancelled is not computed");
    expect(
      owner === undefined || !isAway(state, owner),
      "what the prefill worker computes is not computed here",
    );
    const adapters = owner === undefined ? undefined : adapterKeyOf(owner);
    expect(plug || adapters === (call.adapters?.key ?? ""), "a call computes with its requests' adapters");
    const isLast = owner !== undefined && position === knownTokens(owner) - 1;
    expect(
      everyLogit !== true || owner?.readsPrompt === true || (sample && call.drafts > 0),
      "all logits are asked for only where they are read",
    );
    expect(
      sample === (call.kind === "decode" && isLast),
      "logits are asked for by the decode of a last token",
    );
    if (call.kind === "prefill") {
      expect(
        owner !== undefined &&
          isCutRight(state, owner, {
            slot,
            position,
            end: position + tokens.length,
            everyLogit: everyLogit === true,
          }),
        "prefill is cut where every prefill is cut, or joins cells of a prompt that may be joined",
      );
    } else expect(tokens.length === 1 + call.drafts, "decode feeds one token and its guesses");
  }
  const shape = call.entries.map((entry) => ({ slot: entry.slot, tokens: entry.tokens.length }));
  expect(devicePasses(shape, state.config.batchTokens).length === call.passes, "passes are as predicted");
}

/**
 * State, plan, and that the cells are those that the state speaks of.
 * @param cellCount Of the device: cells of a slot. Copies count as soon as they are asked for.
 * @throws {EngineError} `internal`. Call before the plan is begun.
 */
export function checkStep(state: SchedulerState, plan: StepPlan, cellCount: (slot: SlotId) => number): void {
  checkState(state);
  for (const { id, length } of state.slots)
    expect(cellCount(id) === length, "a slot has the cells it is said to have");
  checkPlan(state, plan);
}

function isCutRight(
  { config, slots }: SchedulerState,
  owner: ScheduledRequest,
  {
    slot: id,
    position,
    end,
    everyLogit,
  }: {
    readonly slot: SlotId;
    readonly position: number;
    readonly end: number;
    readonly everyLogit: boolean;
  },
): boolean {
  if (end === prefillCellEnd(position, owner, config)) return true;
  const { joinedCells, prefillChunk: grid, batchTokens } = config;
  if (joinedCells !== true || everyLogit || end - position > batchTokens || end >= owner.prompt.length)
    return false;
  const slot = slots[id];
  if (slot !== undefined && isOffGrid(position, owner, slot, config))
    return end === owner.prompt.length - 1 || (end - position) % grid === 0;
  return position % grid === 0 && end % grid === 0;
}
