/** Grammars of which too many ways of reading a text stay alive are refused; those that people write are not. */
import { expect, test } from "vitest";
import { checkAmbiguity } from "../../../models/grammar/check-ambiguity.ts";
import { GrammarBuilder, GrammarError } from "../../../models/grammar/grammar.ts";
import { compileJsonSchema } from "../../../models/grammar/json-schema.ts";
import { parseGbnf } from "../../../models/grammar/parse-gbnf.ts";
import { compileConstraint } from "../../../models/output-constraint.ts";
import { compileRegex } from "../../../models/grammar/regex.ts";
import { seededRandom } from "../../support/grammar-sampler.ts";
import { randomGrammarText } from "../../support/grammar-text.ts";
import type { Expr, Grammar } from "../../../models/grammar/grammar.ts";

function built(make: (builder: GrammarBuilder) => Expr): Grammar {
  const builder = new GrammarBuilder();
  return builder.build(make(builder));
}
const ofPattern = (pattern: string): Grammar => built((builder) => compileRegex(builder, pattern));
const ofDraw = (seed: number): Grammar => parseGbnf(randomGrammarText(seededRandom(seed)));
const ofSchema = (schema: object): Grammar =>
  built((builder) => compileJsonSchema(builder, schema, { strict: true }).root);

const keyed = (count: number, required: boolean, prefix = "key "): object => {
  const names = Array.from({ length: count }, (_, i) => `${prefix}${i}`);
  const properties = Object.fromEntries(names.map((name) => [name, { type: "string" }]));
  return { type: "object", properties, additionalProperties: false, ...(required && { required: names }) };
};

test.each([
  ["texts of any length behind each other", ofPattern("[\\s\\S]{0,2000}".repeat(20))],
  ["the same in GBNF", parseGbnf(`root ::= ${"[a-z]{0,500} ".repeat(12)}`)],
  ["so many ways that few characters can be followed", ofDraw(4677)],
  ["such as draw 2986 hides them", ofDraw(2986)],
  ["such as draw 6042 hides them", ofDraw(6042)],
  ["such as draw 6102 hides them", ofDraw(6102)],
])("%s are refused", (_name, grammar) => {
  expect(() => checkAmbiguity(grammar, "written")).toThrow(GrammarError);
  expect(() => checkAmbiguity(grammar, "written")).toThrow(/^The grammar is too ambiguous/);
});

test.each([
  ["an address", ofPattern("[a-z0-9._]{1,64}@[a-z0-9.]{1,64}\\.[a-z]{2,8}")],
  ["three free texts", ofPattern(".*a.*b.*")],
  ["a long text", ofPattern("[\\s\\S]{0,20000}")],
  ["any JSON", ofSchema({ type: "object" })],
  [
    "an object of many optional keys",
    ofSchema({
      type: "object",
      properties: Object.fromEntries(Array.from({ length: 400 }, (_, i) => [`key ${i}`, { type: "string" }])),
      additionalProperties: false,
    }),
  ],
  ["five hundred optional keys", ofSchema(keyed(500, false))],
  ["five hundred keys that begin alike", ofSchema(keyed(500, false, "feature_flag_of_this_system_"))],
  ["a thousand keys that are there", ofSchema(keyed(1000, true))],
  [
    "two thousand texts that begin alike",
    parseGbnf(`root ::= ${Array.from({ length: 2000 }, (_, i) => `"a longer text ${i}"`).join(" | ")}`),
  ],
  ["a thousand texts", ofSchema({ enum: Array.from({ length: 1000 }, (_, i) => `text ${i}`) })],
  ["five thousand alternatives", parseGbnf(`root ::= ${'"a" | '.repeat(5000)}"b"`)],
  ["arithmetic", parseGbnf(["root ::= e", 'e ::= t ("+" t)*', 't ::= [0-9]+ | "(" e ")"'].join("\n"))],
])("%s is taken", (name, grammar) => {
  const origin = /JSON|keys|a thousand texts/.test(name) ? "made" : "written";
  expect(() => checkAmbiguity(grammar, origin)).not.toThrow();
});

test("no compiled constraint is without the check", () => {
  const pattern = "[\\s\\S]{0,2000}".repeat(20);
  const param = "guided_regex";
  const constraint = { reasoning: undefined, calls: undefined, answerHeader: undefined };
  expect(() => compileConstraint({ ...constraint, answer: { kind: "regex", pattern, param } })).toThrow(
    /^The grammar is too ambiguous/,
  );
});
