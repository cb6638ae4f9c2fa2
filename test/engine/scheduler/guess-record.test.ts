/** Guesses that do not keep what they promise are made no more, but for a few tries. */
import { describe, expect, test } from "vitest";
import { mayFollow, noGuesses, noteDecodeStep, worthOf } from "../../../engine/scheduler/guess-record.ts";
import { planStep } from "../../../engine/scheduler/plan-step.ts";
import { appendToken, beginStep, completeCall, truncateSlot } from "../../../engine/scheduler/transitions.ts";
import { addRequest, schedulerState } from "../../support/scheduler.ts";
import type { PlannedCall, SchedulerState } from "../../../engine/scheduler/types.ts";

function call(promised?: { readonly tokens: number; readonly ms: number }, byModel = false): PlannedCall {
  const promise = promised && { ...promised, tokenMs: 10 };
  const entry = { slot: 0, request: "a", position: 5, tokens: new Uint32Array(1), sample: true };
  return {
    kind: "decode",
    entries: [{ ...entry, byModel }],
    tokens: 1,
    drafts: promise === undefined ? 0 : 4,
    ...(promise === undefined ? {} : { promise }),
    passes: 1,
    predictedMs: 10,
    unscaledMs: 10,
  };
}

const step = (state: SchedulerState, made: PlannedCall, tokens: number, ms: number): void =>
  noteDecodeStep(state, made, { tokens, drawMs: 0, ms });

describe("what guesses are worth", () => {
  test("is what their time was of what was promised, for each source", () => {
    const state = schedulerState();
    expect([worthOf(state.guessed, false), worthOf(state.guessed, true)]).toEqual([1, 1]);
    for (let i = 0; i < 200; i++) step(state, call({ tokens: 4, ms: 20 }), 2, 25);
    expect(worthOf(state.guessed, false)).toBeCloseTo(0.8, 4);
    expect(worthOf(state.guessed, true)).toBe(1);
    for (let i = 0; i < 200; i++) step(state, call({ tokens: 4, ms: 20 }, true), 3, 40);
    expect(worthOf(state.guessed, true)).toBeCloseTo(0.5, 4);
    expect(worthOf(state.guessed, false)).toBeCloseTo(0.8, 4);
  });

  test("is no less for what steps without them take longer, too, and never more than was promised", () => {
    const state = schedulerState();
    for (let i = 0; i < 200; i++) {
      step(state, call(), 1, 13);
      step(state, call({ tokens: 4, ms: 20 }), 4, 26);
    }
    expect(worthOf(state.guessed, false)).toBeCloseTo(1, 2);
    for (let i = 0; i < 50; i++) step(state, call({ tokens: 4, ms: 20 }), 9, 15);
    expect(worthOf(state.guessed, false)).toBe(1);
  });

  test("is no less for whoever predicts what does not come", () => {
    const state = schedulerState();
    for (let i = 0; i < 200; i++) step(state, call({ tokens: 30, ms: 20 }), 1, 20);
    expect(worthOf(state.guessed, false)).toBeCloseTo(1, 9);
  });

  test("comes back slowly while none are made, and one stall is not the end of it", () => {
    const state = schedulerState();
    step(state, call({ tokens: 4, ms: 20 }), 4, 5000);
    expect(worthOf(state.guessed, false)).toBeGreaterThan(0.9);
    for (let i = 0; i < 100; i++) step(state, call({ tokens: 4, ms: 20 }), 4, 40);
    const after = [0, 100, 900, 9000].map((steps) => {
      for (let i = 0; i < steps; i++) step(state, call(), 1, 10);
      return worthOf(state.guessed, false);
    });
    expect(after.map((worth) => Math.round(100 * worth))).toEqual([50, 51, 62, 99]);
  });

  test("is not judged by calls that did not run as planned", () => {
    const state = schedulerState();
    for (let i = 0; i < 9; i++) step(state, { ...call({ tokens: 4, ms: 20 }), unscaledMs: 0 }, 1, 500);
    expect({ ...state.guessed, creditMs: undefined }).toEqual(noGuesses());
  });
});

describe("a draft model that follows a text", () => {
  const followed = (state: SchedulerState, followMs: number): void =>
    noteDecodeStep(state, call(), { tokens: 1, drawMs: 0, ms: 10, draftMs: followMs });

  test("spends no more than a little of the time of other steps, while nothing comes of it", () => {
    const state = schedulerState();
    let [followMs, plainMs] = [0, 0];
    for (let i = 0; i < 10_000; i++) {
      const ms = mayFollow(state.guessed) ? 8 : 0;
      followed(state, ms);
      followMs += ms;
      plainMs += 10;
    }
    expect(followMs).toBeGreaterThan(0.01 * plainMs);
    expect(followMs).toBeLessThan(0.025 * plainMs);
  });

  test("has a debt that is soon forgiven", () => {
    const state = schedulerState();
    for (let i = 0; i < 500; i++) step(state, call({ tokens: 4, ms: 20 }, true), 1, 30);
    expect(mayFollow(state.guessed)).toBe(false);
    for (let i = 0; i < 2000; i++) step(state, call(), 1, 10);
    expect(mayFollow(state.guessed)).toBe(true);
  });

  test("spends what its guesses save", () => {
    const state = schedulerState();
    while (mayFollow(state.guessed)) followed(state, 100);
    step(state, call({ tokens: 4, ms: 20 }, true), 1, 30);
    expect(mayFollow(state.guessed)).toBe(false);
    for (let i = 0; i < 8; i++) step(state, call({ tokens: 4, ms: 20 }, true), 4, 20);
    expect(mayFollow(state.guessed)).toBe(true);
  });
});

/** A text in which each token is followed by the one it was followed by before, but for one in so many. */
function* halfRepeating(oneIn: number): Generator<number> {
  let seed = 12345;
  for (let token = 0; ;) {
    yield token;
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
    token = (seed >>> 8) % oneIn === 0 ? 200 + ((seed >>> 16) % 50) : token < 12 ? token + 1 : 0;
  }
}

/** What a request's steps take on a device whose checks and draws cost other than is believed. */
function decodeMs(
  state: SchedulerState,
  tokens: number,
  trueMs: (rows: number) => number,
  oneIn: number,
): number {
  addRequest(state, "a", { maxTokens: tokens });
  const text = halfRepeating(oneIn);
  const upcoming: number[] = Array.from({ length: 64 }, () => text.next().value ?? 0);
  let totalMs = 0;
  while ((state.requests.get("a")?.output.length ?? 0) < tokens) {
    const plan = planStep(state, totalMs);
    beginStep(state, plan, totalMs);
    for (const made of plan.calls) {
      if (made.kind === "prefill") {
        completeCall(state, made, made.predictedMs);
        continue;
      }
      const [entry] = made.entries;
      const ms = trueMs(1 + made.drafts);
      completeCall(state, made, ms);
      let right = 0;
      while (right < (entry?.guesses ?? 0) && entry?.tokens[1 + right] === upcoming[right]) right++;
      const drawn = Math.min(right + 1, tokens - (state.requests.get("a")?.output.length ?? 0));
      const slot = state.slots[0];
      if (slot !== undefined && entry !== undefined) truncateSlot(slot, entry.position + drawn);
      if (slot?.holder === undefined) break;
      for (const token of upcoming.splice(0, drawn)) appendToken(state, slot.holder, token);
      while (upcoming.length < 64) upcoming.push(text.next().value ?? 0);
      noteDecodeStep(state, made, { tokens: drawn, drawMs: 0.2 * drawn, ms: ms + 0.2 * drawn });
      totalMs += ms + 0.2 * drawn;
    }
  }
  return totalMs;
}

describe("a request whose guesses look better than they are", () => {
  // As believed a row costs a quarter of a millisecond, and a step 11.
  const cases: readonly (readonly [string, (rows: number) => number, number])[] = [
    ["each row costs as much as a step", (rows) => 11 * rows, 1.035],
    ["more than one row costs twice a step and more", (rows) => (rows === 1 ? 11 : 25 + rows), 1.02],
    ["rows cost what they do, of a text that hardly repeats itself", (rows) => 11 + 5 * (rows - 1), 1.02],
  ];
  test.each(cases)("loses next to nothing where %s", (_case, trueMs, most) => {
    for (const oneIn of [2, 3, 5]) {
      const sizes = { slots: 1, contextTokens: 8000 };
      const guessing = schedulerState({ ...sizes, speculate: true });
      const plainly = schedulerState({ ...sizes, speculate: false });
      const [ms, plainMs] = [guessing, plainly].map((state) => decodeMs(state, 4000, trueMs, oneIn));
      expect((ms ?? 0) / (plainMs ?? 1)).toBeLessThan(most);
    }
  });

  test("gains where they are as good as they look", () => {
    const sizes = { slots: 1, contextTokens: 8000 };
    const trueMs = (rows: number): number => 11 + (rows - 1) / 4;
    const [ms, plainMs] = [true, false].map((speculate) =>
      decodeMs(schedulerState({ ...sizes, speculate }), 4000, trueMs, 5),
    );
    expect((ms ?? 1) / (plainMs ?? 1)).toBeLessThan(0.55);
  });
});
