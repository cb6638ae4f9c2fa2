import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { StopMatcher } from "../../../models/text/stop-matcher.ts";
import { cutAt } from "../token-tables.ts";

/** First complete wins, the longest of those complete at the same place. */
function oracle(text: string, stops: readonly string[], include: boolean): { text: string; stop?: string } {
  for (let end = 1; end <= text.length; end++) {
    const [stop] = stops
      .filter((candidate) => candidate !== "" && text.slice(0, end).endsWith(candidate))
      .sort((a, b) => b.length - a.length);
    if (stop !== undefined) return { text: text.slice(0, include ? end : end - stop.length), stop };
  }
  return { text };
}

function heldLength(text: string, stops: readonly string[]): number {
  for (let length = text.length; length > 0; length--) {
    const tail = text.slice(text.length - length);
    if (stops.some((stop) => stop.length > length && stop.startsWith(tail))) return length;
  }
  return 0;
}

function run(chunks: readonly string[], stops: readonly string[], include = false) {
  const matcher = new StopMatcher(stops, { include });
  const texts = chunks.map((chunk) => matcher.push(chunk));
  return { texts: [...texts, matcher.flush()], stop: matcher.matched };
}

const few = fc.string({ unit: fc.constantFrom("a", "b", "é", "😀", "😁"), maxLength: 24 });
const stopList = fc.array(fc.string({ unit: fc.constantFrom("a", "b", "é", "😀"), maxLength: 5 }), {
  maxLength: 4,
});

describe("StopMatcher", () => {
  it("row 78: finds what a search of the whole text finds, however the text is cut", () => {
    fc.assert(
      fc.property(few, stopList, fc.array(fc.nat(30)), fc.boolean(), (text, stops, places, include) => {
        const chunks = cutAt(Array.from(text), places).map((units) => units.join(""));
        const { texts, stop } = run(chunks, stops, include);
        expect({ text: texts.join(""), stop }).toEqual({ stop: undefined, ...oracle(text, stops, include) });
      }),
      { numRuns: 2000 },
    );
  });

  it("row 78: holds back exactly the longest tail that a stop string may continue", () => {
    fc.assert(
      fc.property(few, stopList, fc.array(fc.nat(30)), (text, stops, places) => {
        const matcher = new StopMatcher(stops, { include: false });
        let pushed = "";
        let shown = "";
        for (const units of cutAt(Array.from(text), places)) {
          pushed += units.join("");
          shown += matcher.push(units.join(""));
          if (matcher.matched !== undefined) return;
          expect(shown).toBe(pushed.slice(0, pushed.length - heldLength(pushed, stops)));
        }
      }),
      { numRuns: 1000 },
    );
  });

  it("lets out what turned out not to be the stop string", () => {
    expect(run(["He", "llo EN", "Dx"], ["END."])).toEqual({
      texts: ["He", "llo ", "ENDx", ""],
      stop: undefined,
    });
  });

  it("takes the stop string that is complete first, even when another one began before it", () => {
    expect(run(["abcd"], ["abcd", "bc"])).toEqual({ texts: ["a", ""], stop: "bc" });
  });

  it("takes the longest of the stop strings that end at the same character", () => {
    expect(run(["xabc"], ["bc", "abc", "c"])).toEqual({ texts: ["x", ""], stop: "abc" });
  });

  it("keeps the stop string when asked, and nothing after it", () => {
    expect(run(["one\n", "\ntwo", "three"], ["\n\n"], true)).toEqual({
      texts: ["one", "\n\n", "", ""],
      stop: "\n\n",
    });
  });

  it("ignores empty stop strings and halves of surrogate pairs", () => {
    expect(run(["a😀"], ["", "\ude00", "\ud83d"])).toEqual({ texts: ["a😀", ""], stop: undefined });
  });

  it("reads a long text against a long repetitive stop string in steps that do not grow with it", () => {
    const stop = `${"a".repeat(255)}b`;
    const text = "a".repeat(100_000);
    expect(run(Array.from(text), [stop]).texts.join("")).toBe(text);
  });
});
