/** Which cells of prompts are computed in one call. */
import { expect, test } from "vitest";
import { isOffGrid } from "../../../engine/scheduler/joined-cells.ts";
import { addRequest, runStep, schedulerState } from "../../support/scheduler.ts";
import type { SchedulerConfig, SchedulerState } from "../../../engine/scheduler/types.ts";

/** A cell of 10 costs 30 ms here, a call of n tokens 10 + 2 n. */
const state = (config: Partial<SchedulerConfig> = {}): SchedulerState =>
  schedulerState({ joinedCells: true, itlTargetMs: 1000, ...config });

/** Tokens of each prefill call of the next step. */
function prefills(of: SchedulerState): number[] {
  const { calls } = runStep(of, 0);
  return calls.filter(({ kind }) => kind === "prefill").map(({ tokens }) => tokens);
}

test("where nobody waits for a token whole cells go in one call, as many as it may have tokens", () => {
  const idle = state({ batchTokens: 40 });
  addRequest(idle, "long", { prompt: new Uint32Array(88).fill(1) });
  expect([prefills(idle), prefills(idle), prefills(idle)]).toEqual([[40], [40], [7]]);
});

test("and as many as take four times what streams may wait", () => {
  const idle = state({ itlTargetMs: 20 });
  addRequest(idle, "long", { prompt: new Uint32Array(88).fill(1) });
  expect(prefills(idle)).toEqual([30]);
});

test("each in a call of its own where bits would change, and where its logits are read", () => {
  const other = state({ joinedCells: false });
  addRequest(other, "long", { prompt: new Uint32Array(88).fill(1) });
  expect(prefills(other)).toEqual([10]);
  const read = state();
  addRequest(read, "read", { prompt: new Uint32Array(88).fill(1), readsPrompt: true });
  expect(prefills(read)).toEqual([10]);
});

test("not two prompts' cells, and beside a stream no more than fits", () => {
  const busy = state({ itlTargetMs: 100 });
  addRequest(busy, "stream", { prompt: new Uint32Array(2).fill(7) });
  prefills(busy);
  addRequest(busy, "a", { prompt: new Uint32Array(41).fill(1) });
  addRequest(busy, "b", { prompt: new Uint32Array(41).fill(2) });
  // 11 ms for the stream's token and 89 for cells of 30 each: two of them, and 10 ms less as they are joined.
  expect(prefills(busy)).toEqual([20]);
});

test("what is known of the shapes in a slot is the same as after single cells", () => {
  const shapes = [true, false].map((joinedCells) => {
    const of = state({ joinedCells, batchTokens: 40 });
    addRequest(of, "long", { prompt: new Uint32Array(88).fill(1) });
    while ((of.slots[0]?.length ?? 0) < 87) runStep(of, 0);
    return of.slots.map(({ length, gridEnd, tailEnd }) => ({ length, gridEnd, tailEnd }))[0];
  });
  expect(shapes).toEqual([
    { length: 87, gridEnd: 80, tailEnd: 87 },
    { length: 87, gridEnd: 80, tailEnd: 87 },
  ]);
});

test("a call is expected to take less than its cells would one by one", () => {
  const idle = state({ batchTokens: 40 });
  addRequest(idle, "long", { prompt: new Uint32Array(88).fill(1) });
  expect(runStep(idle, 0).calls).toMatchObject([
    { tokens: 40, predictedMs: 30 + 3 * 24, unscaledMs: 30 + 3 * 24 },
  ]);
});

/** An engine in whose idle slot another prompt has left what this one begins with, so many tokens of it. */
function withShared(tokens: number, config: Partial<SchedulerConfig> = {}): SchedulerState {
  const of = state({ batchTokens: 100, ...config });
  addRequest(of, "before", { prompt: sharing(tokens, 2), maxTokens: 1 });
  while (of.requests.size > 0) runStep(of, 0);
  addRequest(of, "behind", { prompt: sharing(tokens, 3) });
  return of;
}

/** 48 tokens, the first ones of which all have. */
function sharing(tokens: number, own: number): Uint32Array {
  return new Uint32Array(48).fill(1, 0, tokens).fill(own, tokens);
}

test("behind tokens of another shape all that is left of a prompt goes in one call", () => {
  expect(prefills(withShared(13))).toEqual([34]);
});

test("and behind whole cells, or where bits must not change, the last ones have a call of their own", () => {
  const onGrid = withShared(20);
  expect([prefills(onGrid), prefills(onGrid)]).toEqual([[20], [7]]);
  const exact = withShared(13, { deterministic: true });
  expect([prefills(exact), prefills(exact)]).toEqual([[30], [7]]);
});

test("also in the steps behind its first one", () => {
  const of = withShared(13, { batchTokens: 30 });
  expect([prefills(of), prefills(of)]).toEqual([[30], [4]]);
});

test("and in whole cells from there on, where they go one by one", () => {
  const single = withShared(13, { batchTokens: 10 });
  expect(Array.from({ length: 4 }, () => prefills(single))).toEqual([[10], [10], [10], [4]]);
  const onGrid = withShared(13, { joinedCells: false });
  expect(Array.from({ length: 4 }, () => prefills(onGrid))).toEqual([[7], [10], [10], [7]]);
});

test("one token less is reused where else a cell would have a single one", () => {
  // Of 47 that are computed in cells, behind 16: three cells and one token.
  expect(prefills(withShared(16))).toEqual([32]);
});

test("what a request and a slot were before it has that slot says nothing of its cells", () => {
  const config = { deterministic: false, prefillChunk: 10 };
  const evicted = { id: "evicted", cachedTokens: 13 };
  expect(isOffGrid(0, evicted, { owner: undefined, gridEnd: 10 }, config)).toBe(false);
  expect(isOffGrid(20, evicted, { owner: "another", gridEnd: 0 }, config)).toBe(false);
  expect(isOffGrid(13, evicted, { owner: undefined, gridEnd: 0 }, config)).toBe(true);
  expect(isOffGrid(20, evicted, { owner: "evicted", gridEnd: 0 }, config)).toBe(true);
  expect(isOffGrid(13, evicted, { owner: "evicted", gridEnd: 0 }, { ...config, deterministic: true })).toBe(
    false,
  );
});
