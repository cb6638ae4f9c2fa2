/** Printed grammars in llama.cpp itself: it takes them, and accepts the same texts as our own acceptor. */
import { expect, test } from "vitest";
import {
  anyChar,
  charClass,
  empty,
  GrammarBuilder,
  literal,
  oneOf,
  printGrammar,
  repeat,
  sequence,
} from "../../models/grammar/grammar.ts";
import { PYTHON_NOTATION, rawNotation } from "../../models/grammar/notation.ts";
import { compileJsonSchema, compileProperties, SchemaError } from "../../models/grammar/json-schema.ts";
import { compileRegex } from "../../models/grammar/regex.ts";
import { GrammarMatcher } from "../../models/grammar/matcher.ts";
import { textUntil, textWithout } from "../../models/grammar/text-without.ts";
import { mutated } from "../support/mutate-text.ts";
import { runtimeGrammars } from "../support/runtime-grammar.ts";
import { sampleGrammar, seededRandom } from "../support/grammar-sampler.ts";
import { SchemaMaker } from "../support/schema-arbitrary.ts";
import type { Expr, Grammar } from "../../models/grammar/grammar.ts";

const runtime = await runtimeGrammars();

/** Samples of the grammar and texts close to them, judged by both. */
function compare(
  grammar: Grammar,
  random: () => number,
  samples: number,
): { compared: number; accepted: number } {
  const text = printGrammar(grammar);
  const theirs = runtime(text);
  const ours = new GrammarMatcher(grammar);
  let [compared, accepted] = [0, 0];
  for (let index = 0; index < samples; index++) {
    const sample = sampleGrammar(grammar, random);
    for (const candidate of [
      sample,
      mutated(sample, random),
      mutated(sample, random),
      mutated(sample, random),
    ]) {
      const verdict = ours.accepts(candidate);
      expect({ text, candidate, verdict: theirs.isTextCompatible(candidate) }).toEqual({
        text,
        candidate,
        verdict,
      });
      compared++;
      if (verdict) accepted++;
    }
  }
  return { compared, accepted };
}

test("grammars of random schemas", () => {
  let [compared, accepted] = [0, 0];
  for (let seed = 0; seed < 250; seed++) {
    const random = seededRandom(seed);
    const builder = new GrammarBuilder();
    let root: Expr;
    try {
      ({ root } = compileJsonSchema(builder, new SchemaMaker(random).document(), { strict: true }));
    } catch (error) {
      if (error instanceof SchemaError) continue;
      throw error;
    }
    const result = compare(builder.build(root), random, 4);
    compared += result.compared;
    accepted += result.accepted;
  }
  expect(compared).toBeGreaterThan(3000);
  expect(accepted).toBeGreaterThan(1000);
  expect(compared - accepted).toBeGreaterThan(1000);
});

test("schemas in notations that are not JSON", () => {
  const notations = [
    PYTHON_NOTATION,
    rawNotation({ quote: '<|"|>', end: '<|"|>' }),
    rawNotation({ quote: "", end: "</parameter>" }),
  ];
  let [compared, accepted] = [0, 0];
  for (let seed = 0; seed < 60; seed++) {
    const random = seededRandom(seed);
    const x = new SchemaMaker(random).document();
    const schema = { type: "object", properties: { x }, required: ["x"] };
    for (const notation of notations) {
      const builder = new GrammarBuilder();
      let root: Expr;
      try {
        ({ root } = compileProperties(builder, schema, {
          strict: true,
          write: ({ declared }) => sequence(...declared.map((property) => property.value(notation))),
        }));
      } catch (error) {
        if (error instanceof SchemaError) continue;
        throw error;
      }
      const result = compare(builder.build(root), random, 3);
      compared += result.compared;
      accepted += result.accepted;
    }
  }
  expect(compared).toBeGreaterThan(1000);
  expect(accepted).toBeGreaterThan(300);
  expect(compared - accepted).toBeGreaterThan(300);
});

test("grammars that were made for llama.cpp's weak spots", () => {
  const random = seededRandom(1);
  const builder = new GrammarBuilder();
  const deep = Array.from({ length: 300 }).reduce<Expr>(
    (inner) => repeat(oneOf(sequence(literal("("), inner, literal(")")), literal("xy")), 1),
    literal("z"),
  );
  for (const expr of [
    repeat(oneOf(empty, literal("ab")), 0),
    repeat(repeat(charClass("ab"), 0), 0, 30),
    repeat(charClass("ab"), 0, 10_000),
    repeat(literal("ab"), 1500, 2500),
    repeat(sequence(literal("a"), repeat(literal("b"), 0, 700)), 0, 700),
    charClass("]-^[\\\"'\n\t .#"),
    literal('"]-^[\\\n\r\t#| ()*+?{}<>!\u0001\u007F\u00E9\u2028\u{1F600}'),
    repeat(anyChar, 0, 5),
    deep,
    textWithout(builder, ["</think>", "<tool_call>", "<t"]),
    sequence(textUntil(builder, "</think>"), repeat(charClass("ab"), 1)),
    compileRegex(builder, String.raw`(a|b)*c{2,3}(?:\d\s\w[^x-z]){1,2}\p{Lu}?.`),
  ])
    expect(compare(builder.build(expr), random, 12).compared).toBe(48);
});

test("what is refused here would not have been survived there", () => {
  // One more than llama.cpp's limit would have been taken for "without end".
  const builder = new GrammarBuilder();
  const grammar = builder.build(repeat(literal("a"), 0, 2001));
  expect(runtime(printGrammar(grammar)).isTextCompatible("a".repeat(2001))).toBe(true);
  expect(runtime(printGrammar(grammar)).isTextCompatible("a".repeat(2002))).toBe(false);
  expect(runtime('root ::= "a"{0,2001}').isTextCompatible("a".repeat(2002))).toBe(true);
});
