/** Which prefixes are written to files, which go, and which come back, plan by plan. */
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { tokensToCompute } from "../../../engine/scheduler/entry.ts";
import { planStep } from "../../../engine/scheduler/plan-step.ts";
import { commonPrefixLength } from "../../../engine/scheduler/prefix-reuse.ts";
import { noteRestoreFailed, noteSaveFailed, noteSaved } from "../../../engine/scheduler/spill-transitions.ts";
import { beginStep, cancel } from "../../../engine/scheduler/transitions.ts";
import type {
  SchedulerConfig,
  SchedulerState,
  Slot,
  SpilledPrefix,
  StepPlan,
} from "../../../engine/scheduler/types.ts";
import { SPILL_COST, addRequest, runStep, schedulerState } from "../../support/scheduler.ts";

const text = (first: number, tokens: number): Uint32Array =>
  Uint32Array.from({ length: tokens }, (_, i) => first + i);

const withFiles = (config: Partial<SchedulerConfig> = {}): SchedulerState =>
  schedulerState({ slots: 1, spillBytes: 10_000, ...config });

/** Runs until nothing is left to do. @returns What was done to cells and why, of all steps. */
function finish(state: SchedulerState, nowMs = 0): { operations: string[]; why: string[] } {
  const operations: string[] = [];
  const why: string[] = [];
  for (let step = 0; step < 200 && state.requests.size > 0; step++) {
    const plan = runStep(state, nowMs + step);
    operations.push(...operationsOf(plan));
    why.push(...plan.why);
  }
  expect(state.requests.size).toBe(0);
  return { operations, why };
}

function operationsOf({ boundary }: StepPlan): string[] {
  return boundary.map((operation) => {
    if (operation.type === "drop") return `drop ${operation.spill}`;
    if (operation.type === "copy") return `copy ${operation.from} to ${operation.to}`;
    if (operation.type === "truncate") return `cut ${operation.slot} to ${operation.length}`;
    if (operation.type === "save" || operation.type === "restore")
      return `${operation.type} ${operation.slot}: ${operation.prefix.id}`;
    return operation.type;
  });
}

/** A request with a prompt of its own that is answered with one token. */
function answer(state: SchedulerState, first: number, tokens: number, nowMs = 0, cacheKey = ""): string[] {
  addRequest(
    state,
    `${first}/${state.nextArrival}`,
    { prompt: text(first, tokens), maxTokens: 1, cacheKey },
    nowMs,
  );
  return finish(state, nowMs).operations;
}

const filesOf = (state: SchedulerState): number[][] =>
  Array.from(state.spill?.prefixes.values() ?? [], ({ tokens }) => [tokens[0] ?? -1, tokens.length]);

describe("a prefix that its slot loses", () => {
  test("is saved, and read back when it is wanted again", () => {
    const state = withFiles();
    expect(answer(state, 1000, 50)).toEqual([]);
    expect(answer(state, 2000, 50)).toEqual(["save 0: 1", "cut 0 to 0"]);
    expect(filesOf(state)).toEqual([[1000, 50]]);
    addRequest(state, "again", { prompt: text(1000, 70), maxTokens: 1 });
    const { operations, why } = finish(state);
    // All of the file is in the slot then.
    expect(operations).toEqual(["save 0: 2", "restore 0: 1", "drop 1"]);
    expect(why.slice(0, 2)).toEqual([
      "save 50 tokens of slot 0 as prefix 2",
      "admit again to slot 0, reuse 50 read as prefix 1",
    ]);
    expect(filesOf(state)).toEqual([[2000, 50]]);
  });

  test("is not saved where nothing is kept in files", () => {
    for (const config of [{ spillBytes: 0 }, { spillBytes: 209 }]) {
      const state = withFiles(config);
      answer(state, 1000, 50);
      expect(answer(state, 2000, 50)).toEqual(["cut 0 to 0"]);
    }
  });

  test("is not saved where computing it again costs little: less than a cell, or files are slow", () => {
    const short = withFiles();
    answer(short, 1000, 9);
    expect(answer(short, 2000, 50)).toEqual(["cut 0 to 0"]);
    const slow = withFiles();
    const byteMs = 0.1;
    slow.cost = { ...slow.cost, spill: { ...SPILL_COST, save: { callMs: 1, byteMs, scale: 1 } } };
    answer(slow, 1000, 50);
    expect(answer(slow, 2000, 50)).toEqual(["cut 0 to 0"]);
  });

  test("is not saved twice: not what another slot or a file has", () => {
    const state = withFiles({ slots: 2 });
    answer(state, 1000, 50);
    answer(state, 1000, 50);
    addRequest(state, "a", { prompt: text(2000, 50), maxTokens: 1 });
    addRequest(state, "b", { prompt: text(3000, 50), maxTokens: 1 });
    expect(finish(state).operations).toEqual(["save 0: 1", "cut 0 to 0"]);
    // Reading a part of a file leaves the file.
    addRequest(state, "c", { prompt: Uint32Array.of(...text(1000, 30), ...text(4000, 20)), maxTokens: 1 });
    const { operations } = finish(state);
    expect(operations.filter((operation) => /^(restore|drop)/.test(operation))).toEqual(["restore 0: 1"]);
    const slots = state.slots.map(({ tokens }) => tokens[0]);
    expect(slots).toContain(1000);
    // 30 of its 50 tokens are in the file, and the rest is worth it.
    expect(answer(state, 5000, 50).some((operation) => operation.startsWith("save"))).toBe(true);
  });

  test("takes the place of a file with its beginning", () => {
    const state = withFiles({ slots: 2 });
    answer(state, 1000, 50);
    addRequest(state, "a", { prompt: text(2000, 50), maxTokens: 1 });
    addRequest(state, "b", { prompt: text(3000, 50), maxTokens: 1 });
    finish(state);
    expect(filesOf(state)).toEqual([[1000, 50]]);
    // Computed anew, since it asked for that.
    addRequest(state, "c", { prompt: text(1000, 80), maxTokens: 1, reusePrefix: false });
    finish(state);
    const slot = state.slots.findIndex(({ tokens }) => tokens[0] === 1000);
    expect(slot).toBeGreaterThanOrEqual(0);
    addRequest(state, "d", { prompt: text(4000, 50), maxTokens: 1 });
    addRequest(state, "e", { prompt: text(5000, 50), maxTokens: 1 });
    finish(state);
    expect(filesOf(state)).toContainEqual([1000, 80]);
    expect(filesOf(state)).not.toContainEqual([1000, 50]);
  });

  test("is saved for the same scope alone", () => {
    const state = withFiles();
    answer(state, 1000, 50, 0, "x");
    answer(state, 2000, 50, 0, "x");
    expect(answer(state, 1000, 50, 0, "y").filter((operation) => operation.startsWith("restore"))).toEqual(
      [],
    );
    expect(answer(state, 1000, 50, 0, "x")).toContain("restore 0: 1");
  });

  test("is saved for a request that loses its slot, which will want it for certain", () => {
    const state = withFiles({ contextTokens: 2000 });
    addRequest(state, "low", { prompt: text(1000, 50), priority: 3, maxTokens: 1500 });
    for (let step = 0; step < 8; step++) runStep(state, step);
    // Hours later hardly anything is wanted again.
    const slot = state.slots[0];
    if (slot !== undefined) slot.lastUseMs = -1e9;
    addRequest(state, "high", { prompt: text(2000, 50), priority: 0, maxTokens: 1 }, 10);
    const plan = runStep(state, 10);
    expect(plan.evictions).toHaveLength(1);
    expect(operationsOf(plan)).toEqual(["save 0: 1", "cut 0 to 0"]);
  });
});

describe("beside decoding slots", () => {
  const beside = (itlTargetMs: number): SchedulerState => {
    const state = withFiles({ slots: 2, itlTargetMs });
    answer(state, 1000, 50);
    addRequest(state, "b", { prompt: text(3000, 20), maxTokens: 100 });
    for (let step = 0; step < 5; step++) runStep(state, step);
    expect(state.requests.get("b")?.phase).toBe("decode");
    return state;
  };

  test("no file is written or read for longer than a token may take", () => {
    for (const [itlTargetMs, saved] of [
      [4, false],
      [100, true],
    ] as const) {
      const state = beside(itlTargetMs);
      addRequest(state, "c", { prompt: text(2000, 50), maxTokens: 1 });
      expect(operationsOf(runStep(state, 10))[0]?.startsWith("save")).toBe(saved);
    }
  });

  test("nor are all of a step together, and prefill has what they leave", () => {
    const busy = (config: Partial<SchedulerConfig>): StepPlan => {
      const state = withFiles({ slots: 3, ...config });
      answer(state, 1000, 50);
      answer(state, 2000, 50);
      addRequest(state, "b", { prompt: text(3000, 20), maxTokens: 100 });
      for (let step = 0; step < 5; step++) runStep(state, step);
      addRequest(state, "c", { prompt: text(4000, 50), maxTokens: 1 });
      addRequest(state, "d", { prompt: text(5000, 50), maxTokens: 1 });
      return runStep(state, 10);
    };
    const saves = (plan: StepPlan): number => plan.boundary.filter(({ type }) => type === "save").length;
    const prefills = (plan: StepPlan): number => plan.calls.filter(({ kind }) => kind === "prefill").length;
    // A file takes 5.2 ms, a decode call 11 ms and a cell 30 ms.
    expect([8, 12].map((itlTargetMs) => saves(busy({ itlTargetMs })))).toEqual([1, 2]);
    expect(prefills(busy({ itlTargetMs: 45 }))).toBe(0);
    expect(prefills(busy({ itlTargetMs: 45, spillBytes: 0 }))).toBe(1);
  });
});

describe("files", () => {
  test("go when there is no room: first what is least likely to be wanted", () => {
    const state = withFiles({ spillBytes: 450 });
    for (const [i, first] of [1000, 2000, 3000, 4000].entries()) answer(state, first, 50, i * 60_000);
    // Two have room; the first is the oldest.
    expect(filesOf(state).map(([first]) => first)).toEqual([2000, 3000]);
  });

  test("stay where what would take their place is worth less", () => {
    const state = withFiles({ spillBytes: 250 });
    answer(state, 1000, 50);
    answer(state, 2000, 15);
    expect(filesOf(state)).toEqual([[1000, 50]]);
    const prefix = state.spill?.prefixes.get(1);
    if (prefix !== undefined) prefix.hits = 5;
    expect(answer(state, 3000, 50)).toEqual(["cut 0 to 0"]);
    expect(filesOf(state)).toEqual([[1000, 50]]);
  });

  test("count as they have turned out, and more than may be is not kept", () => {
    const state = withFiles({ spillBytes: 450 });
    answer(state, 1000, 50);
    addRequest(state, "a", { prompt: text(2000, 50), maxTokens: 1 });
    const plan = planStep(state, 0);
    beginStep(state, plan, 0);
    const [save] = plan.boundary;
    expect(save?.type).toBe("save");
    if (save?.type !== "save") return;
    expect(noteSaved(state, save.prefix, 451, 1)).toBe(false);
    expect(filesOf(state)).toEqual([]);
    expect(noteSaved(state, save.prefix, 450, 1)).toBe(true);
    expect(state.spill?.prefixes.get(save.prefix.id)?.bytes).toBe(450);
  });

  test("have to be enough once no more could be written", () => {
    const state = withFiles();
    answer(state, 1000, 50);
    answer(state, 2000, 50);
    noteSaveFailed(state);
    expect(state.spill?.limitBytes).toBe(5000);
    for (let failures = 1; failures < 6; failures++) noteSaveFailed(state);
    expect(state.spill?.limitBytes).toBe(210);
    answer(state, 3000, 50, 60_000);
    expect(filesOf(state)).toEqual([[2000, 50]]);
  });

  test("count as computed where the time to the first token is predicted", () => {
    const state = withFiles();
    answer(state, 1000, 50);
    answer(state, 2000, 50);
    const request = { prompt: text(1000, 60), cacheKey: "", reusePrefix: true };
    expect(tokensToCompute(state, request)).toBe(10);
    expect(tokensToCompute(state, { ...request, cacheKey: "other" })).toBe(60);
  });
});

describe("reading a file", () => {
  /** A state whose only file has the first 50 tokens of 1000. */
  function oneFile(config: Partial<SchedulerConfig> = {}): SchedulerState {
    const state = withFiles(config);
    answer(state, 1000, 50);
    for (let i = 0; i < (config.slots ?? 1); i++)
      addRequest(state, `x${i}`, { prompt: text(2000 + 100 * i, 15), maxTokens: 1 });
    finish(state);
    expect(filesOf(state)).toEqual([[1000, 50]]);
    return state;
  }

  test("is done once for prompts that come together: the others wait a step and copy", () => {
    const state = oneFile({ slots: 3 });
    for (const id of ["a", "b"]) addRequest(state, id, { prompt: text(1000, 60), maxTokens: 1 });
    const first = runStep(state, 0);
    expect(first.assignments.map(({ request, restore }) => [request, restore])).toEqual([["a", 1]]);
    expect(first.held).toEqual(["b"]);
    const { operations } = finish(state, 1);
    expect(operations.filter((operation) => operation.startsWith("copy"))).toHaveLength(1);
    expect(operations.filter((operation) => operation.startsWith("restore"))).toEqual([]);
  });

  test("is not done where computing is cheaper", () => {
    const state = oneFile();
    state.cost = { ...state.cost, spill: { ...SPILL_COST, restore: { callMs: 1000, byteMs: 0, scale: 1 } } };
    addRequest(state, "a", { prompt: text(1000, 60), maxTokens: 1 });
    expect(finish(state).operations).toEqual(["cut 0 to 0"]);
  });

  test("cuts what is of no use, to the grid where outputs may not depend on it", () => {
    const state = oneFile({ deterministic: true });
    addRequest(state, "a", { prompt: Uint32Array.of(...text(1000, 34), ...text(7000, 30)), maxTokens: 1 });
    const { operations } = finish(state);
    expect(operations).toEqual(["save 0: 2", "restore 0: 1", "cut 0 to 30"]);
    expect(filesOf(state)).toContainEqual([1000, 50]);
  });

  test("that fails leaves the request with its whole prompt to compute", () => {
    const state = oneFile();
    addRequest(state, "a", { prompt: text(1000, 60), maxTokens: 1 });
    const plan = planStep(state, 0);
    beginStep(state, plan, 0);
    const restore = plan.boundary.find(({ type }) => type === "restore");
    expect(state.requests.get("a")?.cachedTokens).toBe(50);
    if (restore?.type !== "restore") throw new Error("nothing is read");
    const [owner] = state.owners.values();
    const { served = 0 } = owner ?? {};
    noteRestoreFailed(state, restore.prefix, restore.slot);
    // Fifty tokens are computed that were to be reused for a tenth of their price.
    expect((owner?.served ?? 0) - served).toBe(45);
    expect(state.requests.get("a")).toMatchObject({ cachedTokens: 0, phase: "prefill", slot: 0 });
    expect(filesOf(state)).toEqual([]);
    const next = runStep(state, 1);
    expect(next.calls[0]?.entries[0]).toMatchObject({ position: 0, request: "a" });
    finish(state, 2);
  });
});

describe("a slot with a queued copy", () => {
  /** Slot 1 has been given a copy of slot 0, and its request is gone before a call has run. */
  function copied(): SchedulerState {
    const state = withFiles({ slots: 2 });
    answer(state, 1000, 50);
    addRequest(state, "a", { prompt: text(1000, 60), maxTokens: 50 });
    runStep(state, 0);
    addRequest(state, "b", { prompt: text(1000, 60), maxTokens: 1 });
    const plan = planStep(state, 1);
    expect(operationsOf(plan)[0]).toBe("copy 0 to 1");
    beginStep(state, plan, 1);
    for (const id of ["a", "b"]) cancel(state, id, 1);
    return state;
  }

  test("is neither saved nor read into, until a call has run", () => {
    const state = copied();
    expect(state.inCopies).toEqual(new Set([0, 1]));
    addRequest(state, "c", { prompt: text(5000, 50), maxTokens: 1 });
    addRequest(state, "d", { prompt: text(6000, 50), maxTokens: 1 });
    const plan = runStep(state, 2);
    expect(operationsOf(plan).filter((operation) => operation.startsWith("save"))).toEqual([]);
    expect(state.inCopies.size).toBe(0);
    finish(state, 3);
  });
});

describe("a prompt that is to be kept", () => {
  const DAY_MS = 86_400_000;

  /** Keeps one of four prompts, when there is room for two of them in files, and tells which are there in the end. */
  function left(keepMs: number, nowMs: number): number[] {
    const state = withFiles({ spillBytes: 500 });
    addRequest(state, "kept", { prompt: text(1000, 50), maxTokens: 1, keepMs }, 0);
    finish(state);
    for (const [i, first] of [2000, 3000, 4000, 5000].entries()) answer(state, first, 50, nowMs + 1000 * i);
    return filesOf(state).map(([first]) => first ?? -1);
  }

  test("stays when later ones as dear take each other's place, for as long as was asked", () => {
    expect(left(0, 1000)).not.toContain(1000);
    expect(left(DAY_MS, 1000)).toContain(1000);
    // As dear as any by then.
    expect(left(500, 1000)).not.toContain(1000);
  });

  test("comes back with its file, goes on with its slot, and is kept once among copies", () => {
    const state = withFiles({ slots: 2 });
    addRequest(state, "kept", { prompt: text(1000, 50), maxTokens: 1, keepMs: DAY_MS }, 0);
    addRequest(state, "twin", { prompt: text(1000, 50), maxTokens: 1, keepMs: DAY_MS }, 0);
    finish(state);
    expect(state.slots.filter(({ keepUntilMs }) => keepUntilMs > 0)).toHaveLength(1);
    addRequest(state, "b", { prompt: text(2000, 50), maxTokens: 1 }, 50);
    addRequest(state, "c", { prompt: text(3000, 50), maxTokens: 1 }, 50);
    finish(state, 50);
    expect(state.slots.map(({ keepUntilMs }) => keepUntilMs)).toEqual([0, 0]);
    expect([...(state.spill?.prefixes.values() ?? [])].map(({ keepUntilMs }) => keepUntilMs)).toEqual([
      DAY_MS,
    ]);
    addRequest(state, "again", { prompt: text(1000, 70), maxTokens: 1 }, 100);
    finish(state, 100);
    expect(state.slots.map(({ keepUntilMs }) => keepUntilMs)).toContain(DAY_MS);
  });

  test("is kept on in the longer file that takes the place of its own", () => {
    const state = withFiles();
    addRequest(state, "kept", { prompt: text(1000, 50), maxTokens: 1, keepMs: DAY_MS }, 0);
    finish(state);
    answer(state, 2000, 50, 100);
    expect(filesOf(state)).toEqual([[1000, 50]]);
    addRequest(state, "longer", { prompt: text(1000, 120), maxTokens: 1, reusePrefix: false }, 200);
    finish(state, 200);
    answer(state, 3000, 50, 300);
    const files = [...(state.spill?.prefixes.values() ?? [])].filter(({ tokens }) => tokens[0] === 1000);
    expect(files.map(({ length, keepUntilMs }) => [length, keepUntilMs])).toEqual([[120, DAY_MS]]);
  });

  test("is kept on in the copy that another request goes on with, when its own slot is given away", () => {
    const state = schedulerState({ slots: 2 });
    addRequest(state, "kept", { prompt: text(1000, 50), maxTokens: 1, keepMs: DAY_MS }, 0);
    addRequest(state, "twin", { prompt: text(1000, 60), maxTokens: 100 }, 0);
    for (let i = 0; state.requests.has("kept"); i++) runStep(state, i);
    for (let i = 0; state.requests.get("twin")?.phase !== "decode"; i++) runStep(state, 20 + i);
    expect(state.slots.map(({ keepUntilMs }) => keepUntilMs)).toEqual([DAY_MS, 0]);
    addRequest(state, "other", { prompt: text(2000, 50), maxTokens: 1 }, 50);
    expect(runStep(state, 50).assignments).toMatchObject([{ request: "other", slot: 0, reuse: 0 }]);
    expect(state.slots.map(({ keepUntilMs }) => keepUntilMs)).toEqual([0, DAY_MS]);
  });

  test("is not taken for the little of it that another one has", () => {
    const state = schedulerState({ slots: 2 });
    addRequest(state, "kept", { prompt: text(1000, 50), maxTokens: 1, keepMs: DAY_MS }, 0);
    const other = Uint32Array.from([...text(1000, 20), ...text(7000, 40)]);
    addRequest(state, "like", { prompt: other, maxTokens: 100 }, 0);
    for (let i = 0; state.requests.has("kept"); i++) runStep(state, i);
    for (let i = 0; state.requests.get("like")?.phase !== "decode"; i++) runStep(state, 20 + i);
    addRequest(state, "third", { prompt: text(2000, 50), maxTokens: 1 }, 50);
    expect(runStep(state, 50).assignments).toMatchObject([{ request: "third", slot: 0 }]);
    expect(state.slots.map(({ keepUntilMs }) => keepUntilMs)).toEqual([0, 0]);
  });

  test("is kept on in a file of it that nobody has asked to keep", () => {
    const state = withFiles();
    answer(state, 1000, 50, 0);
    answer(state, 2000, 50, 100);
    // Not read back: its cells are computed again beside the file.
    addRequest(
      state,
      "kept",
      { prompt: text(1000, 50), maxTokens: 1, keepMs: DAY_MS, reusePrefix: false },
      200,
    );
    finish(state, 200);
    expect(state.slots[0]?.keepUntilMs).toBeGreaterThan(DAY_MS);
    answer(state, 2000, 50, 300);
    const marks = [...(state.spill?.prefixes.values() ?? [])].filter(
      ({ keepUntilMs = 0 }) => keepUntilMs > 0,
    );
    expect(marks.map(({ tokens, length }) => [tokens[0], length])).toEqual([[1000, 50]]);
    expect(state.slots[0]?.keepUntilMs).toBe(0);
  });

  test("whatever comes, is marked in some place as long as most of it is somewhere", () => {
    const request = fc.record({
      text: fc.nat(3),
      tokens: fc.integer({ min: 5, max: 70 }),
      maxTokens: fc.integer({ min: 1, max: 30 }),
      keepMs: fc.constantFrom(0, 0, DAY_MS),
      reusePrefix: fc.constantFrom(true, true, true, false),
      steps: fc.nat(12),
    });
    let passedOn = 0;
    fc.assert(
      fc.property(
        fc.record({
          slots: fc.integer({ min: 1, max: 4 }),
          spillBytes: fc.constantFrom(0, 700),
          prefixTreeSlots: fc.constantFrom(1, 64),
        }),
        fc.array(request, { minLength: 4, maxLength: 25 }),
        (config, requests) => {
          const state = schedulerState(config);
          const holders = (): (Slot | SpilledPrefix)[] => [
            ...state.slots,
            ...(state.spill?.prefixes.values() ?? []),
          ];
          let nowMs = 0;
          const step = (): void => {
            const marked = state.slots.filter(({ keepUntilMs }) => keepUntilMs > nowMs);
            const before = marked.map(({ id, tokens, length, keepUntilMs }) => ({
              id,
              tokens: tokens.slice(0, length),
              keepUntilMs,
            }));
            const { calls } = runStep(state, (nowMs += 5));
            // What this very step computes was not there when the slot was given away.
            const computed = new Map<Slot | SpilledPrefix | undefined, number>();
            for (const { slot, position } of calls.flatMap(({ entries }) => entries).reverse())
              computed.set(state.slots[slot], position);
            for (const { id, tokens, keepUntilMs } of before) {
              const most = holders().filter((holder) => {
                const there = Math.min(tokens.length, computed.get(holder) ?? holder.length);
                return 2 * commonPrefixLength(tokens, holder.tokens, there) >= tokens.length;
              });
              const kept = most.filter((holder) => (holder.keepUntilMs ?? 0) >= keepUntilMs);
              expect(kept.length).toBeGreaterThanOrEqual(Math.min(1, most.length));
              if (kept.length > 0 && kept.every((holder) => holder !== state.slots[id])) passedOn += 1;
            }
          };
          for (const [i, { text: which, tokens, steps, ...asked }] of requests.entries()) {
            addRequest(state, `${i}`, { ...asked, prompt: text(1000 * which, tokens) }, nowMs);
            for (let rest = steps; rest > 0; rest--) step();
          }
          while (state.requests.size > 0) step();
        },
      ),
      { numRuns: 60 },
    );
    expect(passedOn).toBeGreaterThan(50);
  });

  test("keeps its slot where another one will do", () => {
    const state = schedulerState({ slots: 2 });
    addRequest(state, "kept", { prompt: text(1000, 50), maxTokens: 1, keepMs: DAY_MS }, 0);
    finish(state);
    answer(state, 2000, 50, 100);
    answer(state, 2000, 50, 200);
    answer(state, 3000, 50, 300);
    expect(state.slots.map(({ tokens }) => tokens[0])).toContain(1000);
  });
});
