/** Whether an output can begin, against asking every token. */
import * as fc from "fast-check";
import { expect, test } from "vitest";
import { FirstTokens } from "../../../engine/llama/first-token.ts";
import type { Vocabulary } from "../../../engine/llama/vocabulary.ts";

function vocabularyOf(texts: readonly string[], endTokens: readonly number[]): Vocabulary {
  const pieces = texts.map((text) => Buffer.from(text));
  const tokenOffsets = new Uint32Array(pieces.length + 1);
  pieces.forEach((piece, token) => (tokenOffsets[token + 1] = (tokenOffsets[token] ?? 0) + piece.length));
  return {
    vocabSize: texts.length,
    tokenBytes: Buffer.concat(pieces),
    tokenOffsets,
    tokenAttributes: new Uint16Array(texts.length),
    endTokens,
  };
}

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
      expect(new FirstTokens(vocabulary).some(accepts, banned, Infinity)).toBe(every);
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
  expect(new FirstTokens(vocabularyOf(texts, [])).some(accepts, new Set([1]), 4)).toBe(false);
  expect(asked).toEqual([0, 1]);
});

test("it gives the benefit of the doubt rather than ask for ever", () => {
  const texts = Array.from({ length: 300_000 }, (_, i) => String.fromCodePoint(0x10000 + i));
  let asked = 0;
  const refuse = (): boolean => {
    asked++;
    return false;
  };
  expect(new FirstTokens(vocabularyOf(texts, [])).some(refuse, new Set([1]), 100)).toBe(true);
  expect(asked).toBeLessThanOrEqual(100);
});
