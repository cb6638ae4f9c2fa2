/** The text itself: stop strings that cut exactly, characters that stay whole, answers that do not mix. */
import { describe, expect, test } from "vitest";
import { lintChunks } from "../../src/conformance/chunk-lint.ts";
import { readSse } from "../../src/conformance/sse-grammar.ts";
import { sayThenStop } from "../support/scripted-engine.ts";
import { createTestApp } from "../support/test-app.ts";
import { byteIds, EOS } from "../support/tiny-vocabulary.ts";
import {
  asking,
  bodyOf,
  chat,
  chatStream,
  completionStream,
  MODEL,
  POCKET,
  said,
  server,
} from "./harness.ts";
import type { Chat, ChatChunk } from "./harness.ts";

/** The question as the model's template writes it. */
async function raw(question: string): Promise<string> {
  const response = await server.post("/apply-template", { model: MODEL, ...asking(question) });
  return (await bodyOf<{ prompt: string }>(response)).prompt;
}

/** Long enough for what pocket answers to any of these. */
const MOST = { max_tokens: 60 };

/** One question by all four ways, chat and legacy, streamed and not, which must agree. @returns Text and finish reason. */
async function fourWays(question: string, stop: readonly string[]): Promise<readonly unknown[]> {
  const whole = await chat({ ...asking(question), ...MOST, stop });
  const asked = { prompt: await raw(question), temperature: 0, ...MOST, stop };
  const legacy = await server.post("/v1/completions", { model: MODEL, ...asked });
  const { choices } = await bodyOf<{ choices: { text: string; finish_reason: string }[] }>(legacy);
  const streamed = await chatStream({ ...asking(question), ...MOST, stop });
  const legacyStream = await completionStream(asked);
  const answer = [whole.choices[0]?.message.content, whole.choices[0]?.finish_reason];
  expect([
    [streamed.content, streamed.finish],
    [choices[0]?.text, choices[0]?.finish_reason],
    [legacyStream.content, legacyStream.chunks.at(-1)?.choices[0]?.finish_reason],
  ]).toEqual([answer, answer, answer]);
  return answer;
}

/** What is left of a text that one of the stop strings ends. */
async function cutAt(question: string, stop: readonly string[]): Promise<string> {
  const whole = String((await fourWays(question, []))[0]);
  // Of another model's answer the same places are taken.
  const stops = POCKET ? stop : [whole.slice(3, 11)];
  const at = Math.min(...stops.map((text) => whole.indexOf(text)).filter((place) => place >= 0));
  expect(await fourWays(question, stops)).toEqual([whole.slice(0, at), "stop"]);
  return whole.slice(0, at);
}

describe("a stop string", () => {
  test("T04 over several tokens is cut out exactly, in all four kinds of answer", async () => {
    const question = "Repeat exactly: silver river bright moon";
    expect((await fourWays(question, []))[0]).toEqual(said("silver river bright moon"));
    expect(await cutAt(question, ["ver bright"])).toEqual(said("silver ri"));
    expect(await cutAt(question, ["never", "bright moon", "ver b"])).toEqual(said("silver ri"));
  });

  test("T05 ends the answer with nothing after it, whatever was held back", async () => {
    expect(await cutAt("Count from 1 to 10.", ["5"])).toEqual(said("1, 2, 3, 4, "));
    const { content } = await completionStream({ prompt: "One, two, three,", stop: ["six"], max_tokens: 40 });
    expect(content).toEqual(said(" four, five, "));
    expect(content).not.toContain("six");
  });

  test("T06 that ends inside a token loses nothing before it and lets nothing through after it", async () => {
    const question = "What is the capital of France?";
    const { tokens } = await bodyOf<{ tokens: { piece: unknown }[] }>(
      await server.post("/tokenize", { content: "The capital of France is Paris.", with_pieces: true }),
    );
    expect(tokens.map(({ piece }) => piece)).toContain(" Paris");
    expect(await cutAt(question, ["ari"])).toEqual(said("The capital of France is P"));
    expect(await cutAt(question, ["is P"])).toEqual(said("The capital of France "));
  });
});

describe("characters", () => {
  const MIXED = "😀👩‍👩‍👧‍👦é你好";

  test("T07 a text out of single bytes comes in whole characters, and streamed as it comes whole", async () => {
    const { engine, chat: ask } = createTestApp();
    const steps = byteIds(MIXED).map((token) => ({ tokens: [token] }));
    engine.script = {
      kind: "answer",
      steps: [...steps, { tokens: [EOS], finish: { reason: "stop", stopToken: EOS } }],
    };
    const text = await (await ask({ stream: true })).text();
    expect(lintChunks(text, "chat.completion.chunk")).toEqual([]);
    const deltas = readSse(text)
      .events.slice(0, -1)
      .map(({ data }) => (JSON.parse(data) as ChatChunk).choices[0]?.delta.content ?? "");
    expect(deltas.join("")).toBe(MIXED);
    expect(deltas.filter((delta) => delta !== "")).toEqual(Array.from(MIXED));
    const whole = (await (await ask()).json()) as Chat;
    expect(whole.choices[0]?.message.content).toBe(MIXED);
    for (const question of ["Send me the party emoji.", "Which emoji means cat?", "こんにちは"]) {
      const { content, finish } = await chatStream(asking(question));
      // A limit may cut a character in two, of which one mark is left.
      expect(finish === "length" ? content.slice(0, -1) : content).not.toContain("\uFFFD");
      expect(content).toBe((await chat(asking(question))).choices[0]?.message.content);
    }
  });

  test("T79 surrogate pairs are never split over two chunks", async () => {
    const { text, content } = await chatStream(asking("Send me the party emoji."));
    expect(content).toEqual(said("🎉"));
    expect(text).not.toMatch(/\\ud[89a-f]/i);
    expect(Buffer.from(text, "utf8").toString("utf8")).toBe(text);
  });

  test("T69 the marks of tokenizers never show, neither in texts nor in the tokens of logprobs", async () => {
    const { content, text } = await chatStream({
      ...asking("Tell me a story about a fox."),
      logprobs: true,
      top_logprobs: 5,
    });
    expect(content).toEqual(said(/^There once was a shy fox named Kiki\. Kiki lived/));
    expect(text).not.toMatch(/[ĠĊ▁]|<0x/);
    const python = await chat({ ...asking("Print hello in Python."), logprobs: true });
    expect(python.choices[0]?.message.content).toEqual(said('```python\nprint("hello")\n```'));
    expect(JSON.stringify(python)).not.toMatch(/[ĠĊ▁]|<0x/);
  });
});

test("T82 answers that run together are those that run alone, each with its own stop string", async () => {
  const prefix = "You are a helpful assistant. ".repeat(10);
  const asks = ["3", "4", "5", "6", "7, 8", "9"].map((stop) => ({
    ...asking(`${prefix}Count from 1 to 10.`),
    stop: [stop],
    max_tokens: 60,
  }));
  const alone: string[] = [];
  for (const ask of asks) alone.push((await chatStream(ask)).content);
  if (POCKET) expect(new Set(alone).size).toBe(asks.length);
  const together = await Promise.all(asks.map((ask) => chatStream(ask)));
  expect(together.map(({ content }) => content)).toEqual(alone);
});

test("a scripted answer is read by the same lint as a real one", async () => {
  const { engine, chat: ask } = createTestApp();
  engine.script = sayThenStop("Hello", EOS);
  const text = await (await ask({ stream: true })).text();
  expect(lintChunks(text, "chat.completion.chunk")).toEqual([]);
  expect(
    lintChunks(text.replace('"finish_reason":"stop"', '"finish_reason":null'), "chat.completion.chunk"),
  ).toEqual(["choice 0 has no finish_reason"]);
});
