/** What strict tools say of their parameters holds in every syntax, and what cannot hold is refused. */
import { Ajv2020 } from "ajv/dist/2020.js";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { validateInstance } from "../../../models/grammar/validate-instance.ts";
import { TemplateRenderer } from "../../../models/chat-template.ts";
import { FORMATS } from "../../../models/grammar/formats.ts";
import { GrammarMatcher } from "../../../models/grammar/matcher.ts";
import { parseGbnf } from "../../../models/grammar/parse-gbnf.ts";
import { compileConstraint, ConstraintError } from "../../../models/output-constraint.ts";
import type { CompiledConstraint } from "../../../models/output-constraint.ts";
import { detectToolFormat } from "../../../models/tools/detect.ts";
import type { ToolFormat } from "../../../models/tools/tool-format.ts";
import { SchemaMaker } from "../../support/schema-arbitrary.ts";
import { sampleGrammar, seededRandom } from "../../support/grammar-sampler.ts";
import { templateOf } from "./fixture-templates.ts";
import { read } from "./parse.ts";

/** One that writes arguments as JSON, and all that do not. */
const TEMPLATE_NAMES = [
  "minimax-m3",
  "hermes",
  "qwen3-coder",
  "glm",
  "minimax",
  "deepseek-v4",
  "pythonic",
  "gemma-function",
  "gemma4",
];

const renderer = new TemplateRenderer();
const formats = new Map<string, ToolFormat>();

beforeAll(async () => {
  for (const name of TEMPLATE_NAMES) formats.set(name, await detectToolFormat(templateOf(name, renderer)));
});
afterAll(() => renderer.close());

function format(name: string): ToolFormat {
  const found = formats.get(name);
  if (found === undefined) throw new Error(`No fixture ${name}.`);
  return found;
}

type Schema = Readonly<Record<string, unknown>>;

function compile(name: string, parameters: Schema, strict = true): CompiledConstraint {
  const tool = { name: "f", parameters, strict, param: "tools[0].function.parameters" };
  return compileConstraint({
    reasoning: undefined,
    calls: { format: format(name), names: ["f"], mode: "required", callable: [tool], parallel: false },
    answer: { kind: "text" },
    answerHeader: undefined,
  });
}

/** Also a long run's: WEFT_FUZZ_SCHEMAS=400. */
const RANDOM_SCHEMAS = Number(process.env["WEFT_FUZZ_SCHEMAS"] ?? 20);

function compiledUnlessRefused(name: string, parameters: Schema): CompiledConstraint | undefined {
  try {
    return compile(name, parameters);
  } catch (error) {
    if (error instanceof ConstraintError) return undefined;
    throw error;
  }
}

/** The parameters in which each keyword matters. */
const PROPERTIES: Readonly<Record<string, Schema>> = {
  city: { type: "string", pattern: "^[A-Z][a-z]+( <[a-z]>)?$" },
  loose: { type: "string", pattern: "[0-9]" },
  note: { type: "string", maxLength: 12 },
  code: { type: "string", minLength: 2, maxLength: 4 },
  long: { type: "string", minLength: 3, maxLength: 900 },
  filled: { type: "string", minLength: 1 },
  free: { type: "string" },
  unit: { enum: ["celsius", "kelvin", "  padded", "null"] },
  word: { type: ["string", "null"], enum: ["null", "none"] },
  day: { type: "string", format: "date", pattern: "^20" },
  days: { type: "integer", minimum: 1, maximum: 14 },
  ratio: { type: "number", exclusiveMinimum: 0, maximum: 1 },
  even: { type: "integer", multipleOf: 2 },
  large: { type: "integer", minimum: 2 ** 60 },
  exact: { type: "boolean" },
  maybe: { type: ["string", "null"], pattern: "^x+$" },
  mixed: {
    anyOf: [
      { type: "string", maxLength: 3 },
      { type: "integer", minimum: 5 },
    ],
  },
  implied: { minLength: 2, maxLength: 3 },
  both: { allOf: [{ $ref: "#/$defs/name" }, { maxLength: 4 }] },
  tags: { type: "array", items: { type: "string", pattern: "^[a-z]{1,5}$" }, maxItems: 3 },
  place: {
    type: "object",
    properties: { lat: { type: "number", minimum: -90, maximum: 90 }, "a b": { type: "boolean" } },
    required: ["lat"],
    additionalProperties: { enum: [true, null, "a"] },
  },
  node: { $ref: "#/$defs/node" },
  level: { const: 3 },
  any: {},
};
const $defs = {
  name: { type: "string", minLength: 2 },
  node: {
    type: "object",
    properties: { name: { $ref: "#/$defs/name" }, next: { $ref: "#/$defs/node" } },
    required: ["name"],
    additionalProperties: false,
  },
};

const ajv = new Ajv2020({ strict: false });
for (const [name, regex] of FORMATS) ajv.addFormat(name, new RegExp(`^(?:${regex})$`, "u"));

function objectOf(keys: readonly string[], required: readonly string[] = keys): Schema {
  const properties = Object.fromEntries(keys.map((key) => [key, PROPERTIES[key] ?? {}]));
  return { type: "object", properties, required, additionalProperties: false, $defs };
}

describe.each(TEMPLATE_NAMES)("strict parameters in the syntax of %s", (name) => {
  it("are valid in whatever the grammar lets the model write", () => {
    const random = seededRandom(11);
    for (const key of Object.keys(PROPERTIES)) {
      const parameters = objectOf([key]);
      const isValid = ajv.compile(parameters);
      const grammar = parseGbnf(compile(name, parameters).grammar);
      for (let run = 0; run < 5; run++) {
        const text = sampleGrammar(grammar, random);
        const { content, calls } = read(format(name), [text], { tools: [{ name: "f", parameters }] });
        expect({ content, names: calls.map((call) => call.name) }).toEqual({ content: "", names: ["f"] });
        const given: unknown = JSON.parse(calls[0]?.arguments ?? "");
        expect({ text, given, valid: isValid(given) }).toEqual({ text, given, valid: true });
      }
    }
  });

  it("are valid where schemas are random, too", () => {
    let tried = 0;
    for (let seed = 0; seed < RANDOM_SCHEMAS; seed++) {
      const random = seededRandom(seed);
      const { $defs: defs = {}, ...x } = new SchemaMaker(random).document();
      const parameters = { type: "object", properties: { x }, required: ["x"], $defs: defs };
      const compiled = compiledUnlessRefused(name, parameters);
      if (compiled === undefined) continue;
      const grammar = parseGbnf(compiled.grammar);
      for (let run = 0; run < 3; run++) {
        tried++;
        const text = sampleGrammar(grammar, random);
        const { content, calls } = read(format(name), [text], { tools: [{ name: "f", parameters }] });
        const about = { seed, schema: JSON.stringify(x), text, content };
        const given: unknown = JSON.parse(calls[0]?.arguments ?? "");
        expect({ ...about, wrong: validateInstance(parameters, given) }).toEqual({ ...about, content: "" });
      }
    }
    expect(tried).toBeGreaterThan(RANDOM_SCHEMAS);
  });

  it("come in any number that the schema allows", () => {
    const random = seededRandom(12);
    const parameters = objectOf(["city", "days", "unit", "maybe", "exact"], ["unit"]);
    const isValid = ajv.compile(parameters);
    const grammar = parseGbnf(compile(name, parameters).grammar);
    const sizes = new Set<number>();
    for (let run = 0; run < 40; run++) {
      const text = sampleGrammar(grammar, random);
      const { calls } = read(format(name), [text], { tools: [{ name: "f", parameters }] });
      const given = JSON.parse(calls[0]?.arguments ?? "") as object;
      expect({ text, given, valid: isValid(given) }).toEqual({ text, given, valid: true });
      sizes.add(Object.keys(given).length);
    }
    expect(sizes.size).toBeGreaterThan(2);
  });

  it("are taken as the format prints them", () => {
    const given = {
      city: "Oslo <b>",
      loose: "route 66",
      note: "a\nb",
      code: "<2>",
      unit: "  padded",
      day: "2024-02-29",
      days: 14,
      ratio: 0.5,
      exact: true,
      maybe: null,
      mixed: "abc",
      both: "Rome",
      tags: ["a", "bc"],
      place: { lat: -12.5, "a b": false, "c d": "a" },
      node: { name: "it's", next: { name: 'a "b"' } },
      level: 3,
    };
    const parameters = objectOf(Object.keys(given));
    const grammar = new GrammarMatcher(parseGbnf(compile(name, parameters).grammar));
    const text = format(name)
      .print([{ name: "f", arguments: JSON.stringify(given) }])
      .trimStart();
    expect(grammar.accepts(text)).toBe(true);
    const { calls } = read(format(name), [text], { tools: [{ name: "f", parameters }] });
    expect(JSON.parse(calls[0]?.arguments ?? "")).toEqual(given);
  });
});

/** Calls with one parameter x, as models of the families write it. */
const WRITTEN: Readonly<Record<string, (value: string) => string>> = {
  "qwen3-coder": (value) =>
    `<tool_call>\n<function=f>\n<parameter=x>\n${value}\n</parameter>\n</function>\n</tool_call>`,
  glm: (value) => `<tool_call>f\n<arg_key>x</arg_key>\n<arg_value>${value}</arg_value>\n</tool_call>`,
  "deepseek-v4": (value) =>
    `<｜DSML｜tool_calls>\n<｜DSML｜invoke name="f">\n<｜DSML｜parameter name="x" string="${value}</｜DSML｜parameter>\n</｜DSML｜invoke>\n</｜DSML｜tool_calls>`,
  pythonic: (value) => `[f(x=${value})]`,
  "gemma-function": (value) => `<start_function_call>call:f{x:${value}}<end_function_call>`,
};

describe("a strict parameter", () => {
  const cases: readonly [name: string, schema: Schema, right: readonly string[], wrong: readonly string[]][] =
    [
      [
        "qwen3-coder",
        { type: "string", pattern: "^[a-z]+$" },
        ["ab"],
        ["", "AB", " ab", "ab ", "ab\n", '"ab"'],
      ],
      ["qwen3-coder", { type: "string", maxLength: 3 }, ["", "a<b", "é😀\n"], ["abcd"]],
      ["qwen3-coder", { type: "string", minLength: 2 }, ["ab", "</parameter x"], ["", "a", "ab</parameter>"]],
      ["qwen3-coder", { enum: ["a", "b c", "1"] }, ["a", "b c", "1"], ["b", '"a"', " a"]],
      ["qwen3-coder", { enum: ["a", 1] }, ["a"], ["1"]],
      ["qwen3-coder", { type: "integer", maximum: 20 }, ["20", " 20 ", "-1"], ["21", "1.5", "twenty"]],
      ["qwen3-coder", { type: "string", format: "uuid" }, ["123e4567-e89b-12d3-a456-426614174000"], ["123"]],
      ["qwen3-coder", { type: "array", items: { maximum: 9 }, minItems: 1 }, ["[1, 2]"], ["[]", "[10]"]],
      [
        "deepseek-v4",
        { type: ["string", "integer"], maxLength: 2 },
        ['true">ab', 'false">777'],
        ['true">abc', 'false">"ab"', 'false">ab', 'true">7">'],
      ],
      ["deepseek-v4", {}, ['true">ab', 'false">[1]', 'true">[1]'], ['false">"ab"', 'false">ab']],
      ["glm", { type: "string", pattern: "^[a-z]+$" }, ["ab"], ["\nab", "ab\n", "AB"]],
      ["glm", { type: "string" }, ["\nany <b>thing\n", ""], ["</arg_value>"]],
      ["pythonic", { type: "string", pattern: "^[a-z]+$" }, ['"ab"'], ["ab", '"AB"', "'ab'"]],
      ["pythonic", { type: "boolean" }, ["True", "False"], ["true", "None"]],
      ["pythonic", { enum: [null, true, "a"] }, ["None", "True", '"a"'], ["null", "a"]],
      ["pythonic", { type: "array", items: { enum: [true, 3] } }, ["[True, 3]", "[]"], ["[4]", "[true]"]],
      ["pythonic", { type: "number", minimum: 1.5 }, ["1.5", "2"], ["1.4"]],
      [
        "gemma-function",
        { type: "string", maxLength: 2 },
        ["<escape>a<<escape>"],
        ["<escape>abc<escape>", "a"],
      ],
      [
        "gemma-function",
        { type: "object", properties: { k: { const: "v" } }, required: ["k"], additionalProperties: false },
        ["{k:<escape>v<escape>}"],
        ["{k:<escape>w<escape>}", '{"k":<escape>v<escape>}', "{}"],
      ],
    ];

  it.each(cases)("of %s that is %j is held", (name, x, right, wrong) => {
    const parameters = { type: "object", properties: { x }, required: ["x"], additionalProperties: false };
    const grammar = new GrammarMatcher(parseGbnf(compile(name, parameters).grammar));
    const takes = (value: string): boolean => grammar.accepts(WRITTEN[name]?.(value) ?? "");
    expect({ right: right.filter((value) => !takes(value)), wrong: wrong.filter(takes) }).toEqual({
      right: [],
      wrong: [],
    });
  });

  it.each<[name: string, schema: Schema, message: string]>([
    [
      "qwen3-coder",
      { properties: { "a>b": {} }, required: [] },
      "In context=('properties', 'a>b'), its name cannot be written in a call of this model.",
    ],
    ["pythonic", { properties: { "a b": {} } }, "In context=('properties', 'a b'), its name cannot"],
    [
      "qwen3-coder",
      { properties: { x: { enum: ["</parameter>"] } }, required: ["x"] },
      "In context=('properties', 'x'), none of the values can be written in a call of this model.",
    ],
    [
      "gemma4",
      { properties: { x: { pattern: '^<\\|"\\|>$' } }, required: ["x"] },
      "In context=('properties', 'x'), no string of this kind can be written in a call of this model.",
    ],
    [
      "glm",
      { properties: { x: { type: "string", pattern: "^(?=.*a)(.{0,900}b){9}[^]*$" } } },
      "In context=('properties', 'x'), 'pattern' is not permitted here",
    ],
    ["qwen3-coder", { properties: { x: { uniqueItems: true } } }, "'uniqueItems' is not permitted."],
    [
      "glm",
      { properties: { x: {} }, anyOf: [{ required: ["x"] }, {}] },
      "In context=(), 'anyOf' is not permitted for",
    ],
    ["glm", { properties: { x: {} }, minProperties: 1 }, "In context=(), 'minProperties' is not permitted."],
    [
      "glm",
      { propertyNames: { pattern: "^a" }, additionalProperties: true },
      "'propertyNames' is not permitted.",
    ],
    [
      "minimax-m3",
      { additionalProperties: { type: "string" } },
      "In context=('additionalProperties'), names that are not declared cannot be repeated",
    ],
  ])("of %s that is %j is refused, and relaxed where it is not strict", (name, schema, message) => {
    let refused: unknown;
    try {
      compile(name, schema);
    } catch (error) {
      refused = error;
    }
    expect(refused).toBeInstanceOf(ConstraintError);
    expect(refused).toMatchObject({
      message: expect.stringContaining(message) as string,
      param: "tools[0].function.parameters",
      tool: "f",
    });
    // What contradicts itself is an error either way.
    if (message.includes("can be written")) expect(() => compile(name, schema, false)).toThrow(message);
    else expect(compile(name, schema, false).relaxed).toHaveLength(1);
  });

  it("that nobody declares may have any name", () => {
    const parameters = { type: "object", additionalProperties: { type: "integer" } };
    for (const [name, text] of [
      ["qwen3-coder", "<tool_call>\n<function=f>\n<parameter=a>\n1\n</parameter>\n</function>\n</tool_call>"],
      ["pythonic", "[f(a=1, b_2=22)]"],
      ["gemma4", "<|tool_call>call:f{a:1}<tool_call|>"],
    ] as const) {
      const grammar = new GrammarMatcher(parseGbnf(compile(name, parameters).grammar));
      expect([text, text.replace("1", "x")].map((one) => grammar.accepts(one))).toEqual([true, false]);
    }
  });
});
