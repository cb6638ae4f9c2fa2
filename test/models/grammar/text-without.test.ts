/** Free text without certain texts: literal rules, and agreement with a plain search. */
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { GrammarBuilder, literal, printGrammar, sequence } from "../../../models/grammar/grammar.ts";
import type { Expr } from "../../../models/grammar/grammar.ts";
import { GrammarMatcher } from "../../../models/grammar/matcher.ts";
import { textUntil, textWithout } from "../../../models/grammar/text-without.ts";

function grammarOf(make: (builder: GrammarBuilder) => Expr) {
  const builder = new GrammarBuilder();
  return builder.build(make(builder));
}

describe("textWithout", () => {
  test("is the automaton of the search as rules", () => {
    expect(printGrammar(grammarOf((builder) => textWithout(builder, "aab")))).toBe(
      [
        "root ::= text",
        'text ::= "" | "a" text-2 | [\\x01-`b-\\uD7FF\\uE000-\\U0010FFFF] text',
        'text-2 ::= "" | "a" text-3 | [\\x01-`b-\\uD7FF\\uE000-\\U0010FFFF] text',
        'text-3 ::= "" | "a" text-3 | [\\x01-`c-\\uD7FF\\uE000-\\U0010FFFF] text',
        "",
      ].join("\n"),
    );
  });

  test("accepts exactly the texts without the stop texts", () => {
    const text = fc.string({ unit: fc.constantFrom("a", "b", "\u{1F600}"), maxLength: 12 });
    const stops = fc.array(
      fc.string({ unit: fc.constantFrom("a", "b", "\u{1F600}"), minLength: 1, maxLength: 5 }),
      {
        minLength: 1,
        maxLength: 4,
      },
    );
    fc.assert(
      fc.property(text, stops, (given, all) => {
        const without = new GrammarMatcher(grammarOf((builder) => textWithout(builder, all)));
        expect(without.accepts(given)).toBe(!all.some((stop) => given.includes(stop)));
      }),
      { numRuns: 500 },
    );
  });

  test("an empty stop text is refused", () => {
    expect(() => grammarOf((builder) => textWithout(builder, ""))).toThrow(/must not be empty/);
  });
});

describe("textUntil", () => {
  test("ends where a stop text is complete for the first time", () => {
    const until = grammarOf((builder) => sequence(textUntil(builder, "</think>"), literal("!")));
    const matcher = new GrammarMatcher(until);
    expect(matcher.accepts("so <</think>!")).toBe(true);
    expect(matcher.accepts("</think>!")).toBe(true);
    expect(matcher.accepts("a</think></think>!")).toBe(false);
    expect(matcher.accepts("so")).toBe(false);
  });

  test("accepts exactly the texts that end with the first occurrence", () => {
    const unit = fc.constantFrom("a", "b");
    fc.assert(
      fc.property(
        fc.string({ unit, maxLength: 12 }),
        fc.array(fc.string({ unit, minLength: 1, maxLength: 5 }), { minLength: 1, maxLength: 3 }),
        (given, all) => {
          const until = new GrammarMatcher(grammarOf((builder) => textUntil(builder, all)));
          const ends = all.some((stop) => given.endsWith(stop));
          const before = given.slice(0, -1);
          expect(until.accepts(given)).toBe(ends && !all.some((stop) => before.includes(stop)));
        },
      ),
      { numRuns: 500 },
    );
  });
});
