/** The exact bytes of response streams, as clients parse them. */
import { describe, expect, it } from "vitest";
import { sayThenStop } from "../../support/scripted-engine.ts";
import { createTestApp, MODEL_ID } from "../../support/test-app.ts";
import { EOS, idsOf } from "../../support/tiny-vocabulary.ts";

const ECHO =
  '"model":"org/tiny","temperature":1,"top_p":1,"instructions":null,"max_output_tokens":null,"max_tool_calls":null,"metadata":{},"parallel_tool_calls":true,"previous_response_id":null,"prompt_cache_key":null,"reasoning":{"effort":null,"summary":null},"safety_identifier":null,"service_tier":"default","store":true,"text":{"format":{"type":"text"},"verbosity":"medium"},"tool_choice":"auto","tools":[],"top_logprobs":0,"truncation":"disabled","user":null';

const response = (
  status: string,
  { output = "[]", usage = "null", at = "null", details = "null", error = "null", echo = ECHO } = {},
): string =>
  `"response":{"id":"resp_2","object":"response","created_at":1730000000,"status":"${status}","background":false,"completed_at":${at},"error":${error},"incomplete_details":${details},${echo},"output":${output},"usage":${usage}}`;

const usage = (output: number, reasoning = 0): string =>
  `{"input_tokens":2,"input_tokens_details":{"cached_tokens":1,"cache_write_tokens":0},"output_tokens":${output},"output_tokens_details":{"reasoning_tokens":${reasoning}},"total_tokens":${2 + output}}`;

/** The frames of these events, numbered from 0. */
const frames = (...events: (readonly [type: string, payload: string])[]): string =>
  events
    .map(
      ([type, payload], i) =>
        `event: ${type}\ndata: {"type":"${type}",${payload},"sequence_number":${i}}\n\n`,
    )
    .join("");

const part = (text: string): string =>
  `{"type":"output_text","text":"${text}","annotations":[],"logprobs":[]}`;
const message = (id: string, status: string, content: string): string =>
  `{"id":"${id}","type":"message","status":"${status}","role":"assistant","content":[${content}]}`;

const ask = { model: MODEL_ID, input: "hi", stream: true };

describe("a response stream", () => {
  it("T40: is created, in_progress, item, part, deltas, done in reverse, completed, and nothing else", async () => {
    const { engine, post } = createTestApp();
    engine.script = sayThenStop("Hello", EOS);
    const reply = await post("/v1/responses", ask);
    const at = '"item_id":"msg_2_0","output_index":0,"content_index":0';
    const done = message("msg_2_0", "completed", part("Hello"));
    expect(await reply.text()).toBe(
      frames(
        ["response.created", response("in_progress")],
        ["response.in_progress", response("in_progress")],
        ["response.output_item.added", `"output_index":0,"item":${message("msg_2_0", "in_progress", "")}`],
        ["response.content_part.added", `${at},"part":${part("")}`],
        ["response.output_text.delta", `${at},"delta":"Hel","logprobs":[]`],
        ["response.output_text.delta", `${at},"delta":"lo","logprobs":[]`],
        ["response.output_text.done", `${at},"text":"Hello","logprobs":[]`],
        ["response.content_part.done", `${at},"part":${part("Hello")}`],
        ["response.output_item.done", `"output_index":0,"item":${done}`],
        [
          "response.completed",
          response("completed", { output: `[${done}]`, usage: usage(3), at: "1730000000" }),
        ],
      ),
    );
    expect(Object.fromEntries(reply.headers)).toMatchObject({
      "content-type": "text/event-stream; charset=utf-8",
      "cache-control": "no-cache",
      "x-request-id": "req_1",
    });
  });

  it("tells how far the prompt is, and the times so far, in events of its own, and again when it is replayed", async () => {
    const { app, engine, post } = createTestApp();
    engine.script = { kind: "accept" };
    const tools = [{ type: "function", name: "f" }];
    const long = {
      ...ask,
      metadata: { note: "kept" },
      tools,
      tool_choice: { type: "allowed_tools", mode: "auto", tools },
    };
    const reply = await post("/v1/responses", { ...long, return_progress: true, timings_per_token: true });
    const [submit] = engine.submits;
    if (submit === undefined) throw new Error("nothing was submitted");
    engine.reportPrefill(submit, 1, 0);
    engine.reportPrefill(submit, 2, 10);
    engine.step(submit, { tokens: idsOf("Hel") }, true);
    engine.step(submit, { tokens: [EOS], finish: { reason: "stop", stopToken: EOS } }, false);
    const text = await reply.text();
    const events = text
      .split("\n\n")
      .filter((frame) => frame !== "")
      .map((frame) => JSON.parse(frame.slice(frame.indexOf("data: ") + 6)) as Record<string, unknown>);
    const prompt = (processed: number, time_ms: number): object => ({
      prompt_progress: { total: 2, cache: 1, processed, time_ms },
    });
    const computed = (prompt_n: number, predicted_n: number): object => ({
      timings: { cache_n: 1, prompt_n, predicted_n },
    });
    const began = "response.in_progress";
    const short = {
      id: "resp_2",
      object: "response",
      created_at: expect.any(Number) as number,
      status: "in_progress",
      error: null,
      incomplete_details: null,
      model: "org/tiny",
      temperature: 1,
      top_p: 1,
      instructions: null,
      metadata: { note: "kept" },
      parallel_tool_calls: true,
      // An allowed_tools choice without its list.
      tool_choice: "auto",
      tools: [],
      output: [],
      usage: null,
    };
    expect(events.slice(2, 4).map((event) => event["response"])).toEqual([short, short]);
    expect(events).toMatchObject([
      { type: "response.created" },
      { type: began },
      { type: began, response: { status: "in_progress" }, ...prompt(1, 0), ...computed(0, 0) },
      { type: began, response: { status: "in_progress" }, ...prompt(2, 10), ...computed(1, 0) },
      { type: "response.output_item.added" },
      { type: "response.content_part.added" },
      { type: "response.output_text.delta", delta: "Hel", ...computed(1, 1) },
      { type: "response.output_text.done" },
      { type: "response.content_part.done" },
      { type: "response.output_item.done" },
      { type: "response.completed", ...computed(1, 2) },
    ]);
    expect(events.map((event) => event["sequence_number"])).toEqual([...events.keys()]);
    expect(events.filter((event) => "timings" in event)).toHaveLength(4);
    const again = await app.request("/v1/responses/resp_2?stream=true", { headers: { host: "localhost" } });
    expect(await again.text()).toBe(text);
  });

  it("T40: gives a function call as an item of its own, with arguments as they come", async () => {
    const { engine, post } = createTestApp();
    const said = ['<tool_call>\n{"name": "f", "arguments": {"a', '": 1', "}}\n</tool_call>"];
    const end = { tokens: [EOS], finish: { reason: "stop", stopToken: EOS } } as const;
    engine.script = { kind: "answer", steps: [...said.map((text) => ({ tokens: idsOf(text) })), end] };
    const reply = await post("/v1/responses", { ...ask, tools: [{ type: "function", name: "f" }] });
    const tool = '{"type":"function","name":"f","description":null,"parameters":null,"strict":false}';
    const echo = ECHO.replace('"tools":[]', `"tools":[${tool}]`);
    const call = (status: string, args: string): string =>
      `{"id":"fc_2_0","type":"function_call","status":"${status}","call_id":"call_3","name":"f","arguments":"${args}"}`;
    const at = '"item_id":"fc_2_0","output_index":0';
    const done = call("completed", '{\\"a\\": 1}');
    const tokens = said.reduce((sum, text) => sum + idsOf(text).length, 1);
    expect(await reply.text()).toBe(
      frames(
        ["response.created", response("in_progress", { echo })],
        ["response.in_progress", response("in_progress", { echo })],
        ["response.output_item.added", `"output_index":0,"item":${call("in_progress", "")}`],
        // One for each token, however many a step brings.
        ...["{", '\\"', "a", '\\"', ":", " ", "1", "}"].map(
          (text) => ["response.function_call_arguments.delta", `${at},"delta":"${text}"`] as const,
        ),
        ["response.function_call_arguments.done", `${at},"name":"f","arguments":"{\\"a\\": 1}"`],
        ["response.output_item.done", `"output_index":0,"item":${done}`],
        [
          "response.completed",
          response("completed", { output: `[${done}]`, usage: usage(tokens), at: "1730000000", echo }),
        ],
      ),
    );
  });

  it("gives a custom call its plain input", async () => {
    const { engine, post } = createTestApp();
    const said = '<tool_call>\n{"name": "p", "arguments": {"input": "a\\nb"}}\n</tool_call>';
    engine.script = sayThenStop(said, EOS);
    const reply = await post("/v1/responses", {
      ...ask,
      stream: false,
      tools: [{ type: "custom", name: "p" }],
    });
    expect(((await reply.json()) as { output: unknown }).output).toEqual([
      {
        id: "ctc_2_0",
        type: "custom_tool_call",
        status: "completed",
        call_id: "call_3",
        name: "p",
        input: "a\nb",
      },
    ]);
  });

  it("T76: shows thinking as an item of its own before the message", async () => {
    const { engine, post } = createTestApp();
    engine.script = sayThenStop("<think>lo</think>Hel", EOS);
    const reply = await post("/v1/responses", ask);
    const thought = (status: string, content: string): string =>
      `{"id":"rs_2_0","type":"reasoning","status":"${status}","summary":[],"content":[${content}]}`;
    const text = (said: string): string => `{"type":"reasoning_text","text":"${said}"}`;
    const first = '"item_id":"rs_2_0","output_index":0,"content_index":0';
    const second = '"item_id":"msg_2_1","output_index":1,"content_index":0';
    const items = [thought("completed", text("lo")), message("msg_2_1", "completed", part("Hel"))] as const;
    expect(await reply.text()).toBe(
      frames(
        ["response.created", response("in_progress")],
        ["response.in_progress", response("in_progress")],
        ["response.output_item.added", `"output_index":0,"item":${thought("in_progress", "")}`],
        ["response.content_part.added", `${first},"part":${text("")}`],
        ["response.reasoning_text.delta", `${first},"delta":"lo"`],
        ["response.reasoning_text.done", `${first},"text":"lo"`],
        ["response.content_part.done", `${first},"part":${text("lo")}`],
        ["response.output_item.done", `"output_index":0,"item":${items[0]}`],
        ["response.output_item.added", `"output_index":1,"item":${message("msg_2_1", "in_progress", "")}`],
        ["response.content_part.added", `${second},"part":${part("")}`],
        ["response.output_text.delta", `${second},"delta":"Hel","logprobs":[]`],
        ["response.output_text.done", `${second},"text":"Hel","logprobs":[]`],
        ["response.content_part.done", `${second},"part":${part("Hel")}`],
        ["response.output_item.done", `"output_index":1,"item":${items[1]}`],
        [
          "response.completed",
          response("completed", { output: `[${items.join(",")}]`, usage: usage(5, 3), at: "1730000000" }),
        ],
      ),
    );
  });

  it("shows thinking as a summary when one is asked for", async () => {
    const { engine, post } = createTestApp();
    engine.script = sayThenStop("<think>lo</think>Hel", EOS);
    const reply = await post("/v1/responses", {
      ...ask,
      reasoning: { summary: "auto" },
      include: ["reasoning.encrypted_content"],
    });
    const text = await reply.text();
    const events = text.split("\n\n").map((frame) => frame.split("\n").slice(-1)[0]?.slice("data: ".length));
    const at = '"item_id":"rs_2_0","output_index":0,"summary_index":0';
    const packed = Buffer.from("weft-reasoning:lo").toString("base64");
    expect(events.slice(2, 8)).toEqual([
      '{"type":"response.output_item.added","output_index":0,"item":{"id":"rs_2_0","type":"reasoning","status":"in_progress","summary":[]},"sequence_number":2}',
      `{"type":"response.reasoning_summary_part.added",${at},"part":{"type":"summary_text","text":""},"sequence_number":3}`,
      `{"type":"response.reasoning_summary_text.delta",${at},"delta":"lo","sequence_number":4}`,
      `{"type":"response.reasoning_summary_text.done",${at},"text":"lo","sequence_number":5}`,
      `{"type":"response.reasoning_summary_part.done",${at},"part":{"type":"summary_text","text":"lo"},"sequence_number":6}`,
      `{"type":"response.output_item.done","output_index":0,"item":{"id":"rs_2_0","type":"reasoning","status":"completed","summary":[{"type":"summary_text","text":"lo"}],"encrypted_content":"${packed}"},"sequence_number":7}`,
    ]);
  });

  it("ends as incomplete, with what there is, at the limit of tokens", async () => {
    const { engine, post } = createTestApp();
    const finish = { reason: "length", stopToken: undefined } as const;
    engine.script = { kind: "answer", steps: [{ tokens: idsOf("Hel"), finish }] };
    const reply = await post("/v1/responses", { ...ask, max_output_tokens: 1 });
    const text = await reply.text();
    const cut = message("msg_2_0", "incomplete", part("Hel"));
    expect(text).toContain(
      `event: response.output_item.done\ndata: {"type":"response.output_item.done","output_index":0,"item":${cut}`,
    );
    expect(text.split("\n\n").at(-2)).toBe(
      `event: response.incomplete\ndata: {"type":"response.incomplete",${response("incomplete", {
        output: `[${cut}]`,
        usage: usage(1),
        details: '{"reason":"max_output_tokens"}',
        echo: ECHO.replace('"max_output_tokens":null', '"max_output_tokens":1'),
      })},"sequence_number":8}`,
    );
  });

  it("ends with an error in both shapes, then response.failed, when the engine fails", async () => {
    const { engine, post } = createTestApp();
    engine.script = { kind: "accept" };
    const reply = await post("/v1/responses", ask);
    const submit = engine.submits[0];
    if (submit === undefined) throw new Error("Nothing was submitted.");
    engine.step(submit, { tokens: idsOf("Hel") }, true);
    engine.fail(submit, "decode_failed");
    const said = "The model's engine failed to compute this request.";
    const cut = message("msg_2_0", "incomplete", part("Hel"));
    const events = (await reply.text()).split("\n\n");
    expect(events.slice(-4, -1)).toEqual([
      `event: response.output_item.done\ndata: {"type":"response.output_item.done","output_index":0,"item":${cut},"sequence_number":7}`,
      `event: error\ndata: {"type":"error","code":"engine_error","message":"${said}","param":null,"error":{"type":"server_error","code":"engine_error","message":"${said}","param":null},"sequence_number":8}`,
      `event: response.failed\ndata: {"type":"response.failed",${response("failed", {
        output: `[${cut}]`,
        error: `{"code":"server_error","message":"${said}"}`,
      })},"sequence_number":9}`,
    ]);
  });

  it("T78: is kept alive by an event that carries data, in any silence, and counts on behind it", async () => {
    const { engine, post } = createTestApp({ config: { sseKeepAliveSeconds: 0.005 } });
    engine.script = { kind: "accept" };
    const reader = (await post("/v1/responses", ask)).body?.getReader();
    const decoder = new TextDecoder();
    let text = "";
    const readUntil = async (sought: string): Promise<void> => {
      while (!text.includes(sought)) text += decoder.decode((await reader?.read())?.value);
    };
    await readUntil('event: keepalive\ndata: {"type":"keepalive","sequence_number":1}\n\n');
    const submit = engine.submits[0];
    if (submit === undefined) throw new Error("Nothing was submitted.");
    engine.step(submit, { tokens: idsOf("Hel") }, true);
    await readUntil('event: keepalive\ndata: {"type":"keepalive","sequence_number":4}\n\n');
    engine.step(submit, { tokens: [EOS], finish: { reason: "stop", stopToken: EOS } }, false);
    await readUntil("event: response.completed");
    const numbers = text
      .split("\n\n")
      .filter((frame) => frame !== "" && !frame.startsWith("event: keepalive"))
      .map((frame) => /"sequence_number":(\d+)}$/.exec(frame)?.[1]);
    expect(numbers).toEqual(["0", "1", "2", "3", "4", "5", "6", "7", "8"]);
  });

  it.each([
    ["queue_full", 503, "server_overloaded", "2"],
    ["engine_exited", 503, "engine_restarting", "2"],
    ["decode_failed", 500, "engine_error", null],
    ["empty_prompt", 400, "empty_string", null],
  ] as const)("is refused with a status before it begins: %s", async (code, status, shown, retryAfter) => {
    const { engine, post } = createTestApp();
    engine.script = { kind: "fail", code };
    const reply = await post("/v1/responses", ask);
    expect(reply.headers.get("retry-after")).toBe(retryAfter);
    expect([reply.status, await reply.json()]).toEqual([
      status,
      {
        error: {
          message: expect.any(String),
          type: status === 400 ? "invalid_request_error" : "server_error",
          param: status === 400 ? "input" : null,
          code: shown,
        },
      },
    ]);
  });

  it("fails as a whole answer with the engine's error, and is kept as failed", async () => {
    const { engine, post, deps } = createTestApp();
    engine.script = { kind: "accept" };
    const reply = post("/v1/responses", { ...ask, stream: false });
    await engine.until(() => engine.submits.length > 0);
    await new Promise((resolve) => setImmediate(resolve));
    const submit = engine.submits[0];
    if (submit === undefined) throw new Error("Nothing was submitted.");
    engine.fail(submit, "decode_failed");
    expect((await reply).status).toBe(500);
    expect(deps.responses.find("resp_2", "anonymous")?.log).toMatchObject([{ kind: "failed" }]);
  });

  it("is refused while the server shuts down or the model loads", async () => {
    const draining = createTestApp();
    draining.lifecycle.draining = true;
    const loading = createTestApp({ model: { state: "loading", loaded: undefined } });
    const replies = [await draining.post("/v1/responses", ask), await loading.post("/v1/responses", ask)];
    const codes = await Promise.all(
      replies.map(async (reply) => ((await reply.json()) as { error: { code: string } }).error.code),
    );
    expect([replies.map(({ status }) => status), codes]).toEqual([
      [503, 503],
      ["server_draining", "model_loading"],
    ]);
  });

  it("holds an empty message when the model says nothing", async () => {
    const { engine, post } = createTestApp();
    engine.script = sayThenStop("<think>lo</think>", EOS);
    const reply = await post("/v1/responses", { ...ask, stream: false });
    expect(((await reply.json()) as { output: unknown }).output).toMatchObject([
      { type: "reasoning" },
      { id: "msg_2_1", content: [{ type: "output_text", text: "" }] },
    ]);
  });
});
