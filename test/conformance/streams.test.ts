/** How streams begin, go on and end on the wire, byte by byte. */
import { connect } from "node:net";
import { once } from "node:events";
import { describe, expect, test } from "vitest";
import { readSse } from "../../src/conformance/sse-grammar.ts";
import { listenTestApp } from "../support/listen.ts";
import { idsOf, EOS } from "../support/tiny-vocabulary.ts";
import { asking, bodyOf, chat, chatStream, completionStream, found, MODEL, said, server } from "./harness.ts";
import type { ChatChunk } from "./harness.ts";
import { readAsVllmBench } from "./vllm-bench-parser.ts";

const FRANCE = asking("What is the capital of France?");
const ANSWER = "The capital of France is Paris.";

const usageKeys = (chunks: readonly ChatChunk[]): unknown[] =>
  chunks.map((chunk) => ("usage" in chunk ? chunk.usage : "absent"));

describe("the end of a stream", () => {
  test("T30 usage comes once, last, without choices, and only when asked for", async () => {
    const { chunks } = await chatStream({ ...FRANCE, stream_options: { include_usage: true } });
    const last = chunks.at(-1);
    expect(last?.choices).toEqual([]);
    expect(last?.usage).toMatchObject(
      found(
        { prompt_tokens: 15, completion_tokens: 8, total_tokens: 23 },
        { total_tokens: expect.any(Number) },
      ) as object,
    );
    expect(new Set(usageKeys(chunks.slice(0, -1)))).toEqual(new Set([null]));
    expect(new Set(usageKeys((await chatStream(FRANCE)).chunks))).toEqual(new Set(["absent"]));
  });

  test("T31 [DONE] is the last event, and the body ends in the same piece", async () => {
    const body = JSON.stringify({ model: MODEL, ...FRANCE, temperature: 0, stream: true });
    const socket = connect(Number(new URL(server.url).port), "127.0.0.1");
    const pieces: string[] = [];
    socket.on("data", (data) => pieces.push(String(data)));
    socket.write(
      "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n" +
        `content-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n${body}`,
    );
    await once(socket, "close");
    const all = pieces.join("");
    expect(all).toMatch(/^HTTP\/1\.1 200 /);
    // [DONE], then nothing but the end of the chunked body.
    expect(all).toMatch(/data: \[DONE\]\n\n\r\n0\r\n\r\n$/);
  });

  test("T68 every choice of every stream has a finish reason, and it is one of OpenAI's", async () => {
    for (const fields of [{}, { max_tokens: 2 }, { stop: ["of"] }, { max_tokens: 1, ignore_eos: true }]) {
      const { finish, chunks } = await chatStream({ ...FRANCE, ...fields });
      expect(["stop", "length"]).toContain(finish);
      const finishes = chunks.flatMap(({ choices }) => choices.map((choice) => choice.finish_reason));
      expect(finishes.filter((reason) => reason !== null)).toHaveLength(1);
      const legacy = await completionStream({ prompt: "1, 2, 3,", max_tokens: 5, ...fields });
      expect(["stop", "length"]).toContain(legacy.chunks.at(-1)?.choices[0]?.finish_reason);
    }
  });

  test("T32 an invalid request with stream is a plain 400", async () => {
    for (const fields of [{ temperature: 9 }, { messages: [] }, { stop: 3 }, { max_tokens: "many" }]) {
      const body = { model: MODEL, ...FRANCE, stream: true, ...fields };
      const error = await bodyOf(await server.post("/v1/chat/completions", body), 400);
      expect(error).toMatchObject({ error: { type: "invalid_request_error" } });
    }
  });
});

describe("the frames of a stream", () => {
  test("T43 there are data lines only: no id, no retry, no empty data, no key named error", async () => {
    const streams = [
      (await chatStream({ ...FRANCE, logprobs: true, top_logprobs: 2 })).text,
      (await chatStream({ ...FRANCE, stream_options: { include_usage: true }, return_token_ids: true })).text,
      (await completionStream({ prompt: "1, 2, 3,", logprobs: 2 })).text,
      (await chatStream({ ...FRANCE, chat_template_kwargs: { enable_thinking: true } })).text,
    ];
    for (const text of streams) {
      expect(text.match(/^(?!data: )./gm)).toBeNull();
      expect(text).not.toContain('"error":');
    }
  });

  test("a text stream is role, text, finish, usage, [DONE], key by key", async () => {
    const { text } = await chatStream({ ...FRANCE, max_tokens: 2, stream_options: { include_usage: true } });
    const pinned = text
      .replaceAll(/"id":"chatcmpl-\w{20,}"/g, '"id":ID')
      .replaceAll(/"created":1\d{9},/g, '"created":TIME,')
      .replaceAll(/"system_fingerprint":"fp_\w{10}"/g, '"system_fingerprint":FP')
      .replaceAll(/"cached_tokens":\d+/g, '"cached_tokens":N')
      .replaceAll(/"timings":\{[^}]*\}/g, '"timings":T')
      .replaceAll(/"(prompt|total)_tokens":\d+/g, '"$1_tokens":N');
    const [first, second] = (await chatStream({ ...FRANCE, max_tokens: 2 })).chunks
      .map(({ choices }) => choices[0]?.delta.content)
      .filter((content) => content !== undefined && content !== null && content !== "");
    expect([first, second]).toEqual([said("The"), said(" capital")]);
    const head =
      '"id":ID,"object":"chat.completion.chunk","created":TIME,"model":' +
      `"${MODEL}","system_fingerprint":FP`;
    const delta = (json: string): string =>
      `data: {${head},"choices":[{"index":0,"delta":${json},"logprobs":null,"finish_reason":null}],"usage":null}\n\n`;
    expect(pinned).toBe(
      delta('{"role":"assistant","content":"","refusal":null}') +
        delta(`{"content":${JSON.stringify(first)}}`) +
        delta(`{"content":${JSON.stringify(second)}}`) +
        `data: {${head},"choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"length","stop_reason":null}],"usage":null,"timings":T}\n\n` +
        `data: {${head},"choices":[],"usage":{"prompt_tokens":N,"completion_tokens":2,"total_tokens":N,"prompt_tokens_details":{"cached_tokens":N,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":0,"audio_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}}\n\n` +
        "data: [DONE]\n\n",
    );
  });

  test("T41 a benchmark that parses frame by frame sees every token and the usage", async () => {
    const fields = { ...FRANCE, stream_options: { include_usage: true } };
    const { text } = await chatStream(fields);
    const frames = text.match(/[^]*?\n\n/g) ?? [];
    const numbers = found({ chunks: 9, completionTokens: 8 }, {}) as object;
    expect(readAsVllmBench(frames)).toMatchObject({ text: said(ANSWER), ...numbers });
  });
});

describe("keep-alive", () => {
  /** A stream whose engine stays silent until the first comments have come. */
  async function slowStream() {
    const app = await listenTestApp({ config: { sseKeepAliveSeconds: 0.005 } });
    app.engine.script = { kind: "accept" };
    const response = await fetch(`${app.baseURL}/v1/chat/completions`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ model: "tiny", messages: FRANCE.messages, stream: true }),
    });
    const [submit] = app.engine.submits;
    if (submit === undefined || response.body === null) throw new Error("nothing was submitted");
    const decoder = new TextDecoder();
    let text = "";
    let answered = false;
    for await (const bytes of response.body) {
      text += decoder.decode(bytes, { stream: true });
      if (answered || !text.startsWith(": keep-alive\n\n: keep-alive\n\n")) continue;
      answered = true;
      app.engine.step(submit, { tokens: idsOf("Hel") }, true);
      app.engine.step(submit, { tokens: idsOf("lo") }, false);
      app.engine.step(submit, { tokens: [EOS], finish: { reason: "stop", stopToken: EOS } }, false);
    }
    await app.close();
    return text;
  }

  test("T42 comments come before the first token only, and a quick answer has none", async () => {
    const { comments, problems } = readSse(await slowStream());
    expect(comments).toBeGreaterThanOrEqual(2);
    expect(problems).toEqual([]);
    expect((await chatStream(FRANCE)).text).not.toMatch(/^:/m);
  });

  test("T44 a client that waits long for the first token is kept by comments and gets the whole answer", async () => {
    const text = await slowStream();
    const { events } = readSse(text);
    const content = events
      .slice(0, -1)
      .map(({ data }) => (JSON.parse(data) as ChatChunk).choices[0]?.delta.content ?? "");
    expect(content.join("")).toBe("Hello");
    expect(events.at(-1)?.data).toBe("[DONE]");
  });
});

test("a stream and a whole answer are the same answer", async () => {
  const whole = await chat(FRANCE);
  expect(whole.choices[0]?.message.content).toEqual(said(ANSWER));
  expect((await chatStream(FRANCE)).content).toBe(whole.choices[0]?.message.content);
});
