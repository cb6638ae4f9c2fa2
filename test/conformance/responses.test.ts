/** `/v1/responses` on the real model: the numbered cases that are about this API. */
import type OpenAI from "openai";
import { describe, expect, test } from "vitest";
import { bodyOf, found, MODEL, MUST_CALL, responseStream, said, server } from "./harness.ts";

type ResponseJson = OpenAI.Responses.Response;
type Fields = Readonly<Record<string, unknown>>;

interface ErrorJson {
  readonly error: { readonly message: string; readonly param: string | null; readonly code: string | null };
}

const THINKING = { chat_template_kwargs: { enable_thinking: true } };
const PERSON = {
  type: "object",
  properties: { name: { type: "string" }, age: { type: "integer" } },
  required: ["name", "age"],
  additionalProperties: false,
};
const WEATHER = {
  type: "function",
  name: "get_weather",
  description: "Get the weather for a city",
  parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
} as const;

async function respond(fields: Fields): Promise<ResponseJson> {
  return bodyOf(
    await server.post("/v1/responses", { model: MODEL, temperature: 0, max_output_tokens: 100, ...fields }),
  );
}

async function refusal(fields: Fields): Promise<ErrorJson["error"]> {
  const body = { model: MODEL, ...fields };
  return (await bodyOf<ErrorJson>(await server.post("/v1/responses", body), 400)).error;
}

const get = (path: string): Promise<Response> => fetch(`${server.url}/v1/responses/${path}`);

function textOf({ output }: ResponseJson): string {
  const parts = output.flatMap((item) => (item.type === "message" ? item.content : []));
  return parts.map((part) => (part.type === "output_text" ? part.text : "")).join("");
}

describe("/v1/responses", () => {
  test("T40 streams text as items whose events name item, output_index and content_index", async () => {
    const { chunks } = await responseStream({ input: "What is the capital of France?" });
    const deltas = chunks.filter((event) => event.type === "response.output_text.delta");
    expect(deltas.map(({ delta }) => delta).join("")).toEqual(said("The capital of France is Paris."));
    const added = chunks.find((event) => event.type === "response.output_item.added");
    for (const { item_id, output_index, content_index } of deltas) {
      expect([item_id, output_index, content_index]).toEqual([added?.item.id, 0, 0]);
    }
  });

  test("T40 streams a tool call as an item of its own, with arguments in pieces", async () => {
    const { chunks } = await responseStream({
      input: "What is the weather in Paris?",
      tools: [WEATHER],
      ...MUST_CALL,
    });
    const last = chunks.at(-1);
    const output = last?.type === "response.completed" ? last.response.output : [];
    expect(output).toMatchObject([
      {
        type: "function_call",
        name: "get_weather",
        arguments: said('{"city": "Paris"}'),
        status: "completed",
      },
    ]);
    const deltas = chunks.filter((event) => event.type === "response.function_call_arguments.delta");
    expect(deltas.length).toBeGreaterThan(1);
    expect(deltas.every(({ item_id, output_index }) => item_id === output[0]?.id && output_index === 0)).toBe(
      true,
    );
  });

  test("T70 takes items without type, and reasoning items that are empty or null", async () => {
    const made = await respond({
      input: [
        { role: "user", content: "My name is Bob." },
        { type: "reasoning", id: "rs_1", summary: [], content: null, encrypted_content: null },
        { type: "reasoning", summary: null },
        { role: "assistant", content: [{ type: "output_text", text: "Nice to meet you, Bob!" }] },
        { role: "user", content: [{ type: "input_text", text: "What is my name?" }] },
      ],
    });
    expect(textOf(made)).toEqual(said("Your name is Bob."));
  });

  test("T71 refuses an unsupported item or tool by its name", async () => {
    expect(await refusal({ input: [{ type: "web_search_call", id: "ws_1" }] })).toMatchObject({
      message: expect.stringContaining("web_search_call"),
      param: "input[0].type",
    });
    expect(await refusal({ input: "hi", tools: [{ type: "web_search" }] })).toMatchObject({
      message: expect.stringContaining("web_search"),
      param: "tools[0].type",
    });
  });

  test("T72 holds the answer to a JSON schema after the model has thought", async () => {
    const format = { type: "json_schema", name: "person", schema: PERSON, strict: true };
    const made = await respond({
      input: "Extract name and age as JSON: Bob is 42 years old.",
      text: { format },
      ...THINKING,
    });
    expect(JSON.parse(textOf(made))).toEqual({ name: expect.any(String), age: expect.any(Number) });
    expect(made.text).toMatchObject({ format });
  });

  test("T73 continues a response twice, and its instructions not at all", async () => {
    const first = await respond({ input: "My name is Alice.", instructions: "Answer in upper case." });
    const again = { input: "What is my name?", previous_response_id: first.id };
    const branches = await Promise.all([respond(again), respond(again)]);
    const [text = ""] = branches.map(textOf);
    expect(branches.map(textOf)).toEqual([text, text]);
    expect(text).toEqual(said("Your name is Alice."));
    expect(branches.map(({ instructions }) => instructions)).toEqual([null, null]);
  });

  test("T74 does not keep a response with store false", async () => {
    const { id } = await respond({ input: "Hello", store: false });
    const { error } = await bodyOf<ErrorJson>(await get(id), 404);
    expect(error.message).toBe(`Response with id '${id}' not found.`);
  });

  test("T75 replays a stream behind the given event", async () => {
    const { text, chunks } = await responseStream({ input: "Count from 1 to 5." });
    const created = chunks.find((event) => event.type === "response.created");
    const replay = await (await get(`${created?.response.id}?stream=true&starting_after=3`)).text();
    expect(replay).toBe(text.split("\n\n").slice(4).join("\n\n"));
  });

  test("T76 has its items in the order in which they were streamed", async () => {
    const { chunks } = await responseStream({ input: "What is 7 + 5?", ...THINKING });
    const last = chunks.at(-1);
    const ended = last?.type === "response.completed" || last?.type === "response.incomplete";
    const output = ended ? last.response.output : [];
    expect(output.map(({ type }) => type)).toEqual(found(["reasoning", "message"], ["message"]));
    for (const event of chunks) {
      if (event.type === "response.output_item.done") expect(event.item).toEqual(output[event.output_index]);
    }
  });

  test("T77 answers what Codex sends", async () => {
    const body = {
      model: MODEL,
      instructions: "You are a coding agent.",
      input: [
        {
          type: "message",
          role: "developer",
          content: [{ type: "input_text", text: "<permissions>none</permissions>" }],
        },
        { type: "message", role: "user", content: [{ type: "input_text", text: "Hello" }] },
      ],
      tools: [
        {
          type: "function",
          name: "shell",
          description: "Runs a command",
          strict: false,
          parameters: {
            type: "object",
            properties: {
              command: { type: "array", items: { type: "string" } },
              timeout_ms: { type: "number" },
            },
            required: ["command"],
            additionalProperties: false,
          },
        },
        {
          type: "custom",
          name: "apply_patch",
          description: "Edits files",
          format: { type: "grammar", syntax: "lark", definition: "start: /.+/" },
        },
        { type: "local_shell" },
        { type: "web_search" },
      ],
      tool_choice: "auto",
      parallel_tool_calls: false,
      reasoning: { effort: "medium", summary: "auto" },
      store: false,
      stream: true,
      include: ["reasoning.encrypted_content"],
      prompt_cache_key: "0199a213-81c0-7800-8aa1-bbab2a035a53",
      text: { verbosity: "low" },
      temperature: 0,
    };
    const reply = await server.post("/v1/responses", body);
    expect(reply.status).toBe(200);
    expect(reply.headers.get("x-weft-ignored-params")).toBe(
      "prompt_cache_key,tools[1].format,tools[2],tools[3]",
    );
    const { chunks } = await responseStream(body);
    expect(chunks.at(-1)?.type).toBe("response.completed");
    const added = chunks.flatMap((event) =>
      event.type === "response.output_item.done" && event.item.type === "reasoning" ? [event.item] : [],
    );
    for (const { encrypted_content } of added) expect(encrypted_content).toMatch(/^[\w+/=]+$/);
    await reply.body?.cancel();
  });
});
