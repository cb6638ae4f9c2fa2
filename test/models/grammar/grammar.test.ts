/** Grammars as data: what the printer writes, literally. */
import { describe, expect, test } from "vitest";
import {
  GrammarBuilder,
  anyChar,
  charClass,
  charClassExcept,
  empty,
  literal,
  oneOf,
  oneOfTexts,
  optional,
  printGrammar,
  repeat,
  sequence,
} from "../../../models/grammar/grammar.ts";
import type { Expr, Grammar } from "../../../models/grammar/grammar.ts";
import { grammarForChoice } from "../../../models/grammar/choice.ts";
import { GrammarMatcher } from "../../../models/grammar/matcher.ts";
import { parseGbnf } from "../../../models/grammar/parse-gbnf.ts";
import { compileRegex } from "../../../models/grammar/regex.ts";

function printed(make: (builder: GrammarBuilder) => Expr): string {
  const builder = new GrammarBuilder();
  return printGrammar(builder.build(make(builder)));
}

function ofPattern(pattern: string): Grammar {
  const builder = new GrammarBuilder();
  return builder.build(compileRegex(builder, pattern));
}

describe("printGrammar", () => {
  test("escapes what GBNF gives a meaning to and what does not show", () => {
    expect(printed(() => literal('a"b\\\n\r\t\u0001\u00E9\u200B\u{1F600}'))).toBe(
      'root ::= "a\\"b\\\\\\n\\r\\t\\x01é\\u200B\\U0001F600"\n',
    );
    expect(printed(() => charClass("]-^[\\", [0x61, 0x7a]))).toBe("root ::= [\\-\\[-\\x5Ea-z]\n");
  });

  test("writes what is excluded as what is left, without surrogates", () => {
    expect(printed(() => charClassExcept('"'))).toBe("root ::= [\\x01-!#-\\uD7FF\\uE000-\\U0010FFFF]\n");
    expect(printed(() => anyChar)).toBe("root ::= [\\x01-\\uD7FF\\uE000-\\U0010FFFF]\n");
  });

  test("groups choices and repetitions in sequences", () => {
    expect(printed(() => sequence(literal("a"), oneOf(literal("bc"), literal("de")), literal("f")))).toBe(
      'root ::= "a" ("bc" | "de") "f"\n',
    );
    expect(printed(() => repeat(sequence(optional(literal("a")), optional(literal("b"))), 2, 3))).toBe(
      'root ::= x-1{0,3}\nx-1 ::= "a" "b"? | "b"\n',
    );
    expect(printed(() => repeat(repeat(literal("a"), 1, 9), 2, 3))).toBe('root ::= "a"{2,27}\n');
    expect(printed(() => repeat(optional(literal("a")), 2))).toBe('root ::= "a"*\n');
    expect(printed(() => repeat(repeat(literal("a"), 2, 2), 0, 2))).toBe(
      'root ::= x-1{0,2}\nx-1 ::= "a"{2}\n',
    );
    expect(printed(() => empty)).toBe('root ::= ""\n');
  });

  test("gives rules unique names and leaves out those that are not used", () => {
    expect(
      printed((builder) => {
        builder.rule("unused", literal("x"));
        const first = builder.rule("an item!", literal("a"));
        const second = builder.rule("an item!", literal("b"));
        const list = builder.recursive("root", (self) => sequence(first, optional(sequence(second, self))));
        return sequence(list, literal("."));
      }),
    ).toBe(
      'root ::= root-2 "."\nroot-2 ::= an-item (an-item-2 root-2)?\nan-item ::= "a"\nan-item-2 ::= "b"\n',
    );
  });

  test("builds long repetitions from blocks", () => {
    expect(printed(() => repeat(charClass("ab"), 0, 10_000))).toBe(
      "root ::= (x-2{0,99} x-1{0,100})\nx-1 ::= [ab]\nx-2 ::= x-1{100}\n",
    );
  });

  test("a repetition of something empty does not look like left recursion", () => {
    expect(printed(() => repeat(oneOf(empty, literal("ab")), 0))).toBe('root ::= "ab"*\n');
    const hidden: Expr = { kind: "repeat", item: oneOf(empty, literal("ab")), min: 0, max: undefined };
    expect(printed(() => hidden)).toBe('root ::= x-2*\nx-1 ::= "" | "ab"\nx-2 ::= x-1\n');
  });

  test("is refused when it gets too large, also when the data is small", () => {
    let expr: Expr = literal("abc");
    for (let depth = 0; depth < 60; depth++) expr = { kind: "sequence", items: [expr, expr] };
    expect(() => printed(() => expr)).toThrow(/larger than/);
  });
});

test("grammarForChoice shares beginnings and is bounded", () => {
  expect(printed((builder) => grammarForChoice(builder, ["yes", "yet", "no"]))).toBe(
    'root ::= choice\nchoice ::= "ye" [st] | "no"\n',
  );
  expect(() => grammarForChoice(new GrammarBuilder(), [])).toThrow(/no choices/);
  expect(() => grammarForChoice(new GrammarBuilder(), ["x".repeat(100_001)])).toThrow(/characters/);
});

describe("combinators", () => {
  test("characters of a choice become a class, doubles disappear", () => {
    expect(oneOf(literal("a"), charClass("b"), literal("cd"), literal("cd"))).toEqual({
      kind: "choice",
      options: [
        { kind: "literal", text: "cd" },
        { kind: "class", ranges: [[0x61, 0x62]] },
      ],
    });
  });

  test("texts share their beginnings", () => {
    expect(printed(() => oneOfTexts(['"red"', '"real"', '"blue"']))).toBe(
      'root ::= "\\"" ("re" ("d\\"" | "al\\"") | "blue\\"")\n',
    );
  });

  test("many options share what they begin with, whatever is behind it, and mean the same", () => {
    const numbers = Array.from({ length: 900 }, (_, i) => i);
    const written = [
      parseGbnf(`root ::= ${numbers.map((i) => `"w${i}"`).join(" | ")}`),
      parseGbnf(`root ::= (${numbers.map((i) => `[w] "${i}" [ab]?`).join(" | ")})+`),
      ofPattern(`^(${numbers.map((i) => `w${i}`).join("|")})$`),
      ofPattern(`^(${numbers.map((i) => `w${i}[ab]?`).join("|")})+$`),
    ];
    for (const grammar of written) {
      const matcher = new GrammarMatcher(grammar);
      for (const i of [0, 9, 10, 99, 123, 899]) expect([i, matcher.accepts(`w${i}`)]).toEqual([i, true]);
      for (const text of ["", "w", "w900", "w01", "9", "w9c"])
        expect([text, matcher.accepts(text)]).toEqual([text, false]);
      for (const text of ["", "w", "w1", "w14", "w149"]) {
        expect(matcher.accepts("") || matcher.push(text)).toBe(true);
        expect(matcher.ways).toBeLessThan(30);
      }
    }
    expect(written.map((grammar) => new GrammarMatcher(grammar).accepts("w12aw3b"))).toEqual([
      false,
      true,
      false,
      true,
    ]);
  });

  test("options that begin like others are kept, and where none do they stay as they are", () => {
    const options = Array.from("abcdefghijklmnop", (char) => sequence(literal(`${char}x`), charClass("yz")));
    expect(oneOf(...options)).toEqual({ kind: "choice", options });
    const more = [...options, literal("ax"), literal("axy"), charClass("q", "r"), empty];
    const builder = new GrammarBuilder();
    const matcher = new GrammarMatcher(builder.build(oneOf(...more)));
    expect(["ax", "axy", "axz", "bxy", "q", ""].filter((text) => !matcher.accepts(text))).toEqual([]);
    expect(["bx", "a", "axq", "qq"].filter((text) => matcher.accepts(text))).toEqual([]);
  });

  test("what cannot be output is refused", () => {
    expect(() => literal("\uD83D")).toThrow(/surrogate/);
    expect(() => literal("\0")).toThrow(/NUL/);
    expect(() => charClass()).toThrow(/no character/);
    expect(() => oneOf()).toThrow(/without options/);
    expect(() => repeat(literal("a"), 3, 2)).toThrow(/below/);
  });

  test("a finished grammar can be taken over into another one", () => {
    const inner = new GrammarBuilder();
    const grammar = inner.build(
      inner.recursive("a", (self) => sequence(literal("("), optional(self), literal(")"))),
    );
    expect(printed((builder) => sequence(builder.rule("a", literal("x")), builder.include(grammar)))).toBe(
      'root ::= a a-2\na ::= "x"\na-2 ::= "(" a-2? ")"\n',
    );
  });
});

describe("GrammarMatcher", () => {
  function matcher(make: (builder: GrammarBuilder) => Expr): GrammarMatcher {
    const builder = new GrammarBuilder();
    return new GrammarMatcher(builder.build(make(builder)));
  }

  test("says for each beginning whether it can go on and whether it is whole", () => {
    const list = matcher((builder) =>
      builder.recursive("list", (self) =>
        sequence(
          literal("["),
          optional(sequence(self, repeat(sequence(literal(","), self), 0))),
          literal("]"),
        ),
      ),
    );
    expect(list.accepts("[[],[[]]]")).toBe(true);
    expect(list.accepts("[[],]")).toBe(false);
    expect(new GrammarMatcher(new GrammarBuilder().build(literal("ab"))).complete).toBe(false);
    list.accepts("");
    expect([list.push("["), list.complete, list.push("]"), list.complete, list.push("]")]).toEqual([
      true,
      false,
      true,
      true,
      false,
    ]);
  });

  test("counts repetitions", () => {
    const counted = matcher(() => repeat(repeat(literal("a"), 2, 3), 2, 2));
    expect([3, 4, 5, 6, 7].map((length) => counted.accepts("a".repeat(length)))).toEqual([
      false,
      true,
      true,
      true,
      false,
    ]);
  });

  test("a pair of surrogates may come in two pieces", () => {
    const face = matcher(() => literal("\u{1F600}!"));
    expect([face.push("\uD83D"), face.push("\uDE00"), face.complete, face.push("!"), face.complete]).toEqual([
      true,
      true,
      false,
      true,
      true,
    ]);
    expect(matcher(() => anyChar).accepts("\uD83D")).toBe(false);
  });

  test("does not blow up where a text can be read in very many ways", () => {
    const nested = matcher(() => {
      let expr: Expr = oneOf(literal("aa"), literal("a"));
      for (let depth = 0; depth < 8; depth++) expr = repeat(oneOf(expr, literal("aaa")), 0);
      return expr;
    });
    expect(nested.accepts("a".repeat(2000))).toBe(true);
    expect(nested.accepts(`${"a".repeat(2000)}b`)).toBe(false);
    const doubled = matcher((builder) =>
      builder.recursive("s", (self) => oneOf(sequence(literal("a"), self, self), empty)),
    );
    expect(doubled.accepts("a".repeat(150))).toBe(true);
  });
});
