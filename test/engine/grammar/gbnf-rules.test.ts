/** GBNF as rules: what is written out, and what is left alone. */
import { expect, test } from "vitest";
import { readGbnf } from "../../../engine/grammar/gbnf-rules.ts";
import type { Position, Rule } from "../../../engine/grammar/gbnf-rules.ts";

/** Rules that come up again are shown by when they came first. */
function shown(text: string): string | undefined {
  const rules = readGbnf(text, 1000);
  const numbers = new Map<Rule, number>();
  const ofRule = (rule: Rule): string => {
    const known = numbers.get(rule);
    if (known !== undefined) return `#${known}`;
    numbers.set(rule, numbers.size);
    return `(${(rule.alternatives ?? []).map(ofPositions).join("|")})`;
  };
  const ofPositions = (position: Position | undefined): string => {
    if (position === undefined) return "";
    const { next } = position;
    if (position.kind === "rule") return ofRule(position.rule) + ofPositions(next);
    const bounds = position.bounds.map((code) => String.fromCodePoint(code)).join("");
    return `[${position.negated ? "^" : ""}${bounds}]${ofPositions(next)}`;
  };
  return rules && ofRule(rules.root);
}

test.each([
  ['root ::= "ab" | "" | .', "([aa][bb]||[^])"],
  ["root ::= [a-ce-gb-d] [^x\\]-]", "([ag][^--]]xx])"],
  ['root ::= "a"*', "(([aa]#1|))"],
  ['root ::= "a"+', "([aa]([aa]#1|))"],
  ['root ::= "a"?', "(([aa]|))"],
  ['root ::= "a"{1,3}', "([aa]([aa]([aa]|)|))"],
  ['root ::= "ab"{2,}', "([aa][bb][aa][bb]([aa][bb]#1|))"],
  ['root ::= "a" [b] {0} "c"', "([aa][cc])"],
  ['root ::= "a"{1,2}?', "(([aa]([aa]|)|))"],
  ['root ::= x x\nx ::= "a" root | (x2)\nx2 ::= "b"', "(([aa]#0|(([bb])))#1)"],
  ['root ::= "a"\nroot ::= "b" # the last one counts', "([bb])"],
  [String.raw`root ::= "\x41\u00e9\U0001F600\n\"" [\\\[\]]`, '([AA][éé][😀😀][\n\n][""][[]])'],
])("%s", (text, rules) => {
  expect(shown(text)).toBe(rules);
});

test.each([
  ["a single token", "root ::= <think>"],
  ["no root", 'start ::= "a"'],
  ["an unknown rule", "root ::= other"],
  ["a range out of order", "root ::= [z-a]"],
  ["an unknown escape", String.raw`root ::= "\q"`],
  ["counts out of order", 'root ::= "a"{3,2}'],
  ["half a group", 'root ::= ("a"'],
  ["half a text", 'root ::= "a'],
  ["more positions than it may have", 'root ::= "a"{1001}'],
  ["such in a few characters", 'root ::= "aaaa"{100}{100}{100}{100}'],
  ["groups without end", `root ::= ${"(".repeat(200)}"a"${")".repeat(200)}`],
  ["NUL", 'root ::= "\0"'],
])("%s is left alone", (_name, text) => {
  expect(shown(text)).toBeUndefined();
});
