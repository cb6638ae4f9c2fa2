/** The request's fields: honoured, repeated, ignored with a header, or refused by name. */
import { describe, expect, it } from "vitest";
import { createResponsesApp, errorOf, eventsOf } from "./response-client.ts";

describe("the fields of a request", () => {
  it("reach the engine", async () => {
    const { answer, engine } = createResponsesApp();
    await answer({ temperature: 0.5, top_p: 0.25, max_output_tokens: 7, seed: 3, stop: ["x"], top_k: 4 });
    expect(engine.submits[0]?.params).toMatchObject({
      sampling: { temperature: 0.5, topP: 0.25, seed: 3, topK: 4 },
      maxTokens: 7,
      topLogprobs: undefined,
    });
  });

  it("are repeated in the response", async () => {
    const { answer } = createResponsesApp();
    const echo = {
      instructions: "be kind",
      max_output_tokens: 20,
      max_tool_calls: 3,
      metadata: { a: "b" },
      parallel_tool_calls: false,
      prompt_cache_key: "k",
      reasoning: { effort: "low", summary: "concise" },
      safety_identifier: "s",
      temperature: 0.5,
      top_p: 0.25,
      truncation: "auto",
      user: "u",
    };
    expect(await answer({ ...echo, text: { verbosity: "low" } })).toMatchObject({
      ...echo,
      text: { format: { type: "text" }, verbosity: "low" },
      model: "org/tiny",
      background: false,
      store: true,
      tool_choice: "auto",
      tools: [],
      service_tier: "default",
      error: null,
      incomplete_details: null,
    });
  });

  it("are repeated in the API's own form where they came in another one", async () => {
    const { answer } = createResponsesApp();
    const tools = [
      { type: "function", name: "f" },
      { type: "custom", name: "c" },
    ];
    const [f, c] = tools;
    const allowed = { type: "allowed_tools", mode: "auto", tools: [f, c] };
    for (const [given, repeated] of [
      ["any", "required"],
      ["required", "required"],
      ["none", "none"],
      [null, "auto"],
      [f, f],
      [{ type: "function", function: { name: "f" } }, f],
      [{ type: "custom", custom: { name: "c" } }, c],
      [allowed, allowed],
      [{ type: "allowed_tools", allowed_tools: { mode: "auto", tools: [f, c] } }, allowed],
    ])
      expect(await answer({ tools, tool_choice: given })).toMatchObject({ tool_choice: repeated });
  });

  it("tell the effort to the template", async () => {
    const { answer, template } = createResponsesApp();
    await answer({ reasoning: { effort: "low" } });
    await answer({ reasoning: { effort: "none" }, chat_template_kwargs: { x: 1 } });
    expect(template.requests.map(({ kwargs }) => kwargs)).toEqual([
      { reasoning_effort: "low", enable_thinking: true },
      { reasoning_effort: "none", enable_thinking: false, x: 1 },
    ]);
  });

  it("give log probabilities when they are included", async () => {
    const { ask, engine } = createResponsesApp();
    const logprobs = [{ logprob: -0.5, top: [[2, -0.5]] as const }];
    engine.script = {
      kind: "answer",
      steps: [
        { tokens: [2], logprobs },
        { tokens: [1], logprobs, finish: { reason: "stop", stopToken: 1 } },
      ],
    };
    const events = await eventsOf(
      ask({ stream: true, include: ["message.output_text.logprobs"], top_logprobs: 1 }),
    );
    expect(engine.submits[0]?.params.topLogprobs).toBe(1);
    const token = { token: "Hel", logprob: -0.5, bytes: [72, 101, 108] };
    const expected = [{ ...token, top_logprobs: [token] }];
    expect(events.find(({ type }) => type === "response.output_text.delta")?.["logprobs"]).toEqual(expected);
    expect(events.find(({ type }) => type === "response.output_text.done")?.["logprobs"]).toEqual(expected);
    expect(events.at(-1)?.response?.output[0]?.content?.[0]?.logprobs).toEqual(expected);
  });

  it("may be null as well as absent", async () => {
    const { ask } = createResponsesApp();
    const names = [
      "instructions", "previous_response_id", "store", "stream", "stream_options", "background", "include",
      "max_output_tokens", "max_tool_calls", "parallel_tool_calls", "temperature", "top_p", "top_logprobs",
      "tools", "tool_choice", "text", "reasoning", "truncation", "metadata", "user", "safety_identifier",
      "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention", "service_tier", "prompt",
      "moderation", "context_management", "conversation", "max_tokens", "response_format",
    ]; // prettier-ignore
    const reply = await ask(Object.fromEntries(names.map((name) => [name, null])));
    expect([reply.status, reply.headers.get("x-weft-ignored-params")]).toEqual([200, null]);
    const nested = { text: { format: null, verbosity: null }, reasoning: { effort: null, summary: null } };
    expect((await ask(nested)).status).toBe(200);
  });

  it("that have no effect are listed", async () => {
    const { ask } = createResponsesApp();
    const reply = await ask({
      prompt_cache_key: "k",
      service_tier: "flex",
      user: "u",
      stream_options: { include_obfuscation: true },
      from_the_future: 1,
    });
    expect(reply.status).toBe(200);
    expect(reply.headers.get("x-weft-ignored-params")).toBe(
      "prompt_cache_key,service_tier,user,stream_options,from_the_future",
    );
  });

  it("that are unknown are refused with strict params, not those without effect", async () => {
    const { ask } = createResponsesApp({ config: { strictParams: true } });
    expect((await ask({ user: "u" })).status).toBe(200);
    expect(await errorOf(ask({ from_the_future: 1 }))).toMatchObject({
      status: 400,
      code: "unknown_parameter",
      param: "from_the_future",
    });
  });

  it.each<readonly [fields: object, param: string, code: string]>([
    [{ conversation: "conv_1" }, "conversation", "unsupported_parameter"],
    [{ prompt: { id: "p" } }, "prompt", "unsupported_parameter"],
    [{ moderation: {} }, "moderation", "unsupported_parameter"],
    [{ messages: [] }, "messages", "unsupported_parameter"],
    [{ response_format: { type: "json_object" } }, "response_format", "unsupported_parameter"],
    [{ max_tokens: 5 }, "max_tokens", "unsupported_parameter"],
    [{ temperature: 3 }, "temperature", "decimal_above_max_value"],
    [{ max_output_tokens: 0 }, "max_output_tokens", "integer_below_min_value"],
    [{ top_logprobs: 21 }, "top_logprobs", "integer_above_max_value"],
    [{ instructions: 5 }, "instructions", "invalid_type"],
    [{ store: "yes" }, "store", "invalid_type"],
    [{ truncation: "middle" }, "truncation", "invalid_value"],
    [{ include: "x" }, "include", "invalid_type"],
    [{ include: ["reasoning.encrypted_content", "x"] }, "include[1]", "invalid_value"],
    [{ reasoning: { summary: "long" } }, "reasoning.summary", "invalid_value"],
    [{ reasoning: "high" }, "reasoning", "invalid_type"],
    [{ metadata: { a: 5 } }, "metadata.a", "invalid_type"],
    [{ metadata: { a: "x".repeat(513) } }, "metadata", "string_above_max_length"],
    [
      { metadata: Object.fromEntries(Array.from({ length: 17 }, (_, i) => [i, ""])) },
      "metadata",
      "invalid_value",
    ],
    [{ text: { format: { type: "xml" } } }, "text.format.type", "invalid_value"],
    [{ text: { format: { type: "json_schema" } } }, "text.format.name", "missing_required_parameter"],
    [
      { text: { format: { type: "json_schema", name: "x" } } },
      "text.format.schema",
      "missing_required_parameter",
    ],
    [
      { text: { format: { type: "json_schema", name: "a b", schema: {} } } },
      "text.format.name",
      "invalid_value",
    ],
    [{ tools: {} }, "tools", "invalid_type"],
    [{ tools: [{ type: "function" }] }, "tools[0].name", "missing_required_parameter"],
    [{ tools: [{ type: "function", name: "a b" }] }, "tools[0].name", "invalid_value"],
    [
      { tools: [{ type: "function", function: { name: "a" } }] },
      "tools[0].name",
      "missing_required_parameter",
    ],
    [{ tools: [{ type: "function", name: "a", parameters: "x" }] }, "tools[0].parameters", "invalid_type"],
    [{ tools: [{ type: "web_search" }] }, "tools[0].type", "unsupported_value"],
    [{ tools: [{ type: "telepathy" }] }, "tools[0].type", "invalid_value"],
    [
      {
        tools: [{ type: "custom", name: "a", format: { type: "grammar", syntax: "abnf", definition: "x" } }],
      },
      "tools[0].format.syntax",
      "invalid_value",
    ],
    [{ tool_choice: "required" }, "tool_choice", "invalid_value"],
    [{ tool_choice: "perhaps" }, "tool_choice", "invalid_value"],
    [{ tool_choice: { type: "function", name: "x" } }, "tool_choice", "invalid_value"],
    [{ tool_choice: { type: "file_search" } }, "tool_choice.type", "unsupported_value"],
  ])("refuses %j", async (fields, param, code) => {
    const { ask } = createResponsesApp();
    expect(await errorOf(ask(fields))).toEqual({
      status: 400,
      type: "invalid_request_error",
      param,
      code,
      message: expect.any(String),
    });
  });

  it("hold the text to a format, also in the words of other servers, one at a time", async () => {
    const { ask, engine } = createResponsesApp();
    const format = { type: "json_schema", name: "x", schema: { type: "boolean" } };
    const grammars: unknown[] = [];
    for (const fields of [
      { text: { format } },
      { guided_json: format.schema },
      { guided_choice: ["true", "false"] },
    ]) {
      expect((await ask(fields)).headers.get("x-weft-ignored-params")).toBeNull();
      grammars.push(engine.submits.at(-1)?.params.grammar);
    }
    expect(grammars[0]).toMatch(/true/);
    expect(grammars[1]).toBe(grammars[0]);
    expect(grammars[2]).toMatch(/true/);
    expect(await errorOf(ask({ text: { format }, guided_regex: "a" }))).toMatchObject({
      status: 400,
      param: "guided_regex",
      message: "'text.format' and 'guided_regex' cannot be used together.",
    });
    expect(
      await errorOf(ask({ text: { format: { ...format, strict: true, schema: { not: {} } } } })),
    ).toEqual({
      status: 400,
      type: "invalid_request_error",
      param: "text.format",
      code: null,
      message: expect.stringContaining("'x'"),
    });
  });

  it("that belong to the chat API say where they have moved", async () => {
    const { ask } = createResponsesApp();
    expect((await errorOf(ask({ response_format: { type: "json_object" } }))).message).toBe(
      "Unsupported parameter: 'response_format'. In the Responses API, this parameter has moved to 'text.format'.",
    );
  });

  it("need no model when there is one only, and refuse an unknown one", async () => {
    const { ask } = createResponsesApp();
    expect((await ask({ model: null })).status).toBe(200);
    expect(await errorOf(ask({ model: "x" }))).toMatchObject({ status: 404, code: "model_not_found" });
  });
});

describe("the paths", () => {
  it("answer other methods with 405 and unknown responses with 404", async () => {
    const { app, call } = createResponsesApp();
    const put = await app.request("/v1/responses/resp_x", { method: "PUT", headers: { host: "localhost" } });
    expect([put.status, put.headers.get("allow")]).toEqual([405, "GET, HEAD, DELETE, OPTIONS"]);
    const get = await app.request("/v1/responses", { headers: { host: "localhost" } });
    expect([get.status, get.headers.get("allow")]).toEqual([405, "POST, OPTIONS"]);
    expect(await errorOf(call("POST", "compact"))).toMatchObject({
      status: 404,
      message: "Invalid URL (POST /v1/responses/compact)",
    });
    expect(await errorOf(call("GET", "resp_x"))).toEqual({
      status: 404,
      type: "invalid_request_error",
      message: "Response with id 'resp_x' not found.",
      param: null,
      code: null,
    });
  });

  it("count input tokens as the engine does", async () => {
    const { post, answer } = createResponsesApp();
    const fields = { model: "tiny", input: "Hello world", instructions: "lo" };
    const reply = await post("/v1/responses/input_tokens", fields);
    expect(await reply.json()).toEqual({ object: "response.input_tokens", input_tokens: 5 });
    expect((await answer(fields))["usage"]).toMatchObject({ input_tokens: 4 });
    expect(await errorOf(post("/v1/responses/input_tokens", { model: "tiny" }))).toMatchObject({
      status: 400,
      param: "input",
    });
  });
});

describe("truncation", () => {
  const overflow = {
    kind: "fail",
    code: "context_exceeded",
    details: { contextTokens: 100, promptTokens: 150 },
  } as const;

  it("disabled refuses what does not fit, about the input", async () => {
    const { ask, engine } = createResponsesApp();
    engine.script = overflow;
    expect(await errorOf(ask())).toMatchObject({
      status: 400,
      code: "context_length_exceeded",
      param: "input",
      n_prompt_tokens: 150,
      n_ctx: 100,
    });
  });

  it("auto drops the oldest items, with the results of calls that are gone, and keeps instructions", async () => {
    const { ask, engine, template } = createResponsesApp();
    engine.script = { kind: "hold" };
    const call = { type: "function_call", call_id: "c", name: "f", arguments: "{}" };
    const reply = ask({
      truncation: "auto",
      stream: true,
      input: [
        { role: "system", content: "rules" },
        { role: "user", content: "old".repeat(30) },
        call,
        { type: "function_call_output", call_id: "c", output: "x" },
        { role: "user", content: "middle" },
        { role: "user", content: "new" },
      ],
    });
    await engine.until(() => engine.submits.length === 1);
    engine.fail(engine.submits[0] ?? never(), "context_exceeded", overflow.details);
    await engine.until(() => engine.submits.length === 2);
    engine.accept(engine.submits[1] ?? never());
    engine.step(
      engine.submits[1] ?? never(),
      { tokens: [1], finish: { reason: "stop", stopToken: 1 } },
      true,
    );
    expect((await reply).status).toBe(200);
    expect(template.requests.at(-1)?.messages).toEqual([
      { role: "system", content: "rules" },
      { role: "user", content: "middle" },
      { role: "user", content: "new" },
    ]);
  });

  it("auto refuses what can be cut no further", async () => {
    const { ask, engine } = createResponsesApp();
    engine.script = overflow;
    expect(await errorOf(ask({ truncation: "auto" }))).toMatchObject({ code: "context_length_exceeded" });
    const many = Array.from({ length: 5 }, (_, i) => ({ role: "user", content: `m${i}` }));
    expect(await errorOf(ask({ truncation: "auto", input: many }))).toMatchObject({ status: 400 });
    expect(engine.submits.length).toBeLessThan(10);
  });
});

function never(): never {
  throw new Error("Nothing was submitted.");
}
