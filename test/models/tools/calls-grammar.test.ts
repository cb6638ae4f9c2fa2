import * as fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { TemplateRenderer } from "../../../models/chat-template.ts";
import {
  charClass,
  GrammarBuilder,
  literal,
  oneOf,
  printGrammar,
  sequence,
} from "../../../models/grammar/grammar.ts";
import type { Expr, Grammar } from "../../../models/grammar/grammar.ts";
import { compileProperties } from "../../../models/grammar/json-schema.ts";
import { GrammarMatcher } from "../../../models/grammar/matcher.ts";
import { textWithout } from "../../../models/grammar/text-without.ts";
import { detectToolFormat } from "../../../models/tools/detect.ts";
import type { CallableTool, ToolFormat } from "../../../models/tools/tool-format.ts";
import { TEMPLATE_NAMES, templateOf } from "./fixture-templates.ts";
import { read } from "./parse.ts";

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

const SCHEMA = {
  type: "object",
  properties: {
    city: { type: "string" },
    days: { type: "integer" },
    unit: { enum: ["celsius", "kelvin"] },
    exact: { type: "boolean" },
    range: { type: "array", items: { $ref: "#/$defs/hour" } },
  },
  required: ["city"],
  $defs: { hour: { type: "integer", minimum: 0, maximum: 23 } },
};

const TOOLS = [
  { name: "get_weather", parameters: SCHEMA },
  { name: "get_time", parameters: { type: "object", properties: {} } },
];

/** Arguments of a few kinds, as one JSON object. */
function tools(builder: GrammarBuilder): CallableTool[] {
  const city = oneOf(...["Paris", "Rome", "O}slo"].map((text) => literal(JSON.stringify(text))));
  const days = sequence(literal(', "days": '), charClass("123456789"));
  const given = sequence(literal('{"city": '), city, oneOf(literal(""), days), literal("}"));
  return TOOLS.map(({ name, parameters }, index) => ({
    name,
    arguments: () => (index === 0 ? given : literal("{}")),
    parameters: (write) => compileProperties(builder, parameters, { strict: false, write }).root,
  }));
}

function grammarOf(name: string, parallel: boolean): Grammar {
  const builder = new GrammarBuilder();
  return builder.build(format(name).callsGrammar(builder, tools(builder), { parallel }));
}

const accepts = (grammar: Grammar, text: string): boolean => new GrammarMatcher(grammar).accepts(text);

const PARIS = { name: "get_weather", arguments: '{"city": "Paris", "days": 3}' };
const TIME = { name: "get_time", arguments: "{}" };

/** Formats whose models are not known to write several calls at once. */
const SINGLE = ["llama3", "harmony"];

/** A text of the grammar, by the choices that `pick` makes; repetitions have at most three turns. */
function sample(grammar: Grammar, pick: (options: number) => number): string {
  const write = (expr: Expr, depth: number): string => {
    switch (expr.kind) {
      case "literal":
        return expr.text;
      case "class": {
        const [low, high] = expr.ranges[pick(expr.ranges.length)] ?? [97, 97];
        const code = low + pick(Math.min(high - low + 1, 90));
        return String.fromCodePoint(code);
      }
      case "sequence":
        return expr.items.map((item) => write(item, depth)).join("");
      case "choice":
        return write(expr.options[depth > 60 ? 0 : pick(expr.options.length)] ?? literal(""), depth);
      case "repeat": {
        const most = Math.min(expr.max ?? expr.min + 3, expr.min + 3);
        const turns = depth > 60 ? expr.min : expr.min + pick(most - expr.min + 1);
        return Array.from({ length: turns }, () => write(expr.item, depth)).join("");
      }
      case "rule":
        return write(grammar.rules.get(expr.name) ?? literal(""), depth + 1);
    }
  };
  return write(grammar.root, 0);
}

describe.each(TEMPLATE_NAMES)("the grammar of %s", (name) => {
  it("accepts what the format prints, with a line break at the end or without", () => {
    const one = format(name).print([PARIS]).trimStart();
    expect(accepts(grammarOf(name, false), one) || name === "harmony").toBe(true);
    expect(accepts(grammarOf(name, true), one) || name === "harmony").toBe(true);
    expect(accepts(grammarOf(name, false), `${one}\n`) || name === "harmony").toBe(true);
    expect(accepts(grammarOf(name, true), `${one}\n\nand more`)).toBe(false);
    expect(accepts(grammarOf(name, true), "")).toBe(false);
  });

  it("allows several calls only when asked", () => {
    const two = format(name).print([PARIS, TIME]).trimStart();
    expect(accepts(grammarOf(name, true), two)).toBe(!SINGLE.includes(name));
    expect(accepts(grammarOf(name, false), two)).toBe(false);
  });

  it("offers the given tools only", () => {
    expect(
      accepts(
        grammarOf(name, true),
        format(name)
          .print([{ ...TIME, name: "other" }])
          .trimStart(),
      ),
    ).toBe(false);
  });

  it("begins where free text ends: with a trigger, in every text of it", () => {
    const grammar = grammarOf(name, true);
    const builder = new GrammarBuilder();
    const triggers = format(name).triggersFor(["get_weather", "get_time"]);
    const free = builder.build(textWithout(builder, triggers));
    fc.assert(
      fc.property(fc.infiniteStream(fc.nat(1000)), (numbers) => {
        const text = sample(grammar, (options) => (numbers.next().value ?? 0) % options);
        expect(accepts(grammar, text)).toBe(true);
        if (!["llama3"].includes(name)) expect(accepts(free, text)).toBe(false);
      }),
      { numRuns: 40 },
    );
  });

  it("has only texts that the parser reads as calls of these tools", () => {
    for (const parallel of [false, true]) {
      const grammar = grammarOf(name, parallel);
      fc.assert(
        fc.property(fc.infiniteStream(fc.nat(1000)), (numbers) => {
          const text = sample(grammar, (options) => (numbers.next().value ?? 0) % options);
          const { content, calls } = read(format(name), [text], { tools: TOOLS });
          expect(content).toBe("");
          expect(calls.length).toBeGreaterThan(0);
          if (!parallel) expect(calls).toHaveLength(1);
          for (const call of calls) {
            expect(["get_weather", "get_time"]).toContain(call.name);
            const given: unknown = JSON.parse(call.arguments);
            expect(given).toBeTypeOf("object");
            if (call.name === "get_weather") expect(given).toHaveProperty("city");
          }
        }),
        { numRuns: 80 },
      );
    }
  });

  it("can be printed", () => {
    expect(printGrammar(grammarOf(name, true))).toContain("root ::=");
  });
});

describe("the grammar of pocket's calls", () => {
  it("accepts what pocket writes", () => {
    const call = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>';
    expect(accepts(grammarOf("pocket", false), call)).toBe(true);
    expect(accepts(grammarOf("pocket", true), `${call}\n${call}`)).toBe(true);
    expect(accepts(grammarOf("pocket", true), call.replaceAll("\n", ""))).toBe(true);
    expect(accepts(grammarOf("pocket", true), call.replace("Paris", "Berlin"))).toBe(false);
  });
});

describe("the grammar of parameters in tags", () => {
  const call = (...parameters: readonly (readonly [key: string, value: string])[]): string =>
    `<tool_call>\n<function=get_weather>\n${parameters
      .map(([key, value]) => `<parameter=${key}>\n${value}\n</parameter>\n`)
      .join("")}</function>\n</tool_call>`;

  it("has the required ones, and values of their types", () => {
    const grammar = grammarOf("qwen3-coder", false);
    expect(accepts(grammar, call(["city", "New\nYork <1>"]))).toBe(true);
    expect(accepts(grammar, call(["city", "Rome"], ["days", "12"], ["unit", "kelvin"]))).toBe(true);
    expect(accepts(grammar, call(["city", "Rome"], ["range", "[7, 23]"]))).toBe(true);
    expect(accepts(grammar, call(["city", "Rome"], ["range", "[7, 24]"]))).toBe(false);
    expect(accepts(grammar, call(["days", "12"]))).toBe(false);
    expect(accepts(grammar, call(["city", "Rome"], ["days", "many"]))).toBe(false);
    expect(accepts(grammar, call(["city", "Rome"], ["unit", "rankine"]))).toBe(false);
    expect(accepts(grammar, call(["city", "Rome"], ["exact", "maybe"]))).toBe(false);
    expect(accepts(grammar, call(["city", "Rome"], ["planet", "Mars"]))).toBe(false);
  });
});
