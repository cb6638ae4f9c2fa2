/** What may come next, against asking every token. */
import * as fc from "fast-check";
import { expect, test } from "vitest";
import { NextTokens } from "../../../engine/llama/next-tokens.ts";
import { vocabularyOf } from "../../support/text-vocabulary.ts";

const letters = fc.string({ unit: fc.constantFrom("a", "b", "c"), maxLength: 4 });

test("it is what asking every token says", () => {
  const property = fc.property(
    fc.array(letters, { minLength: 1, maxLength: 40 }),
    fc.array(letters, { maxLength: 4 }),
    fc.infiniteStream(fc.boolean()),
    fc.boolean(),
    (texts, sentences, bans, mayEnd) => {
      const end = texts.length;
      const vocabulary = vocabularyOf([...texts, "</s>"], [end]);
      const banned = new Set(
        Array.from({ length: end + 1 }, (_, token) => token).filter(() => bans.next().value),
      );
      const accepts = (token: number): boolean => {
        if (token === end) return mayEnd;
        const text = texts[token] ?? "";
        return text !== "" && sentences.some((sentence) => sentence.startsWith(text));
      };
      const every = [...texts, "</s>"].some((_, token) => accepts(token) && !banned.has(token));
      const next = new NextTokens(vocabulary);
      expect(next.some(accepts, banned, Infinity)).toBe(every);
      const all = [...texts, "</s>"].flatMap((_, token) => (accepts(token) ? [token] : []));
      expect(next.few(accepts, Infinity, Infinity)?.toSorted((a, b) => a - b)).toEqual(all);
    },
  );
  fc.assert(property, { numRuns: 500 });
});

test("what begins with something that is not accepted is not asked for", () => {
  const texts = ["x", "y", ...Array.from({ length: 1000 }, (_, i) => `x${i}`)];
  const asked: number[] = [];
  const accepts = (token: number): boolean => {
    asked.push(token);
    return texts[token] === "y";
  };
  expect(new NextTokens(vocabularyOf(texts, [])).some(accepts, new Set([1]), 4)).toBe(false);
  expect(asked).toEqual([0, 1]);
});

test("it gives the benefit of the doubt rather than ask for ever", () => {
  const texts = Array.from({ length: 300_000 }, (_, i) => String.fromCodePoint(0x10000 + i));
  let asked = 0;
  const refuse = (): boolean => {
    asked++;
    return false;
  };
  expect(new NextTokens(vocabularyOf(texts, [])).some(refuse, new Set([1]), 100)).toBe(true);
  expect(asked).toBeLessThanOrEqual(100);
});

test("it gives up rather than find out too much, and finds out the little there is", () => {
  const texts = [
    "a",
    "ab",
    "abc",
    "x",
    ...Array.from({ length: 200 }, (_, i) => `x${String.fromCodePoint(0x100 + i)}`),
  ];
  const next = new NextTokens(vocabularyOf(texts, []));
  const prescribed = (token: number): boolean => "abd".startsWith(texts[token] ?? "-");
  expect(next.few(prescribed, 2, 5)).toEqual([0, 1]);
  expect(next.few(prescribed, 2, 3)).toBeUndefined();
  expect(next.few(prescribed, 1, 5)).toBeUndefined();
  expect(next.few(() => true, 5, 1000)).toBeUndefined();
});
