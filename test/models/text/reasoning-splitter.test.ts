import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { MARKER_SPACE_LIMIT, ReasoningSplitter } from "../../../models/text/reasoning-splitter.ts";
import { cutAt } from "../token-tables.ts";

const MARKERS = { start: "<think>", end: "</think>" };

function split(chunks: readonly string[], opened = false) {
  const splitter = new ReasoningSplitter({ ...MARKERS, opened });
  const pieces = [...chunks.flatMap((chunk) => splitter.push(chunk)), ...splitter.flush()];
  const source = chunks.join("");
  for (const piece of pieces) {
    expect(source.slice(piece.start, piece.start + piece.text.length)).toBe(piece.text);
  }
  const of = (kind: string): string =>
    pieces
      .filter((piece) => piece.kind === kind)
      .map((piece) => piece.text)
      .join("");
  return { reasoning: of("reasoning"), content: of("content") };
}

function oracle(text: string, opened: boolean): { reasoning: string; content: string } {
  const start = /^[ \t\r\n]*<think>/.exec(text)?.[0];
  if (start === undefined && !opened) return { reasoning: "", content: text };
  const body = text.slice(start?.length ?? 0).replace(/^[\r\n]+/, "");
  const end = body.indexOf("</think>");
  if (end === -1) return { reasoning: body, content: "" };
  return {
    reasoning: body.slice(0, end).replace(/[ \t\r\n]+$/, ""),
    content: body.slice(end + "</think>".length).replace(/^[ \t\r\n]+/, ""),
  };
}

describe("ReasoningSplitter", () => {
  it("splits the same way however the text is cut", () => {
    const text = fc
      .array(fc.constantFrom("<think>", "</think>", "<", "</", "think", ">", " ", "\n", "\n\n", "x", "é😀"), {
        maxLength: 12,
      })
      .map((parts) => parts.join(""));
    fc.assert(
      fc.property(text, fc.array(fc.nat(60)), fc.boolean(), (whole, places, opened) => {
        const chunks = cutAt(Array.from(whole), places).map((units) => units.join(""));
        expect(split(chunks, opened)).toEqual(oracle(whole, opened));
      }),
      { numRuns: 5000 },
    );
  });

  it("drops the markers and the white space that belongs to them", () => {
    expect(split(["<think>\n7 + 5 = 12.\n</think>\n\n12"])).toEqual({
      reasoning: "7 + 5 = 12.",
      content: "12",
    });
  });

  it("begins with reasoning when the prompt has opened it", () => {
    expect(split(["\nHm.\n</think>\nYes.\n"], true)).toEqual({ reasoning: "Hm.", content: "Yes.\n" });
  });

  it("swallows a start marker that the model repeats after an opened prompt", () => {
    expect(split(["<think>\nHm.</think>Yes."], true)).toEqual({ reasoning: "Hm.", content: "Yes." });
  });

  it("takes a start marker after the beginning as content", () => {
    expect(split(["Use <think>a</think>."])).toEqual({
      reasoning: "",
      content: "Use <think>a</think>.",
    });
    expect(split(["<think>a</think> b <think>c</think>"])).toEqual({
      reasoning: "a",
      content: "b <think>c</think>",
    });
  });

  it("takes all of an output that never closes as reasoning", () => {
    expect(split(["<think>", "still at it </thi"])).toEqual({
      reasoning: "still at it </thi",
      content: "",
    });
  });

  it("keeps the white space of an output without reasoning", () => {
    expect(split(["  ", "\n<thi", "s>"])).toEqual({ reasoning: "", content: "  \n<this>" });
  });

  it("holds back a bounded run of white space, the same one for every cut", () => {
    const spaces = " ".repeat(3 * MARKER_SPACE_LIMIT);
    const text = `<think>a${spaces}</think>b`;
    const expected = { reasoning: `a${" ".repeat(2 * MARKER_SPACE_LIMIT)}`, content: "b" };
    expect(split([text])).toEqual(expected);
    expect(split(Array.from(text))).toEqual(expected);
    const splitter = new ReasoningSplitter({ ...MARKERS, opened: true });
    const shown = splitter.push(`a${spaces}`).map((piece) => piece.text);
    expect(shown.join("")).toHaveLength(1 + 2 * MARKER_SPACE_LIMIT);
  });
});
