/** Log probabilities in both formats. */
import type OpenAI from "openai";
import { describe, expect, test } from "vitest";
import { asking, bodyOf, chat, chatStream, completionStream, MODEL, said, server } from "./harness.ts";

const FRANCE = asking("What is the capital of France?");
const ANSWER = "The capital of France is Paris.";

type Token = OpenAI.ChatCompletionTokenLogprob;

const bytesText = (tokens: readonly Token[]): string =>
  Buffer.from(tokens.flatMap(({ bytes }) => bytes ?? [])).toString();

describe("of a chat", () => {
  test("T37 have the chat format, as many alternatives as asked for, finite numbers, and bytes that join to the text", async () => {
    for (const top of [0, 5]) {
      const ask = { ...FRANCE, logprobs: true, top_logprobs: top };
      const [choice] = (await chat(ask)).choices;
      const whole = choice?.logprobs?.content ?? [];
      const { chunks } = await chatStream(ask);
      const streamed = chunks.flatMap(({ choices }) => choices[0]?.logprobs?.content ?? []);
      expect(streamed).toEqual(whole);
      expect(bytesText(whole)).toBe(choice?.message.content);
      expect(bytesText(whole)).toEqual(said(ANSWER));
      for (const token of whole) {
        expect(Object.keys(token)).toEqual(["token", "logprob", "bytes", "top_logprobs"]);
        expect(token.top_logprobs).toHaveLength(top);
        const values = token.top_logprobs.map(({ logprob }) => logprob);
        expect(values).toEqual(values.toSorted((a, b) => b - a));
        for (const value of [token.logprob, ...values]) expect(Number.isFinite(value)).toBe(true);
        if (top > 0) expect(token.top_logprobs[0]?.token).toBe(token.token);
      }
    }
    const emoji = (await chat({ ...asking("Send me the party emoji."), logprobs: true })).choices[0];
    expect(bytesText(emoji?.logprobs?.content ?? [])).toEqual(said("🎉"));
  });
});

describe("of a legacy completion", () => {
  interface Legacy {
    readonly tokens: readonly string[];
    readonly token_logprobs: readonly (number | null)[];
    readonly top_logprobs: readonly (Record<string, number> | null)[];
    readonly text_offset: readonly number[];
  }

  async function complete(fields: object): Promise<{ readonly text: string; readonly logprobs: Legacy }> {
    const response = await server.post("/v1/completions", { model: MODEL, temperature: 0, ...fields });
    const { choices } = await bodyOf<{ choices: { text: string; logprobs: Legacy }[] }>(response);
    const [choice] = choices;
    if (choice === undefined) throw new Error("no choice");
    return choice;
  }

  test("T59 with echo and no new token are those of the prompt, the first null", async () => {
    const prompt = "The capital of France is Paris.";
    const { text, logprobs } = await complete({ prompt, echo: true, max_tokens: 0, logprobs: 1 });
    expect(text).toBe(prompt);
    expect(logprobs.tokens.join("")).toBe(prompt);
    expect(logprobs.token_logprobs[0]).toBeNull();
    expect(logprobs.top_logprobs[0]).toBeNull();
    const rest = logprobs.token_logprobs.slice(1);
    expect(rest.length).toBeGreaterThan(3);
    for (const value of rest) expect(value).toBeLessThanOrEqual(0);
    expect(logprobs.text_offset).toHaveLength(logprobs.tokens.length);
    // Scoring is the same arithmetic as generating: the model finds its own answer as likely as when it drew it.
    const drawn = await complete({ prompt: "The capital of France is", max_tokens: 1, logprobs: 1 });
    const place = logprobs.tokens.indexOf(" Paris");
    expect(drawn.text).toEqual(said(" Paris"));
    if (drawn.text === " Paris")
      expect(logprobs.token_logprobs[place]).toBeCloseTo(drawn.logprobs.token_logprobs[0] ?? 0, 2);
  });

  test("of the prompt are the same in vLLM's shape, in a chat of every token it was rendered to", async () => {
    const prompt = "The capital of France is Paris.";
    const { logprobs } = await complete({ prompt, echo: true, max_tokens: 0, logprobs: 0 });
    const ask = { prompt, max_tokens: 1, prompt_logprobs: 1, return_token_ids: true };
    interface Scored {
      readonly prompt_token_ids: readonly number[];
      readonly prompt_logprobs: readonly (Record<string, { logprob: number; rank: number | null }> | null)[];
    }
    const response = await server.post("/v1/completions", { model: MODEL, temperature: 0, ...ask });
    const [scored] = (await bodyOf<{ choices: Scored[] }>(response)).choices;
    if (scored === undefined) throw new Error("no choice");
    const own = ({ prompt_token_ids: ids, prompt_logprobs: scores }: Scored): (number | null)[] =>
      scores.map((score, i) => score?.[ids[i] ?? -1]?.logprob ?? null);
    expect(own(scored)).toEqual(logprobs.token_logprobs);
    for (const score of scored.prompt_logprobs.slice(1))
      expect(Object.values(score ?? {}).some(({ rank }) => rank === 1)).toBe(true);
    const fields = { model: MODEL, ...asking("Hello"), max_tokens: 1 };
    const extra = { prompt_logprobs: 0, return_token_ids: true };
    const answer = await bodyOf<Scored>(await server.post("/v1/chat/completions", { ...fields, ...extra }));
    expect(own(answer)).toHaveLength(answer.prompt_token_ids.length);
    expect(
      own(answer)
        .slice(1)
        .every((value) => value !== null && value <= 0),
    ).toBe(true);
  });

  test("come streamed as they come whole", async () => {
    const ask = { prompt: "1, 2, 3,", max_tokens: 6, logprobs: 2 };
    const { logprobs, text } = await complete(ask);
    expect(logprobs.tokens.join("")).toBe(text);
    const { chunks } = await completionStream(ask);
    const tokens = chunks.flatMap(({ choices }) => choices[0]?.logprobs?.tokens ?? []);
    expect(tokens).toEqual(logprobs.tokens);
  });
});
