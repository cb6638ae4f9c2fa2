/** Guesses from what was said before: what is proposed, how loops unroll, and what hits and misses teach. */
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { DraftIndex } from "../../../engine/scheduler/draft-index.ts";

describe("guesses", () => {
  test("go on as the text did after the latest occurrence of its last two tokens", () => {
    const index = new DraftIndex([], [1, 2, 3, 4, 1, 2, 9, 8, 7, 1, 2]);
    expect(index.propose(3)).toEqual([9, 8, 7]);
    expect(index.followsPrediction).toBe(false);
  });

  test("unroll a loop beyond the end of the text", () => {
    expect(new DraftIndex([], [5, 6, 5, 6]).propose(5)).toEqual([5, 6, 5, 6, 5]);
    expect(new DraftIndex([], [7, 7, 7]).propose(3)).toEqual([7, 7, 7]);
  });

  test.each([[[]], [[1]], [[1, 2]], [[1, 2, 3]]])("are none in %j", (known) => {
    expect(new DraftIndex([], known).propose(4)).toEqual([]);
  });

  test("follow a predicted output from its first token to its last, and no further", () => {
    const index = new DraftIndex([10, 11, 12, 13], [90, 91, 10, 11]);
    expect(index.propose(3)).toEqual([10, 11, 12]);
    for (const token of [10, 11]) index.push(token);
    expect(index.propose(3)).toEqual([12, 13]);
    expect(index.expectedHits(3)).toBe(index.expectedHits(2));
    expect(index.followsPrediction).toBe(true);
    for (const token of [12, 13]) index.push(token);
    expect([index.guesses, index.followsPrediction]).toEqual([false, false]);
  });

  test("come back to a prediction at once where one token was replaced, else with the next two of it", () => {
    const predicted = [10, 11, 12, 13, 14, 15, 16];
    const replaced = new DraftIndex(predicted, [90]);
    for (const token of [10, 11, 77]) replaced.push(token);
    expect(replaced.propose(2)).toEqual([13, 14]);
    const inserted = new DraftIndex(predicted, [90]);
    for (const token of [10, 77, 78, 79, 11]) inserted.push(token);
    expect(inserted.propose(2)).toEqual([]);
    inserted.push(12);
    expect(inserted.propose(2)).toEqual([13, 14]);
    const removed = new DraftIndex(predicted, [90]);
    for (const token of [10, 13, 14]) removed.push(token);
    expect(removed.propose(2)).toEqual([15, 16]);
  });

  test("stay with a prediction where the output has had the same two tokens later", () => {
    // 5 6 goes on with 7 in one place of the prediction and with 8 in the next.
    const predicted = [1, 2, 5, 6, 7, 3, 4, 5, 6, 8, 9];
    const index = new DraftIndex(predicted, [90]);
    for (const token of predicted.slice(0, 9)) index.push(token);
    expect(index.propose(2)).toEqual([8, 9]);
    const changed = new DraftIndex(predicted, [90]);
    for (const token of [1, 2, 5, 6, 7, 3, 99, 5, 6]) changed.push(token);
    expect(changed.propose(2)).toEqual([8, 9]);
  });

  test("come from a place for as long as it is right, then from where a search finds the last two tokens", () => {
    // More of them than it has room for at first, some given at once and the others one by one.
    const texts = fc.oneof(
      fc.array(fc.nat(3), { maxLength: 40 }),
      fc.array(fc.nat(30), { maxLength: 600, size: "max" }),
    );
    fc.assert(
      fc.property(texts, fc.nat(6), fc.double({ min: 0, max: 1, noNaN: true }), (known, most, share) => {
        const given = Math.floor(share * known.length);
        const index = new DraftIndex([], known.slice(0, given));
        let place = found(known, given);
        for (let at = given; at < known.length; at++) {
          index.push(known[at] ?? 0);
          place = place > 0 && known[place] === known[at] ? place + 1 : found(known, at + 1);
        }
        const expected: (number | undefined)[] = [];
        if (place > 0) for (let i = 0; i < most; i++) expected.push([...known, ...expected][place + i]);
        expect(index.propose(most)).toEqual(expected);
        expect(index.guesses).toBe(place > 0);
        const anew = new DraftIndex([], known).propose(1);
        expect(anew[0]).toBe(found(known, known.length) > 0 ? known[found(known, known.length)] : undefined);
      }),
    );
  });

  test("of an output that was predicted word for word are all right", () => {
    fc.assert(
      fc.property(
        fc.array(fc.nat(9), { minLength: 1, maxLength: 80 }),
        fc.array(fc.nat(9)),
        (predicted, prompt) => {
          const index = new DraftIndex(predicted, prompt);
          for (const token of predicted) {
            expect(index.propose(1)).toEqual([token]);
            index.push(token);
          }
        },
      ),
    );
  });
});

/** Where what followed the latest occurrence of the two tokens before `length` stands; 0 is nowhere. */
function found(known: readonly number[], length: number): number {
  for (let place = length - 1; place >= 2; place--)
    if (known[place - 2] === known[length - 2] && known[place - 1] === known[length - 1]) return place;
  return 0;
}

describe("the hit rate", () => {
  test("rises while a text repeats itself and falls when it stops", () => {
    const index = new DraftIndex([], [1, 2, 1, 2]);
    expect(index.hitRate).toBe(0.3);
    const seen = [1, 2, 1, 2, 1, 2, 1, 2].map((token) => {
      index.push(token);
      return index.hitRate;
    });
    expect(seen).toEqual(seen.toSorted((a, b) => a - b));
    expect(seen.at(-1)).toBeGreaterThan(0.85);
    // A place that was found anew has shown less than one that has been right for long.
    for (const token of [9, 1, 2]) index.push(token);
    expect(index.hitRate).toBeLessThan(0.6);
  });

  test("falls with each text that was found and did not go on", () => {
    const known = Array.from({ length: 20 }, (_, i) => [1, 2, 10 + i]).flat();
    const index = new DraftIndex([], known);
    const rates = Array.from({ length: 12 }, (_, i) => {
      for (const token of [1, 2]) index.push(token);
      const { hitRate } = index;
      index.push(100 + i);
      return hitRate;
    });
    expect(rates[0]).toBe(0.3);
    expect(rates).toEqual(rates.toSorted((a, b) => b - a));
    expect(rates.at(-1)).toBeLessThan(0.1);
  });

  test("is that of the first of several guesses, which are worth the less the more come before them", () => {
    const index = new DraftIndex([1, 2, 3, 4, 5, 6, 7, 8, 9], [4]);
    expect(index.hitRate).toBe(0.8);
    expect(index.expectedHits(2)).toBeCloseTo(0.8 + 0.8 * 0.9, 9);
    const gains = [1, 2, 3, 4, 5, 6].map((n) => index.expectedHits(n) - index.expectedHits(n - 1));
    expect(gains).toEqual(gains.toSorted((a, b) => b - a));
  });
});
