/** What a client is told when it cannot be served, in which shape, and how often an SDK tries again. */
import OpenAI, { BadRequestError, NotFoundError } from "openai";
import { describe, expect, test } from "vitest";
import { listenTestApp } from "../support/listen.ts";
import { sayThenStop } from "../support/scripted-engine.ts";
import { EOS } from "../support/tiny-vocabulary.ts";
import { asking, baseURL, bodyOf, MODEL, server } from "./harness.ts";
import { CONTEXT } from "./server-setup.ts";

interface ErrorJson {
  readonly error: { readonly message: string; readonly [key: string]: unknown };
}

const HELLO = asking("Hello");

/** Counts the tries of a client that retries as by default. */
function countingClient(base: string) {
  const tries: string[] = [];
  const client = new OpenAI({
    baseURL: base,
    apiKey: "none",
    fetch: (input, init) => {
      tries.push(input instanceof Request ? input.url : String(input));
      return fetch(input, init);
    },
  });
  return { client, tries };
}

describe("a prompt that does not fit", () => {
  test("T29 is a 400 with both numbers before any stream, never a shorter prompt", async () => {
    for (const stream of [true, false]) {
      const chat = { model: MODEL, ...asking("hello ".repeat(CONTEXT + 100)), stream };
      const { error } = await bodyOf<ErrorJson>(await server.post("/v1/chat/completions", chat), 400);
      expect(error).toMatchObject({ type: "invalid_request_error", param: "messages" });
      expect(error).toMatchObject({ code: "context_length_exceeded", n_ctx: CONTEXT });
      expect(error.message).toMatch(
        new RegExp(
          `^This model's maximum context length is ${CONTEXT} tokens\\. However, your messages resulted in \\d+ tokens\\. ` +
            "Please reduce the length of the messages\\.$",
        ),
      );
      const prompt = Array.from({ length: CONTEXT + 1 }, () => 300);
      const legacy = await server.post("/v1/completions", { model: MODEL, prompt, stream });
      expect(await bodyOf<ErrorJson>(legacy, 400)).toMatchObject({
        error: { code: "context_length_exceeded", param: "prompt", n_prompt_tokens: CONTEXT + 1 },
      });
    }
  });
});

describe("a request that leaves nothing to generate", () => {
  test.each([true, false])("is a 400 before any stream: stream %s", async (stream) => {
    const tokenOf = async (content: string): Promise<number[]> =>
      (await bodyOf<{ tokens: number[] }>(await server.post("/tokenize", { content }))).tokens;
    const tokens = [...(await tokenOf("y")), ...(await tokenOf("n"))];
    const bans = Object.fromEntries(tokens.map((token) => [token, -100]));
    const fields = { model: MODEL, ...HELLO, stream, grammar: 'root ::= "y" | "n"' };
    const refused = await server.post("/v1/chat/completions", { ...fields, logit_bias: bans });
    expect(await bodyOf<ErrorJson>(refused, 400)).toMatchObject({
      error: { code: "invalid_value", type: "invalid_request_error", param: "logit_bias" },
    });
    const fine = await server.post("/v1/chat/completions", {
      ...fields,
      logit_bias: { [tokens[0] ?? 0]: -100 },
    });
    expect([fine.status, await fine.text()]).toEqual([200, expect.stringContaining('"content":"n"')]);
  });
});

describe("every error", () => {
  const json = { method: "POST", headers: { "content-type": "application/json" } };
  const chat = (fields: object): RequestInit => ({
    ...json,
    body: JSON.stringify({ model: MODEL, ...HELLO, ...fields }),
  });

  const PATH = "/v1/chat/completions";
  const paths: [string, string, RequestInit, number][] = [
    ["no JSON", PATH, { ...json, body: "{" }, 400],
    ["no object", PATH, { ...json, body: "[]" }, 400],
    ["a wrong type", PATH, chat({ temperature: "hot" }), 400],
    ["a wrong value", PATH, chat({ top_p: 2 }), 400],
    ["no messages", PATH, chat({ messages: undefined }), 400],
    ["empty messages", PATH, chat({ messages: [] }), 400],
    ["an unknown role", PATH, chat({ messages: [{ role: "judge", content: "hi" }] }), 400],
    ["an image", PATH, chat({ messages: [{ role: "user", content: [{ type: "image_url" }] }] }), 400],
    ["top_logprobs alone", PATH, chat({ top_logprobs: 2 }), 400],
    ["audio", PATH, chat({ modalities: ["text", "audio"] }), 400],
    ["an unknown model", PATH, chat({ model: "nosuch" }), 404],
    ["an unknown model's page", "/v1/models/nosuch", {}, 404],
    ["a wrong path", "/v1/nosuch", json, 404],
    ["a wrong method", PATH, {}, 405],
    ["no prompt", "/v1/completions", { ...json, body: JSON.stringify({ model: MODEL }) }, 400],
  ];

  test.each(paths)(
    "T65 has four keys and a code that is a string or null: %s",
    async (_name, path, init, status) => {
      const { error } = await bodyOf<ErrorJson>(await fetch(server.url + path, init), status);
      expect(Object.keys(error).slice(0, 4)).toEqual(["message", "type", "param", "code"]);
      expect(typeof error.message).toBe("string");
      expect(error["type"]).toBe("invalid_request_error");
      for (const key of ["param", "code"]) expect(["string", "object"]).toContain(typeof error[key]);
      expect(typeof error["code"] === "string" || error["code"] === null).toBe(true);
    },
  );
});

describe("what an SDK makes of it", () => {
  test("T64 an unknown model is NotFoundError with model_not_found", async () => {
    const { client, tries } = countingClient(baseURL);
    const error = await client.chat.completions
      .create({ model: "nosuch", ...HELLO })
      .catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(NotFoundError);
    expect(error).toMatchObject({ code: "model_not_found", status: 404 });
    expect(tries).toHaveLength(1);
  });

  test("T66 an unsupported feature is a 400 that is tried once", async () => {
    const { client, tries } = countingClient(baseURL);
    const asks: Partial<OpenAI.ChatCompletionCreateParamsNonStreaming>[] = [
      { modalities: ["text", "audio"], audio: { format: "wav", voice: "alloy" } },
      { web_search_options: {} },
      { messages: [{ role: "user", content: [{ type: "image_url", image_url: { url: "data:," } }] }] },
    ];
    for (const [i, ask] of asks.entries()) {
      const error = await client.chat.completions
        .create({ model: MODEL, ...HELLO, ...ask })
        .catch((thrown: unknown) => thrown);
      expect(error).toBeInstanceOf(BadRequestError);
      expect(error).toMatchObject({
        param: expect.stringMatching(/^(modalities|audio|web_search|messages\[0\])/),
      });
      expect(tries).toHaveLength(i + 1);
    }
  });

  test("T67 a full queue is a 503 with retry-after, after which the SDK tries again and is served", async () => {
    const app = await listenTestApp();
    app.engine.script = { kind: "fail", code: "queue_full" };
    const response = await app.chat();
    expect(response.status).toBe(503);
    expect(Number(response.headers.get("retry-after"))).toBeGreaterThan(0);
    const tries: number[] = [];
    const client = new OpenAI({
      baseURL: `${app.baseURL}/v1`,
      apiKey: "none",
      fetch: async (input, init) => {
        const answer = await fetch(input, init);
        tries.push(answer.status);
        app.engine.script = sayThenStop("Hello", EOS);
        // The same answer, but the wait that it asks for is short.
        const headers = new Headers(answer.headers);
        if (headers.has("retry-after")) headers.set("retry-after-ms", "1");
        return new Response(answer.body, { status: answer.status, headers });
      },
    });
    const { choices } = await client.chat.completions.create({ model: "tiny", messages: HELLO.messages });
    expect(choices[0]?.message.content).toBe("Hello");
    expect(tries).toEqual([503, 200]);
    await app.close();
  });
});
