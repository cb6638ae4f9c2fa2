/** What is known of a grammar's places, and where nothing is; that it is what the runtime says is a test with a model. */
import { expect, test } from "vitest";
import { KnownChoices, Walk } from "../../../engine/llama/known-choices.ts";
import { NextTokens } from "../../../engine/llama/next-tokens.ts";
import { vocabularyOf } from "../../support/text-vocabulary.ts";

const TEXTS = ["a", "b", "ab", "abc", "\n", "(", ")", "é"];
const END = TEXTS.length;
const vocabulary = vocabularyOf([...TEXTS, "</s>"], [END]);

function known(text: string, limits: { tokens?: number; positions?: number } = {}): KnownChoices {
  const all = { tokens: 3, questions: 100, positions: 1000, ...limits };
  return new KnownChoices(text, all, vocabulary, new NextTokens(vocabulary));
}

const tokensOf = (...texts: readonly string[]): number[] => texts.map((text) => TEXTS.indexOf(text));

test("each place of a grammar has its own choices", () => {
  const text = 'root ::= "abc" [b\\n] | "é"';
  const walk = new Walk();
  const choices = known(text, { tokens: 4 });
  expect(choices.after([], walk)).toEqual(tokensOf("a", "ab", "abc", "é"));
  expect(choices.after(tokensOf("abc"), walk)).toEqual(tokensOf("b", "\n"));
  expect(choices.after(tokensOf("abc", "b"), walk)).toEqual([END]);
  expect(choices.after(tokensOf("é"), new Walk())).toEqual([END]);
  expect(known(text).after([], new Walk())).toBe("many");
});

test("an output that the grammar does not take is lost, and its walk stays lost", () => {
  const choices = known('root ::= "a" "b"*');
  const walk = new Walk();
  expect(choices.after(tokensOf("a", "("), walk)).toBeUndefined();
  expect(choices.after(tokensOf("a"), walk)).toBeUndefined();
  expect(choices.after(tokensOf("a"), new Walk())).toEqual([END, ...tokensOf("b")]);
});

test("a long output is followed at several draws", () => {
  const choices = known('root ::= [a]* "\\n"', { tokens: 4 });
  const output = Array.from({ length: 600 }, () => 0);
  const walk = new Walk();
  expect(choices.after(output, walk)).toBeUndefined();
  expect(choices.after(output, walk)).toBeUndefined();
  expect(choices.after(output, walk)).toEqual(tokensOf("a", "\n"));
});

test("what has been found out can be forgotten, and is found out again", () => {
  const choices = known('root ::= "(" root ")" | "a"');
  const walk = new Walk();
  const output = tokensOf("(", "(", "a");
  expect(choices.after(output.slice(0, 2), walk)).toEqual(tokensOf("a", "("));
  const grown = choices.size;
  choices.forget();
  expect(choices.size).toBeLessThan(grown);
  expect(choices.after(output, walk)).toEqual(tokensOf(")"));
  output.push(...tokensOf(")"));
  choices.forget();
  expect(choices.after(output, walk)).toEqual(tokensOf(")"));
  choices.close();
  expect([choices.after(output, walk), choices.size]).toEqual([undefined, 0]);
});

test("a grammar that takes too long is given up, soon", () => {
  // Each character doubles what may be still to come.
  const choices = known('root ::= "a" root "b" | "a" root "(" | ")"');
  const walk = new Walk();
  const output = Array.from({ length: 40 }, () => 0);
  const answers = output.map((_, length) => choices.after(output.slice(0, length), walk));
  expect(answers[0]).toBeDefined();
  expect(answers.at(-1)).toBeUndefined();
  expect(choices.size).toBe(0);
});

test("where a grammar was given up, its output is lost for the same grammar read again", () => {
  const text = `root ::= ${"abcdefgh".replaceAll(/./g, '"a" root "$&" | ')} "\\n"`;
  const walk = new Walk();
  const output = Array.from({ length: 40 }, () => 0);
  const givenUp = known(text);
  expect(givenUp.after(output, walk)).toBeUndefined();
  expect(givenUp.size).toBe(0);
  expect(walk.tokens).toBeGreaterThan(0);
  const again = known(text, { tokens: 8 });
  expect(again.after([], new Walk())).toEqual(tokensOf("a", "\n"));
  expect(again.after(output.slice(0, walk.tokens), walk)).toBeUndefined();
});

test("an output keeps no more of what is forgotten than where it stands", () => {
  const text = 'root ::= "(" root ")" | "a"';
  const output = Array.from({ length: 100 }, () => TEXTS.indexOf("("));
  for (const free of ["forget", "close"] as const) {
    const choices = known(text);
    const [early, late] = [new Walk(), new Walk()];
    choices.after(output.slice(0, 2), early);
    const alone = reachable(early.place);
    choices.after(output, late);
    expect(reachable(early.place)).toBeGreaterThan(alone + 300);
    choices[free]();
    expect(reachable(early.place)).toBeLessThan(alone);
    const next = free === "close" ? known(text) : choices;
    expect(next.after([...output.slice(0, 2), ...tokensOf("a")], early)).toEqual(tokensOf(")"));
    expect(next.after([...output, ...tokensOf("a")], late)).toEqual(tokensOf(")"));
  }
});

test("nothing is known of a grammar that is too large, or not read", () => {
  expect(known('root ::= "a"{2,50}', { positions: 40 }).after([], new Walk())).toBeUndefined();
  expect(known("root ::= <a>").after([], new Walk())).toBeUndefined();
});

/** Objects that are kept as long as this one is. */
function reachable(root: unknown): number {
  const seen = new Set<object>();
  const todo = [root];
  while (todo.length > 0) {
    const at = todo.pop();
    if (typeof at !== "object" || at === null || seen.has(at)) continue;
    seen.add(at);
    todo.push(...(at instanceof Map ? [...at.entries()].flat() : Object.values(at)));
  }
  return seen.size;
}
