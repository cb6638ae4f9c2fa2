/** The compiler against ajv, both ways: samples of the grammar are valid, valid instances are in the grammar. */
import { describe, expect, test } from "vitest";
import { GrammarBuilder } from "../../../models/grammar/grammar.ts";
import { compileJsonSchema, SchemaError } from "../../../models/grammar/json-schema.ts";
import { GrammarMatcher } from "../../../models/grammar/matcher.ts";
import { validateInstance } from "../../../models/grammar/validate-instance.ts";
import { sampleGrammar, seededRandom } from "../../support/grammar-sampler.ts";
import { SchemaMaker } from "../../support/schema-arbitrary.ts";
import { schemaOracle } from "../../support/schema-oracle.ts";

const SCHEMAS = Number(process.env["SCHEMAS"] ?? 120);

describe("compileJsonSchema", () => {
  test("samples are one JSON document, without white space around it, and valid", () => {
    let refused = 0;
    for (let seed = 0; seed < SCHEMAS; seed++) {
      const random = seededRandom(seed);
      const schema = new SchemaMaker(random).document();
      const builder = new GrammarBuilder();
      let grammar;
      try {
        grammar = builder.build(compileJsonSchema(builder, schema, { strict: true }).root);
      } catch (error) {
        if (!(error instanceof SchemaError)) throw error;
        refused++;
        continue;
      }
      const errorsOf = schemaOracle(schema);
      const matcher = new GrammarMatcher(grammar);
      for (let sample = 0; sample < 5; sample++) {
        const text = sampleGrammar(grammar, random);
        const about = `${seed}: ${JSON.stringify(schema)} gave ${text}`;
        const value: unknown = JSON.parse(text);
        expect({
          about,
          trimmed: text.trim(),
          errors: errorsOf(value),
          ours: validateInstance(schema, value),
          accepted: matcher.accepts(text),
        }).toEqual({ about, trimmed: text, errors: null, ours: undefined, accepted: true });
      }
    }
    expect(refused / SCHEMAS).toBeLessThan(0.25);
  });

  test("valid instances are texts of the grammar", () => {
    let checked = 0;
    for (let seed = 0; seed < SCHEMAS; seed++) {
      const random = seededRandom(seed);
      const maker = new SchemaMaker(random);
      const schema = maker.document();
      const errorsOf = schemaOracle(schema);
      const valid = Array.from({ length: 12 }, () => maker.instance(schema)).filter(
        (value) => errorsOf(value) === null,
      );
      if (valid.length === 0) continue;
      const builder = new GrammarBuilder();
      const { root } = compileJsonSchema(builder, schema, { strict: true });
      const matcher = new GrammarMatcher(builder.build(root));
      for (const value of valid) {
        checked++;
        const about = `${seed}: ${JSON.stringify(schema)} for ${JSON.stringify(value)}`;
        expect({
          about,
          accepted: matcher.accepts(JSON.stringify(value)),
          ours: validateInstance(schema, value),
        }).toEqual({ about, accepted: true, ours: undefined });
      }
    }
    expect(checked).toBeGreaterThan(2 * SCHEMAS);
  });
});
