/** Requests whose prefix is computed go before others of their owner: which, and what keeps the others from starving. */
import { describe, expect, test } from "vitest";
import { PRESETS } from "../../../engine/presets.ts";
import { cancel } from "../../../engine/scheduler/transitions.ts";
import type { SchedulerConfig, SchedulerState } from "../../../engine/scheduler/types.ts";
import { addRequest, runStep, schedulerState } from "../../support/scheduler.ts";

/** A prompt of 60 tokens of which the first 40 are those of one text or another. */
function promptOn(text: number, own: number): Uint32Array {
  return Uint32Array.from({ length: 60 }, (_, i) => (i < 40 ? 1000 * text + i : 100_000 + 1000 * own + i));
}

/** One slot that holds text 1, and is in use until `free`. */
function busyWithText1(config: Partial<SchedulerConfig> = {}): SchedulerState {
  const state = schedulerState({ slots: 1, ...config });
  addRequest(state, "first", { prompt: promptOn(1, 0), maxTokens: 100 });
  for (let i = 0; i < 8; i++) runStep(state, i);
  return state;
}

function free(state: SchedulerState): string[] {
  cancel(state, "first", 10);
  return admissions(state);
}

/** Ids in the order in which they get the slot. */
function admissions(state: SchedulerState): string[] {
  const order: string[] = [];
  for (let nowMs = 10; state.requests.size > 0; nowMs++)
    order.push(...runStep(state, nowMs).assignments.map(({ request }) => request));
  return order;
}

const short = { maxTokens: 1 };

describe("a request whose prefix is in a slot", () => {
  test("goes before an earlier one of its owner", () => {
    const state = busyWithText1();
    addRequest(state, "cold", { ...short, prompt: promptOn(2, 1) });
    addRequest(state, "warm", { ...short, prompt: promptOn(1, 2) });
    expect(free(state)).toEqual(["warm", "cold"]);
  });

  test("goes in its turn where the order is to be kept", () => {
    const state = busyWithText1({ prefixFirst: false });
    addRequest(state, "cold", { ...short, prompt: promptOn(2, 1) });
    addRequest(state, "warm", { ...short, prompt: promptOn(1, 2) });
    expect(free(state)).toEqual(["cold", "warm"]);
  });

  test("does not go before a request of another owner or of a higher class", () => {
    for (const other of [{ tenant: "b" }, { priority: 0 }]) {
      const state = busyWithText1();
      addRequest(state, "other", { ...short, ...other, prompt: promptOn(2, 1) });
      addRequest(state, "warm", { ...short, prompt: promptOn(1, 2) });
      expect(free(state)).toEqual(["other", "warm"]);
    }
  });

  test("does not go before one that has little time", () => {
    const state = busyWithText1();
    addRequest(state, "urgent", { ...short, prompt: promptOn(2, 1), firstTokenWithinMs: 100_000 });
    addRequest(state, "warm", { ...short, prompt: promptOn(1, 2) });
    expect(free(state)).toEqual(["urgent", "warm"]);
  });

  test("does not go before more of them than the cells are worth", () => {
    const state = busyWithText1();
    for (let i = 0; i < 4; i++) addRequest(state, `cold${i}`, { ...short, prompt: promptOn(2 + i, 1) });
    addRequest(state, "warm", { ...short, prompt: promptOn(1, 2) });
    expect(free(state)[0]).toBe("cold0");
  });
});

test("a request is passed over four times and no more, however many with a prefix come", () => {
  const state = busyWithText1();
  addRequest(state, "cold", { ...short, prompt: promptOn(2, 1) });
  for (let i = 0; i < 8; i++) addRequest(state, `warm${i}`, { ...short, prompt: promptOn(1, 2 + i) });
  expect(free(state).slice(0, 5)).toEqual(["warm0", "warm1", "warm2", "warm3", "cold"]);
});

test("several slots that come free at once go to those in line as well", () => {
  const state = schedulerState({ slots: 3 });
  addRequest(state, "first", { prompt: promptOn(1, 0), maxTokens: 1 });
  admissions(state);
  addRequest(state, "cold", { ...short, prompt: promptOn(2, 1) });
  for (let i = 0; i < 4; i++) addRequest(state, `warm${i}`, { ...short, prompt: promptOn(1, 2 + i) });
  expect(runStep(state, 100).assignments.map(({ request }) => request)).toEqual(["warm0", "cold", "warm1"]);
});

describe("a preset", () => {
  const order = (preset: "balanced" | "strict"): string[] => {
    const { prefixFirst, keepSlots, deterministic = false } = PRESETS[preset];
    const state = busyWithText1({
      deterministic,
      ...(prefixFirst === undefined ? {} : { prefixFirst }),
      ...(keepSlots === undefined ? {} : { keepSlots }),
    });
    for (let i = 0; i < 9; i++)
      addRequest(state, `${i}`, { ...short, prompt: promptOn(i % 3 === 2 ? 1 : 2 + i, i) });
    return free(state);
  };

  test("that is strict gives slots in the order of arrival", () => {
    expect(order("strict")).toEqual(["0", "1", "2", "3", "4", "5", "6", "7", "8"]);
  });

  test("that is balanced lets those go first whose prefix is there", () => {
    expect(order("balanced")).toEqual(["2", "0", "1", "3", "4", "5", "8", "6", "7"]);
  });
});
