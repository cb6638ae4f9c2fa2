/** JSON Schemas as grammars: literal grammars, what is accepted, what is refused and how, hostile schemas. */
import { describe, expect, test } from "vitest";
import { GrammarBuilder, printGrammar } from "../../../models/grammar/grammar.ts";
import { anyJsonObject, compileJsonSchema, SchemaError } from "../../../models/grammar/json-schema.ts";
import { validateInstance } from "../../../models/grammar/validate-instance.ts";
import { GrammarMatcher } from "../../../models/grammar/matcher.ts";

function compiled(schema: unknown, strict = true) {
  const builder = new GrammarBuilder();
  const { root, relaxed } = compileJsonSchema(builder, schema, { strict });
  return { grammar: builder.build(root), relaxed };
}

/** The printed grammar without the rules that every schema has. */
function printed(schema: unknown): string[] {
  return printGrammar(compiled(schema).grammar)
    .trim()
    .split("\n")
    .filter((line) => !/^(root|s|char|hex|string) ::=/.test(line));
}

function accepts(schema: unknown, ...texts: string[]): boolean[] {
  const matcher = new GrammarMatcher(compiled(schema).grammar);
  return texts.map((text) => matcher.accepts(text));
}

function refusal(schema: unknown, strict = true): string {
  try {
    compiled(schema, strict);
  } catch (error) {
    if (error instanceof SchemaError) return `${error.path} | ${error.keyword} | ${error.message}`;
    throw error;
  }
  return "accepted";
}

describe("grammars", () => {
  test("of an object with required properties are one line", () => {
    expect(
      printed({
        type: "object",
        properties: {
          name: { type: "string" },
          ok: { type: "boolean" },
          tags: { type: "array", items: { type: "string" } },
        },
        required: ["name", "ok", "tags"],
        additionalProperties: false,
      }),
    ).toEqual([
      String.raw`value ::= "{\"name\":" s string "," s "\"ok\":" s boolean "," s "\"tags\":" s tags "}"`,
      `boolean ::= "true" | "false"`,
      `tags ::= "[" (string ("," s string)*)? "]"`,
    ]);
  });

  test("of an object whose properties may be missing have a rule for what can follow", () => {
    expect(
      printed({
        type: "object",
        properties: { a: { type: "null" }, b: { type: "null" }, c: { type: "null" } },
        required: ["b"],
      }),
    ).toEqual([
      'value ::= "{" next',
      String.raw`next ::= "\"a\":" s "null," s "\"b\":" s "null" more | "\"b\":" s "null" more`,
      String.raw`more ::= "," s "\"c\":" s "null}" | "}"`,
    ]);
  });

  test("of integers follow the digits of the bounds", () => {
    expect(printed({ type: "integer", minimum: 18, maximum: 1200 })).toEqual([
      'integer ::= "1" [89] | [2-9] [0-9] | [1-9] [0-9]{2} | "1" ([01] [0-9]{2} | "200")',
    ]);
    expect(printed({ type: "integer", exclusiveMinimum: -3 })).toEqual([
      'integer ::= "-" [12] | [1-9] [0-9]{1,18} | [0-9]',
    ]);
    expect(printed({ type: "integer", multipleOf: 5, minimum: 0, maximum: 99 })).toEqual([
      "integer ::= [1-9] [05] | [05]",
    ]);
  });

  test("of numbers follow the digits of the bounds", () => {
    expect(printed({ type: "number", minimum: 0.5, maximum: 1 })).toEqual([
      'number ::= "0." ("5" ("" | [0-9]{1,24}) | [6-9] [0-9]{0,24}) | "1" ("" | "." "0"{1,25})',
    ]);
    expect(printed({ type: "number", multipleOf: 0.5, minimum: 0, maximum: 2 })).toEqual([
      'number ::= [01] "." [05] | "2.0" | [0-2]',
    ]);
  });

  test("of recursive schemas are recursive", () => {
    expect(
      printed({
        $ref: "#/$defs/node",
        $defs: {
          node: {
            type: "object",
            properties: { children: { type: "array", items: { $ref: "#/$defs/node" } } },
            required: ["children"],
          },
        },
      }),
    ).toEqual([
      String.raw`value ::= "{\"children\":" s children "}"`,
      'children ::= "[" (value ("," s value)*)? "]"',
    ]);
  });
});

describe("what is accepted", () => {
  test("row 71: at most one space behind colons and commas, nothing around the document", () => {
    const schema = {
      type: "object",
      properties: { a: { type: "integer" }, b: { type: "integer" } },
      required: ["a", "b"],
    };
    expect(
      accepts(
        schema,
        '{"a":1,"b":2}',
        '{"a": 1, "b": 2}',
        '{"a":  1,"b":2}',
        ' {"a":1,"b":2}',
        '{"a":1,"b":2}\n',
        '{ "a":1,"b":2}',
      ),
    ).toEqual([true, true, false, false, false, false]);
  });

  test("escapes, but no half surrogate pairs and no raw control characters", () => {
    expect(
      accepts(
        { type: "string" },
        String.raw`"\u00e9\n\/\"\\"`,
        String.raw`"\ud83d\uDE00"`,
        String.raw`"\ud83d"`,
        String.raw`"\ude00\ud83d"`,
        '"\n"',
        '"\u{1F600}"',
      ),
    ).toEqual([true, true, false, false, false, true]);
  });

  test("lengths count characters, however they are written", () => {
    const schema = { type: "string", minLength: 2, maxLength: 3 };
    expect(
      accepts(
        schema,
        '"a"',
        '"ab"',
        String.raw`"\u00e9\n"`,
        '"\u{1F600}\u{1F600}\u{1F600}"',
        '"abcd"',
        String.raw`"\ud83d\ude00"`,
      ),
    ).toEqual([false, true, true, true, false, false]);
    expect(
      accepts({ type: "string", maxLength: 100_000 }, `"${"a".repeat(100_000)}"`, `"${"a".repeat(100_001)}"`),
    ).toEqual([true, false]);
  });

  test("patterns match anywhere unless anchored, and are escaped as JSON", () => {
    expect(accepts({ type: "string", pattern: 'b"\\n' }, String.raw`"ab\"\nc"`, String.raw`"ab\""`)).toEqual([
      true,
      false,
    ]);
    expect(accepts({ type: "string", pattern: "^a|b$" }, '"ax"', '"xb"', '"xax"')).toEqual([
      true,
      true,
      false,
    ]);
    expect(
      accepts({ type: "string", pattern: "^[a-z]*$", minLength: 2, maxLength: 3 }, '"a"', '"ab"', '"abcd"'),
    ).toEqual([false, true, false]);
  });

  test("patterns, formats and lengths hold at once", () => {
    const uuid = "^[0-9a-f]{8}-[0-9a-f]{4}-[47][0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}$";
    expect(
      accepts(
        { type: "string", format: "uuid", pattern: uuid },
        '"123e4567-e89b-42d3-a456-426614174000"',
        '"123e4567-e89b-12d3-a456-426614174000"',
        '"123E4567-e89b-42d3-a456-426614174000"',
      ),
    ).toEqual([true, false, false]);
    expect(
      accepts(
        { type: "string", pattern: "^(ab|c)+$", minLength: 3, maxLength: 4 },
        '"abc"',
        '"ab"',
        '"abab"',
        '"ccccc"',
      ),
    ).toEqual([true, false, true, false]);
    expect(
      accepts(
        { allOf: [{ type: "string", pattern: "a" }, { pattern: '"' }] },
        String.raw`"\"a"`,
        String.raw`"a b\""`,
        '"a"',
      ),
    ).toEqual([true, true, false]);
    expect(
      accepts({ type: "string", pattern: "^(?!.*\\.\\.)(?=.*z)[a-z.]+$" }, '"a.z"', '"a..z"', '"a.b"'),
    ).toEqual([true, false, false]);
    expect(refusal({ type: "string", pattern: "^a$", minLength: 2 })).toMatch(/no string has/);
    expect(printed({ type: "string", pattern: "^(?!ab)[a-c]{2}$" })).toEqual([
      'value ::= "\\"" state "\\""',
      'state ::= "a" [ac] | [bc] [a-c]',
    ]);
  });

  test("any value, nested as deep as is sensible", () => {
    const deep = (depth: number) => `${"[".repeat(depth)}1${"]".repeat(depth)}`;
    expect(
      accepts({}, '{"a":[1,{"b":null}]}', "true", "-1.5e+10", deep(16), deep(17), "1e400", "01"),
    ).toEqual([true, true, true, true, false, false, false]);
    const builder = new GrammarBuilder();
    const matcher = new GrammarMatcher(builder.build(anyJsonObject(builder)));
    expect(["{}", '{"a":[]}', "[]", "1"].map((text) => matcher.accepts(text))).toEqual([
      true,
      true,
      false,
      false,
    ]);
  });

  test("additional properties come last and have none of the declared names", () => {
    const schema = {
      type: "object",
      properties: { ab: { type: "null" }, 'q"': { type: "null" } },
      additionalProperties: { type: "integer" },
    };
    expect(
      accepts(
        schema,
        '{"ab":null,"x":1}',
        '{"ab":1}',
        '{"abc":1,"a":2}',
        '{"q\\"":1}',
        String.raw`{"\u0061b":1}`,
        '{"x":1,"ab":null}',
        '{"":1}',
        "{}",
      ),
    ).toEqual([true, false, true, false, false, false, true, true]);
  });

  test("an object without properties is free, with an empty list of them it is empty", () => {
    expect(accepts({ type: "object" }, '{"a":1}', "{}")).toEqual([true, true]);
    expect(accepts({ type: "object", properties: {} }, '{"a":1}', "{}")).toEqual([false, true]);
    expect(accepts({ type: "object", properties: { a: {} } }, '{"a":1}', '{"b":1}')).toEqual([true, false]);
  });

  test("records of other libraries' making", () => {
    const schema = {
      type: "object",
      propertyNames: { type: "string" },
      additionalProperties: { type: "number" },
    };
    expect(accepts(schema, '{"a":1.5}', "{}", '{"a":"b"}')).toEqual([true, true, false]);
    const enumerated = {
      type: "object",
      propertyNames: { enum: ["a", "b"] },
      additionalProperties: { type: "null" },
      required: ["b"],
    };
    expect(
      accepts(enumerated, '{"a":null,"b":null}', '{"b":null}', '{"a":null}', '{"b":null,"c":null}'),
    ).toEqual([true, true, false, false]);
    const keyed = {
      type: "object",
      propertyNames: { pattern: "^[a-z]+$" },
      additionalProperties: { type: "null" },
    };
    expect(accepts(keyed, '{"ab":null}', '{"A":null}')).toEqual([true, false]);
  });

  test("enum and const of any type, filtered by everything else", () => {
    expect(
      accepts(
        { enum: ["a", 1, null, { k: [1, 2] }], type: ["string", "object"] },
        '"a"',
        "1",
        "null",
        '{"k":[1, 2]}',
      ),
    ).toEqual([true, false, false, true]);
    expect(accepts({ enum: ["real", "PT1S", 1], format: "duration" }, '"real"', '"PT1S"', "1")).toEqual([
      false,
      true,
      true,
    ]);
    expect(accepts({ const: "a", enum: ["b", "a"] }, '"a"', '"b"')).toEqual([true, false]);
  });

  test("a base schema is distributed over the options of anyOf", () => {
    const schema = {
      type: "object",
      properties: { kind: { type: "string" } },
      required: ["kind"],
      anyOf: [
        { properties: { kind: { const: "a" }, x: { type: "integer" } }, required: ["x"] },
        { properties: { kind: { const: "b" } } },
      ],
    };
    expect(accepts(schema, '{"kind":"a","x":1}', '{"kind":"b"}', '{"kind":"a"}', '{"kind":"c"}')).toEqual([
      true,
      true,
      false,
      false,
    ]);
  });

  test("options that nothing satisfies are left out", () => {
    const schema = { type: "string", anyOf: [{ type: "integer" }, { minLength: 3 }] };
    expect(accepts(schema, '"abc"', '"ab"', "1")).toEqual([true, false, false]);
    expect(accepts({ anyOf: [{ $ref: "#" }, { type: "null" }] }, "null")).toEqual([true]);
    expect(
      accepts(
        {
          type: "object",
          properties: { a: { type: "null" }, b: { $ref: "#/$defs/endless" } },
          $defs: {
            endless: { type: "object", properties: { e: { $ref: "#/$defs/endless" } }, required: ["e"] },
          },
        },
        '{"a":null}',
        "{}",
      ),
    ).toEqual([true, true]);
  });
});

describe("what is refused", () => {
  test("names the place and the keyword, as OpenAI does", () => {
    expect(refusal({ type: "object", properties: { a: { type: "array", uniqueItems: true } } })).toBe(
      "properties.a | uniqueItems | In context=('properties', 'a'), 'uniqueItems' is not permitted.",
    );
    expect(refusal({ type: "object", properties: { a: { not: {} } } })).toMatch(/^properties\.a \| not \|/);
    expect(refusal({ type: "string", pattern: "(?=a)b" })).toMatch(/Lookahead is supported at the start/);
    expect(refusal({ type: "string", pattern: "b(?<=a)" })).toMatch(/lookaround in the middle/);
    expect(refusal({ type: "string", pattern: "(a" }, false)).toMatch(/open parenthesis/);
    expect(refusal({ type: "string", format: "json-pointer" })).toMatch(
      /format 'json-pointer' is not supported/,
    );
    expect(refusal({ type: "integer", multipleOf: 97 })).toMatch(/multipleOf/);
    expect(refusal({ $ref: "https://example.com/schema" })).toMatch(/does not point to a definition/);
    expect(refusal({ $ref: "#/$defs/toString" })).toMatch(/does not point to a definition/);
  });

  test("what allows nothing", () => {
    for (const schema of [
      false,
      { enum: [] },
      { type: "array", minItems: 2, maxItems: 1 },
      { type: "string", minLength: 2, maxLength: 1 },
      { type: "integer", minimum: 2, maximum: 1 },
      { type: "integer", exclusiveMinimum: 1, exclusiveMaximum: 2 },
      { type: "number", exclusiveMinimum: 0, maximum: 0 },
      { allOf: [{ type: "string" }, { type: "null" }] },
      { type: "object", properties: { a: false }, required: ["a"] },
      { type: "object", required: ["a"], additionalProperties: false },
      { type: "object", properties: { a: { $ref: "#" } }, required: ["a"] },
      { type: "integer", multipleOf: 10, minimum: 1, maximum: 9 },
    ])
      expect([schema, refusal(schema)]).not.toEqual([schema, "accepted"]);
  });

  test("what is no schema", () => {
    for (const schema of [
      null,
      1,
      "string",
      [],
      { type: "text" },
      { type: 1 },
      { properties: [] },
      { required: "a" },
      { required: [1] },
      { anyOf: {} },
      { anyOf: [] },
      { minLength: -1 },
      { minLength: 1.5 },
      { minimum: "1" },
      { multipleOf: 0, type: "number" },
      { enum: "a" },
      { pattern: 1 },
      { $ref: 1 },
      { allOf: [1] },
      { items: 1 },
    ])
      for (const strict of [true, false])
        expect([schema, refusal(schema, strict)]).not.toEqual([schema, "accepted"]);
  });

  test("is left out and reported when not strict", () => {
    const { relaxed } = compiled(
      {
        type: "object",
        properties: { a: { type: "array", uniqueItems: true, items: { type: "string", pattern: "y(?!x)" } } },
        if: {},
        minProperties: 0,
      },
      false,
    );
    expect([...relaxed].sort()).toEqual(["if", "properties.a.items.pattern", "properties.a.uniqueItems"]);
  });

  test("annotations are not a reason", () => {
    expect(
      refusal({
        $schema: "x",
        $id: "y",
        title: "t",
        description: "d",
        default: 1,
        examples: [],
        deprecated: true,
        $comment: "c",
        readOnly: true,
        writeOnly: false,
        "x-order": 1,
        type: "integer",
      }),
    ).toBe("accepted");
  });
});

describe("hostile schemas", () => {
  function nested(depth: number, wrap: (inner: unknown) => unknown): unknown {
    let schema: unknown = { type: "null" };
    for (let level = 0; level < depth; level++) schema = wrap(schema);
    return schema;
  }

  test("nesting is bounded", () => {
    expect(refusal(nested(100_000, (inner) => ({ items: inner })))).toMatch(/nested more than/);
    expect(refusal(nested(60, (inner) => ({ type: "array", items: inner })))).toBe("accepted");
    expect(refusal(nested(60, (inner) => ({ anyOf: [inner] })))).toBe("accepted");
  });

  test("references that lead nowhere, round in circles or multiply", () => {
    expect(refusal({ $ref: "#" })).toMatch(/leads back to itself/);
    expect(
      refusal({ $ref: "#/$defs/a", $defs: { a: { $ref: "#/$defs/b" }, b: { $ref: "#/$defs/a" } } }),
    ).toMatch(/leads back/);
    const chain = (length: number, make: (next: unknown) => unknown) => ({
      $ref: "#/$defs/d0",
      $defs: Object.fromEntries(
        Array.from({ length }, (_, index) => [
          `d${index}`,
          index === length - 1 ? { type: "null" } : make({ $ref: `#/$defs/d${index + 1}` }),
        ]),
      ),
    });
    expect(refusal(chain(5000, (next) => next))).toMatch(/references in a row/);
    expect(refusal(chain(40, (next) => ({ allOf: [next, next] })))).toMatch(/too complex/);
    expect(refusal(chain(90, (next) => ({ anyOf: [next, next] })))).toBe("accepted");
    expect(refusal(chain(5000, (next) => ({ type: "object", properties: { n: next } })))).toBe("accepted");
    expect(refusal(chain(5000, (next) => ({ anyOf: [next, { type: "array", items: next }] })))).toMatch(
      /too complex/,
    );
  });

  test("combinations of options are bounded", () => {
    const list = (index: number) => ({
      anyOf: Array.from({ length: 10 }, (_, option) => ({
        type: "object",
        properties: { [`p${index}${option}`]: { type: "null" } },
      })),
    });
    expect(refusal({ allOf: Array.from({ length: 8 }, (_, index) => list(index)) })).toMatch(
      /too complex|too large/,
    );
  });

  test("conditions on strings are bounded, also in number", () => {
    const counted = { type: "string", pattern: "^(?:ab|cde){1,900}$", minLength: 100, maxLength: 2000 };
    expect(refusal(counted)).toMatch(/not permitted beside this pattern|accepted/);
    const properties = Object.fromEntries(
      Array.from({ length: 2000 }, (_, index) => [
        `p${index}`,
        { type: "string", format: "email", pattern: `^.*${index}` },
      ]),
    );
    expect(refusal({ type: "object", properties, required: Object.keys(properties) })).toMatch(
      /'pattern' is not permitted/,
    );
  });

  test("values that take for ever to check are refused", () => {
    const chain = Object.fromEntries(
      Array.from({ length: 40 }, (_, index) => [
        `d${index}`,
        { anyOf: [{ $ref: `#/$defs/d${index + 1}` }, { $ref: `#/$defs/d${index + 1}` }] },
      ]),
    );
    const $defs = { ...chain, d40: { type: "null" } };
    expect(refusal({ $defs, enum: [{ a: 1 }], properties: { a: { $ref: "#/$defs/d0" } } })).toMatch(
      /takes too long/,
    );
    expect(validateInstance({ $defs, $ref: "#/$defs/d0" }, 1)).toBeUndefined();
    const ambiguous = `^${"(?:a|aa)*".repeat(400)}$`;
    expect(refusal({ enum: ["a".repeat(50_000)], pattern: ambiguous })).toMatch(/too ambiguous/);
  });

  test("sizes are bounded", () => {
    const many = Object.fromEntries(
      Array.from({ length: 5000 }, (_, index) => [`property${index}`, { type: "string" }]),
    );
    expect(refusal({ type: "object", properties: many, required: Object.keys(many) })).toBe("accepted");
    expect(refusal({ type: "object", properties: many })).toMatch(/not required/);
    expect(
      refusal({
        type: "object",
        properties: Object.fromEntries(Array.from({ length: 10_001 }, (_, index) => [`p${index}`, {}])),
      }),
    ).toMatch(/properties/);
    expect(refusal({ enum: Array.from({ length: 1000 }, (_, index) => `value ${index}`) })).toBe("accepted");
    expect(refusal({ enum: Array.from({ length: 10_001 }, (_, index) => index) })).toMatch(/enum values/);
    expect(refusal({ type: "array", minItems: 1e15, items: { type: "null" } })).toMatch(/too large/);
    expect(refusal({ type: "string", minLength: 1e6 })).toBe("accepted");
    expect(refusal({ type: "number", minimum: -1.7e308, maximum: 5e-324 })).toBe("accepted");
  });
});
