import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { findMark, openLength } from "../../../models/text/marks.ts";

const marksOf = (...texts: readonly string[]): { text: string }[] => texts.map((text) => ({ text }));

describe("findMark", () => {
  it.each([
    ["a<b>c</b>", ["</b>", "<b>"], 1, "<b>"],
    ["<tool_call>", ["<tool_call>", "<tool"], 0, "<tool_call>"],
    ["<tool_call>", ["<tool", "<tool_call>"], 0, "<tool"],
  ])("in %s finds of %j the first", (text, marks, at, mark) => {
    expect(findMark(text, marksOf(...marks))).toEqual({ at, mark: { text: mark } });
  });

  it("finds none where there is none", () => {
    expect(findMark("<b", marksOf("<b>"))).toBeUndefined();
    expect(findMark("", marksOf("a"))).toBeUndefined();
    expect(findMark("a", [])).toBeUndefined();
  });
});

describe("openLength", () => {
  it.each([
    ["a<", ["<b>"], 1],
    ["a<b", ["<b>", "b!"], 2],
    ["a<b>", ["<b>"], 0],
    ["aba", ["abab"], 3],
    ["ab", ["bcd", "abc"], 2],
    ["", ["a"], 0],
    ["a", [], 0],
  ])("of %j with %j is %i", (text, marks, expected) => {
    expect(openLength(text, marksOf(...marks))).toBe(expected);
  });

  it("never lets out a part of a mark that is complete later", () => {
    const text = fc.string({ unit: fc.constantFrom("a", "b"), maxLength: 8 });
    const marks = fc.array(fc.string({ unit: fc.constantFrom("a", "b"), minLength: 1, maxLength: 6 }), {
      maxLength: 3,
    });
    fc.assert(
      fc.property(text, text, marks, (before, after, texts) => {
        const whole = findMark(before + after, marksOf(...texts))?.at ?? Infinity;
        fc.pre(findMark(before, marksOf(...texts)) === undefined);
        expect(whole).toBeGreaterThanOrEqual(before.length - openLength(before, marksOf(...texts)));
      }),
      { numRuns: 500 },
    );
  });
});
