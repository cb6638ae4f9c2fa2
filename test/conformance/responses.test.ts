/** The Responses API: its events, its items in and out, what it keeps and what it refuses. */
import type OpenAI from "openai";
import { describe, expect, test } from "vitest";
import { readSse } from "../../src/conformance/sse-grammar.ts";
import { lintResponseEvents } from "../../src/conformance/response-events-lint.ts";
import { listenTestApp } from "../support/listen.ts";
import { EOS, idsOf } from "../support/tiny-vocabulary.ts";
import { bodyOf, MODEL, responseStream, server, WEATHER } from "./harness.ts";

type ResponseJson = OpenAI.Responses.Response;

const FRANCE = "What is the capital of France?";
const ANSWER = "The capital of France is Paris.";
const TOOL = { type: "function", ...WEATHER.function };

async function respond(fields: object, status = 200): Promise<ResponseJson> {
  const body = { model: MODEL, temperature: 0, ...fields };
  return bodyOf<ResponseJson>(await server.post("/v1/responses", body), status);
}

/** The text of all messages. */
function textOf({ output }: ResponseJson): string {
  return output
    .flatMap((item) => (item.type === "message" ? item.content : []))
    .map((part) => (part.type === "output_text" ? part.text : ""))
    .join("");
}

const get = (path: string): Promise<Response> => fetch(`${server.url}/v1/responses/${path}`);

describe("events", () => {
  test("T40 of texts and calls carry the indices and ids of their item and part", async () => {
    const text = await responseStream({ input: FRANCE });
    expect(new Set(text.chunks.map(({ type }) => type))).toEqual(
      new Set([
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
      ]),
    );
    for (const event of text.chunks) {
      if (event.type === "response.output_text.delta") {
        expect(event).toMatchObject({
          output_index: 0,
          content_index: 0,
          item_id: expect.stringMatching(/^msg_/),
        });
      }
    }
    const call = await responseStream({ input: "What is the weather in Paris?", tools: [TOOL] });
    const deltas = call.chunks.filter(({ type }) => type === "response.function_call_arguments.delta");
    expect(deltas.length).toBeGreaterThan(1);
    for (const delta of deltas) {
      expect(delta).toMatchObject({ output_index: 0, item_id: expect.stringMatching(/^fc_/) });
    }
    expect(call.chunks.at(-1)).toMatchObject({
      type: "response.completed",
      response: {
        output: [{ type: "function_call", name: "get_weather", call_id: expect.stringMatching(/^call_/) }],
      },
    });
  });

  test("T76 the output of the last event has the order of the indices", async () => {
    const { chunks } = await responseStream({
      input: "What is 7 + 5?",
      chat_template_kwargs: { enable_thinking: true },
      reasoning: { effort: "high" },
    });
    const added = chunks.flatMap((event) =>
      event.type === "response.output_item.added" ? [[event.output_index, event.item.id]] : [],
    );
    const last = chunks.at(-1);
    const output = last?.type === "response.completed" ? last.response.output : [];
    expect(output.map(({ type }) => type)).toEqual(["reasoning", "message"]);
    expect(added).toEqual(output.map(({ id }, i) => [i, id]));
  });

  test("T78 a long silence is filled with keepalive events that carry data", async () => {
    const app = await listenTestApp({ config: { sseKeepAliveSeconds: 0.005 } });
    app.engine.script = { kind: "accept" };
    const response = await fetch(`${app.baseURL}/v1/responses`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ model: "tiny", input: "hi", stream: true }),
    });
    const [submit] = app.engine.submits;
    if (submit === undefined || response.body === null) throw new Error("nothing was submitted");
    const decoder = new TextDecoder();
    let text = "";
    let answered = false;
    for await (const bytes of response.body) {
      text += decoder.decode(bytes, { stream: true });
      if (answered || text.split("event: keepalive\n").length < 3) continue;
      answered = true;
      app.engine.step(submit, { tokens: idsOf("Hel") }, true);
      app.engine.step(submit, { tokens: [EOS], finish: { reason: "stop", stopToken: EOS } }, false);
    }
    await app.close();
    expect(lintResponseEvents(text)).toEqual([]);
    const beats = readSse(text).events.filter(({ event }) => event === "keepalive");
    expect(beats.length).toBeGreaterThanOrEqual(2);
    for (const { data } of beats) {
      expect(JSON.parse(data)).toEqual({ type: "keepalive", sequence_number: expect.any(Number) });
    }
    expect(readSse(text).comments).toBe(0);
  });
});

describe("input", () => {
  test("T70 items without a type and reasoning items with empty fields are taken", async () => {
    for (const reasoning of [
      { type: "reasoning", id: "rs_1", summary: [] },
      { type: "reasoning", id: "rs_1", summary: [], content: null, encrypted_content: null },
      { type: "reasoning", summary: [], content: [] },
    ]) {
      const answer = await respond({
        input: [
          { role: "user", content: "Hello" },
          reasoning,
          { role: "assistant", content: [{ type: "output_text", text: "Hello! How can I help you?" }] },
          { role: "user", content: [{ type: "input_text", text: FRANCE }] },
        ],
      });
      expect(textOf(answer)).toBe(ANSWER);
    }
  });

  test("T71 unsupported items and tools are a 400 that names them", async () => {
    const wrong: [object, string][] = [
      [{ input: [{ type: "no_such_item" }] }, "no_such_item"],
      [{ input: [{ role: "user", content: [{ type: "input_image", image_url: "data:," }] }] }, "input_image"],
      [{ input: FRANCE, tools: [{ type: "web_search" }] }, "web_search"],
      [{ input: FRANCE, tools: [{ type: "no_such_tool" }] }, "no_such_tool"],
    ];
    for (const [fields, name] of wrong) {
      for (const stream of [false, true]) {
        const refused = await server.post("/v1/responses", { model: MODEL, ...fields, stream });
        const { error } = await bodyOf<{ error: { message: string; param: string } }>(refused, 400);
        expect(error.message).toContain(name);
        expect(error.param).toMatch(/^(input|tools)/);
      }
    }
  });

  test("T72 text.format is honoured, with reasoning too", async () => {
    const schema = {
      type: "object",
      properties: { sum: { type: "integer", minimum: 0, maximum: 99 } },
      required: ["sum"],
      additionalProperties: false,
    };
    const text = { format: { type: "json_schema", name: "sum", strict: true, schema } };
    for (const fields of [{}, { chat_template_kwargs: { enable_thinking: true } }]) {
      const answer = await respond({ input: "What is 7 + 5?", text, max_output_tokens: 300, ...fields });
      expect(JSON.parse(textOf(answer))).toEqual({ sum: expect.any(Number) });
    }
  });

  test("T77 what a coding agent sends is answered", async () => {
    const answer = await respond({
      instructions: "You are a helpful assistant.",
      input: [
        { type: "message", role: "developer", content: [{ type: "input_text", text: "Be brief." }] },
        { type: "message", role: "user", content: [{ type: "input_text", text: FRANCE }] },
      ],
      tools: [
        { type: "function", name: "shell", strict: false, parameters: { type: "object", properties: {} } },
        { type: "custom", name: "apply_patch", description: "Edit files", format: { type: "text" } },
      ],
      tool_choice: "auto",
      parallel_tool_calls: false,
      reasoning: { effort: "medium", summary: "auto" },
      store: false,
      include: ["reasoning.encrypted_content"],
      prompt_cache_key: "key",
    });
    expect(answer).toMatchObject({ object: "response", store: false });
    expect(["completed", "incomplete"]).toContain(answer.status);
  });
});

describe("what is kept", () => {
  test("T73 two answers can follow the same one, and instructions are not inherited", async () => {
    const first = await respond({ input: "My name is Bob.", instructions: "Answer in upper case." });
    const ask = { previous_response_id: first.id, input: "What is my name?" };
    const [left, right] = [await respond(ask), await respond({ ...ask, input: FRANCE })];
    expect(left.previous_response_id).toBe(first.id);
    expect(textOf(left)).toContain("Bob");
    expect(textOf(right)).toBe(ANSWER);
    expect([left.instructions, right.instructions]).toEqual([null, null]);
    const unknown = await server.post("/v1/responses", {
      model: MODEL,
      input: "hi",
      previous_response_id: "resp_x",
    });
    expect(await bodyOf(unknown, 400)).toMatchObject({
      error: { code: "previous_response_not_found", param: "previous_response_id" },
    });
  });

  test("T74 store false is not kept", async () => {
    const { id } = await respond({ input: FRANCE, store: false });
    expect((await get(id)).status).toBe(404);
    const kept = await respond({ input: FRANCE });
    expect((await bodyOf<ResponseJson>(await get(kept.id))).output).toEqual(kept.output);
  });

  test("T75 a stored stream is replayed from behind an event", async () => {
    const { chunks, text } = await responseStream({ input: FRANCE });
    const [created] = chunks;
    const id = created?.type === "response.created" ? created.response.id : "";
    const replay = await get(`${id}?stream=true&starting_after=3`);
    expect(replay.headers.get("content-type")).toBe("text/event-stream; charset=utf-8");
    const { events, problems } = readSse(await replay.text());
    expect(problems).toEqual([]);
    expect(events).toEqual(readSse(text).events.slice(4));
    const whole = await get(`${id}?stream=true`);
    expect(await whole.text()).toBe(text);
  });
});
