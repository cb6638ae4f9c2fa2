/** Tools from the request to the wire: what the engine is asked, and what the client gets for what it says. */
import { describe, expect, it } from "vitest";
import { TemplateRenderer } from "../../models/chat-template.ts";
import { templateOf } from "../models/tools/fixture-templates.ts";
import { GrammarMatcher } from "../../models/grammar/matcher.ts";
import { parseGbnf } from "../../models/grammar/parse-gbnf.ts";
import type { EngineErrorCode } from "../../engine/errors.ts";
import type { Script } from "../support/scripted-engine.ts";
import { createTestApp } from "../support/test-app.ts";
import { EOS, idsOf } from "../support/tiny-vocabulary.ts";

const WEATHER = {
  type: "function",
  function: {
    name: "get_weather",
    description: "Weather of a city.",
    parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
  },
};
const TIME = { type: "function", function: { name: "get_time" } };
const TOOLS = [WEATHER, TIME];

const call = (name: string, args: string): string =>
  `<tool_call>\n{"name": "${name}", "arguments": ${args}}\n</tool_call>`;
const PARIS = call("get_weather", '{"city": "Paris"}');
const TWO = `${PARIS}\n${call("get_time", "{}")}`;

const END = { tokens: [EOS], finish: { reason: "stop", stopToken: EOS } } as const;
const CUT = { tokens: [], finish: { reason: "length", stopToken: undefined } } as const;

/** A step for each of the texts, then the end. */
function say(...texts: readonly string[]): Script {
  return { kind: "answer", steps: [...texts.map((text) => ({ tokens: idsOf(text) })), END] };
}

interface ChunkJson {
  readonly choices: readonly { readonly delta: object; readonly finish_reason: string | null }[];
}

async function streamOf(script: Script, fields: object = {}) {
  const { chat, engine } = createTestApp();
  engine.script = script;
  const raw = await (await chat({ tools: TOOLS, ...fields, stream: true })).text();
  expect(raw.endsWith("data: [DONE]\n\n")).toBe(true);
  const chunks = [...raw.matchAll(/^data: (\{.*)$/gm)].map(([, json = ""]) => JSON.parse(json) as ChunkJson);
  const choices = chunks.flatMap((chunk) => chunk.choices);
  return { deltas: joined(choices.map(({ delta }) => delta)), finish: choices.at(-1)?.finish_reason, raw };
}

/** Stretches of the same text as one: each token has a chunk of its own. Deltas with anything else stay apart. */
function joined(deltas: readonly object[]): object[] {
  const stretch =
    /^(\{"(?:content"|tool_calls":\[\{"index":\d+,"function":\{"arguments"|function_call":\{"arguments"):")(.*)("[}\]]+)$/;
  const texts: string[] = [];
  for (const delta of deltas) {
    const text = JSON.stringify(delta);
    const [, head, body = "", tail = ""] = stretch.exec(text) ?? [];
    const last = stretch.exec(texts.at(-1) ?? "");
    if (head !== undefined && last?.[1] === head)
      texts.push(texts.pop()?.replace(/"[}\]]+$/, "") + body + tail);
    else texts.push(text);
  }
  return texts.map((text) => JSON.parse(text) as object);
}

async function choiceOf(script: Script, fields: object = {}): Promise<unknown> {
  const { chat, engine } = createTestApp();
  engine.script = script;
  const response = await chat({ tools: TOOLS, ...fields });
  expect(response.status).toBe(200);
  return ((await response.json()) as { choices: unknown[] }).choices[0];
}

/** What the engine and the template are given, and whether the grammar takes a text. */
async function asked(fields: object) {
  const { chat, engine, template } = createTestApp();
  engine.script = say("Hel");
  const response = await chat({ tools: TOOLS, ...fields });
  expect([response.status, await response.text()]).toEqual([200, expect.any(String)]);
  const grammar = engine.submits[0]?.params.grammar;
  const takes = (text: string): boolean =>
    grammar === undefined || new GrammarMatcher(parseGbnf(grammar)).accepts(text);
  return { grammar, takes, shown: template.requests[0]?.tools, response };
}

const start = (index: number, id: string, name: string): object => ({
  tool_calls: [{ index, id, type: "function", function: { name, arguments: "" } }],
});
const more = (index: number, text: string): object => ({
  tool_calls: [{ index, function: { arguments: text } }],
});

describe("a call in a stream", () => {
  it("is a role with null, then id and name once, then arguments as they come, then the finish", async () => {
    const pieces = [
      '<tool_call>\n{"name": "get_weather", "arguments": {"ci',
      'ty": "Par',
      'is"}}\n</tool_call>',
    ];
    const { deltas, finish, raw } = await streamOf(say(...pieces));
    expect(deltas).toEqual([
      { role: "assistant", content: null, refusal: null },
      start(0, "call_3", "get_weather"),
      more(0, '{"city": "Paris"}'),
      {},
    ]);
    expect(finish).toBe("tool_calls");
    expect(raw.split('"arguments":').length).toBeGreaterThan(10);
  });

  it("comes after the text before it, and before a second one with the next index", async () => {
    const { deltas, finish } = await streamOf(say("Hello", TWO));
    expect(deltas).toEqual([
      { role: "assistant", content: "", refusal: null },
      { content: "Hello" },
      start(0, "call_3", "get_weather"),
      more(0, '{"city": "Paris"}'),
      start(1, "call_4", "get_time"),
      more(1, "{}"),
      {},
    ]);
    expect(finish).toBe("tool_calls");
  });

  it("has logprobs for the text beside it alone", async () => {
    const steps = ["Hel", PARIS].map((text) => ({
      tokens: idsOf(text),
      logprobs: idsOf(text).map(() => ({ logprob: -1, top: [] })),
    }));
    const { raw } = await streamOf({ kind: "answer", steps: [...steps, END] }, { logprobs: true });
    const tokens = [...raw.matchAll(/"logprobs":\{"content":\[(.*?)\],"refusal"/g)].map(([, list]) => list);
    expect(tokens).toEqual([expect.stringContaining('"token":"Hel"')]);
  });

  it("is a function_call for clients that sent functions", async () => {
    const { deltas, finish } = await streamOf(say(PARIS), {
      tools: undefined,
      functions: [WEATHER.function],
    });
    expect(deltas).toEqual([
      { role: "assistant", content: null, refusal: null },
      { function_call: { name: "get_weather", arguments: "" } },
      { function_call: { arguments: '{"city": "Paris"}' } },
      {},
    ]);
    expect(finish).toBe("function_call");
  });

  it("brings the input of a custom tool as text", async () => {
    const tools = [{ type: "custom", custom: { name: "note" } }, TIME];
    const said = `${call("note", '{"input": "a \\"b\\"\\n"}')}\n${call("get_time", "{}")}`;
    const { deltas } = await streamOf(say(said.slice(0, 60), said.slice(60)), { tools });
    expect(deltas).toEqual([
      { role: "assistant", content: null, refusal: null },
      { tool_calls: [{ index: 0, id: "call_3", type: "custom", custom: { name: "note", input: "" } }] },
      ...["a", " ", '"', "b", '"', "\n"].map((input) => ({ tool_calls: [{ index: 0, custom: { input } }] })),
      start(1, "call_4", "get_time"),
      more(1, "{}"),
      {},
    ]);
  });

  it("lists every token once, also those of which nothing is shown", async () => {
    const tools = [{ type: "custom", custom: { name: "note" } }];
    const said = `<think>hm</think>${call("note", '{"input": "ab"}')}`;
    const { raw } = await streamOf(say(said.slice(0, 20), said.slice(20)), {
      tools,
      include_reasoning: false,
      return_token_ids: true,
    });
    const listed = [...raw.matchAll(/"token_ids":(\[[\d,]*\])/g)].flatMap(
      ([, list = ""]) => JSON.parse(list) as number[],
    );
    expect(listed).toEqual([...idsOf(said), EOS]);
    expect(raw).not.toContain("hm");
  });
});

describe("calls in a whole answer", () => {
  const toolCall = (id: string, name: string, text: string): object => ({
    id,
    type: "function",
    function: { name, arguments: text },
  });
  const paris = toolCall("call_3", "get_weather", '{"city": "Paris"}');

  it("stand beside null when there is no text", async () => {
    expect(await choiceOf(say(TWO))).toMatchObject({
      message: {
        role: "assistant",
        content: null,
        refusal: null,
        tool_calls: [paris, toolCall("call_4", "get_time", "{}")],
      },
      finish_reason: "tool_calls",
    });
  });

  it("stand beside the text and the thinking before them", async () => {
    expect(await choiceOf(say("<think>hm</think>Hello", PARIS))).toMatchObject({
      message: { content: "Hello", reasoning_content: "hm", tool_calls: [paris] },
      finish_reason: "tool_calls",
    });
  });

  it("finish with stop when the client named the tool, as at OpenAI", async () => {
    const tool_choice = { type: "function", function: { name: "get_weather" } };
    expect(await choiceOf(say(PARIS), { tool_choice })).toMatchObject({
      message: { content: null, tool_calls: [paris] },
      finish_reason: "stop",
    });
  });

  it("are cut off where the limit is, and say so", async () => {
    const begun = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Pa';
    expect(await choiceOf({ kind: "answer", steps: [{ tokens: idsOf(begun) }, CUT] })).toMatchObject({
      message: { content: null, tool_calls: [toolCall("call_3", "get_weather", '{"city": "Pa')] },
      finish_reason: "length",
    });
  });

  it("are cut off before their name, which is known where there is one tool to call", async () => {
    const begun = '<tool_call>\n{"na';
    const script: Script = { kind: "answer", steps: [{ tokens: idsOf(begun) }, CUT] };
    const named = { tool_choice: { type: "function", function: { name: "get_weather" } } };
    expect(await choiceOf(script, named)).toMatchObject({
      message: { content: null, tool_calls: [toolCall("call_3", "get_weather", "")] },
      finish_reason: "length",
    });
    const { deltas, finish } = await streamOf(script, named);
    expect(deltas).toEqual([
      { role: "assistant", content: null, refusal: null },
      start(0, "call_3", "get_weather"),
      {},
    ]);
    expect(finish).toBe("length");
    for (const tool_choice of ["required", "auto"]) {
      const answer = await choiceOf(script, { tool_choice });
      expect(answer).toMatchObject({ message: { content: "" }, finish_reason: "length" });
      expect(answer).not.toHaveProperty("message.tool_calls");
    }
  });

  it("are no JSON answer that is cut off, and such an answer is no call", async () => {
    const schema = { type: "object", properties: { a: { type: "string" } }, required: ["a"] };
    const response_format = { type: "json_schema", json_schema: { name: "x", schema } };
    const cutAnswer = async (...texts: string[]): Promise<unknown> => {
      const steps = [...texts.map((text) => ({ tokens: idsOf(text) })), CUT];
      return choiceOf({ kind: "answer", steps }, { tools: [WEATHER], response_format });
    };
    for (const begun of ["<", "<tool_call>", '<tool_call>\n{"na']) {
      expect(await cutAnswer(begun)).toMatchObject({
        message: { content: null, tool_calls: [toolCall("call_3", "get_weather", "")] },
        finish_reason: "length",
      });
    }
    for (const begun of [['{"a": "', "<"], ['{"a": "<tool_call>', "\\n{"], ["{"]]) {
      const answer = await cutAnswer(...begun);
      expect(answer).toMatchObject({ message: { content: begun.join("") }, finish_reason: "length" });
      expect(answer).not.toHaveProperty("message.tool_calls");
    }
  });

  it("of custom tools have what there is of the input when they are cut off", async () => {
    const tools = [{ type: "custom", custom: { name: "note" } }];
    for (const [written, input] of [
      ['{"input": "a \\"b\\', 'a "b'],
      ['{"inp', ""],
      ['{"x": 1, "inp', '{"x": 1, "inp'],
    ] as const) {
      const begun = `<tool_call>\n{"name": "note", "arguments": ${written}`;
      const script: Script = { kind: "answer", steps: [{ tokens: idsOf(begun) }, CUT] };
      expect(await choiceOf(script, { tools })).toMatchObject({
        message: { tool_calls: [{ type: "custom", custom: { name: "note", input } }] },
        finish_reason: "length",
      });
      const { raw } = await streamOf(script, { tools });
      const parts = [...raw.matchAll(/"custom":\{"input":("(?:[^"\\]|\\.)*")/g)];
      expect(parts.map(([, text = ""]) => String(JSON.parse(text))).join("")).toBe(input);
    }
  });

  it("of custom tools have their input wherever it stands in the arguments, and other arguments as they are", async () => {
    const tools = [{ type: "custom", custom: { name: "note" } }];
    const script = say(`${call("note", '{"x": 1, "input": "b"}')}\n${call("note", '{"x": 1}')}`);
    expect(await choiceOf(script, { tools })).toMatchObject({
      message: { tool_calls: [{ custom: { input: "b" } }, { custom: { input: '{"x": 1}' } }] },
    });
    const { deltas } = await streamOf(script, { tools });
    const input = (index: number, text: string): object => ({
      tool_calls: [{ index, custom: { input: text } }],
    });
    expect(deltas).toMatchObject([
      { role: "assistant" },
      { tool_calls: [{ index: 0, type: "custom" }] },
      input(0, "b"),
      { tool_calls: [{ index: 1, type: "custom" }] },
      input(1, '{"x": 1}'),
      {},
    ]);
  });

  it("are no calls before the thinking has ended", async () => {
    const script: Script = { kind: "answer", steps: [{ tokens: idsOf("<think>hm") }, CUT] };
    const answer = await choiceOf(script, {
      tool_choice: "required",
      tools: [WEATHER],
      chat_template_kwargs: { enable_thinking: true },
    });
    expect(answer).toMatchObject({ message: { content: "", reasoning_content: "hm" } });
    expect(answer).not.toHaveProperty("message.tool_calls");
  });

  it("are content when they are none", async () => {
    const text = "<tool_call>\nnothing of the kind\n</tool_call>";
    const answer = await choiceOf(say(text));
    expect(answer).toMatchObject({ message: { content: text }, finish_reason: "stop" });
    expect(answer).not.toHaveProperty("message.tool_calls");
  });

  it("are not looked for when the client wants none", async () => {
    expect(await choiceOf(say(PARIS), { tool_choice: "none" })).toMatchObject({
      message: { content: PARIS },
      finish_reason: "stop",
    });
  });

  it("are not searched for stop strings", async () => {
    expect(await choiceOf(say(`ok ${PARIS}`), { stop: ["Paris"] })).toMatchObject({
      message: { tool_calls: [paris] },
      finish_reason: "tool_calls",
    });
  });

  it("have ids of their own in every choice", async () => {
    const { chat, engine } = createTestApp();
    engine.script = say(PARIS);
    const body = (await (await chat({ tools: TOOLS, n: 2 })).json()) as {
      choices: { message: { tool_calls: { id: string }[] } }[];
    };
    const ids = body.choices.flatMap(({ message }) => message.tool_calls.map(({ id }) => id));
    expect(new Set(ids).size).toBe(2);
  });
});

describe("what the engine is held to", () => {
  it("is text or calls that fit their schemas when the model may choose", async () => {
    const { takes, shown } = await asked({});
    expect(shown).toEqual([
      WEATHER,
      {
        type: "function",
        function: { name: "get_time", description: "", parameters: { type: "object", properties: {} } },
      },
    ]);
    const right = ["Hello {}", PARIS, `Hello ${TWO}`, `<think>a <tool_call> b</think>${TWO}`];
    expect(right.filter((text) => !takes(text))).toEqual([]);
    const wrong = ["<tool_call>", call("get_rain", "{}"), call("get_weather", "{}"), `${PARIS} and more`];
    expect(wrong.filter(takes)).toEqual([]);
  });

  it.each(["required", "any"])("is calls alone for %s", async (tool_choice) => {
    const { takes } = await asked({ tool_choice });
    expect([PARIS, TWO, `<think>Hello</think>\n\n${PARIS}`].filter((text) => !takes(text))).toEqual([]);
    expect(["", "Hello", `Hello ${PARIS}`].filter(takes)).toEqual([]);
  });

  it("is one call of the named tool", async () => {
    const { takes } = await asked({ tool_choice: { type: "function", function: { name: "get_time" } } });
    expect([call("get_time", "{}"), PARIS, TWO, "Hello"].map(takes)).toEqual([true, false, false, false]);
  });

  it("is one call at most without parallel calls", async () => {
    const { takes } = await asked({ parallel_tool_calls: false });
    expect([PARIS, `Hello ${PARIS}`, TWO].map(takes)).toEqual([true, true, false]);
  });

  it("is calls of the allowed tools, while all are shown", async () => {
    const tools = [{ type: "function", function: { name: "get_time" } }];
    const choice = (mode: string): object => ({ type: "allowed_tools", allowed_tools: { mode, tools } });
    const auto = await asked({ tool_choice: choice("auto") });
    expect(auto.shown).toHaveLength(2);
    expect([call("get_time", "{}"), "Hello", PARIS].map(auto.takes)).toEqual([true, true, false]);
    const required = await asked({ tool_choice: choice("required") });
    expect([call("get_time", "{}"), "Hello", PARIS].map(required.takes)).toEqual([true, false, false]);
  });

  it("is what null leaves open as if it were not there", async () => {
    const tool_choice = { type: "allowed_tools", allowed_tools: { mode: null, tools: [WEATHER] } };
    const { takes } = await asked({ tool_choice });
    expect([takes("Hello"), takes(PARIS)]).toEqual([true, true]);
  });

  it("is text without the beginning of a call when the client wants none, and no tool is shown", async () => {
    const { takes, shown } = await asked({ tool_choice: "none" });
    expect(shown).toBeUndefined();
    expect(["Hello", "a <tool_ b", PARIS, "a <tool_call>"].map(takes)).toEqual([true, true, false, false]);
  });

  it("is nothing without tools", async () => {
    expect((await asked({ tools: [] })).grammar).toBeUndefined();
    expect((await asked({ tools: undefined, tool_choice: "auto" })).grammar).toBeUndefined();
  });

  it("is a call or an answer that fits when both are asked for", async () => {
    const schema = { type: "object", properties: { a: { type: "integer" } }, required: ["a"] };
    const response_format = { type: "json_schema", json_schema: { name: "x", schema } };
    const { takes } = await asked({ response_format });
    expect(['{"a": 1}', PARIS, "Hello", '{"a": "b"}'].map(takes)).toEqual([true, true, false, false]);
  });

  it("is nothing where an output may not end, unless the client asked for more", async () => {
    expect((await asked({ ignore_eos: true })).grammar).toBeUndefined();
    expect((await asked({ min_tokens: 4 })).grammar).toBeUndefined();
  });

  it("lists keywords that it does not hold", async () => {
    const properties = { a: { type: "array", uniqueItems: true }, b: { $dynamicRef: "#b" } };
    const parameters = { type: "object", properties };
    const { response } = await asked({ tools: [{ type: "function", function: { name: "f", parameters } }] });
    expect(response.headers.get("x-weft-ignored-params")).toBe(
      "tools[0].function.parameters.properties.b.$dynamicRef," +
        "tools[0].function.parameters.properties.a.uniqueItems",
    );
  });
});

describe("wrong tools and choices", () => {
  const named = (name: string): object => ({ type: "function", function: { name } });
  const f = (fields: object): object => ({
    tools: [{ type: "function", function: { name: "f", ...fields } }],
  });
  const lark = { type: "grammar", grammar: { syntax: "lark", definition: "start: X" } };

  it.each([
    [{ tools: {} }, "tools", "invalid_type"],
    [{ tools: ["f"] }, "tools[0]", "invalid_type"],
    [{ tools: [{ type: "retrieval" }] }, "tools[0].type", "invalid_value"],
    [{ tools: [{ type: "function" }] }, "tools[0].function", "missing_required_parameter"],
    [{ tools: [{ type: "function", function: {} }] }, "tools[0].function.name", "missing_required_parameter"],
    [f({ name: 7 }), "tools[0].function.name", "invalid_type"],
    [f({ name: "" }), "tools[0].function.name", "invalid_value"],
    [f({ name: "a b" }), "tools[0].function.name", "invalid_value"],
    [f({ name: "<|im_end|>" }), "tools[0].function.name", "invalid_value"],
    [f({ name: "a".repeat(129) }), "tools[0].function.name", "string_above_max_length"],
    [f({ description: 1 }), "tools[0].function.description", "invalid_type"],
    [f({ parameters: [] }), "tools[0].function.parameters", "invalid_type"],
    [f({ parameters: { type: "string" } }), "tools[0].function.parameters", "invalid_function_parameters"],
    [f({ strict: "yes" }), "tools[0].function.strict", "invalid_type"],
    [{ tools: [TIME, TIME] }, "tools[1].function.name", "invalid_value"],
    [{ tools: Array.from({ length: 129 }, (_, i) => named(`f${i}`)) }, "tools", "array_above_max_length"],
    [{ tools: [{ type: "custom" }] }, "tools[0].custom", "missing_required_parameter"],
    [
      { tools: [{ type: "custom", custom: { name: "f", format: lark } }] },
      "tools[0].custom.format.grammar.syntax",
      "unsupported_value",
    ],
    [{ tool_choice: "always" }, "tool_choice", "invalid_value"],
    [{ tool_choice: 1 }, "tool_choice", "invalid_type"],
    [{ tool_choice: { type: "web_search" } }, "tool_choice.type", "invalid_value"],
    [{ tool_choice: {} }, "tool_choice.type", "missing_required_parameter"],
    [{ tool_choice: { type: "function" } }, "tool_choice.name", "missing_required_parameter"],
    [{ tool_choice: named("get_rain") }, "tool_choice", "invalid_value"],
    [
      { tool_choice: { type: "allowed_tools", allowed_tools: { mode: "auto", tools: [named("get_rain")] } } },
      "tool_choice",
      "invalid_value",
    ],
    [
      { tool_choice: { type: "allowed_tools", allowed_tools: { mode: "required", tools: [] } } },
      "tool_choice.allowed_tools.tools",
      "empty_array",
    ],
    [
      { tool_choice: { type: "allowed_tools", mode: "required", tools: [] } },
      "tool_choice.tools",
      "empty_array",
    ],
    [{ tools: [], tool_choice: "required" }, "tool_choice", "invalid_value"],
    [{ tools: undefined, tool_choice: named("f") }, "tool_choice", "invalid_value"],
    [{ parallel_tool_calls: "no" }, "parallel_tool_calls", "invalid_type"],
    [{ functions: [{ name: "f" }] }, "functions", "invalid_value"],
    [{ tools: undefined, function_call: { name: "g" } }, "function_call", "invalid_value"],
    [{ function_call: "required" }, "function_call", "invalid_value"],
    [{ tools: undefined, functions: [{}] }, "functions[0].name", "missing_required_parameter"],
    [
      { tools: undefined, functions: [{ name: "f" }], function_call: { name: "g" } },
      "function_call",
      "invalid_value",
    ],
    [{ tool_choice: "required", ignore_eos: true }, "ignore_eos", "invalid_value"],
    [{ parallel_tool_calls: false, min_tokens: 1 }, "min_tokens", "invalid_value"],
  ])("%j is refused", async (fields, param, code) => {
    const { chat, engine } = createTestApp();
    const response = await chat({ tools: TOOLS, ...fields });
    expect([response.status, await response.json()]).toMatchObject([400, { error: { param, code } }]);
    expect(engine.submits).toEqual([]);
  });

  it("tells what of a strict schema cannot be held in OpenAI's words", async () => {
    const { chat } = createTestApp();
    const parameters = {
      type: "object",
      properties: { a: { type: "array", items: { type: "string" }, uniqueItems: true } },
      required: ["a"],
      additionalProperties: false,
    };
    const response = await chat({
      tools: [{ type: "function", function: { name: "f", parameters, strict: true } }],
    });
    expect([response.status, await response.json()]).toEqual([
      400,
      {
        error: {
          message:
            "Invalid schema for function 'f': In context=('properties', 'a'), 'uniqueItems' is not permitted.",
          type: "invalid_request_error",
          param: "tools[0].function.parameters",
          code: "invalid_function_parameters",
        },
      },
    ]);
  });
});

describe("an engine that cannot follow", () => {
  it.each<[EngineErrorCode, string, object]>([
    ["grammar_rejected", "tools", {}],
    ["no_token_allowed", "tools", {}],
    ["no_token_allowed", "logit_bias", { logit_bias: { 1: -100 } }],
    ["no_token_allowed", "min_tokens", { tools: [], min_tokens: 3 }],
    ["no_token_allowed", "ignore_eos", { tools: [], ignore_eos: true }],
  ])("%s is a 400 that names %s", async (code, param, fields) => {
    const { chat, engine } = createTestApp();
    engine.script = { kind: "fail", code };
    const response = await chat({ tools: TOOLS, ...fields });
    expect([response.status, await response.json()]).toMatchObject([
      400,
      { error: { param, code: "invalid_value" } },
    ]);
  });

  it("is the client's error also when the stream has begun", async () => {
    const { chat, engine, log, app } = createTestApp();
    const answer = chat({ tools: TOOLS, stream: true });
    await engine.until(() => engine.submits.length > 0);
    const [submit] = engine.submits;
    if (submit === undefined) throw new Error("nothing was submitted");
    engine.accept(submit);
    engine.step(submit, { tokens: idsOf("Hel") }, true);
    engine.fail(submit, "no_token_allowed");
    expect(await (await answer).text()).toContain('"param":"tools"');
    expect(log.filter(({ level }) => level === "error")).toEqual([]);
    const metrics = await (await app.request("/metrics", { headers: { host: "localhost" } })).text();
    expect(metrics).toContain('weft_requests_total{endpoint="chat",outcome="client_error"} 1');
  });
});

describe("a model whose answers stand in markup, too", () => {
  it("is read by the parser of its calls, with tools and without", async () => {
    const renderer = new TemplateRenderer();
    const answer = "<|channel|>final<|message|>Hello";
    const called = '<|channel|>commentary to=functions.get_weather<|message|>{"city": "Paris"}';
    const messageOf = async (text: string, fields: object): Promise<object | undefined> => {
      const { chat, engine, template } = createTestApp();
      template.callsOf = templateOf("harmony", renderer);
      engine.script = say(text);
      const body = (await (await chat(fields)).json()) as { choices: { message: object }[] };
      return body.choices[0]?.message;
    };
    expect(await messageOf(answer, {})).toMatchObject({ content: "Hello" });
    expect(await messageOf(answer, { tools: TOOLS, tool_choice: "none" })).toMatchObject({
      content: "Hello",
    });
    expect(await messageOf(called, { tools: TOOLS })).toMatchObject({
      content: null,
      tool_calls: [{ function: { name: "get_weather", arguments: '{"city": "Paris"}' } }],
    });
    await renderer.close();
  });

  it("writes an answer with a format behind its header, unless the prompt has begun it", async () => {
    const renderer = new TemplateRenderer();
    const schema = { type: "object", properties: { a: { type: "integer" } }, required: ["a"] };
    const takenBy = async (fields: object): Promise<boolean[]> => {
      const { chat, engine, template } = createTestApp();
      template.callsOf = templateOf("harmony", renderer);
      engine.script = say('<|channel|>final<|message|>{"a": 1}');
      const body = (await (await chat({ guided_json: schema, ...fields })).json()) as {
        choices: { message: object }[];
      };
      expect(body.choices[0]?.message).toMatchObject({ content: '{"a": 1}' });
      const grammar = new GrammarMatcher(parseGbnf(engine.submits[0]?.params.grammar ?? ""));
      return ['{"a": 1}', '<|channel|>final<|message|>{"a": 1}'].map((text) => grammar.accepts(text));
    };
    expect(await takenBy({})).toEqual([false, true]);
    expect(await takenBy({ tools: TOOLS })).toEqual([false, true]);
    expect(await takenBy({ tools: TOOLS, tool_choice: "none" })).toEqual([false, true]);
    const begun = [
      { role: "user", content: "?" },
      { role: "assistant", content: "" },
    ];
    const continued = { messages: begun, continue_final_message: true, add_generation_prompt: false };
    expect(await takenBy(continued)).toEqual([true, false]);
    await renderer.close();
  });
});
