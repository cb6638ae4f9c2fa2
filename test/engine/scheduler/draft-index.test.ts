/** Guesses from what was said before: what is proposed, how loops unroll, and what hits and misses teach. */
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { DraftIndex } from "../../../engine/scheduler/draft-index.ts";

describe("guesses", () => {
  test("go on as the text did after the latest occurrence of its last two tokens", () => {
    const index = new DraftIndex([], [1, 2, 3, 4, 1, 2, 9, 8, 7, 1, 2]);
    expect(index.propose(3)).toEqual([9, 8, 7]);
  });

  test("unroll a loop beyond the end of the text", () => {
    expect(new DraftIndex([], [5, 6, 5, 6]).propose(5)).toEqual([5, 6, 5, 6, 5]);
    expect(new DraftIndex([], [7, 7, 7]).propose(3)).toEqual([7, 7, 7]);
  });

  test.each([[[]], [[1]], [[1, 2]], [[1, 2, 3]]])("are none in %j", (known) => {
    expect(new DraftIndex([], known).propose(4)).toEqual([]);
  });

  test("follow a predicted output, and come back to it behind a change", () => {
    const index = new DraftIndex([10, 11, 12, 13, 14, 15, 16], [90, 91, 10, 11]);
    expect(index.propose(3)).toEqual([12, 13, 14]);
    for (const token of [77, 78, 13, 14]) index.push(token);
    expect(index.propose(2)).toEqual([15, 16]);
  });

  test("are what a search through the whole text finds", () => {
    // More of them than it has room for at first, some given at once and the others one by one.
    const texts = fc.oneof(
      fc.array(fc.nat(3), { maxLength: 40 }),
      fc.array(fc.nat(30), { maxLength: 600, size: "max" }),
    );
    fc.assert(
      fc.property(texts, fc.nat(6), fc.double({ min: 0, max: 1, noNaN: true }), (known, most, share) => {
        const given = known.slice(0, Math.floor(share * known.length));
        const index = new DraftIndex([], given);
        for (const token of known.slice(given.length)) index.push(token);
        const [a, b] = known.slice(-2);
        let start = known.length - 1;
        while (start >= 2 && !(known[start - 2] === a && known[start - 1] === b)) start--;
        const expected: (number | undefined)[] = [];
        if (start >= 2) for (let i = 0; i < most; i++) expected.push([...known, ...expected][start + i]);
        expect(index.propose(most)).toEqual(expected);
        expect(index.guesses).toBe(start >= 2);
        expect(new DraftIndex([], known).propose(most)).toEqual(expected);
      }),
    );
  });
});

describe("the hit rate", () => {
  test("rises while a text repeats itself and falls when it stops", () => {
    const index = new DraftIndex([], [1, 2, 1, 2]);
    expect(index.hitRate).toBe(0.3);
    for (const token of [1, 2, 1, 2, 1, 2, 1, 2]) index.push(token);
    expect(index.hitRate).toBeCloseTo(1 - 0.7 * 0.75 ** 8, 9);
    index.push(9);
    expect(index.hitRate).toBeLessThan(0.75);
  });

  test("is not changed by a token that nothing was guessed for", () => {
    const index = new DraftIndex([], [1, 2]);
    index.push(3);
    expect(index.hitRate).toBe(0.3);
  });

  test("begins high for a predicted output", () => {
    expect(new DraftIndex([1, 2, 3], [4]).hitRate).toBe(0.8);
  });
});
