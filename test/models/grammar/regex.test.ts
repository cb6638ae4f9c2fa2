/** Regular expressions as grammars, against the runtime's own. */
import { createContext, Script } from "node:vm";
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { GrammarBuilder, GrammarError, printGrammar } from "../../../models/grammar/grammar.ts";
import { FORMATS, IMPLIED_PATTERNS } from "../../../models/grammar/formats.ts";
import { GrammarMatcher } from "../../../models/grammar/matcher.ts";
import { compileRegex } from "../../../models/grammar/regex.ts";
import { compileJsonSchema } from "../../../models/grammar/json-schema.ts";
import { mutated } from "../../support/mutate-text.ts";
import { sampleGrammar, seededRandom } from "../../support/grammar-sampler.ts";
import type { Grammar } from "../../../models/grammar/grammar.ts";

function compiled(pattern: string): Grammar {
  const builder = new GrammarBuilder();
  return builder.build(compileRegex(builder, pattern));
}

function refusal(pattern: string): string {
  try {
    compiled(pattern);
  } catch (error) {
    if (error instanceof GrammarError) return error.message;
    throw error;
  }
  return "accepted";
}

const character = fc.constantFrom(
  "a",
  "b",
  "0",
  "_",
  " ",
  "é",
  "\u{1F600}",
  "\\.",
  "\\n",
  "\\d",
  "\\w",
  "\\s",
  "\\D",
  "\\W",
  "\\S",
  ".",
  "[ab]",
  "[^a]",
  "[a-c0-9_]",
  "[\\w.-]",
  "\\x41",
  "\\u0062",
  "\\u{1F600}",
  "\\ud83d\\ude00",
  "\\/",
  '"',
  "\\\\",
  "\\{",
  "\\p{Lu}",
  "\\P{L}",
);
const quantifier = fc.constantFrom("", "", "", "*", "+", "?", "{2}", "{1,3}", "{2,}", "*?", "+?", "{0}");

/** Patterns that the runtime understands as well. */
const { pattern } = fc.letrec<{ pattern: string; sequence: string; item: string }>((tie) => ({
  pattern: fc.array(tie("sequence"), { minLength: 1, maxLength: 3 }).map((parts) => parts.join("|")),
  sequence: fc.array(tie("item"), { maxLength: 4 }).map((parts) => parts.join("")),
  item: fc
    .tuple(
      fc.oneof(
        { maxDepth: 3 },
        character,
        fc
          .tuple(fc.constantFrom("(", "(?:", "(?<n>"), tie("pattern"))
          .map(([open, inner]) => `${open}${inner})`),
      ),
      quantifier,
    )
    .map((parts) => parts.join("")),
}));

function isValid(source: string): boolean {
  try {
    return new RegExp(source, "u").unicode;
  } catch {
    // Two groups of the same name.
    return false;
  }
}

const asked = createContext({ source: "", text: "" });
const asking = new Script('new RegExp(source, "u").test(text)');

/** Computed on one text; some patterns would take a lifetime. */
const MOST_CPU_MS = 300;

/**
 * What the runtime's own matcher says. It tries all ways of reading a text, so it is stopped after a while: undefined. It
 * can only be stopped by the clock, of which a busy machine may give it little.
 */
function runtimeSays(source: string, text: string): boolean | undefined {
  Object.assign(asked, { source, text });
  for (let timeout = MOST_CPU_MS; ; timeout *= 2) {
    const before = process.cpuUsage();
    try {
      return asking.runInContext(asked, { timeout }) === true;
    } catch (error) {
      // An error of the other context is none of this one's `Error`.
      const { code } = error as { code?: unknown };
      const isStopped = code === "ERR_SCRIPT_EXECUTION_TIMEOUT";
      if (!isStopped) throw error;
      const { user, system } = process.cpuUsage(before);
      if ((user + system) / 1000 >= MOST_CPU_MS) return undefined;
    }
  }
}

/** Without what is part of no output, and short. */
const clean = (text: string): boolean => text.length <= 12 && !/[\p{Surrogate}\0]/u.test(text);

describe("compileRegex", () => {
  test("accepts what the runtime's own regular expressions accept", () => {
    let accepted = 0;
    fc.assert(
      fc.property(
        pattern.filter(isValid),
        fc.array(fc.string({ unit: "grapheme-ascii", maxLength: 6 }), { maxLength: 3 }),
        fc.nat(),
        (source, texts, seed) => {
          const random = seededRandom(seed);
          const grammar = compiled(source);
          const matcher = new GrammarMatcher(grammar);
          const samples = Array.from({ length: 3 }, () => sampleGrammar(grammar, random));
          const candidates = [...texts, ...samples, ...samples.map((text) => mutated(text, random))].filter(
            clean,
          );
          const expected = candidates.map((text) => [text, runtimeSays(`^(?:${source})$`, text)] as const);
          const said = expected.filter(([, accepts]) => accepts !== undefined);
          expect(said.map(([text]) => [text, matcher.accepts(text)])).toEqual(said);
          accepted += samples.length;
        },
      ),
      { numRuns: 300 },
    );
    expect(accepted).toBeGreaterThan(800);
  });

  test("is printed as one would write it", () => {
    expect(printGrammar(compiled(String.raw`^(?P<year>\d{4})-(0[1-9]|1[0-2])[\s]?$`)).split("\n")[1]).toBe(
      String.raw`regex ::= [0-9]{4} "-" ("0" [1-9] | "1" [0-2]) [\t-\r \xA0\u1680\u2000-\u200A\u2028\u2029\u202F\u205F\u3000\uFEFF]?`,
    );
  });

  test("anchors at the ends add nothing, elsewhere they are refused", () => {
    for (const source of ["^ab$", "ab", "^(ab)$", "(^ab$)", "^ab|ab$", "\\Aab\\Z"])
      expect(new GrammarMatcher(compiled(source)).accepts("ab")).toBe(true);
    expect(["a^b", "a$b", "(^a)b", "(a$)+", "^*a"].map(refusal)).toEqual([
      "The pattern 'a^b' has ^ in the middle.",
      "The pattern 'a$b' has $ in the middle.",
      "The pattern '(^a)b' has an anchor in the middle.",
      "The pattern '(a$)+' has an anchor in the middle.",
      "The pattern '^*a' repeats an anchor.",
    ]);
  });

  test("refuses by name what a grammar cannot say, and mistakes", () => {
    expect(
      [
        "b(?=a)",
        "b(?!a)",
        "(?<=a)",
        "(?<!a)",
        "\\1(a)",
        "\\k<a>",
        "\\bword",
        "\\B",
        "(?i)a",
        "a++",
        "(a",
        "a)",
        "[a",
        "[z-a]",
        "a{2,1}",
        "*a",
        "a**",
        "\\",
        "\\x1",
        "\\q",
        "\\p{Nonsense}",
        "[^\\s\\S]",
        "(".repeat(60),
      ].map((source) => /'[^']*' (.*)$/.exec(refusal(source))?.[1]),
    ).toEqual([
      "uses lookaround in the middle, which is not supported.",
      "uses lookaround in the middle, which is not supported.",
      "uses lookaround in the middle, which is not supported.",
      "uses lookaround in the middle, which is not supported.",
      "uses a back-reference, which is not supported.",
      "uses a back-reference, which is not supported.",
      "uses \\b, which is not supported.",
      "uses \\B, which is not supported.",
      "uses (?i, which is not supported.",
      "uses a possessive quantifier.",
      "has an open parenthesis.",
      "has a closing parenthesis too many.",
      "has an open bracket.",
      "has a range out of order.",
      "has numbers out of order in {}.",
      "has a quantifier with nothing before it.",
      "has a quantifier behind a quantifier.",
      "ends with a backslash.",
      "has an incomplete escape.",
      "uses \\q, which is not supported.",
      "uses an unknown character property.",
      "has a class that contains nothing.",
      "has more than 50 groups in groups.",
    ]);
    expect(refusal("a".repeat(10_001))).toMatch(/10000 characters/);
    expect(refusal("a{100001}")).toMatch(/repeats more than/);
  });

  test("lookahead at the start", () => {
    const source = "^(?!aab)(?=.*b$)(?!b{2})[ab]+$";
    const matcher = new GrammarMatcher(compiled(source));
    const texts = Array.from({ length: 31 }, (_, index) =>
      (index + 1).toString(2).slice(1).replaceAll("0", "a").replaceAll("1", "b"),
    );
    expect(texts.map((text) => [text, matcher.accepts(text)])).toEqual(
      texts.map((text) => [text, new RegExp(source, "u").test(text)]),
    );
  });

  test("texts of a format match the patterns that it implies", () => {
    for (const [format, patterns] of IMPLIED_PATTERNS) {
      const grammar = compiled(FORMATS.get(format) ?? "");
      const random = seededRandom(1);
      const samples = Array.from({ length: 1000 }, () => sampleGrammar(grammar, random));
      for (const source of patterns)
        expect(samples.filter((text) => !new RegExp(source, "u").test(text))).toEqual([]);
    }
  });

  test("inside a JSON string a pattern means the characters, not their escapes", () => {
    fc.assert(
      fc.property(pattern.filter(isValid), fc.nat(), (source, seed) => {
        const random = seededRandom(seed);
        const builder = new GrammarBuilder();
        const { root } = compileJsonSchema(builder, { type: "string", pattern: source }, { strict: true });
        const grammar = builder.build(root);
        const matcher = new GrammarMatcher(grammar);
        for (let index = 0; index < 3; index++) {
          const text = sampleGrammar(grammar, random);
          const value: unknown = JSON.parse(text);
          if (String(value).length > 12) continue;
          expect([text, typeof value === "string" && (runtimeSays(source, value) ?? true)]).toEqual([
            text,
            true,
          ]);
          const other = mutated(String(value), random);
          const expected = clean(other) ? runtimeSays(source, other) : undefined;
          if (expected === undefined) continue;
          expect([other, matcher.accepts(JSON.stringify(other))]).toEqual([other, expected]);
        }
      }),
      { numRuns: 200 },
    );
  });
});
