/** One step's decisions, as literals: who is admitted, what is decoded, how prompts are cut, which slot is taken. */
import { describe, expect, test } from "vitest";
import { EngineError } from "../../../engine/errors.ts";
import { decodeCallMs } from "../../../engine/scheduler/cost-model.ts";
import { planStep } from "../../../engine/scheduler/plan-step.ts";
import {
  appendToken,
  beginStep,
  cancel,
  completeCall,
  createState,
  release,
  releaseCancelled,
  submit,
  truncateSlot,
} from "../../../engine/scheduler/transitions.ts";
import { checkPlan, checkState } from "../../../engine/scheduler/invariants.ts";
import { SPILL_COST } from "../../support/scheduler.ts";
import type {
  CostModel,
  SchedulerConfig,
  SchedulerState,
  StepPlan,
} from "../../../engine/scheduler/types.ts";

const CONFIG: SchedulerConfig = {
  slots: 4,
  contextTokens: 200,
  batchTokens: 64,
  prefillChunk: 10,
  itlTargetMs: 100,
  minPrefillShare: 0.5,
  maxQueued: 3,
  deterministic: false,
  speculate: false,
  speculateAloneTokens: Infinity,
  canRewind: true,
};
/** A decode pass costs `passMs` and 1 ms a slot, a prefill call 10 ms and 2 ms a token. */
function costWith(passMs: number): CostModel {
  return {
    decodePassMs: Array.from({ length: 17 }, (_, width) => (width === 0 ? 0 : passMs + width)),
    prefillCallMs: 10,
    prefillTokenMs: 2,
    copyMs: 5,
    decodeScale: 1,
    prefillScale: 1,
    // A guess costs a quarter of a token.
    checkPassMs: Array.from({ length: 41 }, (_, tokens) => tokens / 4),
    draftScale: 1,
  };
}

function newState(config: Partial<SchedulerConfig> = {}, passMs = 10): SchedulerState {
  return createState({ ...CONFIG, ...config }, costWith(passMs));
}

const prompt = (length: number, first = 0): Uint32Array => Uint32Array.from({ length }, (_, i) => first + i);

function enqueue(
  state: SchedulerState,
  id: string,
  tokens: Uint32Array,
  maxTokens?: number,
  resume: Uint32Array = new Uint32Array(0),
): number {
  return enqueueOf(state, "t", id, { tokens, maxTokens, resume });
}

function enqueueOf(
  state: SchedulerState,
  tenant: string,
  id: string,
  {
    tokens,
    maxTokens,
    resume = new Uint32Array(0),
  }: { tokens: Uint32Array; maxTokens?: number | undefined; resume?: Uint32Array },
): number {
  const request = {
    id,
    tenant,
    priority: 0,
    prompt: tokens,
    cacheKey: "",
    reusePrefix: true,
    readsPrompt: false,
    resume,
    maxTokens,
  };
  return submit(state, request, 0);
}

/** Runs one step; every decoded request gets the token 7. */
function step(state: SchedulerState, nowMs = 0): StepPlan {
  releaseCancelled(state, nowMs);
  const plan = planStep(state, nowMs);
  checkPlan(state, plan);
  beginStep(state, plan, nowMs);
  for (const call of plan.calls) {
    completeCall(state, call, call.predictedMs);
    if (call.kind === "decode")
      for (const { slot, sample } of call.entries) {
        const request = state.slots[slot]?.holder;
        if (request !== undefined && sample) appendToken(state, request, 7);
      }
  }
  checkState(state);
  return plan;
}

const shape = (plan: StepPlan): string[] =>
  plan.calls.map(
    (call) =>
      `${call.kind} ${call.entries.map((e) => `${e.request === undefined ? "plug " : ""}${e.slot}@${e.position}x${e.tokens.length}`).join(" ")}`,
  );

function finish(state: SchedulerState, id: string, nowMs = 0): void {
  const request = state.requests.get(id);
  if (request !== undefined) release(state, request, nowMs);
}

describe("prefill", () => {
  test("a prompt is cut at multiples of the grid and its last token is fed as the first decode token", () => {
    const state = newState();
    enqueue(state, "a", prompt(25));
    expect(shape(step(state))).toEqual(["prefill 0@0x10"]);
    expect(shape(step(state))).toEqual(["prefill 0@10x10"]);
    expect(shape(step(state))).toEqual(["prefill 0@20x4"]);
    expect(shape(step(state))).toEqual(["decode 0@24x1"]);
    expect(shape(step(state))).toEqual(["decode 0@25x1"]);
  });

  test("a prompt of one token decodes at once", () => {
    const state = newState();
    enqueue(state, "a", prompt(1));
    expect(shape(step(state))).toEqual(["decode 0@0x1"]);
  });

  test("a resumed request computes its prompt in the cells of a new one and its output in cells of its own", () => {
    const state = newState();
    enqueue(state, "a", prompt(25), 40, prompt(24, 100));
    const shapes = Array.from({ length: 7 }, () => shape(step(state))).flat();
    expect(shapes).toEqual([
      "prefill 0@0x10",
      "prefill 0@10x10",
      "prefill 0@20x4",
      "prefill 0@24x10",
      "prefill 0@34x10",
      "prefill 0@44x4",
      "decode 0@48x1",
    ]);
    expect(state.requests.get("a")?.output).toEqual([...prompt(24, 100), 7]);
  });

  test.each([
    // A last one alone is fed beside the decodes of others.
    [1, ["decode 0@0x1"]],
    [2, ["prefill 0@0x2"]],
    [32, ["prefill 0@0x32"]],
    [33, ["prefill 0@0x32", "decode 0@32x1"]],
    [80, ["prefill 0@0x32", "prefill 0@32x32", "prefill 0@64x16"]],
  ])("%i resumed tokens are computed as %j", (tokens, calls) => {
    const state = newState({ contextTokens: 400, prefillChunk: 64 });
    enqueue(state, "a", prompt(1), 100, prompt(tokens, 100));
    const plans = Array.from({ length: calls.length + 1 }, () => step(state));
    expect(plans.flatMap(shape)).toEqual([...calls, `decode 0@${tokens}x1`]);
    // What follows them is known, except of the last.
    const draws = plans.flatMap((plan) => plan.calls.map((call) => call.entries[0]?.sample));
    expect(draws).toEqual([...calls.map(() => false), true]);
  });

  test("a request that has all its tokens cannot be resumed", () => {
    const state = newState();
    expect(() => enqueue(state, "a", prompt(25), 3, prompt(3))).toThrow(
      expect.objectContaining({ code: "invalid_request" }),
    );
    expect(state.requests.size).toBe(0);
  });

  test("row 84: beside decodes as many cells run as the inter-token target leaves room for, each in its own call", () => {
    const state = newState();
    enqueue(state, "a", prompt(1));
    step(state);
    enqueue(state, "b", prompt(100));
    // Decode costs 11 ms and a cell 30 ms: two fit into 100 ms, a third does not.
    expect(shape(step(state))).toEqual(["decode 0@1x1", "prefill 1@0x10", "prefill 1@10x10"]);
  });

  test.each([
    // Half of 11 ms a step.
    ["its share, where decode leaves no room at all", 11, [1, 1, 1, 1, 1, 2, 1, 1, 1, 1, 1, 2]],
    // 9 ms a step.
    ["the room that decode leaves", 20, [1, 1, 1, 2, 1, 1, 1, 2, 1, 1, 1, 2]],
    // 29 ms a step: a cell that is a millisecond too long still comes every other step.
    ["the room, of which a cell needs a little more", 40, [1, 2, 1, 2, 1, 2, 1, 2, 1, 2, 1, 2]],
  ])(
    "a cell of 30 ms that does not fit runs as soon as it is paid for by %s",
    (_case, itlTargetMs, calls) => {
      const state = newState({ itlTargetMs });
      enqueue(state, "a", prompt(1));
      step(state);
      enqueue(state, "b", prompt(100));
      expect(Array.from({ length: 12 }, () => shape(step(state)).length)).toEqual(calls);
    },
  );

  test("streams that stand still since their engine died are computed before new prompts, in nine tenths of the time", () => {
    const state = newState({ itlTargetMs: 20 });
    enqueue(state, "a", prompt(1));
    step(state);
    enqueue(state, "new", prompt(30, 100));
    enqueue(state, "b", prompt(50), undefined, Uint32Array.of(7, 7));
    // Beside a decode of 11 ms cells of 30 ms, of 99 ms; what is left is saved up.
    expect(shape(step(state))).toEqual([
      "decode 0@1x1",
      "prefill 2@0x10",
      "prefill 2@10x10",
      "prefill 2@20x10",
    ]);
    expect(state.prefillCreditMs).toBe(9);
    expect(shape(step(state))).toEqual([
      "decode 0@2x1",
      "prefill 2@30x10",
      "prefill 2@40x9",
      "prefill 2@49x2",
    ]);
    // It goes on, and what is left is for the new one as always.
    expect(shape(step(state))).toEqual(["decode 0@3x1 plug 1@0x1 2@51x1"]);
  });

  test("the oldest request is prefilled first, and the next one uses what room is left", () => {
    const state = newState();
    enqueue(state, "a", prompt(1));
    step(state);
    enqueue(state, "b", prompt(12));
    enqueue(state, "c", prompt(30, 100));
    expect(shape(step(state))).toEqual([
      "decode 0@1x1",
      "prefill 1@0x10",
      "prefill 1@10x1",
      "prefill 2@0x10",
    ]);
  });

  test("the first token of an owner without a stream waits for no cell of others that takes longer than a decode", () => {
    const state = newState();
    enqueue(state, "a", prompt(1));
    step(state);
    enqueueOf(state, "new", "b", { tokens: prompt(12) });
    enqueue(state, "c", prompt(40, 100));
    // Before the next token of the stream, which has just had one; a cell of 30 ms for c would still fit.
    expect(shape(step(state))).toEqual(["prefill 1@0x10", "prefill 1@10x1"]);
    expect(shape(step(state))).toEqual(["decode 0@1x1 1@11x1", "prefill 2@0x10", "prefill 2@10x10"]);
  });

  test("a prompt goes on beside newcomers who come one behind the other", () => {
    const state = newState({ slots: 5, maxQueued: 9 });
    enqueue(state, "a", prompt(1));
    // Its owner has had more than the others, whose prompts go first.
    enqueueOf(state, "large", "before", { tokens: prompt(100, 500) });
    for (let i = 0; i < 8; i++) step(state);
    finish(state, "before");
    enqueueOf(state, "large", "long", { tokens: prompt(150, 1000) });
    for (let i = 0; i < 12; i++) {
      const key = `key${i % 2}`;
      for (const request of state.requests.values())
        if (request.output.length > 0 && request.tenant === key) finish(state, request.id);
      enqueueOf(state, key, `${key} ${i}`, { tokens: prompt(6, 2000 + 10 * i), maxTokens: 9 });
      step(state);
    }
    const slot = state.slots.find(({ owner }) => owner === "long");
    expect(slot?.length).toBeGreaterThan(50);
  });

  test("it waits for them where many wait, each of whom would wait for one more decode", () => {
    const state = newState({ slots: 6 });
    enqueue(state, "a", prompt(1));
    step(state);
    enqueueOf(state, "new", "b", { tokens: prompt(12) });
    for (const id of ["c", "d", "e"]) enqueue(state, id, prompt(30, id.charCodeAt(0) * 100));
    expect(shape(step(state))).toEqual(["prefill 1@0x10", "prefill 1@10x1", "prefill 2@0x10"]);
  });

  test.each([
    ["new", ["decode 0@1x1", "prefill 1@0x10", "prefill 1@10x1"]],
    ["t", ["decode 0@1x1", "prefill 1@0x10"]],
  ])(
    "the last cell of a prompt of %s, who has a stream if it is t, may be an eighth of the target too long",
    (tenant, calls) => {
      // Decode costs 11 ms, the first cell 30 and the last one 12.
      const state = newState({ itlTargetMs: 50 });
      enqueue(state, "a", prompt(1));
      step(state);
      enqueueOf(state, tenant, "b", { tokens: prompt(12) });
      expect(shape(step(state))).toEqual(calls);
    },
  );

  test("by more than an eighth it may not be too long", () => {
    const state = newState({ itlTargetMs: 47 });
    enqueue(state, "a", prompt(1));
    step(state);
    enqueueOf(state, "new", "b", { tokens: prompt(12) });
    expect(shape(step(state))).toEqual(["prefill 1@0x10"]);
  });
});

describe("admission", () => {
  test("requests get slots in order of arrival, lowest slot first", () => {
    const state = newState({ slots: 2 });
    for (const id of ["a", "b", "c"]) enqueue(state, id, prompt(5, id.charCodeAt(0)));
    expect(step(state).assignments.map((a) => [a.request, a.slot])).toEqual([
      ["a", 0],
      ["b", 1],
    ]);
    finish(state, "b");
    expect(step(state).assignments.map((a) => [a.request, a.slot])).toEqual([["c", 1]]);
  });

  test("submit tells how many are ahead in the queue, and refuses beyond the bound", () => {
    const state = newState({ slots: 1, maxQueued: 2 });
    expect(enqueue(state, "a", prompt(5))).toBe(0);
    step(state);
    expect(enqueue(state, "b", prompt(5))).toBe(0);
    expect(enqueue(state, "c", prompt(5))).toBe(1);
    expect(() => enqueue(state, "d", prompt(5))).toThrow("2 requests are waiting already.");
    cancel(state, "b", 0);
    expect(enqueue(state, "d", prompt(5))).toBe(1);
  });

  test("what the free slots will take does not count as waiting", () => {
    const state = newState({ slots: 2, maxQueued: 0 });
    enqueue(state, "a", prompt(5));
    enqueue(state, "b", prompt(5));
    expect(() => enqueue(state, "c", prompt(5))).toThrow(EngineError);
  });

  test("a prompt must leave room for one token, and the output is cut to the room", () => {
    const state = newState({ contextTokens: 20 });
    expect(() => enqueue(state, "a", prompt(20))).toThrow(
      "The prompt has 20 tokens, a slot holds 20, and at least one is needed for the output.",
    );
    enqueue(state, "b", prompt(19));
    enqueue(state, "c", prompt(10), 999);
    enqueue(state, "d", prompt(10), 3);
    expect([...state.requests.values()].map((r) => r.maxNew)).toEqual([1, 10, 3]);
  });

  test("an empty prompt and a known id are refused", () => {
    const state = newState();
    enqueue(state, "a", prompt(2));
    expect(() => enqueue(state, "b", prompt(0))).toThrow("The prompt has no tokens.");
    expect(() => enqueue(state, "a", prompt(2))).toThrow('Request id "a" is in use.');
  });
});

describe("guesses", () => {
  /** One step in which every guess proves right or wrong, as the next tokens say. */
  function decode(state: SchedulerState, tokens: readonly number[]): StepPlan {
    const plan = planStep(state, 0);
    checkPlan(state, plan);
    beginStep(state, plan, 0);
    for (const call of plan.calls) completeCall(state, call, call.predictedMs);
    for (const entry of plan.calls[0]?.entries ?? []) {
      const right = entry.tokens.slice(1).findIndex((token, i) => token !== tokens[i]);
      const taken = right === -1 ? entry.tokens.length : right + 1;
      const slot = state.slots[entry.slot];
      if (slot?.holder === undefined) continue;
      truncateSlot(slot, entry.position + taken);
      for (const token of tokens.slice(0, taken)) appendToken(state, slot.holder, token);
    }
    checkState(state);
    return plan;
  }
  const loop = Uint32Array.from({ length: 11 }, (_, i) => i % 2);

  test("are checked together once a text repeats itself, as many as promise most for their time", () => {
    const state = newState({ speculate: true });
    enqueue(state, "a", loop, 150);
    while (state.requests.get("a")?.phase === "prefill" || state.queue.size > 0) step(state);
    const lengths = Array.from({ length: 5 }, () => {
      const last = state.requests.get("a")?.output.at(-1) ?? 0;
      const next = Array.from({ length: 33 }, (_, i) => (last + 1 + i) % 2);
      return decode(state, next).calls[0]?.drafts;
    });
    // A guess costs 1/44 of a step here, and the prompt has gone round for long.
    expect(lengths.slice(0, 2)).toEqual([24, 32]);
  });

  test("are no more than can be checked within the inter-token target", () => {
    for (const [itlTargetMs, most] of [
      [1000, 6],
      // Where a token takes longer anyway, twice as long.
      [5, 4],
    ] as const) {
      const state = newState({ speculate: true, itlTargetMs });
      enqueue(state, "a", loop, 150);
      while (state.requests.get("a")?.phase === "prefill" || state.queue.size > 0) step(state);
      state.cost = { ...state.cost, checkPassMs: state.cost.checkPassMs.map((ms) => 8 * ms) };
      const call = planStep(state, 0).calls[0];
      expect(call?.predictedMs).toBeLessThanOrEqual(Math.max(itlTargetMs, 22));
      expect(call?.drafts).toBe(most);
    }
  });

  test("leave out of the inter-token target what cells have taken since a stream's last token", () => {
    const state = newState({ speculate: true, itlTargetMs: 60 });
    enqueue(state, "a", loop, 150);
    while (state.requests.get("a")?.phase === "prefill" || state.queue.size > 0) step(state);
    state.cost = { ...state.cost, checkPassMs: state.cost.checkPassMs.map((ms) => 8 * ms) };
    decode(state, [1, 0, 1, 0, 1, 0, 1]);
    const drafts = [0, 30, 45, 60].map((cellsMs) => {
      const [call] = planStep({ ...state, sinceDecodeMs: cellsMs }, 0).calls;
      // A stream alone takes 11 ms.
      expect(call?.predictedMs).toBeLessThanOrEqual(Math.max(60 - cellsMs, 11));
      return call?.drafts ?? 0;
    });
    expect(drafts[0]).toBeGreaterThan(drafts[1] ?? 0);
    expect(drafts[1]).toBeGreaterThan(drafts[2] ?? 0);
    expect(drafts.slice(2)).toEqual([2, 0]);
    // Cells are counted as they are computed, and until the next token.
    const beside = newState({ itlTargetMs: 60 });
    enqueue(beside, "a", prompt(1), 50);
    const waited = Array.from({ length: 4 }, (_, i) => {
      if (i === 1) enqueue(beside, "b", prompt(21, 50), 50);
      step(beside);
      return beside.sinceDecodeMs;
    });
    expect(waited).toEqual([0, 30, 30, 0]);
  });

  test("are not made beside a prefill worker that computes, which would have less time between two tokens", () => {
    const config = { ...CONFIG, speculate: true, itlTargetMs: 25, contextTokens: 400, spillBytes: 10_000 };
    const state = createState(config, { ...costWith(10), spill: SPILL_COST });
    enqueue(state, "a", loop, 150);
    while (state.requests.get("a")?.phase === "prefill" || state.queue.size > 0) step(state);
    const goOn = (): StepPlan => {
      const last = state.requests.get("a")?.output.at(-1) ?? 0;
      return decode(
        state,
        Array.from({ length: 33 }, (_, i) => (last + 1 + i) % 2),
      );
    };
    goOn();
    expect(goOn().calls[0]?.drafts).toBeGreaterThan(0);
    Object.assign(state.offload, { employed: true, ready: true });
    enqueue(state, "long", prompt(100, 50), 50);
    expect(goOn().offload?.request).toBe("long");
    expect(goOn().calls[0]?.drafts).toBe(0);
    state.offload.current = undefined;
    expect(planStep(state, 0).calls[0]?.drafts).toBeGreaterThan(0);
  });

  test("of a slot alone end where it leaves its kernel for another one", () => {
    const state = newState({ speculate: true, speculateAloneTokens: 24 });
    enqueue(state, "a", loop, 150);
    while (state.requests.get("a")?.phase === "prefill" || state.queue.size > 0) step(state);
    let guessed = 0;
    while ((state.requests.get("a")?.output.length ?? 0) < 30) {
      const last = state.requests.get("a")?.output.at(-1) ?? 0;
      const next = Array.from({ length: 33 }, (_, i) => (last + 1 + i) % 2);
      for (const { entries, drafts } of decode(state, next).calls) {
        guessed += drafts;
        const [entry] = entries;
        if (drafts > 0) expect((entry?.position ?? 0) + (entry?.tokens.length ?? 0)).toBeLessThanOrEqual(24);
      }
    }
    expect(guessed).toBeGreaterThan(8);
  });

  test("of a client's prediction go on there", () => {
    const state = newState({ speculate: true, speculateAloneTokens: 24 });
    const predicted = prompt(40, 60);
    enqueue(state, "a", prompt(20), 40);
    Object.assign(state.requests.get("a") ?? {}, { predicted });
    while (state.requests.get("a")?.phase === "prefill" || state.queue.size > 0) step(state);
    const lengths: number[] = [];
    for (let said = 0; said < 39; said = state.requests.get("a")?.output.length ?? 40)
      for (const { drafts } of decode(state, Array.from(predicted.slice(said))).calls) lengths.push(drafts);
    expect(lengths.length).toBeGreaterThan(1);
    expect(Math.min(...lengths)).toBeGreaterThan(0);
  });

  test.each([
    ["speculation is off", { speculate: false }],
    ["outputs must be deterministic", { speculate: true, deterministic: true }],
    ["the model cannot rewind", { speculate: true, canRewind: false }],
    ["a slot alone would leave its kernel for it", { speculate: true, speculateAloneTokens: 5 }],
  ])("are not made when %s", (_case, config) => {
    const state = newState(config);
    enqueue(state, "a", loop, 60);
    for (let i = 0; i < 30; i++) {
      const last = state.requests.get("a")?.output.at(-1) ?? 0;
      const plan = step(state);
      expect(plan.calls[0]?.drafts).toBe(0);
      expect(last).toBeLessThan(8);
    }
  });

  test("stay within the context, and every slot of the pass has as many tokens", () => {
    const state = newState({ speculate: true, contextTokens: 20, slots: 3 });
    for (const id of ["a", "b", "c"]) enqueue(state, id, loop, 9);
    finish(state, "b");
    while (state.requests.size > 0) {
      const plan = decode(state, [1, 0, 1, 0, 1, 0, 1, 0, 1]);
      for (const { entries, drafts } of plan.calls)
        for (const { position, tokens } of entries) {
          expect(position + tokens.length).toBeLessThanOrEqual(20);
          expect(tokens.length === 1 + drafts || drafts === 0).toBe(true);
        }
      for (const { id, output, maxNew } of state.requests.values())
        if (output.length >= maxNew) finish(state, id);
    }
  });
});

describe("slot choice and reuse", () => {
  /** Prefills a prompt, decodes `outputs` tokens, and leaves it resident. */
  function resident(state: SchedulerState, id: string, tokens: Uint32Array, outputs = 1): void {
    enqueue(state, id, tokens);
    while ((state.requests.get(id)?.output.length ?? 0) < outputs) step(state);
    finish(state, id);
  }

  test("the slot with the longest resident prefix is taken, though a lower one is free", () => {
    const state = newState();
    enqueue(state, "x", prompt(40, 1000));
    resident(state, "a", prompt(40));
    finish(state, "x");
    enqueue(state, "b", prompt(40));
    expect(step(state).assignments).toEqual([{ request: "b", slot: 1, reuse: 39, copyFrom: undefined }]);
  });

  test("the same prompt again is reused to its last token and decodes at once", () => {
    const state = newState();
    resident(state, "a", prompt(25));
    enqueue(state, "b", prompt(25));
    const plan = step(state);
    expect(plan.assignments).toEqual([{ request: "b", slot: 0, reuse: 24, copyFrom: undefined }]);
    expect(plan.boundary).toEqual([{ type: "truncate", slot: 0, length: 24 }]);
    expect(shape(plan)).toEqual(["decode 0@24x1"]);
  });

  test.each([
    ["to the token, as it is", false, 27],
    ["to the grid when outputs must be deterministic, where a cold run would have cut it", true, 20],
  ])("a shared beginning is reused %s", (_case, deterministic, reuse) => {
    const state = newState({ deterministic });
    resident(state, "a", prompt(40));
    enqueue(state, "b", Uint32Array.from([...prompt(27), ...prompt(20, 500)]));
    // The rest of the older prompt stays, for what a copy costs.
    expect(step(state).assignments).toEqual([{ request: "b", slot: 1, reuse, copyFrom: 0 }]);
  });

  test("a few tokens beyond the grid are computed again rather than reused in another shape", () => {
    const state = newState();
    resident(state, "a", prompt(40));
    enqueue(state, "b", Uint32Array.from([...prompt(22), ...prompt(20, 500)]));
    expect(step(state).assignments[0]?.reuse).toBe(20);
  });

  test("one token less is reused where only one would be left to its cell", () => {
    const state = newState();
    resident(state, "a", prompt(40));
    enqueue(state, "b", Uint32Array.from([...prompt(29), ...prompt(20, 500)]));
    expect(step(state).assignments[0]?.reuse).toBe(28);
    finish(state, "b");
    enqueue(state, "c", Uint32Array.from([...prompt(26), 999]));
    expect(step(state).assignments[0]?.reuse).toBe(26);
  });

  test("deterministic reuse of a prompt that ends inside a resident's whole cell stops at the grid", () => {
    const state = newState({ deterministic: true });
    resident(state, "a", prompt(40));
    enqueue(state, "b", prompt(26));
    expect(step(state).assignments[0]?.reuse).toBe(20);
  });

  test("a continued conversation keeps its own answer's cells, unless outputs must be deterministic", () => {
    const answer = Array.from({ length: 30 }, () => 7);
    const longer = Uint32Array.from([...prompt(25), ...answer, ...prompt(10, 300)]);
    const fast = newState();
    resident(fast, "a", prompt(25), 30);
    enqueue(fast, "b", longer);
    // The last sampled token is never computed.
    expect(step(fast).assignments[0]?.reuse).toBe(54);

    const exact = newState({ deterministic: true });
    resident(exact, "a", prompt(25), 30);
    enqueue(exact, "b", longer);
    expect(step(exact).assignments[0]?.reuse).toBe(20);
  });

  test("a prefix is copied from a busy slot, which goes on undisturbed", () => {
    const state = newState();
    enqueue(state, "a", prompt(40));
    for (let i = 0; i < 6; i++) step(state);
    expect(state.requests.get("a")?.phase).toBe("decode");
    enqueue(state, "b", Uint32Array.from([...prompt(30), ...prompt(9, 500)]));
    const plan = step(state);
    expect(plan.assignments).toEqual([{ request: "b", slot: 1, reuse: 30, copyFrom: 0 }]);
    expect(plan.boundary).toEqual([
      { type: "copy", from: 0, to: 1 },
      { type: "truncate", slot: 1, length: 30 },
    ]);
    expect(shape(plan)).toEqual(["decode 0@41x1", "prefill 1@30x8"]);
  });

  test("prompts that begin alike and come together are computed once, and the others wait for the copy", () => {
    const state = newState();
    for (const id of ["a", "b", "c"]) enqueue(state, id, prompt(35));
    enqueue(state, "d", prompt(35, 700));
    const first = step(state);
    expect(first.held).toEqual(["b", "c"]);
    // What has nothing in common need not wait for them.
    expect(first.assignments.map((a) => a.request)).toEqual(["a", "d"]);
    let plan = first;
    while (plan.held.length > 0) plan = step(state);
    expect(plan.assignments).toEqual([
      { request: "b", slot: 2, reuse: 34, copyFrom: 0 },
      { request: "c", slot: 3, reuse: 34, copyFrom: 0 },
    ]);
    expect(shape(plan)[0]).toBe("decode 0@34x1 plug 1@0x1 2@34x1 3@34x1");
  });

  test("one prompt asked for more often than there are slots is computed once", () => {
    const state = newState({ slots: 2, maxQueued: 9 });
    for (const id of ["a", "b", "c", "d", "e"]) enqueue(state, id, prompt(35), 3);
    let prefilled = 0;
    while (state.requests.size > 0) {
      for (const call of step(state).calls) if (call.kind === "prefill") prefilled += call.tokens;
      for (const { id, output, maxNew } of state.requests.values())
        if (output.length === maxNew) finish(state, id);
    }
    expect(prefilled).toBe(34);
  });

  test("a request that waits for a prefix keeps its place: later ones do not take its slot", () => {
    const state = newState({ slots: 2 });
    enqueue(state, "a", prompt(35));
    enqueue(state, "b", prompt(35));
    enqueue(state, "c", prompt(5, 700));
    expect(step(state)).toMatchObject({ assignments: [{ request: "a" }], held: ["b"] });
    expect([...state.queue.keys()]).toEqual(["b", "c"]);
  });

  test("when the request that computes the shared prefix is cancelled, the next one computes it", () => {
    const state = newState();
    enqueue(state, "a", prompt(35));
    enqueue(state, "b", prompt(35));
    expect(step(state).held).toEqual(["b"]);
    cancel(state, "a", 0);
    expect(step(state)).toMatchObject({ assignments: [{ request: "b", slot: 0, reuse: 10 }], held: [] });
  });

  test.each([
    [
      "a beginning too short to be worth a copy",
      prompt(35),
      Uint32Array.from([...prompt(8), ...prompt(20, 500)]),
    ],
    ["a request that may not share cells", prompt(35), undefined],
  ])("nobody waits for %s", (_case, leader, follower) => {
    const state = newState();
    enqueue(state, "a", leader);
    if (follower !== undefined) enqueue(state, "b", follower);
    else
      submit(
        state,
        {
          id: "b",
          tenant: "t",
          priority: 0,
          prompt: leader,
          cacheKey: "other",
          reusePrefix: true,
          readsPrompt: false,
          resume: new Uint32Array(0),
          maxTokens: 5,
        },
        0,
      );
    expect(step(state)).toMatchObject({
      held: [],
      assignments: [{ request: "a" }, { request: "b", reuse: 0 }],
    });
  });

  describe("on a model that cannot rewind", () => {
    /** Twenty-seven resident tokens, of which all cells before `firstCell` are gone. */
    const afterwards = (firstCell: number, config: Partial<SchedulerConfig> = {}): SchedulerState => {
      const state = newState({ canRewind: false, ...config });
      resident(state, "a", prompt(25), 3);
      const [slot] = state.slots;
      if (slot !== undefined) slot.firstCell = firstCell;
      expect(slot?.length).toBe(27);
      return state;
    };
    const reuseOf = (state: SchedulerState, text: Uint32Array): number | undefined => {
      enqueue(state, "b", text);
      return step(state).assignments[0]?.reuse;
    };
    const continued = Uint32Array.from([...prompt(25), 7, 7, 9, 9]);

    test("a slot is reused as a whole, or not at all", () => {
      expect(reuseOf(afterwards(26), continued)).toBe(27);
      expect(reuseOf(afterwards(26), prompt(25))).toBe(0);
    });

    test("a slot is cut where the window of what is kept is still there", () => {
      expect(reuseOf(afterwards(10, { windowTokens: 8 }), prompt(25))).toBe(24);
      expect(reuseOf(afterwards(16, { windowTokens: 8 }), prompt(25))).toBe(24);
      expect(reuseOf(afterwards(17, { windowTokens: 8 }), prompt(25))).toBe(0);
      expect(reuseOf(afterwards(19, { windowTokens: 8 }), continued)).toBe(27);
    });

    test("a slot is cut anywhere as long as no cell is gone", () => {
      expect(reuseOf(afterwards(0, { windowTokens: 8 }), prompt(25))).toBe(24);
      expect(reuseOf(afterwards(0, { windowTokens: 8 }), Uint32Array.of(...prompt(14), 9, 9, 9))).toBe(14);
    });

    test("a deterministic engine reuses what was computed in whole cells, if it can go on from there", () => {
      const deterministic = { deterministic: true };
      expect(reuseOf(afterwards(26, deterministic), continued)).toBe(0);
      expect(reuseOf(afterwards(10, { ...deterministic, windowTokens: 8 }), continued)).toBe(20);
    });

    test("identical prompts that come together are computed once, others that begin alike are not", () => {
      const state = newState({ canRewind: false, slots: 3 });
      for (const id of ["a", "b"]) enqueue(state, id, prompt(25));
      enqueue(state, "c", Uint32Array.of(...prompt(20), 9, 9));
      const first = step(state);
      expect([first.held, first.assignments.length]).toEqual([["b"], 2]);
      let copied: StepPlan["assignments"] = [];
      for (let i = 0; i < 20 && copied.length === 0; i++) copied = step(state).assignments;
      expect(copied).toMatchObject([{ request: "b", reuse: 24, copyFrom: 0 }]);
    });
  });

  test("a short request does not overwrite a long resident while an empty slot is free", () => {
    const state = newState();
    resident(state, "a", prompt(150));
    enqueue(state, "b", prompt(5, 900));
    expect(step(state).assignments[0]?.slot).toBe(1);
  });

  test("reuse is refused across cache keys and when the request does not want it", () => {
    const state = newState({ slots: 1 });
    resident(state, "a", prompt(25));
    const base = { tenant: "t", priority: 0, prompt: prompt(25), maxTokens: 4, resume: new Uint32Array(0) };
    submit(state, { ...base, id: "b", cacheKey: "other", reusePrefix: true, readsPrompt: false }, 0);
    expect(step(state).assignments[0]?.reuse).toBe(0);
    finish(state, "b");
    submit(state, { ...base, id: "c", cacheKey: "other", reusePrefix: false, readsPrompt: false }, 0);
    expect(step(state).assignments[0]?.reuse).toBe(0);
  });

  test.each([
    ["is cheap, the empty slot further away is taken", 0.1, 2],
    ["is dear, the slot next to the busy one is taken although its prefix is lost", 50, 1],
  ])("when a device pass %s", (_case, passMs, expected) => {
    const state = newState({ slots: 4 }, passMs);
    enqueue(state, "busy", prompt(90, 1000));
    resident(state, "a", prompt(40));
    enqueue(state, "b", prompt(5, 700));
    expect(step(state).assignments[0]?.slot).toBe(expected);
  });

  test("a gap between busy slots is closed first when a pass is dear", () => {
    const state = newState({ slots: 5 }, 50);
    for (const id of ["a", "b", "c"]) enqueue(state, id, prompt(3, 10 * id.charCodeAt(0)));
    step(state);
    finish(state, "b");
    // Slot 1 holds the finished request's cells, slots 3 and 4 are empty.
    enqueue(state, "d", prompt(3, 700));
    expect(step(state).assignments[0]?.slot).toBe(1);
  });
});

describe("decode", () => {
  test("in deterministic mode no token's logits are the only ones of their pass, where another slot can be in it", () => {
    const state = newState({ deterministic: true, slots: 4 });
    const spare = (plan: StepPlan): string[] =>
      plan.calls.flatMap(({ entries }) =>
        entries.map((e) => `${e.slot}${e.sample ? " drawn" : ""}${e.spareLogit === true ? " spare" : ""}`),
      );
    enqueue(state, "a", prompt(1));
    expect(spare(step(state))).toEqual(["0 drawn", "1 spare"]);
    enqueue(state, "b", prompt(1, 50));
    expect(spare(step(state))).toEqual(["0 drawn", "1 drawn"]);
    const alone = newState({ deterministic: true, slots: 1 });
    enqueue(alone, "a", prompt(1));
    expect(spare(step(alone))).toEqual(["0 drawn"]);
    const fast = newState();
    enqueue(fast, "a", prompt(1));
    expect(spare(step(fast))).toEqual(["0 drawn"]);
  });

  /** Three requests of one token in slots 0, 1 and 2; then the middle one ends. */
  function withGap(
    passMs: number,
    config: Partial<SchedulerConfig> = {},
    middle = prompt(1, 50),
  ): SchedulerState {
    const state = newState(config, passMs);
    enqueue(state, "a", prompt(1));
    enqueue(state, "b", middle);
    enqueue(state, "c", prompt(1, 90));
    while ((state.requests.get("b")?.output.length ?? 0) === 0) step(state);
    finish(state, "b");
    return state;
  }

  test("adjacent slots are decoded in one pass", () => {
    const state = newState();
    for (const id of ["a", "b", "c"]) enqueue(state, id, prompt(1, id.charCodeAt(0)));
    expect([shape(step(state)), planStep(state, 0).calls[0]?.passes]).toEqual([
      ["decode 0@0x1 1@0x1 2@0x1"],
      1,
    ]);
  });

  test("a gap is closed with a throw-away token when one wide pass is cheaper than two", () => {
    const plan = planStep(withGap(10), 0);
    expect([shape(plan), plan.calls[0]?.passes]).toEqual([["decode 0@1x1 plug 1@1x1 2@1x1"], 1]);
  });

  test("a gap stays open when passes cost next to nothing", () => {
    const plan = planStep(withGap(0.1), 0);
    expect([shape(plan), plan.calls[0]?.passes]).toEqual([["decode 0@1x1 2@1x1"], 2]);
  });

  test("a gap stays open over a slot longer than its neighbours, and on a model that cannot rewind", () => {
    expect(shape(planStep(withGap(10, {}, prompt(30, 50)), 0))).toEqual(["decode 0@3x1 2@3x1"]);
    expect(shape(planStep(withGap(10, { canRewind: false }), 0))).toEqual(["decode 0@1x1 2@1x1"]);
  });

  test("a slot decodes alone, except where outputs must be deterministic", () => {
    const alone = newState();
    enqueue(alone, "a", prompt(1));
    expect(shape(step(alone))).toEqual(["decode 0@0x1"]);
    const exact = newState({ deterministic: true });
    enqueue(exact, "a", prompt(1));
    expect(shape(step(exact))).toEqual(["decode 0@0x1 plug 1@0x1"]);
    expect(shape(planStep(withGap(0.1, { deterministic: true }), 0))).toEqual([
      "decode 0@1x1 plug 1@1x1 2@1x1",
    ]);
    const last = newState({ deterministic: true, slots: 1 });
    enqueue(last, "a", prompt(1));
    expect(shape(step(last))).toEqual(["decode 0@0x1"]);
  });

  test("a call looks at the cells of the slots that close its gaps as well", () => {
    const state = withGap(10, {}, prompt(12, 50));
    for (let i = 0; i < 20; i++) step(state);
    state.cost = { ...state.cost, decodeCellsMs: 100 };
    const plan = planStep(state, 0);
    expect(shape(plan)).toEqual(["decode 0@22x1 plug 1@12x1 2@22x1"]);
    const call = plan.calls[0];
    const cells = 22 + 12 + 22;
    expect(call?.tokenCells).toBe(cells);
    expect(call?.predictedMs).toBeCloseTo(decodeCallMs(state.cost, [3], 0, cells), 9);
    expect(call?.predictedMs).toBeCloseTo(decodeCallMs(state.cost, [3], 0, 0) + cells / 10, 9);
  });

  test("a slot in prefill can close a gap, and its own cell follows where it was", () => {
    const state = withGap(10);
    for (let i = 0; i < 20; i++) step(state);
    enqueue(state, "d", prompt(15, 400));
    expect(shape(step(state))).toEqual([
      "decode 0@21x1 plug 1@0x1 2@21x1",
      "prefill 1@0x10",
      "prefill 1@10x4",
    ]);
  });
});

describe("cancellation", () => {
  test("a waiting request is gone at once, a running one at the next boundary, with its cells kept", () => {
    const state = newState({ slots: 1 });
    enqueue(state, "a", prompt(35));
    enqueue(state, "b", prompt(5));
    step(state);
    cancel(state, "b", 0);
    expect(state.queue.size).toBe(0);
    cancel(state, "a", 0);
    expect(state.slots[0]?.owner).toBe("a");
    expect(releaseCancelled(state, 0)).toEqual(["a"]);
    expect([state.requests.size, state.slots[0]?.owner, state.slots[0]?.length]).toEqual([0, undefined, 10]);
  });

  test("a cancelled request is not planned again even before it is released", () => {
    const state = newState();
    enqueue(state, "a", prompt(35));
    step(state);
    cancel(state, "a", 0);
    expect(planStep(state, 0).calls).toEqual([]);
  });
});

test("planning is pure: the same state gives the same plan and is not changed", () => {
  const state = newState();
  enqueue(state, "a", prompt(33));
  enqueue(state, "b", prompt(33));
  step(state);
  const before = structuredClone(state);
  expect(planStep(state, 5)).toEqual(planStep(state, 5));
  expect(state).toEqual(before);
});
