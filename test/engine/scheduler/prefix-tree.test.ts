/** The tree of what slots hold: whatever happens to slots, it tells of a text what comparing it with each of them tells. */
import * as fc from "fast-check";
import { expect, test } from "vitest";
import { PrefixMark, PrefixTree } from "../../../engine/scheduler/prefix-tree.ts";
import { commonPrefixLength } from "../../../engine/scheduler/prefix-reuse.ts";

const CONTEXT = 200;

interface TestSlot {
  readonly id: number;
  readonly tokens: Uint32Array;
  length: number;
  cacheKey: string;
  readonly mark: PrefixMark;
}

const newSlots = (count: number): TestSlot[] =>
  Array.from({ length: count }, (_, id) => {
    return { id, tokens: new Uint32Array(CONTEXT), length: 0, cacheKey: "", mark: new PrefixMark() };
  });

function cut(slot: TestSlot, length: number): void {
  slot.mark.cut(length);
  slot.length = Math.min(slot.length, length);
}

function append(slot: TestSlot, tokens: Uint32Array): void {
  const fitting = tokens.subarray(0, CONTEXT - slot.length);
  slot.tokens.set(fitting, slot.length);
  slot.length += fitting.length;
}

/** Runs of few words, so that texts begin alike for long, part anywhere, and are the same. */
const text = fc
  .array(fc.record({ word: fc.nat(2), times: fc.integer({ min: 1, max: 40 }) }), { maxLength: 5 })
  .map((runs) =>
    Uint32Array.from(runs.flatMap(({ word, times }) => Array.from({ length: times }, () => word))),
  );
const slot = fc.nat(7);
const key = fc.constantFrom("", "a", "b");
const change = fc.oneof(
  fc.record({ type: fc.constant("append" as const), slot, tokens: text }),
  fc.record({ type: fc.constant("cut" as const), slot, length: fc.nat(CONTEXT) }),
  fc.record({ type: fc.constant("replace" as const), slot, tokens: text }),
  fc.record({ type: fc.constant("copy" as const), slot, from: slot }),
  fc.record({ type: fc.constant("key" as const), slot, key, tokens: text }),
  {
    weight: 4,
    arbitrary: fc.record({ type: fc.constant("ask" as const), tokens: text, less: fc.nat(3), key }),
  },
);
type Change = typeof change extends fc.Arbitrary<infer T> ? T : never;

function apply(slots: readonly TestSlot[], given: Exclude<Change, { type: "ask" }>): void {
  const target = slots[given.slot];
  if (target === undefined) return;
  if (given.type === "append") append(target, given.tokens);
  else if (given.type === "cut") cut(target, given.length);
  else if (given.type === "copy") {
    const source = slots[given.from];
    if (source === undefined || source === target) return;
    cut(target, 0);
    append(target, source.tokens.subarray(0, source.length));
    target.cacheKey = source.cacheKey;
  } else {
    cut(target, 0);
    append(target, given.tokens);
    if (given.type === "key") target.cacheKey = given.key;
  }
}

const compared = (
  slots: readonly TestSlot[],
  cacheKey: string,
  tokens: Uint32Array,
  most: number,
): number[] =>
  slots.map((one) =>
    one.cacheKey === cacheKey ? commonPrefixLength(tokens, one.tokens, Math.min(most, one.length)) : 0,
  );

test("whatever slots get, lose and copy, a walk along the text finds what comparing it with each slot finds", () => {
  let inCommon = 0;
  fc.assert(
    fc.property(fc.array(change, { maxLength: 60, size: "max" }), (changes) => {
      const slots = newSlots(8);
      const tree = new PrefixTree(slots);
      for (const given of changes) {
        if (given.type === "ask") {
          const most = Math.max(0, given.tokens.length - given.less);
          const found = tree.commonTokens(given.key, given.tokens, most);
          expect(found).toEqual(compared(slots, given.key, given.tokens, most));
          inCommon += found.filter((common) => common > 16).length;
        } else apply(slots, given);
        expect(tree.isRight()).toBe(true);
      }
    }),
    { numRuns: 500 },
  );
  expect(inCommon).toBeGreaterThan(500);
});

test("what many slots share is compared with each of them once, and not again", () => {
  const shared = Uint32Array.from({ length: 150 }, (_, i) => i);
  const slots = newSlots(8);
  let reads = 0;
  const counted = slots.map((one) => {
    append(one, shared);
    append(one, Uint32Array.of(1000 + one.id));
    const tokens = new Proxy(one.tokens, {
      get: (target, index) => {
        reads += 1;
        return Reflect.get(target, index, target) as unknown;
      },
    });
    return { ...one, tokens };
  });
  const tree = new PrefixTree(counted);
  const asked = Uint32Array.from([...shared, 7, 8]);
  expect(tree.commonTokens("", asked, 151)).toEqual(slots.map(() => 150));
  expect(reads).toBe(8 * 151);
  reads = 0;
  expect(tree.commonTokens("", asked, 151)).toEqual(slots.map(() => 150));
  expect(reads).toBe(8);
});

test("a slot that changes behind the tree's back is noticed", () => {
  const slots = newSlots(2);
  const tree = new PrefixTree(slots);
  const tokens = new Uint32Array(40).fill(3);
  slots.forEach((one) => append(one, tokens));
  tree.commonTokens("", tokens, 40);
  expect(tree.isRight()).toBe(true);
  slots[1]?.tokens.fill(4);
  expect(tree.isRight()).toBe(false);
});
