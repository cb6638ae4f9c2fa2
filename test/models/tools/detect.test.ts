import { afterAll, describe, expect, it } from "vitest";
import { ChatTemplate, TemplateRenderer } from "../../../models/chat-template.ts";
import { callEnds } from "../../../models/tools/call-syntax.ts";
import { deriveSyntax } from "../../../models/tools/derive-syntax.ts";
import { detectToolFormat } from "../../../models/tools/detect.ts";
import { keptControls } from "../../../models/tools/kept-controls.ts";
import type { ProbedTemplate } from "../../../models/tools/probe.ts";
import { controlToken, tableOf, textToken } from "../token-tables.ts";
import { TEMPLATE_NAMES, templateOf, templateWith } from "./fixture-templates.ts";
import { read } from "./parse.ts";

const renderer = new TemplateRenderer();
afterAll(() => renderer.close());

const CALLS = [
  { name: "add", arguments: '{"a": 1}' },
  { name: "now", arguments: "{}" },
];

/** Family, triggers, and two calls as the model is expected to write them. */
const EXPECTED: Readonly<
  Record<string, readonly [family: string, triggers: readonly string[], text: string]>
> = {
  pocket: [
    "hermes",
    ["<tool_call>"],
    '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>\n<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>',
  ],
  smollm2: [
    "generic",
    ["<tool_call>"],
    '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>\n<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>',
  ],
  hermes: [
    "hermes",
    ["<tool_call>"],
    '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>\n<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>',
  ],
  llama3: [
    "llama3-json",
    ['{"name": "add"', '{"name":"add"', '{"name": "now"', '{"name":"now"'],
    '{"name": "add", "parameters": {"a": 1}}\n{"name": "now", "parameters": {}}',
  ],
  mistral: [
    "mistral",
    ["[TOOL_CALLS]"],
    '[TOOL_CALLS] [{"name": "add", "arguments": {"a": 1}, "id": "0"}, {"name": "now", "arguments": {}, "id": "0"}]',
  ],
  "mistral-args": ["mistral", ["[TOOL_CALLS]"], '[TOOL_CALLS]add[ARGS]{"a": 1}[TOOL_CALLS]now[ARGS]{}'],
  "mistral-call-id": [
    "mistral",
    ["[TOOL_CALLS]"],
    '[TOOL_CALLS]add[CALL_ID]0[ARGS]{"a": 1}[TOOL_CALLS]now[CALL_ID]0[ARGS]{}',
  ],
  deepseek: [
    "deepseek",
    ["<｜tool▁calls▁begin｜>"],
    '<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>add\n```json\n{"a": 1}\n```<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>now\n```json\n{}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>',
  ],
  "deepseek-v31": [
    "deepseek",
    ["<｜tool▁calls▁begin｜>"],
    '<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>add<｜tool▁sep｜>{"a": 1}<｜tool▁call▁end｜><｜tool▁call▁begin｜>now<｜tool▁sep｜>{}<｜tool▁call▁end｜><｜tool▁calls▁end｜>',
  ],
  "deepseek-v32": [
    "deepseek",
    ["<｜DSML｜function_calls>", '<｜DSML｜invoke name="'],
    '\n\n<｜DSML｜function_calls>\n<｜DSML｜invoke name="add">\n<｜DSML｜parameter name="a" string="false">1</｜DSML｜parameter>\n</｜DSML｜invoke>\n<｜DSML｜invoke name="now">\n</｜DSML｜invoke>\n</｜DSML｜function_calls>',
  ],
  "deepseek-v4": [
    "deepseek",
    ["<｜DSML｜tool_calls>", '<｜DSML｜invoke name="'],
    '\n\n<｜DSML｜tool_calls>\n<｜DSML｜invoke name="add">\n<｜DSML｜parameter name="a" string="false">1</｜DSML｜parameter>\n</｜DSML｜invoke>\n<｜DSML｜invoke name="now">\n</｜DSML｜invoke>\n</｜DSML｜tool_calls>',
  ],
  kimi: [
    "kimi-k2",
    ["<|tool_calls_section_begin|>"],
    '<|tool_calls_section_begin|><|tool_call_begin|>functions.add:0<|tool_call_argument_begin|>{"a": 1}<|tool_call_end|><|tool_call_begin|>functions.now:0<|tool_call_argument_begin|>{}<|tool_call_end|><|tool_calls_section_end|>',
  ],
  minimax: [
    "minimax",
    ["<minimax:tool_call>", '<invoke name="'],
    '\n<minimax:tool_call>\n<invoke name="add">\n<parameter name="a">1</parameter>\n</invoke>\n<invoke name="now">\n</invoke>\n</minimax:tool_call>',
  ],
  "minimax-m3": [
    "minimax",
    ["]<]minimax[>[<tool_call>"],
    ']<]minimax[>[<tool_call>\n]<]minimax[>[<invoke name="add">]<]minimax[>[<a>1]<]minimax[>[</a>]<]minimax[>[</invoke>\n]<]minimax[>[<invoke name="now">]<]minimax[>[</invoke>\n]<]minimax[>[</tool_call>',
  ],
  "gemma-json": [
    "json-object",
    ["```tool_call"],
    '```tool_call\n{"name": "add", "parameters": {"a": 1}}\n```\n```tool_call\n{"name": "now", "parameters": {}}\n```',
  ],
  "gemma-function": [
    "literal",
    ["<start_function_call>"],
    "<start_function_call>call:add{a:1}<end_function_call><start_function_call>call:now{}<end_function_call>",
  ],
  gemma4: [
    "literal",
    ["<|tool_call>"],
    "<|tool_call>call:add{a:1}<tool_call|><|tool_call>call:now{}<tool_call|>",
  ],
  granite: [
    "granite",
    ["<|tool_call|>"],
    '<|tool_call|>[{"name": "add", "arguments": {"a": 1}}, {"name": "now", "arguments": {}}]',
  ],
  "granite-silent": [
    "granite",
    ["<|tool_call|>"],
    '<|tool_call|>[{"name": "add", "arguments": {"a": 1}}, {"name": "now", "arguments": {}}]',
  ],
  phi4: [
    "phi4",
    ["<|tool_call|>"],
    '<|tool_call|>[{"type": "function", "function": {"name": "add", "arguments": {"a": 1}}}, {"type": "function", "function": {"name": "now", "arguments": {}}}]<|/tool_call|>',
  ],
  "phi4-silent": [
    "phi4",
    ["<|tool_call|>"],
    '<|tool_call|>[{"name": "add", "arguments": {"a": 1}}, {"name": "now", "arguments": {}}]<|/tool_call|>',
  ],
  functools: [
    "phi4",
    ["functools["],
    'functools[{"name": "add", "arguments": {"a": 1}}, {"name": "now", "arguments": {}}]',
  ],
  "qwen3-coder": [
    "qwen3-coder",
    ["<tool_call>", "<function="],
    "<tool_call>\n<function=add>\n<parameter=a>\n1\n</parameter>\n</function>\n</tool_call>\n<tool_call>\n<function=now>\n</function>\n</tool_call>",
  ],
  glm: [
    "tagged",
    ["<tool_call>"],
    "\n<tool_call>add\n<arg_key>a</arg_key>\n<arg_value>1</arg_value>\n</tool_call>\n<tool_call>now\n</tool_call>",
  ],
  command: [
    "json-object",
    ["<|START_ACTION|>"],
    '<|START_ACTION|>[\n    {"tool_call_id": "0", "tool_name": "add", "parameters": {"a": 1}},\n    {"tool_call_id": "0", "tool_name": "now", "parameters": {}}\n]<|END_ACTION|>',
  ],
  pythonic: ["pythonic", ["[add(", "[now("], "[add(a=1), now()]"],
  harmony: ["harmony", [" to=functions."], ' to=functions.add<|channel|>commentary json<|message|>{"a": 1}'],
};

describe("detectToolFormat", () => {
  it.each(TEMPLATE_NAMES)("derives the syntax of %s", async (name) => {
    const [family, triggers, text] = EXPECTED[name] ?? ["", [], ""];
    const format = await detectToolFormat(templateOf(name, renderer));
    expect(format.name).toBe(family);
    expect(format.triggersFor(["add", "now"])).toEqual(triggers);
    const calls = name === "harmony" ? CALLS.slice(0, 1) : CALLS;
    expect(format.print(calls)).toBe(text);
    expect(read(format, [text]).calls).toEqual(calls);
  });

  it("gives different syntaxes different keys", async () => {
    const keys = await Promise.all(
      ["hermes", "llama3", "mistral", "mistral-args", "qwen3-coder", "harmony"].map(
        async (name) => (await detectToolFormat(templateOf(name, renderer))).key,
      ),
    );
    expect(new Set(keys).size).toBe(6);
    expect((await detectToolFormat(templateOf("pocket", renderer))).key).toBe(keys[0]);
  });

  it("knows what a template leaves out", async () => {
    const shows = async (name: string): Promise<string> => {
      const format = await detectToolFormat(templateOf(name, renderer));
      return Object.entries(format.shows)
        .filter(([, shown]) => shown)
        .map(([what]) => what)
        .join(" ");
    };
    expect(await shows("pocket")).toBe("definitions calls severalCalls results");
    expect(await shows("kimi")).toBe("definitions calls severalCalls namesInIds results");
    expect(await shows("harmony")).toBe("definitions calls results");
    expect(await shows("granite-silent")).toBe("definitions results");
    expect(await shows("phi4-silent")).toBe("results");
    expect(await shows("smollm2")).toBe("");
  });

  it("derives a syntax that nobody has named, from an object in a wrapper", async () => {
    const source =
      "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% for c in m.tool_calls or [] %}" +
      '%%CALL {"args": {{ c.function.arguments | tojson }}, "fn": "{{ c.function.name }}", "v": 2} %%' +
      "{% endfor %}</{{ m.role }}>{% endfor %}{{ tools | tojson if tools else '' }}";
    const template = templateWith(source, renderer);
    const format = await detectToolFormat(template);
    const text = '%%CALL {"args": {"a": 1}, "fn": "add", "v": 2} %%';
    expect(format.name).toBe("json-object");
    expect(format.print(CALLS.slice(0, 1))).toBe(text);
    expect(read(format, [`So: ${text}`])).toMatchObject({ content: "So:", calls: CALLS.slice(0, 1) });
  });

  it("probes a template once, and again after a failure of the renderer", async () => {
    let probes = 0;
    let busy = true;
    const template: ProbedTemplate = {
      source: "",
      endTexts: [],
      probe: () => {
        probes++;
        return busy ? Promise.reject(new Error("busy")) : Promise.resolve(undefined);
      },
    };
    await expect(detectToolFormat(template)).rejects.toThrow("busy");
    busy = false;
    const format = await detectToolFormat(template);
    expect(format.name).toBe("generic");
    const before = probes;
    expect(await detectToolFormat(template)).toBe(format);
    expect(probes).toBe(before);
  });

  it("falls back for a template that fails, loops or writes nothing", async () => {
    for (const source of [
      "{{ raise_exception('no') }}",
      "{% for i in range(1000000) %}{% for j in range(1000000) %}{% endfor %}{% endfor %}",
      "",
      "{{ messages",
    ]) {
      const own = new TemplateRenderer({ deadlineMs: 50 });
      const template = new ChatTemplate({
        source,
        table: tableOf([]),
        bosText: "",
        eosText: "",
        renderer: own,
      });
      expect((await detectToolFormat(template)).name).toBe("generic");
      await own.close();
    }
  });
});

describe("deriveSyntax", () => {
  it("does not look at calls that stand in no recognizable way", () => {
    expect(deriveSyntax("calls weft_alpha", undefined)).toBeUndefined();
    expect(deriveSyntax("", undefined)).toBeUndefined();
    expect(
      deriveSyntax('weft_alpha{"weft_label": "weft value", "weft_number": 7301}', undefined),
    ).toBeUndefined();
  });

  it("takes what stands in for the number of a call as free", () => {
    const call = (name: string, index: number, given: string): string =>
      `<|begin|>functions.${name}:${index}<|args|>${given}<|end|>`;
    const first = call("weft_alpha", 0, '{"weft_label": "weft value", "weft_number": 7301}');
    const second = call("weft_beta", 1, '{"weft_item": "weft thing", "weft_size": 3709}');
    expect(deriveSyntax(first, first + second)).toMatchObject({
      before: "<|begin|>functions.",
      between: "<|end|><|begin|>functions.",
      after: "<|end|>",
      body: { kind: "named", afterName: [":", "<|args|>"] },
    });
  });
});

describe("callEnds", () => {
  it("does not cut two tags that begin alike", () => {
    const body = { kind: "object", fields: [] } as const;
    expect(callEnds({ family: "", before: "<a>", between: "</b><c>", after: "</b></d>", body })).toEqual({
      call: "</b>",
      next: "<c>",
      all: "</d>",
    });
    expect(callEnds({ family: "", before: "<a>", between: ", ", after: "]", body })).toEqual({
      call: "",
      next: ", ",
      all: "]",
    });
  });
});

describe("keptControls", () => {
  it("are the control tokens that the syntax consists of", async () => {
    const table = tableOf([
      controlToken("[TOOL_CALLS]"),
      controlToken("[ARGS]"),
      controlToken("[INST]"),
      textToken("a"),
    ]);
    const format = await detectToolFormat(templateOf("mistral-args", renderer));
    expect(keptControls(format, table)).toEqual(["[TOOL_CALLS]", "[ARGS]"]);
    const llama = await detectToolFormat(templateOf("llama3", renderer));
    expect(keptControls(llama, tableOf([controlToken("<|python_tag|>")]))).toEqual(["<|python_tag|>"]);
  });
});
