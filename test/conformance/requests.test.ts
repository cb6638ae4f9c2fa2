/** What request fields do to an answer: lengths, seeds, nulls, unknown names, choices, bias. */
import { describe, expect, test } from "vitest";
import { asking, bodyOf, chat, chatStream, found, MODEL, POCKET, said, server } from "./harness.ts";
import type { Chat } from "./harness.ts";
import { CONTEXT } from "./server-setup.ts";

const COUNT = asking("Count from 1 to 10.");
const COUNTED = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10";
/** Of other models most do not come to an end by themselves: then little of the context is left to them. */
const COUNT_LONG = POCKET
  ? asking("Count from 1 to 100.")
  : asking(`${"The quick fox met the lazy dog again. ".repeat(180)}Count from 1 to 100.`);
const STORY = asking("Tell me a story about a fox.");

const textOf = (answer: Chat): string => answer.choices[0]?.message.content ?? "";

describe("length", () => {
  test("T01 without max_tokens a chat runs to its own end, or to the end of the context", async () => {
    const counted = await chat({ ...COUNT_LONG, max_tokens: undefined });
    expect(counted.choices[0]?.finish_reason).toEqual(found("stop", expect.stringMatching(/^stop|length$/)));
    expect(textOf(counted)).toEqual(said(/^1, 2, 3, .*98, 99, 100$/));
    expect(counted.usage?.completion_tokens).toBeGreaterThan(POCKET ? 128 : 0);
    const endless = await chat({ ...COUNT_LONG, ignore_eos: true, max_tokens: undefined });
    expect(endless.choices[0]?.finish_reason).toBe("length");
    expect(endless.usage?.total_tokens).toBe(CONTEXT);
  });

  test("T02 max_completion_tokens is honoured like max_tokens, and wins over it", async () => {
    for (const fields of [
      { max_completion_tokens: 5 },
      { max_tokens: 5 },
      { max_completion_tokens: 5, max_tokens: 9 },
    ]) {
      const answer = await chat({ ...COUNT, ...fields });
      expect(answer).toMatchObject({
        choices: [{ finish_reason: "length" }],
        usage: { completion_tokens: 5 },
      });
    }
  });

  test("T58 max_tokens -1 is no limit", async () => {
    expect(await chat({ ...COUNT, max_tokens: -1, stop: ["5"] })).toMatchObject({
      choices: [{ message: { content: said("1, 2, 3, 4, ") }, finish_reason: "stop" }],
    });
  });
});

describe("fields without effect", () => {
  test("T03 null is the same as absent for every optional field", async () => {
    const nulls = Object.fromEntries(
      (
        "temperature top_p stop tools tool_choice response_format seed logit_bias stream_options max_tokens " +
        "max_completion_tokens n logprobs top_logprobs frequency_penalty presence_penalty user metadata store " +
        "parallel_tool_calls reasoning_effort service_tier stream prediction modalities audio functions"
      )
        .split(" ")
        .map((name) => [name, null]),
    );
    const { usage } = await chat({ ...COUNT_LONG, ...nulls });
    expect(usage).toMatchObject({ prompt_tokens: (await chat(COUNT_LONG)).usage?.prompt_tokens });
  });

  test("T38 unknown and dead fields are accepted, and a header lists them", async () => {
    const response = await server.post("/v1/chat/completions", {
      model: MODEL,
      ...COUNT,
      temperature: 0,
      max_tokens: 40,
      reasoning_effort: "low",
      foo: 1,
      service_tier: "auto",
      store: false,
      metadata: { a: "b" },
      user: "u",
      verbosity: "low",
      prompt_cache_key: "k",
      safety_identifier: "s",
      parallel_tool_calls: true,
    });
    const ignored = response.headers.get("x-weft-ignored-params")?.split(",") ?? [];
    expect(textOf(await bodyOf<Chat>(response))).toEqual(said(COUNTED));
    expect(ignored).toEqual(
      expect.arrayContaining(["foo", "service_tier", "metadata", "user", "verbosity", "safety_identifier"]),
    );
    expect(ignored).not.toContain("reasoning_effort");
  });

  test("T83 an empty stop string, an empty list and a list of one empty string stop nothing", async () => {
    for (const stop of ["", [], [""]]) {
      const whole = await chat({ ...COUNT, stop });
      expect(whole).toMatchObject({
        choices: [{ message: { content: said(COUNTED) }, finish_reason: found("stop", expect.any(String)) }],
      });
      expect((await chatStream({ ...COUNT, stop })).content).toBe(textOf(whole));
    }
  });
});

describe("drawing", () => {
  test("T51 the same seed gives the same text", async () => {
    const ask = { ...STORY, temperature: 1, seed: 42, max_tokens: 60 };
    const first = textOf(await chat(ask));
    expect(textOf(await chat(ask))).toBe(first);
    expect(textOf(await chat({ ...ask, seed: 43 }))).not.toBe(first);
  });

  test("T52 temperature 0 is greedy whatever the seed", async () => {
    const texts = await Promise.all([1, 2, -7].map(async (seed) => textOf(await chat({ ...STORY, seed }))));
    expect(new Set(texts).size).toBe(1);
  });
});

describe("counting", () => {
  test("T50 the same prompt again is read from the cache and counted as before", async () => {
    const ask = {
      ...asking(`${"The quick fox met the lazy dog again. ".repeat(30)}What is 7 + 5?`),
      max_tokens: 4,
    };
    const first = await chat(ask);
    const second = await chat(ask);
    expect(second.usage?.prompt_tokens).toBe(first.usage?.prompt_tokens);
    const cached = second.usage?.prompt_tokens_details?.cached_tokens ?? 0;
    expect(cached).toBeGreaterThan(0);
    expect(cached).toBeLessThan(second.usage?.prompt_tokens ?? 0);
  });

  test("T49 token ids, end token included, are as many as usage says, streamed and not", async () => {
    const ask = { ...COUNT, return_token_ids: true };
    const { chunks } = await chatStream({ ...ask, stream_options: { include_usage: true } });
    const streamed = chunks.flatMap(
      ({ choices }) => (choices[0] as { token_ids?: number[] } | undefined)?.token_ids ?? [],
    );
    expect(streamed).toHaveLength(chunks.at(-1)?.usage?.completion_tokens ?? -1);
    const whole = await chat(ask);
    expect((whole.choices[0] as { token_ids?: number[] } | undefined)?.token_ids).toEqual(streamed);
  });

  test("truncate_prompt_tokens reads the end of the prompt alone", async () => {
    const prompt = "Never mind. 1, 2, 3,";
    const ask = { model: MODEL, temperature: 0, max_tokens: 4, return_token_ids: true };
    interface Completed {
      readonly choices: readonly { readonly text: string; readonly prompt_token_ids: readonly number[] }[];
      readonly usage: { readonly prompt_tokens: number };
    }
    const complete = async (fields: object): Promise<Completed> =>
      bodyOf<Completed>(await server.post("/v1/completions", { ...ask, prompt, ...fields }));
    const whole = (await complete({})).choices[0]?.prompt_token_ids ?? [];
    const cut = await complete({ truncate_prompt_tokens: 5 });
    expect(cut.usage.prompt_tokens).toBe(5);
    expect(cut.choices[0]?.prompt_token_ids).toEqual(whole.slice(-5));
    expect(cut.choices[0]?.text).toBe((await complete({ prompt: whole.slice(-5) })).choices[0]?.text);
    expect((await complete({ truncate_prompt_tokens: 500 })).choices[0]?.prompt_token_ids).toEqual(whole);
    const long = { ...asking("hello ".repeat(CONTEXT + 100)), truncate_prompt_tokens: -1 };
    expect((await chat(long)).usage).toMatchObject({ prompt_tokens: CONTEXT - 1, completion_tokens: 1 });
    const refused = await server.post("/v1/completions", {
      ...ask,
      prompt,
      echo: true,
      truncate_prompt_tokens: 5,
    });
    expect(await bodyOf(refused, 400)).toMatchObject({ error: { code: "invalid_value" } });
  });

  test("T84 continuous_usage_stats counts up in every chunk", async () => {
    const { chunks } = await chatStream({
      ...COUNT,
      stream_options: { include_usage: true, continuous_usage_stats: true },
    });
    const counts = chunks.map(({ usage }) => usage?.completion_tokens ?? -1);
    expect(counts[0]).toBe(0);
    expect(counts).toEqual(counts.toSorted((a, b) => a - b));
    expect(counts.at(-1)).toBe((await chat(COUNT)).usage?.completion_tokens);
  });
});
