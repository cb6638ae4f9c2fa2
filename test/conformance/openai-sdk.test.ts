/** OpenAI's own client, both majors in use: the same questions, the same answers. */
import * as sdk6 from "openai";
import { describe, expect, test, vi } from "vitest";
import { zodResponseFormat } from "openai/helpers/zod";
import { z } from "zod";
import { listenTestApp } from "../support/listen.ts";
import { idsOf } from "../support/tiny-vocabulary.ts";
import { asking, baseURL, decidedFetch, found, MODEL, MUST_CALL, said, WEATHER } from "./harness.ts";

const FRANCE = { model: MODEL, temperature: 0, max_tokens: 40, ...asking("What is the capital of France?") };
const ANSWER = "The capital of France is Paris.";
const WEATHER_ASK = { model: MODEL, temperature: 0, ...asking("What is the weather in Paris?") };
/** As the client's types want it: not read-only. */
const WEATHER_TOOL = {
  type: "function" as const,
  function: {
    ...WEATHER.function,
    parameters: structuredClone(WEATHER.function.parameters) as Record<string, unknown>,
  },
};

// Its types are not those of version 6; what is used of it here is the same.
const sdk7 = await vi.importActual<typeof sdk6>("openai7");

const majors = [
  { name: "openai 6", OpenAI: sdk6.OpenAI, APIError: sdk6.APIError },
  { name: "openai 7", OpenAI: sdk7.OpenAI, APIError: sdk7.APIError },
];

describe.each(majors)("$name", ({ OpenAI, APIError }) => {
  const client = new OpenAI({ baseURL, apiKey: "none", maxRetries: 0, fetch: decidedFetch });

  test("reads whole answers with their request id", async () => {
    const { data, request_id: id } = await client.chat.completions.create(FRANCE).withResponse();
    expect(data.choices[0]?.message.content).toEqual(said(ANSWER));
    expect(id).toMatch(/^req_/);
  });

  test("iterates a stream to its end", async () => {
    const stream = await client.chat.completions.create({ ...FRANCE, stream: true });
    let text = "";
    for await (const chunk of stream) text += chunk.choices[0]?.delta.content ?? "";
    expect(text).toEqual(said(ANSWER));
  });

  test("stream() sends its events and the final answer", async () => {
    const runner = client.chat.completions.stream({ ...FRANCE, stream_options: { include_usage: true } });
    const snapshots: string[] = [];
    runner.on("content", (_delta, snapshot) => snapshots.push(snapshot));
    const final = await runner.finalChatCompletion();
    expect(final.choices[0]).toMatchObject({
      message: { content: said(ANSWER) },
      finish_reason: found("stop", expect.any(String)),
    });
    expect(snapshots.at(-1)).toEqual(said(ANSWER));
    expect(snapshots.length).toBeGreaterThan(3);
    expect(final.usage).toMatchObject(
      found({ prompt_tokens: 15, completion_tokens: 8 }, { total_tokens: expect.any(Number) }) as object,
    );
  });

  test("stream() reads several choices", async () => {
    const runner = client.chat.completions.stream({
      model: MODEL,
      ...asking("Tell me a story about a fox."),
      n: 2,
      seed: 3,
      max_tokens: 20,
    });
    const { choices } = await runner.finalChatCompletion();
    expect(choices.map(({ index, finish_reason }) => [index, finish_reason])).toEqual([
      [0, "length"],
      [1, "length"],
    ]);
    expect(choices[0]?.message.content).not.toBe(choices[1]?.message.content);
  });

  test("reads legacy completions and the model list", async () => {
    const ask = { model: MODEL, prompt: "1, 2, 3,", temperature: 0, max_tokens: 6 };
    const whole = await client.completions.create(ask);
    let text = "";
    for await (const chunk of await client.completions.create({ ...ask, stream: true })) {
      text += chunk.choices[0]?.text ?? "";
    }
    expect(text).toBe(whole.choices[0]?.text);
    expect(text).toEqual(said(" 4, 5, 6,"));
    expect((await client.models.list()).data.map(({ id }) => id)).toEqual([MODEL]);
  });

  test("stream() sends the events of a tool call", async () => {
    const runner = client.chat.completions.stream({ ...WEATHER_ASK, tools: [WEATHER_TOOL] });
    const done: unknown[] = [];
    runner.on("tool_calls.function.arguments.done", ({ name, index, arguments: text }) =>
      done.push([name, index, JSON.parse(text)]),
    );
    const final = await runner.finalChatCompletion();
    expect(done).toMatchObject([["get_weather", 0, { city: said("Paris") }]]);
    expect(final.choices[0]?.finish_reason).toBe("tool_calls");
  });

  test("runTools() calls, answers and ends with a text", async () => {
    for (const stream of [false, true] as const) {
      const asked: unknown[] = [];
      const tool = {
        type: "function" as const,
        function: {
          ...WEATHER_TOOL.function,
          parse: JSON.parse as (text: string) => object,
          function: (args: object) => {
            asked.push(args);
            return '{"temperature": 21, "condition": "sunny"}';
          },
        },
      };
      const runner = stream
        ? client.chat.completions.runTools({ ...WEATHER_ASK, tools: [tool], stream })
        : client.chat.completions.runTools({ ...WEATHER_ASK, tools: [tool] });
      expect(await runner.finalContent()).toEqual(said("It is sunny and 21 degrees in Paris."));
      expect(asked).toMatchObject([{ city: said("Paris") }]);
    }
  });

  test("parse() reads a schema of zod", async () => {
    const Person = z.object({ name: z.string(), age: z.number().int() });
    const { choices } = await client.chat.completions.parse({
      model: MODEL,
      temperature: 0,
      ...asking("Extract name and age as JSON: Bob is 42 years old."),
      response_format: zodResponseFormat(Person, "person"),
    });
    expect(choices[0]?.message.parsed).toEqual({ name: said("Bob"), age: found(42, expect.any(Number)) });
  });

  test("stream() parses a schema of zod", async () => {
    const Person = z.object({ name: z.string(), age: z.number().int() });
    const final = await client.chat.completions
      .stream({
        model: MODEL,
        temperature: 0,
        ...asking("Extract name and age as JSON: Bob is 42 years old."),
        response_format: zodResponseFormat(Person, "person"),
      })
      .finalChatCompletion();
    expect(final.choices[0]?.message.parsed).toEqual({
      name: said("Bob"),
      age: found(42, expect.any(Number)),
    });
  });

  test("parse() of an answer that was cut off says so", async () => {
    const failure = client.chat.completions.parse({
      model: MODEL,
      temperature: 0,
      ...asking("Extract name and age as JSON: Bob is 42 years old."),
      response_format: zodResponseFormat(z.object({ name: z.string(), age: z.number() }), "person"),
      max_tokens: 3,
    });
    await expect(failure).rejects.toMatchObject({ message: expect.stringContaining("length") });
  });

  test("Responses: create, stream, function call, retrieve and delete", async () => {
    const ask = { model: MODEL, temperature: 0, max_output_tokens: 60 };
    const whole = await client.responses.create({ ...ask, input: "What is the capital of France?" });
    expect(whole.output_text).toEqual(said(ANSWER));
    expect((await client.responses.retrieve(whole.id)).id).toBe(whole.id);
    await client.responses.delete(whole.id);
    await expect(client.responses.retrieve(whole.id)).rejects.toMatchObject({ status: 404 });
    const streamed = client.responses.stream({ ...ask, input: "What is the capital of France?" });
    expect((await streamed.finalResponse()).output_text).toEqual(said(ANSWER));
    const { name, parameters } = WEATHER_TOOL.function;
    const calling = await client.responses
      .stream({
        ...ask,
        input: "What is the weather in Paris?",
        tools: [{ type: "function", name, parameters, strict: false }],
        ...(MUST_CALL as { tool_choice?: "required" }),
      })
      .finalResponse();
    const [call] = calling.output;
    expect(call).toMatchObject({ type: "function_call", name: "get_weather" });
    expect(call?.type === "function_call" && JSON.parse(call.arguments)).toMatchObject({
      city: said("Paris"),
    });
  });

  test("an abort ends the request for both sides", async () => {
    const stream = await client.chat.completions.create({ ...FRANCE, stream: true });
    for await (const chunk of stream) {
      expect(chunk.choices).toBeDefined();
      break;
    }
    expect(stream.controller.signal.aborted).toBe(true);
  });

  test("T33 raises APIError for an engine that fails in the middle of a stream", async () => {
    const app = await listenTestApp();
    app.engine.script = { kind: "accept" };
    const scripted = new OpenAI({ baseURL: `${app.baseURL}/v1`, apiKey: "none", maxRetries: 0 });
    const ask = { ...FRANCE, model: "tiny" };
    for (const read of [readRaw, readHelped]) {
      const failure = read().catch((error: unknown) => error);
      await app.engine.until(() => app.engine.submits.length > 0);
      const submit = app.engine.submits.at(-1);
      if (submit === undefined) throw new Error("nothing was submitted");
      await accepted(app);
      for (const [i, token] of idsOf("Hello").entries())
        app.engine.step(submit, { tokens: [token] }, i === 0);
      app.engine.fail(submit, "decode_failed");
      expect(await failure).toBeInstanceOf(APIError);
      app.engine.commands.length = 0;
    }
    await app.close();

    async function readRaw(): Promise<void> {
      for await (const chunk of await scripted.chat.completions.create({ ...ask, stream: true })) {
        expect(chunk.choices).toBeDefined();
      }
    }
    async function readHelped(): Promise<void> {
      await scripted.chat.completions.stream(ask).finalChatCompletion();
    }
  });
});

/** The engine accepts in a microtask after the command. */
async function accepted(app: Awaited<ReturnType<typeof listenTestApp>>): Promise<void> {
  await app.app.request("/livez", { headers: { host: "localhost" } });
}
