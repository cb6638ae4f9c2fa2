/** What must hold of the state and of every plan; checked in tests and, when asked for, at run time. */
import { EngineError } from "../errors.ts";
import { devicePasses } from "./passes.ts";
import { prefillCellEnd } from "./prefill-cells.ts";
import { knownTokens } from "./plan-step.ts";
import type { PlannedCall, SchedulerState, Slot, StepPlan } from "./types.ts";

/** @throws {EngineError} `internal`, naming the broken invariant. Call between native calls. */
export function checkState(state: SchedulerState): void {
  const owned = new Set<string>();
  for (const slot of state.slots) {
    expect(slot.length >= 0 && slot.length <= state.config.contextTokens, "a slot's length fits its context");
    expect(slot.gridEnd <= slot.tailEnd && slot.tailEnd <= slot.length, "shape marks lie within the slot");
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
  for (const id of state.queue.keys()) expect(state.requests.has(id), "the queue holds known requests");
}

function checkOwner(state: SchedulerState, slot: Slot): void {
  const request = state.requests.get(slot.owner ?? "");
  expect(request !== undefined && request.slot === slot.id, "slot and owner agree");
  if (request === undefined) return;
  const { prompt, output } = request;
  expect(slot.length < knownTokens(request), "the last known token is never in the cells");
  for (let i = 0; i < slot.length; i++) {
    const known = i < prompt.length ? prompt[i] : output[i - prompt.length];
    expect(slot.tokens[i] === known, "a slot holds the tokens of its owner");
  }
}

/** @throws {EngineError} `internal`. Call before the plan is begun. */
export function checkPlan(state: SchedulerState, plan: StepPlan): void {
  const lengths = new Map(state.slots.map((slot) => [slot.id, slot.length]));
  const given = new Set<number>();
  for (const { slot, reuse, copyFrom } of plan.assignments) {
    expect(state.slots[slot]?.owner === undefined && !given.has(slot), "only free slots are given away");
    given.add(slot);
    expect(reuse <= (state.slots[copyFrom ?? slot]?.length ?? 0), "no more is reused than there is");
    lengths.set(slot, reuse);
  }
  const copies = plan.boundary.filter((operation) => operation.type === "copy");
  copies.forEach(({ from, to }, i) => {
    expect(from !== to && given.has(to), "cells are copied to a slot that is given away");
    expect(
      copies.slice(0, i).every((earlier) => earlier.to !== from && earlier.to !== to),
      "no copy is taken of a copy",
    );
  });
  for (const call of plan.calls) checkCall(state, call, lengths);
  const decodes = plan.calls.filter((call) => call.kind === "decode");
  expect(
    decodes.length <= 1 && (decodes.length === 0 || plan.calls[0] === decodes[0]),
    "decode comes first, once",
  );
  const free = state.slots.filter((slot) => slot.owner === undefined).length - plan.assignments.length;
  const waiting = state.queue.size - plan.assignments.length;
  const held = plan.held.length;
  expect(held <= free, "what is held has a slot kept for it");
  expect(held === free || held === waiting, "nobody waits beside a free slot");
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
      const cellEnd = owner === undefined ? -1 : prefillCellEnd(position, owner, state.config.prefillChunk);
      expect(position + tokens.length === cellEnd, "prefill is cut where every prefill is cut");
    } else expect(tokens.length === 1 + call.drafts, "decode feeds one token and its guesses");
  }
  const shape = call.entries.map((entry) => ({ slot: entry.slot, tokens: entry.tokens.length }));
  expect(devicePasses(shape, state.config.batchTokens).length === call.passes, "passes are as predicted");
}

function expect(holds: boolean, invariant: string): void {
  if (!holds) throw new EngineError("internal", `Invariant broken: ${invariant}.`);
}
