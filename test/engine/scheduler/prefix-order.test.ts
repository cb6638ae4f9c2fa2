/** Prefixes in the order of their tokens: what a text has in common with them is what comparing it with each one tells. */
import * as fc from "fast-check";
import { expect, test } from "vitest";
import { PrefixOrder } from "../../../engine/scheduler/prefix-order.ts";
import { commonPrefixLength } from "../../../engine/scheduler/prefix-reuse.ts";

interface Kept {
  readonly tokens: Uint32Array;
  readonly length: number;
  readonly cacheKey: string;
}

/** Few words, so that texts begin alike, end alike and are the same. */
const words = fc.array(fc.nat(1), { maxLength: 9 }).map((tokens) => Uint32Array.from(tokens));
const kept: fc.Arbitrary<Kept> = fc
  .record({ tokens: words, spare: fc.nat(2), cacheKey: fc.constantFrom("a", "b") })
  .map(({ tokens, spare, cacheKey }) => ({ tokens, length: Math.max(0, tokens.length - spare), cacheKey }));

const isPrefix = (a: Kept, b: Kept): boolean =>
  a.cacheKey === b.cacheKey &&
  a.length <= b.length &&
  commonPrefixLength(a.tokens, b.tokens, a.length) === a.length;

test("whatever comes and goes, one pass finds what comparing with each one finds", () => {
  fc.assert(
    fc.property(
      fc.array(fc.record({ prefix: kept, goes: fc.nat(5) }), { maxLength: 30 }),
      fc.record({ text: words, less: fc.nat(3), cacheKey: fc.constantFrom("a", "b", "c") }),
      (changes, { text, less, cacheKey }) => {
        const order = new PrefixOrder<Kept>();
        const all: Kept[] = [];
        for (const { prefix, goes } of changes) {
          order.add(prefix);
          all.push(prefix);
          const [gone] = goes < 3 ? all.splice((goes * 7) % all.length, 1) : [];
          if (gone !== undefined) expect(order.remove(gone)).toBe(true);
          expect([order.size, order.isOrdered()]).toEqual([all.length, true]);
        }
        const most = Math.max(0, text.length - less);
        const found = new Map<Kept, number>();
        order.eachCommon(cacheKey, text, most, (prefix, common) => found.set(prefix, common));
        const commonOf = ({ tokens, length }: Kept): number =>
          commonPrefixLength(text, tokens, Math.min(most, length));
        const alike = all.filter((prefix) => prefix.cacheKey === cacheKey && commonOf(prefix) > 0);
        expect(found).toEqual(new Map(alike.map((prefix) => [prefix, commonOf(prefix)])));
        const nested = new Map(order.nested());
        expect(nested.size).toBe(all.length);
        for (const [prefix, before] of nested) {
          const shorter = all.filter((other) => other.length < prefix.length && isPrefix(other, prefix));
          expect(before).toBe(Math.max(0, ...shorter.map(({ length }) => length)));
        }
        order.clear();
        expect([order.size, [...order.nested()]]).toEqual([0, []]);
      },
    ),
    { numRuns: 300 },
  );
});

test("what is not there is not removed, and disorder is seen", () => {
  const order = new PrefixOrder<Kept>();
  const tokens = Uint32Array.of(1, 2, 3);
  const prefix = { tokens, length: 3, cacheKey: "" };
  order.add(prefix);
  expect(order.remove({ ...prefix })).toBe(false);
  order.add({ tokens: Uint32Array.of(1, 5), length: 2, cacheKey: "" });
  expect(order.isOrdered()).toBe(true);
  tokens[1] = 9;
  expect(order.isOrdered()).toBe(false);
});
