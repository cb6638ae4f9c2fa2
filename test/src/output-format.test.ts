/** What an answer must look like, in the words of OpenAI, llama.cpp and vLLM, and what the engine is held to. */
import { describe, expect, it } from "vitest";
import { GrammarMatcher } from "../../models/grammar/matcher.ts";
import { parseGbnf } from "../../models/grammar/parse-gbnf.ts";
import { createTestApp } from "../support/test-app.ts";
import { EOS, idsOf } from "../support/tiny-vocabulary.ts";

const SCHEMA = {
  type: "object",
  properties: { a: { type: "integer" } },
  required: ["a"],
  additionalProperties: false,
};

const MISMATCH = "an answer is not what its schema says";

function say(text: string) {
  const last = { tokens: [EOS], finish: { reason: "stop", stopToken: EOS } } as const;
  return { kind: "answer", steps: [{ tokens: idsOf(text) }, last] } as const;
}

async function grammarOf(fields: object) {
  const { chat, engine } = createTestApp();
  engine.script = say("Hel");
  const response = await chat(fields);
  expect([response.status, await response.text()]).toEqual([200, expect.any(String)]);
  const grammar = engine.submits[0]?.params.grammar;
  const takes = (text: string): boolean =>
    grammar === undefined || new GrammarMatcher(parseGbnf(grammar)).accepts(text);
  return { grammar, takes, ignored: response.headers.get("x-weft-ignored-params") };
}

const json_schema = (fields: object): object => ({ response_format: { type: "json_schema", ...fields } });

describe("an answer with a format", () => {
  it.each([
    [
      { response_format: { type: "json_object" } },
      ['{"b": [1, null]}', "{}"],
      ["Hello", "[1]", '"a"', "{} "],
    ],
    [{ response_format: { type: "json_object", schema: SCHEMA } }, ['{"a": 1}'], ["{}", '{"a": "b"}']],
    [json_schema({ json_schema: { name: "x", schema: SCHEMA } }), ['{"a": 1}'], ["{}", "Hello"]],
    [json_schema({ json_schema: { name: "x", schema: SCHEMA, strict: true } }), ['{"a": 1}'], ["{}"]],
    [json_schema({ json_schema: { schema: SCHEMA } }), ['{"a": 1}'], ["{}"]],
    [json_schema({ schema: SCHEMA }), ['{"a": 1}'], ["{}"]],
    [json_schema({ json_schema: { name: "a".repeat(64), schema: SCHEMA } }), ['{"a": 1}'], ["{}"]],
    [json_schema({ json_schema: { name: "x" } }), ['{"b": 1}'], ["1"]],
    [{ json_schema: SCHEMA }, ['{"a": 1}'], ["{}"]],
    [{ guided_json: SCHEMA }, ['{"a": 1}'], ["{}"]],
    [{ guided_json: JSON.stringify(SCHEMA) }, ['{"a": 1}'], ["{}"]],
    [{ structured_outputs: { json: SCHEMA } }, ['{"a": 1}'], ["{}"]],
    [{ structured_outputs: { json_object: true } }, ["{}"], ["1"]],
    [{ guided_regex: "[ab]+c?" }, ["a", "bbc"], ["", "c", "ad"]],
    [{ structured_outputs: { regex: "[ab]+c?" } }, ["bbc"], ["c"]],
    [{ guided_choice: ["yes", "no"] }, ["yes", "no"], ["", "maybe", "yesno"]],
    [{ structured_outputs: { choice: ["yes", "no"] } }, ["no"], ["maybe"]],
    [{ grammar: 'root ::= "a" item*\nitem ::= [0-9]' }, ["a", "a12"], ["", "b"]],
    [{ guided_grammar: 'root ::= "a"' }, ["a"], ["b"]],
    [{ structured_outputs: { grammar: 'root ::= "a"' } }, ["a"], ["b"]],
  ])("%j is held by a grammar, behind free thinking", async (fields, right, wrong) => {
    const { takes } = await grammarOf(fields);
    const thought = right.map((text) => `<think>any {thing}</think>\n\n${text}`);
    expect([...right, ...thought].filter((text) => !takes(text))).toEqual([]);
    expect(wrong.filter(takes)).toEqual([]);
  });

  it.each([
    {},
    { response_format: { type: "text" } },
    { structured_outputs: {} },
    { structured_outputs: { json_object: false } },
    { grammar: "" },
  ])("%j asks for none", async (fields) => {
    expect((await grammarOf(fields)).grammar).toBeUndefined();
  });

  it("does not think where thinking is not told apart", async () => {
    const { takes } = await grammarOf({ guided_choice: ["yes"], reasoning_format: "none" });
    expect(["yes", "<think>hm</think>yes"].map(takes)).toEqual([true, false]);
  });

  it("lists keywords of a schema that is not strict and cannot be held", async () => {
    const schema = { type: "object", properties: { a: { type: "array", uniqueItems: true } } };
    const { ignored } = await grammarOf(json_schema({ json_schema: { name: "x", schema } }));
    expect(ignored).toBe("response_format.json_schema.schema.properties.a.uniqueItems");
  });

  it.each([
    [{ response_format: "json" }, "response_format", "invalid_type"],
    [{ response_format: {} }, "response_format.type", "missing_required_parameter"],
    [{ response_format: { type: "sound" } }, "response_format.type", "invalid_value"],
    [{ response_format: { type: "json_object", schema: 123 } }, "response_format.schema", "invalid_type"],
    [json_schema({}), "response_format.json_schema", "missing_required_parameter"],
    [json_schema({ json_schema: "hiccup" }), "response_format.json_schema", "invalid_type"],
    [
      json_schema({ json_schema: { schema: "hiccup" } }),
      "response_format.json_schema.schema",
      "invalid_type",
    ],
    [
      json_schema({ json_schema: { name: 1, schema: SCHEMA } }),
      "response_format.json_schema.name",
      "invalid_type",
    ],
    [{ json_schema: "hiccup" }, "json_schema", "invalid_type"],
    [{ guided_json: "{" }, "guided_json", "invalid_value"],
    [{ guided_regex: 1 }, "guided_regex", "invalid_type"],
    [{ guided_regex: "(" }, "guided_regex", "invalid_value"],
    [{ guided_choice: [] }, "guided_choice", "empty_array"],
    [{ guided_choice: ["a", 1] }, "guided_choice[1]", "invalid_type"],
    [{ grammar: 'root ::= "a' }, "grammar", "invalid_value"],
    [{ grammar: "root ::= other" }, "grammar", "invalid_value"],
    [{ grammar: 'root ::= root "a"' }, "grammar", "invalid_value"],
    [{ grammar: `root ::= ${"(".repeat(20_000)}"a"${")".repeat(20_000)}` }, "grammar", "invalid_value"],
    [{ structured_outputs: { grammar: "a" } }, "structured_outputs.grammar", "invalid_value"],
    [{ guided_regex: "a", grammar: 'root ::= "a"' }, "guided_regex", "invalid_value"],
    [
      { structured_outputs: { structural_tag: "x" } },
      "structured_outputs.structural_tag",
      "unsupported_parameter",
    ],
    [{ structured_outputs: { regex: "a", choice: ["a"] } }, "structured_outputs", "invalid_value"],
    [{ guided_regex: "a", guided_choice: ["a"] }, "guided_choice", "invalid_value"],
    [{ response_format: { type: "json_object" }, json_schema: SCHEMA }, "json_schema", "invalid_value"],
    [{ response_format: { type: "json_object" }, ignore_eos: true }, "ignore_eos", "invalid_value"],
    [{ guided_choice: ["a"], min_tokens: 2 }, "min_tokens", "invalid_value"],
  ])("%j is refused", async (fields, param, code) => {
    const { chat, engine } = createTestApp();
    const response = await chat(fields);
    expect([response.status, await response.json()]).toMatchObject([400, { error: { param, code } }]);
    expect(engine.submits).toEqual([]);
  });

  it.each([
    ["a b", "invalid_value"],
    ["", "invalid_value"],
    ["Answer[int]", "invalid_value"],
    ["a\n", "invalid_value"],
    ["a".repeat(65), "string_above_max_length"],
  ])("%j is no name of a schema", async (name, code) => {
    const { chat } = createTestApp();
    const response = await chat(json_schema({ json_schema: { name, schema: SCHEMA } }));
    const param = "response_format.json_schema.name";
    expect([response.status, await response.json()]).toMatchObject([400, { error: { param, code } }]);
  });

  it("tells what of a strict schema cannot be held in OpenAI's words", async () => {
    const { chat } = createTestApp();
    const schema = { ...SCHEMA, properties: { a: { type: "array", items: {}, uniqueItems: true } } };
    const response = await chat(json_schema({ json_schema: { name: "x", schema, strict: true } }));
    expect([response.status, await response.json()]).toEqual([
      400,
      {
        error: {
          message:
            "Invalid schema for response_format 'x': In context=('properties', 'a'), 'uniqueItems' is not permitted.",
          type: "invalid_request_error",
          param: "response_format",
          code: null,
        },
      },
    ]);
  });

  it("is delivered, logged and counted when it is not what its schema says", async () => {
    const { chat, engine, log, logged, app } = createTestApp();
    engine.script = say('{"a": "b"}');
    const response = await chat(json_schema({ json_schema: { name: "x", strict: true, schema: SCHEMA } }));
    expect(await response.json()).toMatchObject({ choices: [{ message: { content: '{"a": "b"}' } }] });
    await logged(MISMATCH);
    expect(log.filter(({ level }) => level === "warn")).toMatchObject([
      {
        message: MISMATCH,
        fields: { model: "org/tiny", wrong: "a: it is not of type integer" },
      },
    ]);
    const metrics = await (await app.request("/metrics", { headers: { host: "localhost" } })).text();
    expect(metrics).toContain('weft_invalid_outputs_total{model="org/tiny"} 1');
  });

  it("is no mismatch when a limit or a stop string cut it off", async () => {
    for (const cut of ["length", "stop string"]) {
      const { chat, engine, log, logged } = createTestApp();
      const finish = { reason: "length", stopToken: undefined } as const;
      engine.script =
        cut === "length" ? { kind: "answer", steps: [{ tokens: idsOf('{"a": '), finish }] } : say('{"a": 1}');
      const stop = cut === "length" ? [] : ["1"];
      const response = await chat({ guided_json: SCHEMA, stop });
      expect(await response.json()).toMatchObject({
        choices: [{ message: { content: '{"a": ' }, finish_reason: cut === "length" ? "length" : "stop" }],
      });
      // Answers are looked at in order: what is said of a later one is said of this one first.
      engine.script = say('{"a": null}');
      const later = await chat({ guided_json: SCHEMA });
      await logged(MISMATCH);
      const { id } = (await later.json()) as { id: string };
      expect(log.filter(({ level }) => level === "warn")).toMatchObject([{ fields: { id } }]);
    }
  });
});

describe("a legacy completion", () => {
  it("is held to a format, and refuses what cannot be", async () => {
    const { post, engine } = createTestApp();
    engine.script = say("yes");
    const complete = (fields: object): Promise<Response> =>
      post("/v1/completions", { model: "tiny", prompt: "x", ...fields });
    expect((await complete({ guided_choice: ["yes", "no"] })).status).toBe(200);
    expect(engine.submits[0]?.params.grammar).toBe('root ::= choice\nchoice ::= "yes" | "no"\n');
    const refused = await complete({ guided_choice: ["yes"], ignore_eos: true });
    expect([refused.status, await refused.json()]).toMatchObject([400, { error: { param: "ignore_eos" } }]);
  });
});
