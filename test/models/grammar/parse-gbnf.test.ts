/** Users' GBNF: what is read, what is refused and where. */
import { describe, expect, test } from "vitest";
import { GrammarError, printGrammar } from "../../../models/grammar/grammar.ts";
import { GrammarMatcher } from "../../../models/grammar/matcher.ts";
import { parseGbnf } from "../../../models/grammar/parse-gbnf.ts";

function refusal(text: string): string {
  try {
    parseGbnf(text);
  } catch (error) {
    if (error instanceof GrammarError) return `${error.line ?? "-"}: ${error.message}`;
    throw error;
  }
  return "accepted";
}

describe("parseGbnf", () => {
  test("reads llama.cpp's dialect", () => {
    const grammar = parseGbnf(
      [
        "# arithmetic",
        'root  ::= (expr "=" ws term "\\n")+',
        "expr  ::= term ([-+*/] term)*",
        'term  ::= ident | num | "(" ws expr ")" ws  # recursive',
        "ident ::= [a-z] [a-z0-9_]* ws",
        "num   ::= [0-9]{1,3} ws",
        "ws    ::= [ \\t]*",
      ].join("\r\n"),
    );
    const matcher = new GrammarMatcher(grammar);
    expect(["a+1=2\n", "(a *12)-x = y\n", "a=1", "a+1234=2\n"].map((text) => matcher.accepts(text))).toEqual([
      true,
      true,
      false,
      false,
    ]);
    expect(new GrammarMatcher(parseGbnf(printGrammar(grammar))).accepts("(a *12)-x = y\n")).toBe(true);
  });

  test("reads every form of character", () => {
    const matcher = new GrammarMatcher(
      parseGbnf(
        String.raw`root ::= "\x41\u00e9\U0001F600\"\\" [^\]a-c\-] [a-] [-a] [\]\[] . "é"{2} ("" | "x")?`,
      ),
    );
    expect(matcher.accepts('Aé\u{1F600}"\\d-a]\néé')).toBe(true);
    expect(matcher.accepts('Aé\u{1F600}"\\--a]\nééx')).toBe(false);
  });

  test("groups may span lines, rules may not", () => {
    expect(refusal('root ::= (\n "a" # one\n | "b"\n)\n\nx ::=\n  "c"')).toBe("accepted");
    expect(refusal('root ::= "a" |\n "b"')).toBe("accepted");
    expect(refusal('root ::= "a"\n | "b"')).toBe("2: The name of a rule is expected.");
  });

  test("the last definition of a rule counts, the entry rule may be mentioned", () => {
    const matcher = new GrammarMatcher(parseGbnf('root ::= "a"\nroot ::= "(" root? ")"'));
    expect(["(())", "a"].map((text) => matcher.accepts(text))).toEqual([true, false]);
  });

  test("names the line of a mistake", () => {
    const cases: readonly (readonly [string, string])[] = [
      ["", "-: The grammar has no rule 'root'."],
      ['x ::= "a"', "-: The grammar has no rule 'root'."],
      ['root ::= "a"\n\nroot = "b"', "3: '::=' is expected."],
      ["root ::= a\nb ::= c", "1: The rule 'a' is not defined."],
      ['root ::= "a', "1: The end of the text came unexpectedly."],
      ['root ::= ("a"\n', "2: ')' is expected."],
      ['root ::= "a")', "1: The end of the line is expected."],
      ["root ::= [a", "1: The end of the text came unexpectedly."],
      ["root ::= [z-a]", "1: A range of characters is out of order."],
      ["root ::= []", "1: A class contains no character."],
      [String.raw`root ::= "\q"`, String.raw`1: '\q' is not an escape.`],
      [String.raw`root ::= "\x0"`, "1: 2 hexadecimal digits are expected."],
      [String.raw`root ::= "\x00"`, "1: A character cannot be part of any text."],
      [String.raw`root ::= "\uD83D"`, "1: A character cannot be part of any text."],
      ["root ::= *", "1: There is nothing to repeat."],
      ['root ::= ""*', "1: There is nothing to repeat."],
      ['root ::= "a"{3,2}', "1: The numbers in {} are out of order."],
      ['root ::= "a"{,2}', "1: A number is expected."],
      ['root ::= "a"{99999999999999999999}', "1: Nothing can be repeated more than 100000 times."],
      ["root ::= <think>", "1: Tokens in a grammar are not supported."],
      ["root ::= !<[1]>", "1: Tokens in a grammar are not supported."],
      ["a_b ::= c", "1: '::=' is expected."],
      ["root ::= \0", "-: The grammar has a NUL character."],
    ];
    expect(cases.map(([text]) => refusal(text))).toEqual(cases.map(([, message]) => message));
  });

  test("refuses many turns of what may be empty, unless they can be written without", () => {
    const tooMany = "-: What may be empty is repeated more than 8 times.";
    expect(refusal('root ::= a{0,9}\na ::= "x"?')).toBe(tooMany);
    expect(refusal('root ::= ("y" a{3} b)?\na ::= "" | b{0,4}\nb ::= "x"*')).toBe(tooMany);
    for (const text of [
      'root ::= a{0,8}\na ::= "x"?',
      'root ::= ("x"? "y"?){0,1000}',
      'root ::= ("x"{0,300}){0,300}',
      'root ::= a{0,1000}\na ::= "x"? "y"',
      `root ::= ${Array.from({ length: 90_000 }, () => "a").join("|")}\na ::= "x"`,
    ])
      expect(() => parseGbnf(text)).not.toThrow();
  });

  test("finds left recursion, also where llama.cpp does not", () => {
    expect(refusal('root ::= root "a" | "b"')).toMatch(/left-recursive/);
    expect(refusal('root ::= a\na ::= b "x"\nb ::= a | "y"')).toMatch(/left-recursive/);
    expect(refusal('root ::= e root "c" | "b"\ne ::= f f\nf ::= "" | "x"')).toMatch(/left-recursive/);
    expect(refusal('root ::= "(" root ")" | ("a"?)*')).toBe("accepted");
  });

  test("is bounded", () => {
    expect(refusal(`root ::= ${"(".repeat(20_000)}"a"${")".repeat(20_000)}`)).toMatch(/groups in groups/);
    expect(refusal(`root ::= "${"a".repeat(200_000)}"`)).toMatch(/characters/);
    expect(refusal(Array.from({ length: 10_001 }, (_, index) => `r${index} ::= "a"`).join("\n"))).toMatch(
      /rules/,
    );
    const doubled = Array.from(
      { length: 60 },
      (_, index) => `r${index} ::= r${index + 1} "a" | r${index + 1} "b"`,
    );
    expect(refusal(`root ::= r0\n${doubled.join("\n")}\nr60 ::= "c"`)).toMatch(/too many ways/);
    const chain = Array.from({ length: 5000 }, (_, index) => `r${index} ::= r${index + 1}`);
    expect(refusal(`root ::= r0\n${chain.join("\n")}\nr5000 ::= "c"`)).toMatch(/begin with each other/);
    expect(refusal(`root ::= ${Array.from({ length: 2000 }, () => "[a-z]{2000}").join(" ")}`)).toMatch(
      /too large/,
    );
  });
});
