/** Several choices of one prompt: their order, their seeds, their usage, and that they end together. */
import { OpenAI } from "openai";
import { describe, expect, it } from "vitest";
import type { EnginePort, SubmitCommand } from "../../engine/protocol.ts";
import { listenTestApp } from "../support/listen.ts";
import { sayThenStop, ScriptedEngine } from "../support/scripted-engine.ts";
import { createTestApp, MODEL_ID } from "../support/test-app.ts";
import { EOS, idsOf } from "../support/tiny-vocabulary.ts";

interface Chunk {
  readonly choices: readonly {
    readonly index: number;
    readonly delta: { readonly role?: string; readonly content?: string };
    readonly finish_reason: string | null;
  }[];
  readonly usage?: { readonly prompt_tokens: number; readonly completion_tokens: number } | null;
}

const chunksOf = (text: string): Chunk[] =>
  [...text.matchAll(/^data: (\{.*\})$/gm)].map((match) => JSON.parse(match[1] ?? "") as Chunk);

/** What each chunk is, in order: which choice, and its role, text or finish. */
const story = (text: string): string[] =>
  chunksOf(text).flatMap(({ choices }) =>
    choices.map(
      ({ index, delta, finish_reason }) => `${index} ${finish_reason ?? delta.role ?? delta.content}`,
    ),
  );

async function submitted(engine: ScriptedEngine, count: number): Promise<SubmitCommand[]> {
  await engine.until(() => engine.submits.length === count);
  return engine.submits;
}

const END = { tokens: [EOS], finish: { reason: "stop", stopToken: EOS } } as const;
const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

describe("more choices than can ever be open at a time", () => {
  it.each([
    ["/v1/chat/completions", { messages: [{ role: "user", content: "hi" }], n: 4 }, "n"],
    ["/v1/completions", { prompt: "hi", n: 4 }, "n"],
    ["/v1/completions", { prompt: "hi", best_of: 4 }, "best_of"],
    ["/v1/completions", { prompt: ["a", "b", "c", "d"] }, "prompt"],
    ["/completion", { prompt: "hi", n_cmpl: 4 }, "n_cmpl"],
    ["/completion", { prompt: ["a", "b", "c", "d"] }, "prompt"],
  ])("are a 400 of %s for %j", async (path, fields, param) => {
    const { engine, post } = createTestApp();
    engine.script = { kind: "fail", code: "too_many_choices", details: { choices: 4, most: 3 } };
    const response = await post(path, { model: MODEL_ID, ...fields });
    expect(response.status).toBe(400);
    const message = `Invalid '${param}': 4 choices are asked for, and at most 3 can be open at a time for this API key.`;
    expect(await response.json()).toMatchObject({ error: { param, code: "invalid_value", message } });
    const repeats = param !== "prompt";
    expect(engine.submits.map(({ choice }) => choice)).toEqual(
      [false, repeats, repeats, repeats].map((repeatsPrompt) => ({ of: 4, repeatsPrompt })),
    );
  });
});

describe("what the tokenizer says of an answer", () => {
  const tokenizes = (engine: ScriptedEngine): number =>
    engine.commands.filter(({ type }) => type === "tokenize").length;

  it("is asked once for all bad words and choices, and once for each prompt that is cut", async () => {
    const { engine, post } = createTestApp();
    engine.script = sayThenStop("Hel", EOS);
    const fields = { bad_words: ["cat", " dog", "\n"], truncate_prompt_tokens: 1, n: 3 };
    const answer = await post("/v1/completions", { model: MODEL_ID, prompt: ["one", "two"], ...fields });
    expect(answer.status).toBe(200);
    expect(tokenizes(engine)).toBe(3);
    expect(engine.submits).toHaveLength(6);
    for (const [i, { prompt, addBos, params }] of engine.submits.entries()) {
      expect(prompt).toEqual([{ tokens: idsOf(i < 3 ? "one" : "two").slice(-1) }]);
      expect(addBos).toBe(false);
      expect(params.sampling.badSequences).toEqual(
        ["cat", " cat", "dog", " dog", "\n"].map((text) => idsOf(text)),
      );
    }
  });

  it("is no longer waited for when the client has gone", async () => {
    const engine = new ScriptedEngine();
    const deaf: EnginePort = {
      exited: engine.exited,
      onEvent: (receiver) => engine.onEvent(receiver),
      kill: () => engine.kill(),
      send: (command) => (command.type === "tokenize" ? client.abort() : engine.send(command)),
    };
    const client = new AbortController();
    const { post } = createTestApp({ port: deaf });
    const body = { model: MODEL_ID, prompt: "one", bad_words: ["cat"] };
    expect((await post("/v1/completions", body, { signal: client.signal })).status).toBe(499);
    expect(engine.submits).toEqual([]);
  });
});

describe("n choices", () => {
  it("are n requests, submitted at once, of which the first is what it is alone", async () => {
    const { engine, chat } = createTestApp();
    engine.script = sayThenStop("Hel", EOS);
    await chat({ n: 3, seed: 2 ** 32 - 2, temperature: 0.5 });
    await chat({ seed: 2 ** 32 - 2, temperature: 0.5 });
    const [first, second, third, alone] = engine.submits;
    expect(engine.submits.map(({ id }) => id)).toEqual([
      "chatcmpl-2",
      "chatcmpl-2-1",
      "chatcmpl-2-2",
      "chatcmpl-4",
    ]);
    expect(engine.submits.map(({ params }) => params.sampling.seed)).toEqual([
      2 ** 32 - 2,
      2 ** 32 - 1,
      0,
      2 ** 32 - 2,
    ]);
    expect(alone).toEqual({ ...first, id: "chatcmpl-4", choice: undefined });
    expect(second?.prompt).toEqual(first?.prompt);
    expect(third?.params.sampling.temperature).toBe(0.5);
  });

  it("are one body with ascending indices, whose usage counts the prompt once", async () => {
    const { engine, chat } = createTestApp();
    const answer = chat({ n: 2, logprobs: true });
    const [one, two] = await submitted(engine, 2);
    if (one === undefined || two === undefined) throw new Error("nothing was submitted");
    engine.accept(one);
    engine.accept(two);
    engine.step(two, { tokens: idsOf("lo"), finish: { reason: "length", stopToken: undefined } }, true);
    engine.step(one, { tokens: idsOf("Hel") }, true);
    engine.step(one, END, false);
    const body = (await (await answer).json()) as OpenAI.ChatCompletion;
    expect(body.choices).toMatchObject([
      { index: 0, message: { content: "Hel" }, finish_reason: "stop", logprobs: { content: [] } },
      { index: 1, message: { content: "lo" }, finish_reason: "length" },
    ]);
    expect(body.usage).toMatchObject({
      prompt_tokens: 2,
      completion_tokens: 3,
      total_tokens: 5,
      prompt_tokens_details: { cached_tokens: 1 },
    });
  });

  it("stream as their tokens come, but none begins before the ones with lower indices", async () => {
    const { engine, chat } = createTestApp();
    const answer = chat({ n: 3, stream: true, stream_options: { include_usage: true } });
    const [one, two, three] = await submitted(engine, 3);
    if (one === undefined || two === undefined || three === undefined)
      throw new Error("too few were submitted");
    for (const submit of [one, two, three]) engine.accept(submit);
    const response = await answer;
    const steps: Parameters<ScriptedEngine["step"]>[] = [
      [three, { tokens: idsOf("END") }, true],
      [two, { tokens: idsOf("lo") }, true],
      [two, END, false],
      [one, { tokens: idsOf("Hel") }, true],
      [three, END, false],
      [one, { tokens: idsOf("lo") }, false],
      [one, END, false],
    ];
    for (const step of steps) {
      engine.step(...step);
      await settled();
    }
    const text = await response.text();
    expect(story(text)).toEqual([
      "0 assistant",
      "0 Hel",
      "1 assistant",
      "1 lo",
      "1 stop",
      "2 assistant",
      "2 END",
      "2 stop",
      "0 lo",
      "0 stop",
    ]);
    expect(chunksOf(text).at(-1)).toMatchObject({
      choices: [],
      usage: { prompt_tokens: 2, completion_tokens: 7, total_tokens: 9 },
    });
    expect(text.match(/"usage":\{/g)).toHaveLength(1);
    expect(text.endsWith("data: [DONE]\n\n")).toBe(true);
  });

  it("count up over all of them with continuous_usage_stats", async () => {
    const { engine, chat } = createTestApp();
    engine.script = sayThenStop("Hel", EOS);
    const text = await (
      await chat({ n: 2, stream: true, stream_options: { continuous_usage_stats: true } })
    ).text();
    const counts = chunksOf(text).map(({ usage }) => usage?.completion_tokens ?? -1);
    expect(counts).toEqual([...counts].toSorted((a, b) => a - b));
    expect([counts[0], counts.at(-1)]).toEqual([0, 4]);
    expect(new Set(chunksOf(text).map(({ usage }) => usage?.prompt_tokens))).toEqual(new Set([2]));
  });

  it("are one answer to the log", async () => {
    const { engine, chat, log } = createTestApp();
    engine.script = sayThenStop("Hel", EOS);
    await (await chat({ n: 2, stream: true })).text();
    expect(log.at(-1)?.fields).toMatchObject({
      outcome: "ok",
      promptTokens: 2,
      outputTokens: 4,
      cachedTokens: 1,
      finish: "stop",
    });
  });

  it.each([true, false])("are refused as one when one is (stream: %s)", async (stream) => {
    const { engine, chat } = createTestApp();
    const answer = chat({ n: 3, stream });
    const [one, two, three] = await submitted(engine, 3);
    if (one === undefined || two === undefined || three === undefined)
      throw new Error("too few were submitted");
    engine.accept(one);
    engine.accept(two);
    engine.fail(three, "queue_full");
    expect((await answer).status).toBe(503);
    expect(engine.cancels).toEqual(["chatcmpl-2", "chatcmpl-2-1"]);
  });

  it("fail as one when one does, and the others are cancelled", async () => {
    const { engine, chat, log } = createTestApp();
    engine.script = { kind: "accept" };
    const response = await chat({ n: 2, stream: true });
    const [one, two] = engine.submits;
    if (one === undefined || two === undefined) throw new Error("too few were submitted");
    engine.step(one, { tokens: idsOf("Hel") }, true);
    engine.fail(two, "decode_failed");
    const text = await response.text();
    expect(text).toContain('"content":"Hel"');
    expect(text).toContain('"code":"engine_error"');
    expect(text).not.toContain('finish_reason":"');
    expect(engine.cancels).toEqual(["chatcmpl-2"]);
    expect(log.at(-1)?.fields).toMatchObject({ outcome: "server_error" });
  });

  it("fail as one also in a whole body", async () => {
    const { engine, chat } = createTestApp();
    engine.script = { kind: "accept" };
    const answer = chat({ n: 2 });
    const [one, two] = await submitted(engine, 2);
    if (one === undefined || two === undefined) throw new Error("too few were submitted");
    await settled();
    engine.step(two, { tokens: idsOf("Hel") }, true);
    engine.fail(one, "decode_failed");
    expect((await answer).status).toBe(500);
    expect(engine.cancels).toEqual(["chatcmpl-2-1"]);
  });

  it.each([true, false])("are cancelled together when the client leaves (stream: %s)", async (stream) => {
    const { engine, chat, loaded } = createTestApp();
    const gone = new AbortController();
    const answer = chat({ n: 3, stream }, { signal: gone.signal });
    const [one] = await submitted(engine, 3);
    if (one === undefined) throw new Error("nothing was submitted");
    for (const submit of engine.submits) engine.accept(submit);
    engine.step(one, { tokens: idsOf("Hel") }, true);
    await settled();
    gone.abort();
    expect(await (await answer).text()).not.toContain('finish_reason":"');
    expect(engine.cancels.toSorted()).toEqual(["chatcmpl-2", "chatcmpl-2-1", "chatcmpl-2-2"]);
    expect(loaded.engine.openRequests).toBe(0);
  });

  it("are cancelled together when the reader of the stream cancels", async () => {
    const { engine, chat } = createTestApp();
    engine.script = { kind: "accept" };
    const response = await chat({ n: 2, stream: true });
    await response.body?.cancel();
    await engine.until(() => engine.cancels.length >= 2);
    expect(engine.cancels.toSorted()).toEqual(["chatcmpl-2", "chatcmpl-2-1"]);
  });

  it("end each at its own stop string", async () => {
    const { engine, chat } = createTestApp();
    engine.script = { kind: "answer", steps: idsOf("HelENDlo").map((token) => ({ tokens: [token] })) };
    const body = (await (await chat({ n: 2, stop: "END" })).json()) as OpenAI.ChatCompletion;
    expect(body.choices.map(({ message }) => message.content)).toEqual(["Hel", "Hel"]);
    expect(engine.cancels.toSorted()).toEqual(["chatcmpl-2", "chatcmpl-2-1"]);
  });
});

describe("the openai client", () => {
  it("assembles streamed choices with its helper", async () => {
    const server = await listenTestApp();
    server.engine.script = sayThenStop("Hello", EOS);
    const client = new OpenAI({ baseURL: `${server.baseURL}/v1`, apiKey: "none", maxRetries: 0 });
    const completion = await client.chat.completions
      .stream({ model: MODEL_ID, messages: [{ role: "user", content: "hi" }], n: 3 })
      .finalChatCompletion();
    expect(completion.choices.map(({ index, message }) => [index, message.content])).toEqual([
      [0, "Hello"],
      [1, "Hello"],
      [2, "Hello"],
    ]);
    await server.close();
  });
});
