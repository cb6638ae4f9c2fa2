/**
 * Pinned prefixes: whatever comes, whose prompt begins with one finds it computed, in any scope, and it is never dropped for
 * anything else.
 */
import * as fc from "fast-check";
import { expect, test } from "vitest";
import { noteRestoreFailed, pin, spilledBytes, unpin } from "../../../engine/scheduler/spill-transitions.ts";
import { pinKey, pinKeyOf, pinnedTokens } from "../../../engine/scheduler/pins.ts";
import { tokensToCompute } from "../../../engine/scheduler/entry.ts";
import { cancel, releaseCancelled } from "../../../engine/scheduler/transitions.ts";
import { PriorityClass } from "../../../engine/sharing.ts";
import type { AdapterSet } from "../../../engine/adapters.ts";
import type {
  PinnedPrefix,
  SchedulerConfig,
  SchedulerState,
  StepPlan,
} from "../../../engine/scheduler/types.ts";
import { SPILL_COST, addRequest, planMs, runStep, schedulerState } from "../../support/scheduler.ts";

const ADAPTED: AdapterSet = { key: "set", uses: [{ adapter: 0, scale: 1 }] };

const textOf = (name: string, length: number): Uint32Array =>
  Uint32Array.from({ length }, (_, i) => 500 + name.charCodeAt(0) * 100 + i);

function pinned(
  state: SchedulerState,
  name: string,
  length: number,
  more: Partial<PinnedPrefix> = {},
): PinnedPrefix {
  const { config } = state;
  const firstCell = config.canRewind || length <= (config.windowTokens ?? 0) ? 0 : length;
  const gridEnd = Math.floor(length / config.prefillChunk) * config.prefillChunk;
  const bytes = SPILL_COST.fileBytes + SPILL_COST.tokenBytes * length;
  const id = state.spill?.nextId ?? 0;
  const cells = { id, name, tokens: textOf(name, length), length, cacheKey: "", bytes };
  const prefix = { ...cells, firstCell, gridEnd, tailEnd: length, lastUseMs: 0, hits: 0, ...more };
  pin(state, prefix, true);
  return prefix;
}

const behind = (prefix: PinnedPrefix, more: readonly number[]): Uint32Array =>
  Uint32Array.from([...prefix.tokens, ...more]);

const spilling = (config: Partial<SchedulerConfig> = {}): SchedulerState =>
  schedulerState({ spillBytes: 400, ...config });

const reuseOf = ({ assignments }: StepPlan, id: string): number | undefined =>
  assignments.find(({ request }) => request === id)?.reuse;

test("of a prompt as much is pinned as a request reuses of it", () => {
  const lengths = [0, 7, 15, 16, 17, 19, 20, 31, 32].map((length) =>
    pinnedTokens(length, { prefillChunk: 16, deterministic: false }),
  );
  expect(lengths).toEqual([0, 7, 15, 16, 16, 16, 20, 31, 32]);
  expect(pinnedTokens(3, { prefillChunk: 16, deterministic: false })).toBe(0);
  expect(pinnedTokens(31, { prefillChunk: 16, deterministic: true })).toBe(16);
});

test("a key says with which adapters what is pinned has been computed", () => {
  expect([pinKey(undefined), pinKey(ADAPTED)]).toEqual(["", "set"]);
  expect([pinKeyOf(""), pinKeyOf('["a",null]'), pinKeyOf('set\n["a",null]')]).toEqual(["", "", "set"]);
});

test("each scope reads it, and what goes on behind it stays in its own", () => {
  const state = spilling({ slots: 2 });
  const prefix = pinned(state, "p", 24);
  addRequest(state, "a", { prompt: behind(prefix, [1, 2, 3, 4, 5]), cacheKey: "one", maxTokens: 4 });
  expect(runStep(state, 0)).toMatchObject({ assignments: [{ slot: 0, reuse: 24, restore: prefix.id }] });
  addRequest(state, "b", { prompt: behind(prefix, [1, 2, 3, 4, 5]), cacheKey: "two", maxTokens: 4 });
  expect(runStep(state, 1)).toMatchObject({ assignments: [{ slot: 1, reuse: 24, restore: prefix.id }] });
  expect(state.slots.map(({ cacheKey }) => cacheKey)).toEqual(["one", "two"]);
  expect(state.spill?.pins.get(prefix.id)?.hits).toBe(2);
});

test("what was computed with adapters is not read without them, nor the other way round", () => {
  const state = spilling({ slots: 2 });
  const plain = pinned(state, "p", 24);
  const adapted = pinned(state, "p", 20, { cacheKey: "set" });
  addRequest(state, "a", { prompt: behind(plain, [1]), maxTokens: 4 });
  expect(reuseOf(runStep(state, 0), "a")).toBe(24);
  addRequest(state, "b", { prompt: behind(plain, [1]), maxTokens: 4, adapters: ADAPTED, cacheKey: "set\n" });
  expect(runStep(state, 1)).toMatchObject({ assignments: [{ reuse: 20, restore: adapted.id }] });
});

test("it is read beside streams, and where computing it would be cheaper", () => {
  const state = spilling({ slots: 2, itlTargetMs: 20 });
  const prefix = pinned(state, "p", 24, { bytes: 50_000 });
  addRequest(state, "stream", { maxTokens: 50 });
  runStep(state, 0);
  addRequest(state, "a", { prompt: behind(prefix, [1, 2, 3]), maxTokens: 4 });
  const plan = runStep(state, 1);
  expect(plan).toMatchObject({ assignments: [{ reuse: 24, restore: prefix.id }] });
  // A second of the device, beside which the prompt would take 60 ms.
  expect(plan.keepingMs).toBe(1001);
});

test("a prompt that has only a part of it takes that where it pays", () => {
  const state = spilling({ slots: 2 });
  const prefix = pinned(state, "p", 24);
  addRequest(state, "a", { prompt: Uint32Array.from([...prefix.tokens.slice(0, 20), 1, 2]), maxTokens: 4 });
  expect(runStep(state, 0)).toMatchObject({ assignments: [{ reuse: 20, restore: prefix.id }] });
});

test("who asks whether there is time for a prompt is told without what is pinned", () => {
  const state = spilling();
  const prefix = pinned(state, "p", 24);
  const request = { prompt: behind(prefix, [1, 2, 3]), cacheKey: "any", reusePrefix: true };
  expect(tokensToCompute(state, request)).toBe(3);
  expect(tokensToCompute(state, { ...request, adapters: ADAPTED })).toBe(27);
  expect(tokensToCompute(state, { ...request, reusePrefix: false })).toBe(27);
});

test("who needs a slot that is being copied waits for the copy, rather than go without", () => {
  const state = spilling({ slots: 3 });
  const prefix = pinned(state, "p", 24);
  addRequest(state, "first", { prompt: textOf("x", 30), maxTokens: 1 });
  for (let i = 0; i < 8; i++) runStep(state, i);
  expect(state.requests.size).toBe(0);
  // Both other slots are taken.
  for (const id of ["s1", "s2"]) addRequest(state, id, { maxTokens: 40 });
  runStep(state, 10);
  cancel(state, "s1", 11);
  releaseCancelled(state, 11);
  // One copies the idle slot, which is the only one left.
  addRequest(state, "copies", { prompt: Uint32Array.from([...textOf("x", 24), 1, 2]), maxTokens: 9 });
  addRequest(state, "pin", { prompt: behind(prefix, [5]), maxTokens: 2 });
  for (let i = 12; i < 30; i++) {
    const reuse = reuseOf(runStep(state, i), "pin");
    if (reuse !== undefined) expect(reuse).toBe(24);
  }
  expect(state.requests.has("pin")).toBe(false);
});

test("one that cannot be read is gone, and its room stays for it", () => {
  const state = spilling();
  const prefix = pinned(state, "p", 24);
  expect(state.spill?.limitBytes).toBe(400 - 106);
  noteRestoreFailed(state, prefix, 0);
  expect([state.spill?.pins.size, state.spill?.pinOrder.size, state.spill?.limitBytes]).toEqual([0, 0, 294]);
  pin(state, { ...prefix, id: 9 }, false);
  expect([state.spill?.pins.size, state.spill?.nextId, state.spill?.limitBytes]).toEqual([1, 10, 294]);
  unpin(state, 9, 106);
  expect([state.spill?.pins.size, state.spill?.limitBytes]).toEqual([0, 400]);
});

test("one that is larger than the room that is left takes no more than that, and gives no more back", () => {
  const state = spilling();
  const prefix = pinned(state, "p", 24);
  if (state.spill !== undefined) state.spill.limitBytes = 50;
  const takenBytes = pin(state, { ...prefix, id: 9 }, true);
  expect([takenBytes, state.spill?.limitBytes]).toEqual([50, 0]);
  expect(pin(state, { ...prefix, id: 10 }, true)).toBe(0);
  unpin(state, 9, takenBytes);
  expect(state.spill?.limitBytes).toBe(50);
});

test("under any traffic nothing that is pinned is dropped, half there or not found", () => {
  const request = fc.record({
    /** Of which pinned prefix it has how much, in tenths. */
    pin: fc.nat(2),
    share: fc.constantFrom(10, 10, 10, 7, 0),
    family: fc.nat(5),
    size: fc.integer({ min: 1, max: 24 }),
    scope: fc.nat(2),
    adapted: fc.boolean(),
    owner: fc.nat(2),
    priority: fc.constantFrom(...Object.values(PriorityClass)),
    maxTokens: fc.integer({ min: 1, max: 8 }),
    keeps: fc.boolean(),
    stepsBefore: fc.nat(4),
    cancels: fc.option(fc.nat(8), { nil: undefined, freq: 4 }),
  });
  const settings = fc.record({
    slots: fc.integer({ min: 1, max: 4 }),
    itlTargetMs: fc.constantFrom(5, 60, 1000),
    deterministic: fc.boolean(),
    prefixTreeSlots: fc.constantFrom(1, 64),
    spillBytes: fc.constantFrom(450, 700, 5000),
    memory: fc.constantFrom<Partial<SchedulerConfig>>(
      {},
      {},
      { canRewind: false },
      { canRewind: false, checkpoints: { needs: "none", bytes: 600 } },
      { canRewind: false, checkpoints: { needs: "own-cells", bytes: 600 }, windowTokens: 6 },
    ),
    /** A restore that takes longer than all else. */
    slowFiles: fc.boolean(),
  });
  const seen = { found: 0, read: 0, saved: 0, dropped: 0, copied: 0, held: 0, evicted: 0 };
  fc.assert(
    fc.property(
      settings,
      fc.array(request, { minLength: 4, maxLength: 24, size: "max" }),
      ({ memory, slowFiles, ...config }, requests) => {
        const state = spilling({ ...config, ...memory });
        if (slowFiles && state.cost.spill !== undefined) {
          const restore = { callMs: 300, byteMs: 1, scale: 1 };
          state.cost = { ...state.cost, spill: { ...state.cost.spill, restore } };
        }
        const { config: used } = state;
        const pins = [
          pinned(state, "p", pinnedTokens(24, used)),
          // One that goes on from it.
          pinned(state, "p", pinnedTokens(33, used)),
          pinned(state, "q", pinnedTokens(18, used), { cacheKey: "set" }),
        ];
        const whole = new Map(pins.map((prefix) => [prefix.id, structuredClone(prefix.tokens)]));
        let nowMs = 0;
        const step = (): void => {
          releaseCancelled(state, nowMs);
          // The invariants ask for each admission whether it has what is pinned.
          const plan = runStep(state, nowMs);
          nowMs += planMs(plan) + 1;
          for (const { reuse, restore } of plan.assignments) {
            seen.found += reuse >= 18 ? 1 : 0;
            seen.read += whole.has(restore ?? -1) ? 1 : 0;
          }
          for (const { type } of plan.boundary) {
            if (type === "save") seen.saved += 1;
            if (type === "drop") seen.dropped += 1;
            if (type === "copy") seen.copied += 1;
          }
          seen.held += plan.held.length;
          seen.evicted += plan.evictions.length;
          const { spill } = state;
          expect([...(spill?.pins.keys() ?? [])]).toEqual([...whole.keys()]);
          for (const prefix of spill?.pins.values() ?? [])
            expect(prefix.tokens).toEqual(whole.get(prefix.id));
          if (spill !== undefined) expect(spilledBytes(spill)).toBeLessThanOrEqual(spill.limitBytes);
        };
        for (const [i, one] of requests.entries()) {
          for (let n = 0; n < one.stepsBefore; n++) step();
          const from = pins[one.pin];
          const shared = from?.tokens.slice(0, Math.ceil((from.length * one.share) / 10)) ?? [];
          const own = Array.from({ length: one.size }, (_, at) => 10 * one.family + (at % 7));
          const key = one.adapted ? "set\n" : "";
          addRequest(
            state,
            `r${i}`,
            {
              tenant: `o${one.owner}`,
              priority: one.priority,
              prompt: Uint32Array.from([...shared, ...own]),
              cacheKey: `${key}s${one.scope}`,
              adapters: one.adapted ? ADAPTED : undefined,
              maxTokens: one.maxTokens,
              keepMs: one.keeps ? 86_400_000 : 0,
            },
            nowMs,
          );
          if (one.cancels !== undefined) cancel(state, `r${i - one.cancels}`, nowMs);
        }
        for (let n = 0; n < 2000 && state.requests.size > 0; n++) step();
        expect(state.requests.size).toBe(0);
        // The first one after all that finds it as well.
        const [first] = pins;
        if (first === undefined || first.length === 0) return;
        addRequest(state, "last", { prompt: behind(first, [1]), cacheKey: "new", maxTokens: 1 }, nowMs);
        const reuse = reuseOf(runStep(state, nowMs), "last") ?? 0;
        expect(state.inCopies.size > 0 || reuse >= first.length - 1).toBe(true);
      },
    ),
    { numRuns: 100 },
  );
  // All of it came up.
  for (const [what, count] of Object.entries(seen)) expect([what, count > 10]).toEqual([what, true]);
});
