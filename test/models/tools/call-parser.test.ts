import * as fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { TemplateRenderer } from "../../../models/chat-template.ts";
import { detectToolFormat } from "../../../models/tools/detect.ts";
import type { ParsedTool, ToolFormat } from "../../../models/tools/tool-format.ts";
import { formatOf } from "../../../models/tools/syntax-format.ts";
import { cutAt } from "../token-tables.ts";
import { TEMPLATE_NAMES, templateOf } from "./fixture-templates.ts";
import { characters, read } from "./parse.ts";

const renderer = new TemplateRenderer();
const formats = new Map<string, ToolFormat>();

beforeAll(async () => {
  for (const name of TEMPLATE_NAMES) {
    formats.set(name, await detectToolFormat(templateOf(name, renderer)));
  }
});
afterAll(() => renderer.close());

function format(name: string): ToolFormat {
  const found = formats.get(name);
  if (found === undefined) throw new Error(`No fixture ${name}.`);
  return found;
}

const WEATHER: ParsedTool = {
  name: "get_weather",
  parameters: {
    type: "object",
    properties: { city: { type: "string" }, days: { type: "integer" } },
    required: ["city"],
  },
};
const TIME: ParsedTool = { name: "get_time", parameters: undefined };
const TOOLS = [WEATHER, TIME];

const PARIS = { name: "get_weather", arguments: '{"city": "Paris"}' };
const ROME = { name: "get_weather", arguments: '{"city": "Rome"}' };

/** Both ways of getting the text: at once, and a character at a time. */
function bothCuts(name: string, text: string, options: Parameters<typeof read>[2] = { tools: TOOLS }) {
  const whole = read(format(name), [text], options);
  expect(read(format(name), characters(text), options)).toEqual(whole);
  return { content: whole.content, calls: whole.calls };
}

describe("one call, as models of each family write it", () => {
  const cases: readonly (readonly [template: string, text: string])[] = [
    ["pocket", '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>'],
    ["hermes", '<tool_call>{"name":"get_weather","arguments":{"city": "Paris"}}</tool_call>\n'],
    ["hermes", '<tool_call>\n{"arguments": {"city": "Paris"}, "name": "get_weather"}\n</tool_call>'],
    [
      "hermes",
      '<tool_call>\n{"name": "get_weather", "arguments": "{\\"city\\": \\"Paris\\"}"}\n</tool_call>',
    ],
    ["hermes", '<tool_call>\n{"name": "get_weather", "parameters": {"city": "Paris"}}'],
    ["smollm2", '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>\n'],
    ["llama3", '{"name": "get_weather", "parameters": {"city": "Paris"}}'],
    ["llama3", '<|python_tag|>{"name": "get_weather", "parameters": {"city": "Paris"}}'],
    ["llama3", '{"type": "function", "name": "get_weather", "parameters": {"city": "Paris"}}'],
    ["mistral", '[TOOL_CALLS][{"name": "get_weather", "arguments": {"city": "Paris"}, "id": "abcdefghi"}]'],
    ["mistral", '[TOOL_CALLS] [{"name": "get_weather", "arguments": {"city": "Paris"}}]'],
    ["mistral-args", '[TOOL_CALLS]get_weather[ARGS]{"city": "Paris"}'],
    ["mistral-call-id", '[TOOL_CALLS]get_weather[CALL_ID]x7[ARGS]{"city": "Paris"}'],
    [
      "deepseek",
      '<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather\n```json\n{"city": "Paris"}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>',
    ],
    [
      "deepseek-v31",
      '<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>{"city": "Paris"}<｜tool▁call▁end｜><｜tool▁calls▁end｜>',
    ],
    [
      "deepseek-v32",
      '<｜DSML｜function_calls>\n<｜DSML｜invoke name="get_weather">\n<｜DSML｜parameter name="city" string="true">Paris</｜DSML｜parameter>\n</｜DSML｜invoke>\n</｜DSML｜function_calls>',
    ],
    [
      "deepseek-v4",
      '<｜DSML｜invoke name="get_weather">\n<｜DSML｜parameter name="city" string="true">Paris</｜DSML｜parameter>\n</｜DSML｜invoke>\n</｜DSML｜tool_calls>',
    ],
    [
      "kimi",
      '<|tool_calls_section_begin|><|tool_call_begin|>functions.get_weather:12<|tool_call_argument_begin|>{"city": "Paris"}<|tool_call_end|><|tool_calls_section_end|>',
    ],
    [
      "minimax",
      '<minimax:tool_call>\n<invoke name="get_weather">\n<parameter name="city">Paris</parameter>\n</invoke>\n</minimax:tool_call>',
    ],
    [
      "minimax-m3",
      ']<]minimax[>[<tool_call>\n]<]minimax[>[<invoke name="get_weather">]<]minimax[>[<city>Paris]<]minimax[>[</city>]<]minimax[>[</invoke>\n]<]minimax[>[</tool_call>',
    ],
    ["minimax", '<invoke name="get_weather"><parameter name="city">Paris</parameter></invoke>'],
    ["gemma-json", '```tool_call\n{"name": "get_weather", "parameters": {"city": "Paris"}}\n```'],
    [
      "gemma-function",
      "<start_function_call>call:get_weather{city:<escape>Paris<escape>}<end_function_call>",
    ],
    ["gemma4", '<|tool_call>call:get_weather{city:<|"|>Paris<|"|>}<tool_call|>'],
    ["granite", '<|tool_call|>[{"name": "get_weather", "arguments": {"city": "Paris"}}]'],
    ["granite-silent", '<|tool_call|> [{"name": "get_weather", "arguments": {"city": "Paris"}}]'],
    [
      "phi4",
      '<|tool_call|>[{"type": "function", "function": {"name": "get_weather", "arguments": {"city": "Paris"}}}]<|/tool_call|>',
    ],
    ["phi4-silent", '<|tool_call|>[{"name": "get_weather", "arguments": {"city": "Paris"}}]<|/tool_call|>'],
    ["functools", 'functools[{"name": "get_weather", "arguments": {"city": "Paris"}}]'],
    [
      "qwen3-coder",
      "<tool_call>\n<function=get_weather>\n<parameter=city>\nParis\n</parameter>\n</function>\n</tool_call>",
    ],
    [
      "qwen3-coder",
      "<function=get_weather>\n<parameter=city>\nParis\n</parameter>\n</function>\n</tool_call>",
    ],
    ["glm", "<tool_call>get_weather\n<arg_key>city</arg_key>\n<arg_value>Paris</arg_value>\n</tool_call>"],
    [
      "command",
      '<|START_ACTION|>[\n    {"tool_call_id": "0", "tool_name": "get_weather", "parameters": {"city": "Paris"}}\n]<|END_ACTION|>',
    ],
    ["pythonic", '[get_weather(city="Paris")]'],
    ["pythonic", "[get_weather(city='Paris')]"],
  ];

  it.each(cases)("%s: %s", (template, text) => {
    expect(bothCuts(template, text)).toEqual({ content: "", calls: [PARIS] });
    expect(bothCuts(template, `Let me see.\n\n${text}`)).toEqual({ content: "Let me see.", calls: [PARIS] });
  });
});

describe("several calls", () => {
  it.each(TEMPLATE_NAMES.filter((name) => name !== "harmony"))("%s reads what it prints", (name) => {
    const text = format(name).print([PARIS, { name: "get_time", arguments: "{}" }, ROME]);
    expect(bothCuts(name, text)).toEqual({
      content: "",
      calls: [PARIS, { name: "get_time", arguments: "{}" }, ROME],
    });
    expect(bothCuts(name, `Well: ${text}`).content).toBe("Well:");
  });

  it("come in order, each with its arguments before the next", () => {
    const text = format("hermes").print([PARIS, ROME]);
    expect(read(format("hermes"), characters(`Hm. ${text}`)).order).toEqual([
      "content",
      "call 0",
      "arguments 0",
      "call 1",
      "arguments 1",
    ]);
  });

  it("may have text between and after them", () => {
    const [paris, rome] = [[PARIS], [ROME]].map((calls) => format("hermes").print(calls));
    expect(bothCuts("hermes", `First\n${paris}\nthen\n${rome}\n\nDone.`)).toEqual({
      content: "FirstthenDone.",
      calls: [PARIS, ROME],
    });
  });

  it("of a Llama are separated by a semicolon", () => {
    const call = (city: string): string => `{"name": "get_weather", "parameters": {"city": "${city}"}}`;
    expect(bothCuts("llama3", `${call("Paris")}; ${call("Rome")}`)).toEqual({
      content: "",
      calls: [PARIS, ROME],
    });
  });
});

describe("arguments", () => {
  const around = (given: string): string => `<tool_call>\n{"name": "f", "arguments": ${given}}\n</tool_call>`;

  it.each([
    ['{"a": "}]{[\\"\\\\"}', '{"a": "}]{[\\"\\\\"}'],
    ['{ "a" : {"b": [1, {"c": "</tool_call>"}]} }', '{ "a" : {"b": [1, {"c": "</tool_call>"}]} }'],
    ['{"a":"é😀"}', '{"a":"é😀"}'],
    ["null", "{}"],
    ['""', "{}"],
    ["{}", "{}"],
  ])("%s become %s", (given, expected) => {
    expect(bothCuts("hermes", around(given))).toEqual({
      content: "",
      calls: [{ name: "f", arguments: expected }],
    });
  });

  it("are {} when there are none", () => {
    const none = [{ name: "get_time", arguments: "{}" }];
    for (const [name, text] of [
      ["hermes", '<tool_call>\n{"name": "get_time"}\n</tool_call>'],
      ["mistral-args", "[TOOL_CALLS]get_time[ARGS]"],
      ["qwen3-coder", "<tool_call>\n<function=get_time>\n</function>\n</tool_call>"],
      ["glm", "<tool_call>get_time\n</tool_call>"],
      ["pythonic", "[get_time()]"],
      ["gemma-function", "<start_function_call>call:get_time{}<end_function_call>"],
    ] as const) {
      expect(bothCuts(name, text)).toEqual({ content: "", calls: none });
    }
  });

  it("arrive while they are generated", () => {
    const parser = format("hermes").createParser();
    expect(parser.push('<tool_call>\n{"name": "f", "arg')).toEqual([]);
    expect(parser.push('uments": {"a')).toEqual([
      { kind: "call", index: 0, name: "f" },
      { kind: "arguments", index: 0, text: '{"a' },
    ]);
    expect(parser.push('": 1')).toEqual([{ kind: "arguments", index: 0, text: '": 1' }]);
    expect(parser.push("}}\n</tool_")).toEqual([{ kind: "arguments", index: 0, text: "}" }]);
    expect(parser.push("call>")).toEqual([]);
    expect(parser.flush(true)).toEqual([]);
  });

  it("in tags have the types of the schema", () => {
    const parameter = (key: string, value: string): string => `<parameter=${key}>\n${value}\n</parameter>\n`;
    const properties = {
      text: { type: "string" },
      count: { type: "integer" },
      list: { type: "array" },
      flag: { type: "boolean" },
      maybe: { type: ["string", "null"] },
      choice: { enum: ["1", "2"] },
    };
    const text = `<tool_call>\n<function=f>\n${parameter("text", "007")}${parameter("count", "7")}${parameter(
      "list",
      "[1, 2]",
    )}${parameter("flag", "True")}${parameter("maybe", "null")}${parameter("choice", "1")}${parameter(
      "other",
      " a\nb ",
    )}${parameter("number", "8")}</function>\n</tool_call>`;
    const tools = [{ name: "f", parameters: { type: "object", properties } }];
    expect(bothCuts("qwen3-coder", text, { tools }).calls).toEqual([
      {
        name: "f",
        arguments:
          '{"text": "007", "count": 7, "list": [1, 2], "flag": true, "maybe": null, "choice": "1", "other": " a\\nb ", "number": 8}',
      },
    ]);
  });

  it("in tags that tell their types have those", () => {
    const parameter = (key: string, told: string, value: string): string =>
      `<｜DSML｜parameter name="${key}" string="${told}">${value}</｜DSML｜parameter>\n`;
    const text = `<｜DSML｜tool_calls>\n<｜DSML｜invoke name="f">\n${parameter("a", "true", "7")}${parameter(
      "b",
      "false",
      "7",
    )}${parameter("c", "false", '{"x": [null]}')}${parameter("d", "true", "null")}</｜DSML｜invoke>\n</｜DSML｜tool_calls>`;
    const tools = [{ name: "f", parameters: { type: "object", properties: { a: { type: "integer" } } } }];
    expect(bothCuts("deepseek-v4", text, { tools }).calls).toEqual([
      { name: "f", arguments: '{"a": "7", "b": 7, "c": {"x": [null]}, "d": "null"}' },
    ]);
  });

  it("of Gemma become JSON", () => {
    const text = `<|tool_call>call:f{a:<|"|>it's "x", {y}<|"|>,b:[1,<|"|>z<|"|>],c:{k:true,n:null}}<tool_call|>`;
    expect(bothCuts("gemma4", text, {}).calls).toEqual([
      {
        name: "f",
        arguments: `{"a": ${JSON.stringify(`it's "x", {y}`)}, "b": [1,"z"], "c": {"k":true,"n":null}}`,
      },
    ]);
  });

  it("of a Python call become JSON", () => {
    const text = `[f(a='it\\'s', b=[1, -2.5, None], c={'k': True}, d="x, y)")]`;
    expect(bothCuts("pythonic", text, {}).calls).toEqual([
      { name: "f", arguments: '{"a": "it\'s", "b": [1,-2.5,null], "c": {"k":true}, "d": "x, y)"}' },
    ]);
  });
});

describe("the end of several calls", () => {
  it("is found where nothing but a line break stands between them", () => {
    const syntax = {
      family: "lines",
      before: "<calls>\n",
      between: "\n",
      after: "\n</calls>",
      body: {
        kind: "object",
        fields: [
          { key: "name", holds: "name" },
          { key: "arguments", holds: "arguments" },
        ],
      },
    } as const;
    const lines = formatOf(syntax, {
      definitions: true,
      calls: true,
      severalCalls: true,
      namesInIds: false,
      results: true,
    });
    const text = lines.print([PARIS, ROME]);
    expect(text).toMatch(/^<calls>\n\{.*\}\n\{.*\}\n<\/calls>$/);
    for (const chunks of [[text], characters(text)]) {
      expect(read(lines, chunks)).toMatchObject({ content: "", calls: [PARIS, ROME] });
    }
  });
});

describe("names", () => {
  it("pass through exactly", () => {
    for (const name of ["mcp__server/tool.v1-x", "Ünï_code", "a"]) {
      for (const template of TEMPLATE_NAMES.filter((other) => other !== "harmony")) {
        const text = format(template).print([{ name, arguments: '{"x": 1}' }]);
        expect(bothCuts(template, text, {}).calls).toEqual([{ name, arguments: '{"x": 1}' }]);
      }
    }
  });
});

describe("arguments that are no object", () => {
  it.each([
    ["hermes", '<tool_call>\n{"name": "f", "arguments": oops}\n</tool_call>'],
    ["pythonic", '[f(arguments="oops")]'],
    ["glm", "\n<tool_call>f\n<arg_key>arguments</arg_key>\n<arg_value>oops</arg_value>\n</tool_call>"],
  ])("are written by %s all the same", (name, text) => {
    expect(format(name).print([{ name: "f", arguments: "oops" }])).toBe(text);
  });
});

describe("what is no call", () => {
  it.each([
    ["hermes", "<tool_call>\nnot JSON\n</tool_call>"],
    ["hermes", '<tool_call>\n{"name": 3}\n</tool_call>'],
    ["hermes", '<tool_call>\n{"arguments": {}}\n</tool_call>'],
    ["hermes", '<tool_call>\n{"name": "two words", "arguments": {}}\n</tool_call>'],
    ["hermes", '<tool_call>\n{"name": "f", "arguments": [1]}\n</tool_call>'],
    ["hermes", '<tool_call>\n{"name": "f'],
    ["hermes", "a <tool_cal"],
    ["hermes", "<tool_call>"],
    ["hermes", "</tool_call> x < y"],
    ["llama3", '{"name": "Alice", "age": 30}'],
    ["llama3", '{"name": "get_weather"}'],
    ["llama3", 'function f() { return {"a": {"name": "x"}}; }'],
    ["llama3", "<|python_tag|>print(1)"],
    ["functools", "import functools\nfunctools.reduce(f, [1])"],
    ["mistral", "[TOOL_CALLS] none"],
    ["mistral-args", "[TOOL_CALLS]two words[ARGS]{}"],
    ["deepseek", "<｜tool▁calls▁begin｜>oops"],
    ["pythonic", "[1, 2, 3] and [link](url) and [unknown(x=1)]"],
    ["pythonic", "[get_weather(city=)]"],
    ["qwen3-coder", "<tool_call>\n{}\n</tool_call>"],
    ["gemma-function", "<start_function_call>call:f{city}<end_function_call>"],
  ])("%s: %s is content, all of it", (name, text) => {
    expect(bothCuts(name, text)).toEqual({ content: text, calls: [] });
  });

  it("does not hide a call after it", () => {
    const good = format("hermes").print([PARIS]);
    expect(bothCuts("hermes", `<tool_call>${good}`)).toEqual({ content: "<tool_call>", calls: [PARIS] });
    expect(bothCuts("hermes", `<tool_call>\noops ${good}`)).toEqual({
      content: "<tool_call>\noops",
      calls: [PARIS],
    });
  });

  it("keeps its white space", () => {
    expect(bothCuts("hermes", "  a \n\n b \n ")).toEqual({ content: "  a \n\n b \n ", calls: [] });
  });
});

describe("an output that is cut off", () => {
  const cut = { complete: false, tools: TOOLS };

  it.each([
    ["hermes", '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Pa', '{"city": "Pa'],
    ["hermes", '<tool_call>\n{"name": "get_weather", "argu', ""],
    ["hermes", '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}', '{"city": "Paris"}'],
    [
      "hermes",
      '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</to',
      '{"city": "Paris"}',
    ],
    ["mistral-args", "[TOOL_CALLS]get_weather[ARGS]", ""],
    ["mistral-args", '[TOOL_CALLS]get_weather[ARGS]{"ci', '{"ci'],
    ["qwen3-coder", "<tool_call>\n<function=get_weather>\n<parameter=city>\nPar", '{"city": "Par'],
    [
      "glm",
      "<tool_call>get_weather\n<arg_key>city</arg_key>\n<arg_value>Paris</arg_value>\n",
      '{"city": "Paris"',
    ],
    ["pythonic", '[get_weather(city="Paris", days=', '{"city": "Paris"'],
  ])("%s: %s leaves %s", (name, text, expected) => {
    expect(bothCuts(name, text, cut)).toEqual({
      content: "",
      calls: [{ name: "get_weather", arguments: expected }],
    });
  });
});

describe("an output that a grammar holds to calls, cut off anywhere", () => {
  const known = { name: PARIS.name, arguments: expect.any(String) as string };
  /** Every beginning of a text, its end left out too. */
  const beginnings = (text: string): string[] =>
    Array.from(text, (_, length) => text.slice(0, length + 1)).filter((part) => part.trim() !== "");

  it.each(TEMPLATE_NAMES)("%s leaves a call and no content where it has to be that call", (name) => {
    const held = { names: [PARIS.name], triggers: undefined };
    for (const text of beginnings(format(name).print([PARIS]))) {
      const found = bothCuts(name, text, { complete: false, tools: TOOLS, held });
      expect([text, found]).toEqual([text, { content: "", calls: [known] }]);
      expect(PARIS.arguments.replaceAll(" ", "")).toContain(found.calls[0]?.arguments.replaceAll(" ", ""));
    }
  });

  it.each(TEMPLATE_NAMES)("%s leaves no content of several calls", (name) => {
    const held = { names: [PARIS.name, "get_time"], triggers: undefined };
    const time = { name: "get_time", arguments: "{}" };
    const calls = name === "harmony" ? [time] : [time, PARIS];
    for (const text of beginnings(format(name).print(calls))) {
      const found = bothCuts(name, text, { complete: false, tools: TOOLS, held });
      expect([text, found.content]).toEqual([text, ""]);
      expect([[], ["get_time"], ["get_time", "get_weather"]]).toContainEqual(
        found.calls.map((call) => call.name),
      );
    }
  });

  it.each(TEMPLATE_NAMES.filter((name) => name !== "harmony"))(
    "%s leaves the text before a call, and nothing of its markup once it is one",
    (name) => {
      const names = [PARIS.name, "get_time"];
      const held = { names, triggers: format(name).triggersFor(names) };
      const opens = (text: string): boolean => held.triggers.some((trigger) => text.includes(trigger));
      for (const text of beginnings(`Well: ${format(name).print([PARIS])}`)) {
        const { content, calls } = bothCuts(name, text, { complete: false, tools: TOOLS, held });
        if (opens(text)) expect([text, content]).toEqual([text, "Well:"]);
        else expect([text, calls, text.startsWith(content)]).toEqual([text, [], true]);
      }
    },
  );

  it("leaves no call where the output ends before it", () => {
    const held = { names: [PARIS.name], triggers: undefined };
    expect(bothCuts("hermes", "\n\n", { complete: false, held })).toEqual({ content: "", calls: [] });
  });

  it("knows the name that is written, also without markup", () => {
    const held = { names: [PARIS.name, "get_time"], triggers: undefined };
    const text = '{"name": "get_weather", "par';
    expect(bothCuts("llama3", text, { complete: false, tools: TOOLS, held }).calls).toEqual([
      { name: "get_weather", arguments: "" },
    ]);
    expect(bothCuts("llama3", text, { complete: false, tools: TOOLS })).toEqual({ content: text, calls: [] });
  });
});

describe("any cut", () => {
  it.each(TEMPLATE_NAMES)("%s gives the same pieces", (name) => {
    const { markup } = format(name);
    const words =
      'get_weather ( ) city= "x" " \\ { } {} [ ] text é😀 None "arguments": "parameters": {"city":"a"}'.split(
        " ",
      );
    const part = fc.constantFrom(
      ...markup,
      ...markup.map((text) => text.slice(0, Math.ceil(text.length / 2))),
      ...words,
      '{"name": "get_weather", ',
      " ",
      "\n",
      ", ",
      format(name).print([PARIS]),
    );
    const text = fc.array(part, { maxLength: 12 }).map((parts) => parts.join(""));
    fc.assert(
      fc.property(
        text,
        fc.array(fc.nat(80)),
        fc.boolean(),
        fc.boolean(),
        (whole, places, complete, known) => {
          const options = { complete, ...(known ? { tools: TOOLS } : {}) };
          const chunks = cutAt(Array.from(whole), places).map((units) => units.join(""));
          const { content, calls } = read(format(name), chunks, options);
          const once = read(format(name), [whole], options);
          expect({ content, calls }).toEqual({ content: once.content, calls: once.calls });
        },
      ),
      { numRuns: 400 },
    );
  });

  it.each(TEMPLATE_NAMES)("%s loses nothing of a text without calls", (name) => {
    const part = fc.constantFrom(
      "a",
      " ",
      "\n",
      "<",
      "tool",
      "_call",
      "[",
      "{",
      '"',
      ": ",
      "x(",
      "```",
      "<|",
    );
    const text = fc.array(part, { maxLength: 20 }).map((parts) => parts.join(""));
    fc.assert(
      fc.property(text, (whole) => {
        const { content, calls } = read(format(name), characters(whole), { tools: TOOLS });
        expect(calls).toEqual([]);
        expect(content).toBe(whole);
      }),
      { numRuns: 200 },
    );
  });
});

describe("what is held back", () => {
  it("is bounded", () => {
    const parser = format("hermes").createParser();
    const shown = parser.push(" ".repeat(10_000)).map((piece) => ("text" in piece ? piece.text.length : 0));
    expect(shown).toEqual([10_000 - 64]);
    parser.push('<tool_call>{"x": "');
    expect(parser.push("y".repeat(100_000))).not.toEqual([]);
  });
});
