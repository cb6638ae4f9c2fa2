import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { estimateTokens, PromptSource } from "../../bench/prompts.ts";
import type { TokenCounter } from "../../bench/prompts.ts";

const words: TokenCounter = (text) => Promise.resolve(text === "" ? 0 : text.split(" ").length);
/** Long words are several tokens, as in a small vocabulary. */
const pieces: TokenCounter = (text) =>
  Promise.resolve(text.split(" ").reduce((total, word) => total + Math.ceil(word.length / 3), 0));

const plan = { promptTokens: 40, sharedPrefixTokens: 0, seed: 1 };

describe("PromptSource", () => {
  it("the same seed gives the same prompts", async () => {
    const [one, other] = [
      await PromptSource.prepare(plan, 2, words),
      await PromptSource.prepare(plan, 2, words),
    ];
    expect([0, 1, 2, 5].map((index) => one.prompt(index))).toEqual(
      [0, 1, 2, 5].map((index) => other.prompt(index)),
    );
  });

  it("another seed gives other prompts", async () => {
    const one = await PromptSource.prepare(plan, 1, words);
    const other = await PromptSource.prepare({ ...plan, seed: 2 }, 1, words);
    expect(one.prompt(0)).not.toBe(other.prompt(0));
  });

  it("every prompt has exactly the asked tokens, whatever the vocabulary", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 400 }),
        fc.integer({ min: 0, max: 0xffff_ffff }),
        fc.constantFrom(words, pieces),
        async (promptTokens, seed, count) => {
          const source = await PromptSource.prepare({ ...plan, promptTokens, seed }, 2, count);
          expect(await count(source.prompt(0))).toBe(promptTokens);
          expect(await count(source.prompt(1))).toBe(promptTokens);
          // Beyond the fitted ones: the same words in another order.
          expect(await count(source.prompt(7))).toBe(promptTokens);
        },
      ),
      { numRuns: 60 },
    );
  });

  it("prompts share the prefix and nothing after it", async () => {
    const source = await PromptSource.prepare({ ...plan, sharedPrefixTokens: 10 }, 3, words);
    const prompts = [0, 1, 2, 3, 4].map((index) => source.prompt(index).split(" "));
    expect(new Set(prompts.map((prompt) => prompt.slice(0, 10).join(" "))).size).toBe(1);
    expect(new Set(prompts.map((prompt) => prompt.slice(10).join(" "))).size).toBe(5);
    expect(prompts.every((prompt) => prompt.length === 40)).toBe(true);
  });

  it("the estimate is four characters per token, rounded up", async () => {
    expect([await estimateTokens(""), await estimateTokens("abcd"), await estimateTokens("abcde")]).toEqual([
      0, 1, 2,
    ]);
  });
});
