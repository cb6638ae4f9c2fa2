/** The official clients, unchanged, against `/v1/responses` on a port. */
import { createOpenAI } from "@ai-sdk/openai";
import { generateText, streamText } from "ai";
import { BadRequestError, NotFoundError, OpenAI } from "openai";
import { OpenAI as OpenAI7 } from "openai7";
import { afterEach, describe, expect, it } from "vitest";
import { listenTestApp } from "../../support/listen.ts";
import { sayThenStop } from "../../support/scripted-engine.ts";
import { EOS, idsOf } from "../../support/tiny-vocabulary.ts";

const closers: (() => Promise<void>)[] = [];

afterEach(async () => {
  for (const close of closers.splice(0)) await close();
});

async function start() {
  const server = await listenTestApp();
  closers.push(() => server.close());
  server.engine.script = sayThenStop("<think>lo</think>Hello world", EOS);
  const options = { baseURL: `${server.baseURL}/v1`, apiKey: "none", maxRetries: 0 };
  return { ...server, options };
}

const ASK = { model: "tiny", input: "hi" } as const;

const CLIENTS: readonly (readonly [name: string, client: unknown])[] = [
  ["openai 6", OpenAI],
  ["openai 7", OpenAI7],
];

describe.each(CLIENTS)("%s", (_name, official) => {
  // What is called here has the same types in both.
  const Client = official as typeof OpenAI;

  async function connect() {
    const server = await start();
    return { ...server, client: new Client(server.options) };
  }

  it("T40: builds the response from its stream with the helper", async () => {
    const { client } = await connect();
    const stream = client.responses.stream(ASK);
    const types = new Set<string>();
    for await (const event of stream) types.add(event.type);
    const final = await stream.finalResponse();
    expect(final.output_text).toBe("Hello world");
    expect(final.output).toMatchObject([
      { type: "reasoning", content: [{ text: "lo" }] },
      { type: "message", status: "completed" },
    ]);
    expect(final.usage).toMatchObject({ input_tokens: 2, output_tokens: 7, total_tokens: 9 });
    expect(types.has("response.reasoning_text.delta")).toBe(true);
    expect(await client.responses.retrieve(final.id)).toMatchObject({ output_text: "Hello world" });
  });

  it("T75: goes on with a stream by the id of the response", async () => {
    const { client } = await connect();
    const made = await client.responses.create(ASK);
    const again = client.responses.stream({ response_id: made.id, starting_after: 5 });
    const numbers: number[] = [];
    for await (const event of again) numbers.push(event.sequence_number);
    expect((await again.finalResponse()).output_text).toBe("Hello world");
    // It asks for all of it, to build the response, and shows what is new.
    expect(numbers[0]).toBe(6);
  });

  it("creates, continues, lists, cancels and deletes", async () => {
    const { client, template } = await connect();
    const first = await client.responses.create(ASK);
    expect(first.output_text).toBe("Hello world");
    const second = await client.responses.create({ ...ASK, input: "more", previous_response_id: first.id });
    expect(template.requests.at(-1)?.messages.map(({ role }) => role)).toEqual(["user", "assistant", "user"]);
    const items = [];
    for await (const item of client.responses.inputItems.list(second.id, { limit: 1, order: "asc" })) {
      items.push(item.type);
    }
    expect(items).toEqual(["message", "reasoning", "message", "message"]);
    await expect(client.responses.cancel(first.id)).rejects.toMatchObject({ status: 400 });
    await client.responses.delete(first.id);
    await expect(client.responses.retrieve(first.id)).rejects.toMatchObject({ status: 404 });
    const { input_tokens } = await client.responses.inputTokens.count({ model: "tiny", input: "hi" });
    expect(input_tokens).toBe(3);
  });

  it("polls a background response", async () => {
    const { client } = await connect();
    let response = await client.responses.create({ ...ASK, background: true });
    expect(["queued", "in_progress", "completed"]).toContain(response.status);
    while (response.status !== "completed") response = await client.responses.retrieve(response.id);
    expect(response.output_text).toBe("Hello world");
  });

  it("raises the error of a stream that fails", async () => {
    const { client, engine } = await connect();
    engine.script = { kind: "accept" };
    const stream = await client.responses.create({ ...ASK, stream: true });
    engine.die();
    await expect(async () => {
      for await (const event of stream) expect(event.type).toBeDefined();
    }).rejects.toThrow("The model's engine stopped. Please try again.");
  });

  it("reads a response that ran into its limit", async () => {
    const { client, engine } = await connect();
    const finish = { reason: "length", stopToken: undefined } as const;
    engine.script = { kind: "answer", steps: [{ tokens: idsOf("Hel"), finish }] };
    const final = await client.responses.stream({ ...ASK, max_output_tokens: 1 }).finalResponse();
    expect(final).toMatchObject({
      status: "incomplete",
      output_text: "Hel",
      incomplete_details: { reason: "max_output_tokens" },
    });
  });
});

describe("openai 6", () => {
  it("raises its own error classes", async () => {
    const { options } = await start();
    const client = new OpenAI(options);
    await expect(client.responses.retrieve("resp_x")).rejects.toBeInstanceOf(NotFoundError);
    await expect(client.responses.create({ ...ASK, conversation: "c" })).rejects.toBeInstanceOf(
      BadRequestError,
    );
  });
});

describe("the AI SDK's Responses model", () => {
  async function connect() {
    const server = await start();
    const { baseURL, apiKey } = server.options;
    return { ...server, model: createOpenAI({ baseURL, apiKey })("tiny") };
  }

  it("generates text", async () => {
    const { model, template } = await connect();
    const result = await generateText({ model, system: "be kind", prompt: "hi" });
    expect(result.text).toBe("Hello world");
    expect(result.finishReason).toBe("stop");
    expect(result.usage).toMatchObject({ inputTokens: 9, outputTokens: 7 });
    expect(template.requests.at(-1)?.messages).toEqual([
      { role: "system", content: "be kind" },
      { role: "user", content: "hi" },
    ]);
  });

  it("streams text, and thinking as a summary", async () => {
    const { model } = await connect();
    const result = streamText({
      model,
      prompt: "hi",
      providerOptions: { openai: { reasoningSummary: "auto", forceReasoning: true } },
    });
    let text = "";
    for await (const piece of result.textStream) text += piece;
    expect([text, await result.finishReason, await result.reasoningText]).toEqual([
      "Hello world",
      "stop",
      "lo",
    ]);
  });

  it("goes on with a conversation by referring to stored items", async () => {
    const { model, template } = await connect();
    const { response } = await generateText({ model, prompt: "hi" });
    await generateText({
      model,
      messages: [{ role: "user", content: "hi" }, ...response.messages, { role: "user", content: "more" }],
    });
    expect(template.requests.at(-1)?.messages).toEqual([
      { role: "user", content: "hi" },
      { role: "assistant", content: "Hello world", reasoning_content: "lo" },
      { role: "user", content: "more" },
    ]);
  });

  it("reports a failing stream as an error", async () => {
    const { model, engine } = await connect();
    engine.script = { kind: "accept" };
    const errors: unknown[] = [];
    const onError = ({ error }: { error: unknown }): void => void errors.push(error);
    const reading = streamText({ model, prompt: "hi", maxRetries: 0, onError }).consumeStream();
    await engine.until(() => engine.submits.length > 0);
    await new Promise((resolve) => setImmediate(resolve));
    engine.die();
    await reading;
    expect(errors).toHaveLength(1);
  });
});
