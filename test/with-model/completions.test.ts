/** What completions say with real inference: the middle of a text, several choices, the prompt's own probabilities. */
import { readFileSync } from "node:fs";
import OpenAI from "openai";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startServer } from "../support/server.ts";
import type { RunningServer } from "../support/server.ts";

interface FillIn {
  readonly name: string;
  readonly prompt: string;
  readonly suffix?: string;
  readonly options: { readonly temperature: number; readonly max_tokens: number };
  readonly expected: string;
  readonly prompt_tokens: number;
  readonly completion_tokens: number;
}

const fillIns = readFileSync("test/fixtures/pocket-prompts.jsonl", "utf8")
  .trim()
  .split("\n")
  .map((line) => JSON.parse(line) as FillIn)
  .filter(({ suffix }) => suffix !== undefined);

const STORY = { model: "pocket", prompt: "There once was a shy fox named", max_tokens: 12 } as const;

let server: RunningServer;
let client: OpenAI;

beforeAll(async () => {
  server = await startServer("--slots", "4", "--context", "2048", "--deterministic");
  client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: "none", maxRetries: 0 });
});
afterAll(() => server.stop());

describe("the middle of a text", () => {
  test.each(fillIns)("$name", async ({ prompt, suffix = "", options, expected, ...counts }) => {
    const { choices, usage } = await client.completions.create({
      model: "pocket",
      prompt,
      suffix,
      ...options,
    });
    expect(choices[0]).toMatchObject({ text: expected, finish_reason: "stop" });
    expect(usage).toMatchObject({
      prompt_tokens: counts.prompt_tokens,
      completion_tokens: counts.completion_tokens,
    });
  });
});

describe("several choices", () => {
  test("T36 of a chat differ, the prompt counted once, streamed and not", async () => {
    const ask = {
      model: "pocket",
      messages: [{ role: "user" as const, content: "Tell me a story about a fox." }],
      n: 3,
      temperature: 1.5,
      max_tokens: 24,
      seed: 7,
    };
    const alone = await client.chat.completions.create({ ...ask, n: 1 });
    const whole = await client.chat.completions.create(ask);
    const texts = whole.choices.map(({ message }) => message.content);
    expect(whole.choices.map(({ index }) => index)).toEqual([0, 1, 2]);
    expect(new Set(texts).size).toBe(3);
    expect(texts[0]).toBe(alone.choices[0]?.message.content);
    expect(whole.usage?.prompt_tokens).toBe(alone.usage?.prompt_tokens);
    const streamed = await client.chat.completions.stream(ask).finalChatCompletion();
    expect(streamed.choices.map(({ message }) => message.content)).toEqual(texts);
  });

  test("each is what its own seed gives alone", async () => {
    const ask = { ...STORY, temperature: 1 };
    const together = await client.completions.create({ ...ask, n: 4, seed: 20 });
    const alone: string[] = [];
    for (const seed of [20, 21, 22, 23])
      alone.push((await client.completions.create({ ...ask, seed })).choices[0]?.text ?? "");
    expect(together.choices.map(({ text }) => text)).toEqual(alone);
  });

  test("the best of several is the most likely of them", async () => {
    const ask = { ...STORY, temperature: 1.5, seed: 3, logprobs: 0 };
    const mean = ({ logprobs }: OpenAI.CompletionChoice): number => {
      const values = logprobs?.token_logprobs ?? [];
      return values.reduce((sum, value) => sum + value, 0) / values.length;
    };
    const all = await client.completions.create({ ...ask, n: 4 });
    const best = await client.completions.create({ ...ask, best_of: 4 });
    const likeliest = all.choices.toSorted((a, b) => mean(b) - mean(a))[0];
    expect(best.choices.map(({ index, text }) => [index, text])).toEqual([[0, likeliest?.text]]);
    expect(best.usage?.completion_tokens).toBe(all.usage?.completion_tokens);
  });

  test("prompts of one request are answered as they are alone", async () => {
    const prompts = ["1, 2, 3,", "Monday, Tuesday,", "The capital of France is"];
    const ask = { model: "pocket", temperature: 0, max_tokens: 6 };
    const together = await client.completions.create({ ...ask, prompt: prompts });
    const alone: string[] = [];
    for (const prompt of prompts)
      alone.push((await client.completions.create({ ...ask, prompt })).choices[0]?.text ?? "");
    expect(together.choices.map(({ text }) => text)).toEqual(alone);
  });
});

describe("echo with log probabilities", () => {
  test("T59 scores a prompt: its own tokens, the first without a probability, and nothing else", async () => {
    const prompt = "1, 2, 3, 4, 5";
    const { choices, usage } = await client.completions.create({
      model: "pocket",
      prompt,
      echo: true,
      max_tokens: 0,
      logprobs: 1,
    });
    const scores = choices[0]?.logprobs;
    expect(choices[0]?.text).toBe(prompt);
    expect(scores?.tokens?.join("")).toBe(prompt);
    expect(scores?.tokens).toHaveLength(usage?.prompt_tokens ?? 0);
    expect(usage?.completion_tokens).toBe(0);
    expect([scores?.token_logprobs?.[0], scores?.top_logprobs?.[0]]).toEqual([null, null]);
    expect(scores?.token_logprobs?.slice(1).every((value) => Number.isFinite(value) && value <= 0)).toBe(
      true,
    );
    expect(scores?.text_offset?.[0]).toBe(0);
    // Every token is the likeliest or stands beside it.
    for (const [i, top] of (scores?.top_logprobs ?? []).entries())
      if (i > 0) expect(top?.[scores?.tokens?.[i] ?? ""]).toBeCloseTo(scores?.token_logprobs?.[i] ?? 1, 5);
  });

  test("gives generated tokens the probabilities they were drawn with", async () => {
    const ask = { model: "pocket", logprobs: 2, temperature: 0 };
    const drawn = await client.completions.create({ ...ask, prompt: STORY.prompt, max_tokens: 12 });
    const text = STORY.prompt + (drawn.choices[0]?.text ?? "");
    const scored = await client.completions.create({ ...ask, prompt: text, echo: true, max_tokens: 0 });
    const before = drawn.choices[0]?.logprobs;
    const after = scored.choices[0]?.logprobs;
    const count = before?.tokens?.length ?? 0;
    expect(after?.tokens?.slice(-count)).toEqual(before?.tokens);
    expect(after?.text_offset?.slice(-count)).toEqual(before?.text_offset);
    for (const [i, value] of (after?.token_logprobs?.slice(-count) ?? []).entries())
      expect(value).toBeCloseTo(before?.token_logprobs?.[i] ?? 1, 1);
  });

  test("counts the token that ends the output, so that positions can be counted", async () => {
    const { choices, usage } = await client.completions.create({
      model: "pocket",
      prompt: [[11, 12, 13, 14]],
      echo: true,
      max_tokens: 1,
      logprobs: 1,
    });
    expect(choices[0]?.logprobs?.tokens).toHaveLength(5);
    expect(usage?.completion_tokens).toBe(1);
  });
});
