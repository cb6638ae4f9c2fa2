/** From the request to the answer through the real scheduler, on a model whose every output can be computed. */
import { describe, expect, it } from "vitest";
import { createEngine } from "../../engine/engine.ts";
import { FakeBackend, fakeOutput } from "../../engine/fake/backend.ts";
import { hostEngine } from "../../engine/process/in-process.ts";
import { parseApiKeys } from "../../src/config/api-keys.ts";
import type { AppConfig } from "../../src/deps.ts";
import { createTestApp } from "../support/test-app.ts";

const LOAD = {
  modelPath: "none",
  contextTokens: undefined,
  slots: 4,
  batchTokens: undefined,
  threads: undefined,
  gpu: "off",
  gpuLayers: undefined,
  flashAttention: "auto",
  kvCacheType: "f16",
  prefillChunk: undefined,
  itlTargetMs: undefined,
  maxQueued: 2,
  deterministic: false,
  speculate: true,
} as const;

/** @param onRun Awaited before each call of the model. */
async function start(onRun: () => Promise<void> | void = () => {}, config: Partial<AppConfig> = {}) {
  const backend = new FakeBackend({ onRun });
  const port = hostEngine((emit) => createEngine(async () => backend, emit));
  const test = createTestApp({ port, facts: { ...backend.facts, loadMs: 0 }, config });
  await test.loaded.engine.load(LOAD);
  return test;
}

/** What the model says to a prompt of plain bytes. */
function truth(prompt: string, count: number): string {
  return Buffer.from(fakeOutput([...Buffer.from(prompt)], count)).toString();
}

const PING = [{ role: "user", content: "ping" }];

/** The texts of a chat stream's chunks. */
function contentOf(stream: string): string[] {
  return Array.from(stream.matchAll(/"delta":\{"content":"([^"]*)"/g), ([, text]) => text ?? "");
}

const complete = (prompt: string, fields: object = {}): object => ({
  model: "tiny",
  prompt,
  temperature: 0,
  max_tokens: 8,
  add_special_tokens: false,
  ...fields,
});

describe("the whole path", () => {
  it("answers requests that run together as if each were alone", async () => {
    const { post, loaded } = await start();
    const prompts = ["one", "two and more", "three, which is a longer prompt than the others"];
    const answers = await Promise.all(
      prompts.map(async (prompt) => (await post("/v1/completions", complete(prompt))).json()),
    );
    expect(answers).toMatchObject(
      prompts.map((prompt) => ({
        choices: [{ text: truth(prompt, 8), finish_reason: "length" }],
        usage: { prompt_tokens: prompt.length, completion_tokens: 8 },
      })),
    );
    await loaded.engine.stop();
  });

  it("streams the same text, and ends it at a stop string with the slot free", async () => {
    const { post, loaded } = await start();
    const text = truth("stream", 24);
    const stop = text.slice(9, 12);
    const response = await post(
      "/v1/completions",
      complete("stream", { stream: true, stop, max_tokens: 24 }),
    );
    const pieces = [...(await response.text()).matchAll(/"text":"([^"]*)"/g)].map((match) => match[1]);
    expect(pieces.join("")).toBe(text.slice(0, text.indexOf(stop)));
    expect(loaded.engine.openRequests).toBe(0);
    await loaded.engine.stop();
  });

  it("gives what a client predicted several tokens a step, a text for each, and something else all the same", async () => {
    const { chat, post, loaded } = await start();
    const fields = { max_tokens: 40, temperature: 0, stream: true, stream_options: { include_usage: true } };
    const plain = await (
      await post("/v1/chat/completions", { messages: PING, model: "tiny", ...fields })
    ).text();
    const text = contentOf(plain).join("");
    expect(text).toHaveLength(40);
    for (const [content, right] of [
      [text, true],
      [[{ type: "text", text: text.toUpperCase() }], false],
    ] as const) {
      const answer = await (
        await chat({ messages: PING, ...fields, prediction: { type: "content", content } })
      ).text();
      expect(contentOf(answer)).toEqual(text.split(""));
      const accepted = Number(/"accepted_prediction_tokens":(\d+)/.exec(answer)?.[1]);
      const rejected = Number(/"rejected_prediction_tokens":(\d+)/.exec(answer)?.[1]);
      // The first two letters are needed to find the place; the others come three and more a step.
      if (right) expect(accepted).toBeGreaterThan(20);
      else expect([accepted, rejected > 0]).toEqual([0, true]);
    }
    await loaded.engine.stop();
  });

  it("counts in the timings, not as predictions of the client, what a draft model guessed, of a text that is the same without it", async () => {
    const sizes = { contextTokens: 512, batchTokens: 64, itlTargetMs: 1e6 };
    // So slow that whatever the draft model really takes is nothing to it.
    const backend = new FakeBackend({ ...sizes, slowness: 1000 });
    const draft = new FakeBackend({ ...sizes, mistakes: 0.2 });
    const port = hostEngine((emit) =>
      createEngine(({ modelPath }) => Promise.resolve(modelPath === "draft.gguf" ? draft : backend), emit),
    );
    const { app, post, loaded } = createTestApp({ port, facts: { ...backend.facts, loadMs: 0 } });
    await loaded.engine.load({ ...LOAD, draftModelPath: "draft.gguf" });
    const answer = await (await post("/v1/completions", complete("draft", { max_tokens: 200 }))).json();
    expect(answer).toMatchObject({
      choices: [{ text: truth("draft", 200) }],
      usage: { completion_tokens: 200 },
    });
    expect(answer).toMatchObject({
      usage: {
        completion_tokens_details: { accepted_prediction_tokens: 0, rejected_prediction_tokens: 0 },
      },
    });
    const { draft_n: drafted, draft_n_accepted: accepted } = (
      answer as { timings: { draft_n: number; draft_n_accepted: number } }
    ).timings;
    expect(accepted).toBeGreaterThan(100);
    expect(drafted).toBeGreaterThan(accepted);
    expect(await (await app.request("/slots")).json()).toMatchObject([{ speculative: true }, {}, {}, {}]);
    await loaded.engine.stop();
  });

  it("tells a prompt that is too long in OpenAI's words, with the numbers", async () => {
    const { post, loaded } = await start();
    const response = await post("/v1/completions", complete("x".repeat(200)));
    expect(response.status).toBe(400);
    expect(await response.json()).toMatchObject({
      error: { code: "context_length_exceeded", param: "prompt", n_prompt_tokens: 200, n_ctx: 128 },
    });
    await loaded.engine.stop();
  });

  it("says of an output that the context cut it off, but not where its limit did", async () => {
    const { post, loaded } = await start();
    const answer = async (fields: object): Promise<Record<string, unknown>> => {
      const body = { prompt: "x".repeat(100), temperature: 0, ignore_eos: true, ...fields };
      return (await (await post("/completion", body)).json()) as Record<string, unknown>;
    };
    const whole = await answer({});
    expect(whole).toMatchObject({ truncated: true, stop_type: "limit" });
    expect(Number(whole["tokens_evaluated"]) + Number(whole["tokens_predicted"])).toBe(128);
    expect(await answer({ n_predict: 5 })).toMatchObject({ truncated: false, stop_type: "limit" });
    await loaded.engine.stop();
  });

  it("answers 503 with Retry-After when the queue is full, and everybody else in full", async () => {
    let open = (): void => {};
    const gate = new Promise<void>((resolve) => (open = resolve));
    let loading = true;
    const { post, loaded } = await start(() => (loading ? undefined : gate));
    loading = false;
    const responses = await Promise.all(
      Array.from({ length: 9 }, (_, i) => post("/v1/completions", complete(`prompt ${i}`, { stream: true }))),
    );
    open();
    const texts = await Promise.all(responses.map((response) => response.text()));
    const refused = responses.filter(({ status }) => status === 503);
    expect(refused.length).toBeGreaterThan(0);
    for (const { headers } of refused) {
      const ms = Number(headers.get("retry-after-ms"));
      expect(ms).toBeGreaterThanOrEqual(1);
      expect(headers.get("retry-after")).toBe(String(Math.ceil(ms / 1000)));
    }
    expect(texts.filter((text) => text.endsWith("data: [DONE]\n\n"))).toHaveLength(9 - refused.length);
    await loaded.engine.stop();
  });

  it("row 117: finds a prompt computed before for the same key and salt alone", async () => {
    const apiKeys = parseApiKeys(["ann=a", "bob=b"]);
    const prompt = "a long secret that two people happen to know, word for word, to its end";
    const reused = async (
      { post }: Awaited<ReturnType<typeof start>>,
      secret: string,
      salt?: string,
    ): Promise<boolean> => {
      const headers = { authorization: `Bearer ${secret}` };
      const body = complete(prompt, salt === undefined ? {} : { cache_salt: salt });
      const answer = (await (await post("/v1/completions", body, { headers })).json()) as {
        usage: { prompt_tokens_details: { cached_tokens: number } };
      };
      return answer.usage.prompt_tokens_details.cached_tokens > 0;
    };
    const isolated = await start(undefined, { apiKeys, isolateKeys: true });
    expect(await reused(isolated, "a")).toBe(false);
    expect(await reused(isolated, "b")).toBe(false);
    expect(await reused(isolated, "b")).toBe(true);
    expect(await reused(isolated, "a", "s")).toBe(false);
    expect(await reused(isolated, "b", "s")).toBe(false);
    expect(await reused(isolated, "b", "s")).toBe(true);
    expect(await reused(isolated, "b", 's",null]')).toBe(false);
    await isolated.loaded.engine.stop();
    const shared = await start(undefined, { apiKeys, isolateKeys: false });
    expect(await reused(shared, "a")).toBe(false);
    expect(await reused(shared, "b")).toBe(true);
    expect(await reused(shared, "a", "s")).toBe(false);
    expect(await reused(shared, "b", "s")).toBe(true);
    await shared.loaded.engine.stop();
  });
});
