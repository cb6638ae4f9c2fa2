/** The official client, unchanged, against the application on a port. */
import { APIError, InternalServerError, NotFoundError, OpenAI } from "openai";
import { afterEach, describe, expect, it } from "vitest";
import { listenTestApp } from "../support/listen.ts";
import type { TestAppOptions } from "../support/test-app.ts";
import { sayThenStop } from "../support/scripted-engine.ts";
import { EOS } from "../support/tiny-vocabulary.ts";

const closers: (() => Promise<void>)[] = [];

afterEach(async () => {
  for (const close of closers.splice(0)) await close();
});

async function start(options: TestAppOptions = {}) {
  const server = await listenTestApp(options);
  closers.push(() => server.close());
  server.engine.script = sayThenStop("<think>lo</think>Hello world", EOS);
  return {
    ...server,
    client: new OpenAI({ baseURL: `${server.baseURL}/v1`, apiKey: "none", maxRetries: 0 }),
  };
}

const ASK = { model: "tiny", messages: [{ role: "user" as const, content: "hi" }] };

describe("the openai client", () => {
  it("reads a whole chat completion", async () => {
    const { client } = await start();
    const { data, request_id } = await client.chat.completions.create(ASK).withResponse();
    expect(data.choices[0]).toMatchObject({
      finish_reason: "stop",
      message: { role: "assistant", content: "Hello world" },
    });
    expect(data.usage).toMatchObject({ prompt_tokens: 2, completion_tokens: 7, total_tokens: 9 });
    expect(request_id).toMatch(/^req_/);
  });

  it("reads a stream chunk by chunk", async () => {
    const { client } = await start();
    const stream = await client.chat.completions.create({
      ...ASK,
      stream: true,
      stream_options: { include_usage: true },
    });
    let text = "";
    let finish: string | null = null;
    let total = 0;
    for await (const chunk of stream) {
      text += chunk.choices[0]?.delta.content ?? "";
      finish = chunk.choices[0]?.finish_reason ?? finish;
      total = chunk.usage?.total_tokens ?? total;
    }
    expect([text, finish, total]).toEqual(["Hello world", "stop", 9]);
  });

  it("assembles a stream with its helper", async () => {
    const { client } = await start();
    const completion = await client.chat.completions.stream(ASK).finalChatCompletion();
    expect(completion.choices[0]?.message.content).toBe("Hello world");
  });

  it("reads a legacy completion, the model list and one model", async () => {
    const { client } = await start();
    const completion = await client.completions.create({ model: "tiny", prompt: "hi" });
    expect(completion.choices[0]?.text).toBe("<think>lo</think>Hello world");
    const page = await client.models.list();
    expect(page.data.map(({ id }) => id)).toEqual(["org/tiny"]);
    expect((await client.models.retrieve("org/tiny")).id).toBe("org/tiny");
  });

  it("raises its own error classes", async () => {
    const { client, engine } = await start();
    await expect(client.chat.completions.create({ ...ASK, temperature: 9 })).rejects.toMatchObject({
      status: 400,
      code: "decimal_above_max_value",
      param: "temperature",
    });
    await expect(client.chat.completions.create({ ...ASK, model: "x" })).rejects.toBeInstanceOf(
      NotFoundError,
    );
    engine.script = { kind: "fail", code: "queue_full" };
    await expect(client.chat.completions.create(ASK)).rejects.toBeInstanceOf(InternalServerError);
  });

  it("raises an error for a stream that the engine fails", async () => {
    const { client, engine } = await start();
    engine.script = { kind: "accept" };
    const stream = await client.chat.completions.create({ ...ASK, stream: true });
    engine.die();
    await expect(async () => {
      for await (const chunk of stream) expect(chunk.choices).toBeDefined();
    }).rejects.toBeInstanceOf(APIError);
  });
});
