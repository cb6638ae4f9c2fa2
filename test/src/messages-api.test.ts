/** Anthropic's Messages API: what it makes of a request, of an answer and of an error. */
import { describe, expect, it } from "vitest";
import { readSse } from "../../src/conformance/sse-grammar.ts";
import type { Script } from "../support/scripted-engine.ts";
import { createTestApp } from "../support/test-app.ts";
import type { TestAppOptions } from "../support/test-app.ts";
import { EOS, idsOf } from "../support/tiny-vocabulary.ts";

const WEATHER = {
  name: "get_weather",
  description: "Weather of a city.",
  input_schema: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
};
const PARIS = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>';
const HELLO = { role: "user", content: "hi" };

const END = { tokens: [EOS], finish: { reason: "stop", stopToken: EOS } } as const;
const CUT = { tokens: [], finish: { reason: "length", stopToken: undefined } } as const;

function say(...texts: readonly string[]): Script {
  return { kind: "answer", steps: [...texts.map((text) => ({ tokens: idsOf(text) })), END] };
}

function createMessages(script: Script = say("Hello"), options: TestAppOptions = {}) {
  const test = createTestApp(options);
  test.engine.script = script;
  const ask = (fields: object = {}): Promise<Response> =>
    test.post("/v1/messages", { model: "tiny", max_tokens: 20, messages: [HELLO], ...fields });
  const answer = async (fields: object = {}): Promise<Record<string, unknown>> =>
    (await (await ask(fields)).json()) as Record<string, unknown>;
  const refusal = async (fields: object): Promise<unknown[]> => {
    const response = await ask(fields);
    const { error } = (await response.json()) as { error: { type: unknown; param: unknown } };
    return [response.status, error.type, error.param];
  };
  const shown = (): unknown => test.template.requests[0]?.messages;
  return { ...test, ask, answer, refusal, shown };
}

async function eventsOf(response: Response): Promise<object[]> {
  const { events, problems } = readSse(await response.text());
  expect(problems).toEqual([]);
  return events.map(({ event, data }) => {
    const json = JSON.parse(data) as { type: string };
    expect(event).toBe(json.type);
    return json;
  });
}

describe("an answer", () => {
  it("is a message of blocks", async () => {
    const { ask, engine } = createMessages();
    const response = await ask({ temperature: 0.5, top_k: 5, stop_sequences: ["END"] });
    expect(response.headers.get("request-id")).toBe(response.headers.get("x-request-id"));
    expect(await response.json()).toEqual({
      id: "msg_2",
      type: "message",
      role: "assistant",
      model: "org/tiny",
      content: [{ type: "text", text: "Hello" }],
      stop_reason: "end_turn",
      stop_sequence: null,
      usage: {
        input_tokens: 1,
        cache_creation_input_tokens: 0,
        cache_read_input_tokens: 1,
        output_tokens: 3,
        service_tier: "standard",
      },
    });
    expect(engine.submits[0]?.params).toMatchObject({
      maxTokens: 20,
      sampling: { temperature: 0.5, topK: 5 },
    });
  });

  it("says what ended it", async () => {
    const ended = async (script: Script, fields: object = {}): Promise<unknown[]> => {
      const body = await createMessages(script).answer(fields);
      return [body["stop_reason"], body["stop_sequence"], body["content"]];
    };
    expect(await ended(say("Hello"), { stop_sequences: ["lo"] })).toEqual([
      "stop_sequence",
      "lo",
      [{ type: "text", text: "Hel" }],
    ]);
    expect(await ended({ kind: "answer", steps: [{ tokens: idsOf("Hel") }, CUT] })).toEqual([
      "max_tokens",
      null,
      [{ type: "text", text: "Hel" }],
    ]);
    expect(await ended(say())).toEqual(["end_turn", null, []]);
  });

  it("has thinking, text and calls in blocks of their own", async () => {
    const { answer } = createMessages(say("<think>hm</think>Hello", PARIS));
    expect(await answer({ tools: [WEATHER] })).toMatchObject({
      content: [
        { type: "thinking", thinking: "hm", signature: "" },
        { type: "text", text: "Hello" },
        { type: "tool_use", id: "toolu_3", name: "get_weather", input: { city: "Paris" } },
      ],
      stop_reason: "tool_use",
    });
  });

  it("has no thinking where that is disabled", async () => {
    const { answer, template } = createMessages(say("<think>hm</think>Hello"));
    const body = await answer({ thinking: { type: "disabled" } });
    expect(body["content"]).toEqual([{ type: "text", text: "Hello" }]);
    expect(template.requests[0]?.kwargs).toEqual({ enable_thinking: false });
  });

  it("has an object as the input of a call that was cut off", async () => {
    const { answer } = createMessages({
      kind: "answer",
      steps: [{ tokens: idsOf(PARIS.slice(0, 58)) }, CUT],
    });
    expect(await answer({ tools: [WEATHER] })).toMatchObject({
      content: [{ type: "tool_use", name: "get_weather", input: {} }],
      stop_reason: "max_tokens",
    });
  });
});

describe("a stream", () => {
  it("opens and closes each block, and ends without [DONE]", async () => {
    const { ask } = createMessages(say("<think>hm</think>", "Hello", PARIS));
    const events = await eventsOf(await ask({ stream: true, tools: [WEATHER] }));
    const deltas = new Map<number, string>();
    const rest = events.filter((event) => {
      const { type, index, delta } = event as { type: string; index: number; delta: Record<string, string> };
      if (type !== "content_block_delta" || delta["type"] === "signature_delta") return true;
      const text = delta["text"] ?? delta["thinking"] ?? delta["partial_json"] ?? "";
      deltas.set(index, (deltas.get(index) ?? "") + text);
      return false;
    });
    expect([...deltas]).toEqual([
      [0, "hm"],
      [1, "Hello"],
      [2, '{"city": "Paris"}'],
    ]);
    const usage = expect.objectContaining({ output_tokens: expect.any(Number) as number }) as object;
    expect(rest).toEqual([
      {
        type: "message_start",
        message: {
          id: "msg_2",
          type: "message",
          role: "assistant",
          model: "org/tiny",
          content: [],
          stop_reason: null,
          stop_sequence: null,
          usage: expect.objectContaining({ output_tokens: 0 }) as object,
        },
      },
      {
        type: "content_block_start",
        index: 0,
        content_block: { type: "thinking", thinking: "", signature: "" },
      },
      { type: "content_block_delta", index: 0, delta: { type: "signature_delta", signature: "" } },
      { type: "content_block_stop", index: 0 },
      { type: "content_block_start", index: 1, content_block: { type: "text", text: "" } },
      { type: "content_block_stop", index: 1 },
      {
        type: "content_block_start",
        index: 2,
        content_block: { type: "tool_use", id: "toolu_3", name: "get_weather", input: {} },
      },
      { type: "content_block_stop", index: 2 },
      { type: "message_delta", delta: { stop_reason: "tool_use", stop_sequence: null }, usage },
      { type: "message_stop" },
    ]);
  });

  it("ends with an error where the engine fails", async () => {
    const { ask, engine } = createMessages({ kind: "hold" });
    const answer = ask({ stream: true });
    await engine.until(() => engine.submits.length > 0);
    const submit = engine.submits[0];
    if (submit === undefined) throw new Error("nothing was submitted");
    engine.accept(submit);
    engine.step(submit, { tokens: idsOf("Hel") }, true);
    const events = eventsOf(await answer);
    engine.fail(submit, "decode_failed");
    expect((await events).at(-1)).toMatchObject({ type: "error", error: { type: "api_error" } });
  });
});

describe("a conversation", () => {
  it("is shown to the template as a chat", async () => {
    const { ask, shown } = createMessages();
    await ask({
      system: [
        { type: "text", text: "Be " },
        { type: "text", text: "brief.", cache_control: { type: "ephemeral" } },
      ],
      messages: [
        HELLO,
        {
          role: "assistant",
          content: [
            { type: "thinking", thinking: "hm", signature: "" },
            { type: "redacted_thinking", data: "x" },
            { type: "text", text: "Let me look." },
            { type: "tool_use", id: "toolu_1", name: "get_weather", input: { city: "Paris" } },
          ],
        },
        {
          role: "user",
          content: [
            { type: "text", text: "Here:" },
            { type: "tool_result", tool_use_id: "toolu_1", content: [{ type: "text", text: "sunny" }] },
            { type: "tool_result", tool_use_id: "toolu_2", is_error: true },
          ],
        },
      ],
    });
    expect(shown()).toEqual([
      { role: "system", content: "Be brief." },
      HELLO,
      {
        role: "assistant",
        content: "Let me look.",
        reasoning_content: "hm",
        tool_calls: [
          {
            id: "toolu_1",
            type: "function",
            function: { name: "get_weather", arguments: { city: "Paris" } },
          },
        ],
      },
      { role: "tool", tool_call_id: "toolu_1", content: "sunny" },
      { role: "tool", tool_call_id: "toolu_2", content: "" },
      { role: "user", content: "Here:" },
    ]);
  });

  it.each([
    ["text", "The answer is", true],
    ["blocks of text", [{ type: "text", text: "The answer is" }], true],
    ["a call", [{ type: "tool_use", id: "a", name: "f", input: {} }], false],
    ["nothing", "", false],
  ])("whose last message is the assistant's goes on with it: %s", async (_, content, begun) => {
    const { ask, template } = createMessages();
    await ask({ messages: [HELLO, { role: "assistant", content }] });
    expect(template.requests[0]?.continueFinalMessage).toBe(begun);
  });

  it("is counted without being answered, also without max_tokens", async () => {
    const { post, engine } = createMessages();
    const body = { model: "tiny", system: "Be brief.", messages: [HELLO], tools: [WEATHER] };
    const response = await post("/v1/messages/count_tokens", body);
    expect(await response.json()).toEqual({ input_tokens: expect.any(Number) });
    expect(engine.submits).toEqual([]);
  });
});

describe("tools", () => {
  const grammarOf = async (fields: object): Promise<string | undefined> => {
    const { ask, engine } = createMessages(say(PARIS));
    expect((await ask({ tools: [WEATHER], ...fields })).status).toBe(200);
    return engine.submits[0]?.params.grammar;
  };

  it("are chosen by Anthropic's words", async () => {
    const [auto, any, named, none] = await Promise.all(
      [{ type: "auto" }, { type: "any" }, { type: "tool", name: "get_weather" }, { type: "none" }].map(
        (choice) => grammarOf({ tool_choice: choice }),
      ),
    );
    expect(new Set([auto, any, none]).size).toBe(3);
    expect(named).toBeDefined();
    expect(await grammarOf({ tool_choice: { type: "any", disable_parallel_tool_use: true } })).not.toBe(any);
  });

  it("that only Anthropic can run are left out beside others and refused alone", async () => {
    const hosted = { type: "web_search_20250305", name: "web_search" };
    const { ask, refusal, template } = createMessages();
    const response = await ask({ tools: [hosted, WEATHER] });
    expect(response.headers.get("x-weft-ignored-params")).toBe("tools[0]");
    expect(template.requests[0]?.tools).toHaveLength(1);
    expect(await refusal({ tools: [hosted] })).toEqual([400, "invalid_request_error", "tools[0].type"]);
  });

  it("and formats are held by a grammar", async () => {
    const schema = { type: "object", properties: { a: { type: "integer" } }, required: ["a"] };
    const format = { type: "json_schema", schema };
    const grammars = [
      await grammarOf({ tools: [], output_config: { format } }),
      await grammarOf({ tools: [], output_format: format }),
    ];
    expect(grammars[0]).toContain('\\"a\\"');
    expect(grammars[1]).toBe(grammars[0]);
  });
});

describe("what is wrong", () => {
  it.each([
    [{ messages: undefined }, "messages"],
    [{ messages: [] }, "messages"],
    [{ messages: [{ role: "robot", content: "hi" }] }, "messages[0].role"],
    [{ messages: [{ role: "user", content: [{ type: "text" }] }] }, "messages[0].content[0].text"],
    [
      { messages: [{ role: "user", content: [{ type: "image", source: {} }] }] },
      "messages[0].content[0].type",
    ],
    [
      {
        messages: [
          {
            role: "user",
            content: [{ type: "tool_result", tool_use_id: "a", content: [{ type: "image" }] }],
          },
        ],
      },
      "messages[0].content[0].content[0].type",
    ],
    [{ system: [{ type: "image" }] }, "system[0].type"],
    [{ max_tokens: 0 }, "max_tokens"],
    [{ temperature: 3 }, "temperature"],
    [{ stop_sequences: ["x".repeat(300)] }, "stop_sequences[0]"],
    [{ tools: [{ ...WEATHER, name: "a b" }] }, "tools[0].name"],
    [{ tools: [{ ...WEATHER, input_schema: [] }] }, "tools[0].input_schema"],
    [
      { tools: [{ ...WEATHER, strict: true, input_schema: { type: "object", unevaluatedProperties: 1 } }] },
      "tools[0].input_schema",
    ],
    [{ tools: [WEATHER], tool_choice: { type: "tool", name: "other" } }, "tool_choice"],
    [{ tools: [WEATHER], tool_choice: { type: "tool" } }, "tool_choice.name"],
    [{ mcp_servers: [{ type: "url" }] }, "mcp_servers"],
  ])("%j is a 400 that names the field as it is called here", async (fields, param) => {
    expect(await createMessages().refusal(fields)).toEqual([400, "invalid_request_error", param]);
  });

  it("has Anthropic's shape, whoever finds it", async () => {
    const key = { name: "a", sha256: "0".repeat(64) };
    const { ask } = createMessages(say("Hello"), { config: { apiKeys: [key] } });
    const refused = await ask();
    expect(refused.status).toBe(401);
    expect(await refused.json()).toMatchObject({
      type: "error",
      error: { type: "authentication_error", message: expect.stringContaining("API key") as string },
      request_id: refused.headers.get("request-id"),
    });
    const open = createMessages();
    expect(await open.refusal({ model: "other" })).toEqual([404, "not_found_error", null]);
    const wrong = await open.app.request("/v1/messages", { headers: { host: "localhost" } });
    expect([wrong.status, await wrong.json()]).toMatchObject([405, { type: "error" }]);
  });

  it("of what is unknown is reported, or refused where that is wanted", async () => {
    const fields = { metadata: { user_id: "a" }, n: 2 };
    const response = await createMessages().ask(fields);
    expect([response.status, response.headers.get("x-weft-ignored-params")]).toEqual([200, "metadata,n"]);
    const strict = createMessages(say("Hello"), { config: { strictParams: true } });
    expect((await strict.refusal({ wrong: 1 }))[2]).toBe("wrong");
  });
});
