/**
 * The invariants notice what they are for: a state and a plan that are right are broken in one place each, and the check
 * that belongs to it says so. test/invariants.md lists them.
 */
import { expect, test } from "vitest";
import { checkPlan, checkState, checkStep } from "../../../engine/scheduler/invariants.ts";
import { planStep } from "../../../engine/scheduler/plan-step.ts";
import { cancel, releaseCancelled } from "../../../engine/scheduler/transitions.ts";
import type {
  OwnerState,
  PlannedCall,
  PlannedEntry,
  ScheduledRequest,
  SchedulerState,
  Slot,
  SpilledPrefix,
  StepPlan,
} from "../../../engine/scheduler/types.ts";
import { addRequest, runStep, schedulerState } from "../../support/scheduler.ts";

const text = (first: number, tokens: number): Uint32Array =>
  Uint32Array.from({ length: tokens }, (_, i) => first + i);

/** Two streams, a prompt that has begun, one in line for the last slot, and the plan of the next step. */
function scene(): { state: SchedulerState; plan: StepPlan } {
  const state = schedulerState({ spillBytes: 1000 });
  for (const id of ["a", "b"]) addRequest(state, id, { maxTokens: 50 });
  runStep(state, 0);
  addRequest(state, "long", { prompt: text(5000, 60), maxTokens: 5 }, 1);
  runStep(state, 1);
  addRequest(state, "next", { prompt: text(9000, 30), maxTokens: 5 }, 2);
  const plan = planStep(state, 2);
  return { state, plan };
}

type Writable<T> = { -readonly [K in keyof T]: T[K] };

/** Writes what the planner never would. */
function force<T extends object>(target: T | undefined, values: Partial<T>): void {
  if (target === undefined) throw new Error("Nothing to break.");
  Object.assign(target as Writable<T>, values);
}

const slotOf = (state: SchedulerState, id: string): Slot =>
  found(state.slots.find(({ owner }) => owner === id));
const requestOf = (state: SchedulerState, id: string): ScheduledRequest => found(state.requests.get(id));
const ownerOf = (state: SchedulerState): OwnerState => found(state.owners.get("a"));
const callOf = (plan: StepPlan, kind: PlannedCall["kind"]): PlannedCall =>
  found(plan.calls.find((call) => call.kind === kind));
const entryOf = (plan: StepPlan, kind: PlannedCall["kind"]): PlannedEntry =>
  found(callOf(plan, kind).entries[0]);

/** What a slot holds, as it would be kept in a file. */
function prefixOf({ tokens, length, cacheKey, gridEnd, tailEnd }: Slot): SpilledPrefix {
  const kept = { length, cacheKey, gridEnd, tailEnd, tokens: tokens.slice(0, length) };
  return { id: 0, ...kept, firstCell: 0, bytes: 0, lastUseMs: 0, hits: 0 };
}

function found<T>(value: T | undefined): T {
  if (value === undefined) throw new Error("The scene lacks what is to be broken.");
  return value;
}

const BROKEN_STATES: readonly (readonly [string, string, (state: SchedulerState) => void])[] = [
  ["I2", "a slot holds the tokens of its owner", (state) => void (slotOf(state, "a").tokens[0] = 999_999)],
  ["I2", "the last known token is never in the cells", (state) => force(slotOf(state, "a"), { length: 30 })],
  [
    "I3",
    "no request has two slots",
    (state) => {
      const { owner, holder } = slotOf(state, "a");
      force(slotOf(state, "b"), { owner, holder });
    },
  ],
  [
    "I3",
    "a request is either waiting or in a slot",
    (state) => void state.queue.set("a", requestOf(state, "a")),
  ],
  ["I3", "the phase says where a request is", (state) => force(requestOf(state, "a"), { phase: "queued" })],
  ["I3", "a slot is held by its owner", (state) => force(slotOf(state, "a"), { holder: undefined })],
  [
    "I8",
    "no more tokens than asked for",
    (state) => void requestOf(state, "a").output.push(...Array.from({ length: 60 }, () => 7)),
  ],
  [
    "I8",
    "prompt and output fit the context",
    (state) => {
      force(requestOf(state, "a"), { maxNew: 500 });
      requestOf(state, "a").output.push(...Array.from({ length: 250 }, () => 7));
    },
  ],
  [
    "I14",
    "a slot's cells are of its owner's scope and adapters",
    (state) => force(slotOf(state, "a"), { cacheKey: "of somebody else" }),
  ],
  ["I18", "a slot is held by its owner", (state) => force(found(state.slots[3]), { owner: "who is gone" })],
  [
    "I18",
    "slot and owner agree",
    (state) => force(found(state.slots[3]), { owner: "who is gone", holder: requestOf(state, "a") }),
  ],
  ["I18", "an owner's slots are counted", (state) => force(ownerOf(state), { running: 7 })],
  ["I18", "an owner's waiting requests are counted", (state) => force(ownerOf(state), { waiting: 7 })],
  ["I18", "an owner's waiting tokens are counted", (state) => force(ownerOf(state), { waitingTokens: 7 })],
  ["I18", "idle owners are known", (state) => void state.idleOwners.add(ownerOf(state))],
  ["I18", "who waits in a class is counted", (state) => force(state.lines[1], { waiting: 7 })],
];

test.each(BROKEN_STATES)("%s: %s", (_, message, breakIt) => {
  const { state } = scene();
  checkState(state);
  breakIt(state);
  expect(() => checkState(state)).toThrow(`Invariant broken: ${message}.`);
});

const BROKEN_PLANS: readonly (readonly [string, string, (plan: StepPlan, state: SchedulerState) => void])[] =
  [
    [
      "I4",
      "entries are in ascending order, one per slot",
      (plan) => force(callOf(plan, "decode"), { entries: [...callOf(plan, "decode").entries].reverse() }),
    ],
    [
      "I4",
      "an entry starts where its slot ends",
      (plan) => force(entryOf(plan, "decode"), { position: entryOf(plan, "decode").position + 1 }),
    ],
    ["I4", "a call fits the batch", (plan) => force(callOf(plan, "decode"), { tokens: 65 })],
    ["I5", "passes are as predicted", (plan) => force(callOf(plan, "decode"), { passes: 2 })],
    [
      "I7",
      "cells that are not there yet are not saved",
      (plan, state) => {
        state.inCopies.add(3);
        const save = { type: "save", slot: 3, prefix: prefixOf(found(state.slots[3])) } as const;
        force(plan, { boundary: [save, ...plan.boundary] });
      },
    ],
    [
      "I7",
      "no queued copy falls upon what is read",
      (plan, state) => {
        const prefix = prefixOf(slotOf(state, "a"));
        state.spill?.prefixes.set(prefix.id, prefix);
        state.spill?.order.add(prefix);
        state.inCopies.add(3);
        force(plan, { boundary: [{ type: "restore", slot: 3, prefix }] });
      },
    ],
    [
      "I7",
      "no copy is taken of a copy",
      (plan) => {
        const copies = [0, 1].map((from) => ({ type: "copy", from, to: 3 }) as const);
        force(plan, { boundary: [...plan.boundary, ...copies] });
      },
    ],
    [
      "I7",
      "cells are copied to a slot that is given away",
      (plan) => force(plan, { boundary: [...plan.boundary, { type: "copy", from: 0, to: 1 }] }),
    ],
    ["I9", "no more is reused than there is", (plan) => force(found(plan.assignments[0]), { reuse: 20 })],
    [
      "I10",
      "a step beside streams fits the target, is one cell that is paid for, ends the prompt of an owner without a stream, or goes on where an engine died",
      (plan) => force(callOf(plan, "prefill"), { predictedMs: 5000 }),
    ],
    [
      "I10",
      "streams rest once, behind a decode, for a prompt that fits the target",
      (plan, state) => {
        force(state, { justDecoded: undefined });
        force(plan, { calls: [callOf(plan, "prefill")] });
      },
    ],
    [
      "I11",
      "nobody waits beside a free slot",
      (plan) => force(plan, { assignments: [], calls: plan.calls.filter((call) => !isOf(call, "next")) }),
    ],
    ["I11", "whoever can be computed has a call", (plan) => force(plan, { calls: [] })],
    [
      "I12",
      "nobody is passed over again and again",
      (plan, state) => {
        force(requestOf(state, "next"), { skips: 4 });
        force(plan, { passedOver: ["next"] });
      },
    ],
    [
      "I13",
      "who is paused or cancelled is not computed",
      (_, state) => force(requestOf(state, "a"), { cancelled: true }),
    ],
    [
      "I14",
      "a step computes with one set of adapters",
      (plan) => force(callOf(plan, "decode"), { adapters: { key: "pirate", uses: [] } }),
    ],
    [
      "I14",
      "a call computes with its requests' adapters",
      (_, state) => force(requestOf(state, "a"), { adapters: { key: "pirate", uses: [] } }),
    ],
    [
      "I14",
      "nothing is reused of another scope",
      (plan, state) => {
        force(found(state.slots[3]), { length: 10, cacheKey: "of somebody else" });
        force(found(plan.assignments[0]), { reuse: 10 });
      },
    ],
    [
      "I15",
      "prefill is cut where every prefill is cut, or joins cells of a prompt that may be joined",
      (plan) => force(entryOf(plan, "prefill"), { tokens: entryOf(plan, "prefill").tokens.slice(0, 7) }),
    ],
  ];

const isOf = (call: PlannedCall, id: string): boolean => call.entries.some(({ request }) => request === id);

test.each(BROKEN_PLANS)("%s: %s", (_, message, breakIt) => {
  const { state, plan } = scene();
  checkPlan(state, plan);
  breakIt(plan, state);
  expect(() => checkPlan(state, plan)).toThrow(`Invariant broken: ${message}.`);
});

test("I1: a slot has the cells it is said to have", () => {
  const { state, plan } = scene();
  const cells = (slot: number): number => state.slots[slot]?.length ?? 0;
  checkStep(state, plan, cells);
  expect(() => checkStep(state, plan, (slot) => cells(slot) + (slot === 1 ? 1 : 0))).toThrow(
    "Invariant broken: a slot has the cells it is said to have.",
  );
});

/** A slot that has a prompt which somebody waits for, both found in the tree. */
function treeScene(): SchedulerState {
  const state = schedulerState({ slots: 1, prefixTreeSlots: 1 });
  addRequest(state, "first", { prompt: text(1, 40), maxTokens: 50 });
  for (let step = 0; step < 5; step++) runStep(state, step);
  addRequest(state, "waits", { prompt: text(1, 41) }, 5);
  checkState(state);
  return state;
}

test("I9: the tree of prefixes has what slots have", () => {
  const state = treeScene();
  cancel(state, "first", 6);
  releaseCancelled(state, 6);
  checkState(state);
  found(state.slots[0]).tokens[3] = 999_999;
  expect(() => checkState(state)).toThrow("Invariant broken: the tree of prefixes has what slots have.");
});

test("I9: looking for a prompt in the tree tells what comparing it with each slot tells", () => {
  const state = treeScene();
  force(state, { prefixes: schedulerState({ slots: 1, prefixTreeSlots: 1 }).prefixes });
  expect(() => checkState(state)).toThrow(
    "Invariant broken: looking for a prompt in the tree tells what comparing it with each slot tells.",
  );
});

test("I9: files are found by their tokens", () => {
  const { state, plan } = scene();
  const prefix = prefixOf(slotOf(state, "long"));
  state.spill?.prefixes.set(prefix.id, prefix);
  expect(() => checkPlan(state, plan)).toThrow("Invariant broken: files are found by their tokens.");
  state.spill?.order.add(prefix);
  checkPlan(state, plan);
});
