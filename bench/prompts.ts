/**
 * Seeded prompts of an exact token count: random common words, each prompt different from its first word on.
 *
 * The count is checked with the server's own tokenizer where it has one. It covers the prompt's text; what a
 * chat template adds shows in the report as the server's `prompt_tokens`.
 */
import { describeConnectionError } from "../models/command-line/connection-error.ts";
import { createRng, deriveSeed } from "./rng.ts";
import type { Rng } from "./rng.ts";
import { requestHeaders } from "./client.ts";
import type { BenchClock } from "./clock.ts";
import { COMMON_WORDS } from "./words.ts";

/** Counts tokens of a text. */
export type TokenCounter = (text: string) => Promise<number>;

export interface PromptPlan {
  /** Tokens of each prompt, shared prefix included. */
  readonly promptTokens: number;
  /** Tokens that all prompts of a level start with; 0 for none. */
  readonly sharedPrefixTokens: number;
  readonly seed: number;
}

/** Usual ratio for English text; used where a server offers no tokenizer. */
const CHARACTERS_PER_TOKEN = 4;
/** Each try corrects by the measured ratio, so three or four do; the rest is for odd vocabularies. */
const FITTING_TRIES = 12;
/** Longest a tokenizer call may take, in ms. */
const TOKENIZE_TIMEOUT_MS = 30_000;

export const estimateTokens: TokenCounter = (text) =>
  Promise.resolve(Math.ceil(text.length / CHARACTERS_PER_TOKEN));

/**
 * The server's `/tokenize`, in the dialect it understands: llama-server's `content`, else vLLM's `prompt`.
 *
 * @returns Undefined when the server has no such endpoint.
 */
export async function serverTokenCounter(
  server: { readonly url: string; readonly model: string; readonly apiKey: string | undefined },
  clock: BenchClock,
): Promise<TokenCounter | undefined> {
  for (const field of ["content", "prompt"]) {
    const count: TokenCounter = async (text) => {
      const abort = new AbortController();
      const stopTimer = clock.after(TOKENIZE_TIMEOUT_MS, () => abort.abort());
      try {
        const response = await fetch(`${server.url}/tokenize`, {
          method: "POST",
          headers: requestHeaders(server.apiKey),
          // vLLM would count a begin token that the chat template adds anyway.
          body: JSON.stringify({ model: server.model, [field]: text, add_special_tokens: false }),
          signal: abort.signal,
        });
        const answer = (await response.json()) as { readonly tokens?: unknown };
        if (!response.ok || !Array.isArray(answer.tokens)) throw new Error(`status ${response.status}`);
        return answer.tokens.length;
      } catch (error) {
        throw new Error(`POST ${server.url}/tokenize failed: ${describeConnectionError(error)}`, {
          cause: error,
        });
      } finally {
        stopTimer();
      }
    };
    // A server that ignores the unknown field answers with no tokens: that is not the dialect either.
    if ((await count("one two three").catch(() => 0)) > 0) return count;
  }
  return undefined;
}

/**
 * The prompts of one level. The first `exact` are fitted to the token count; later ones are these with their
 * words in another order, which leaves the count as it is in vocabularies that split at spaces.
 */
export class PromptSource {
  readonly #prefix: string;
  readonly #fitted: readonly string[];
  readonly #seed: number;

  private constructor(prefix: string, fitted: readonly string[], seed: number) {
    this.#prefix = prefix;
    this.#fitted = fitted;
    this.#seed = seed;
  }

  /** @throws {Error} When the counter fails, or no text of that many tokens was found. */
  static async prepare(plan: PromptPlan, exact: number, count: TokenCounter): Promise<PromptSource> {
    const { promptTokens, sharedPrefixTokens, seed } = plan;
    const prefix =
      sharedPrefixTokens === 0
        ? ""
        : await fitText("", sharedPrefixTokens, createRng(deriveSeed(seed, 0)), count);
    const fitted: string[] = [];
    for (let index = 0; index < exact; index++) {
      fitted.push(await fitText(prefix, promptTokens, createRng(deriveSeed(seed, 1, index)), count));
    }
    return new PromptSource(prefix, fitted, seed);
  }

  /** @param index From 0, without a limit. */
  prompt(index: number): string {
    const text = this.#fitted[index % this.#fitted.length];
    if (text === undefined) throw new Error("A prompt source needs at least one fitted prompt.");
    if (index < this.#fitted.length) return text;
    const words = text.slice(this.#prefix.length).trimStart().split(" ");
    const shuffled = shuffle(words, createRng(deriveSeed(this.#seed, 2, index))).join(" ");
    return this.#prefix === "" ? shuffled : `${this.#prefix} ${shuffled}`;
  }
}

/** `prefix` followed by random words, `tokens` tokens in all. */
async function fitText(prefix: string, tokens: number, rng: Rng, count: TokenCounter): Promise<string> {
  const words: string[] = [];
  const text = (length: number): string => {
    while (words.length < length) words.push(COMMON_WORDS[rng.below(COMMON_WORDS.length)] ?? "the");
    return [...(prefix === "" ? [] : [prefix]), ...words.slice(0, length)].join(" ");
  };
  let length = tokens;
  // Most words whose text is not too long, and fewest whose text is.
  let fits = 0;
  let exceeds = Number.POSITIVE_INFINITY;
  for (let tries = 0; tries < FITTING_TRIES && exceeds - fits > 1; tries++) {
    const counted = await count(text(length));
    if (counted === tokens) return text(length);
    if (counted < tokens) fits = Math.max(fits, length);
    else exceeds = Math.min(exceeds, length);
    const corrected = Math.round((length * tokens) / Math.max(1, counted));
    const highest = Number.isFinite(exceeds) ? exceeds - 1 : tokens * 2;
    length = Math.min(Math.max(corrected, fits + 1), Math.max(highest, fits + 1));
  }
  return fillUp(text(fits), tokens, count);
}

/** Adds one short word at a time: where a word of several tokens does not fit, these mostly do. */
async function fillUp(start: string, tokens: number, count: TokenCounter): Promise<string> {
  let text = start;
  for (let tries = 0; tries < FITTING_TRIES; tries++) {
    const missing = tokens - (await count(text));
    if (missing <= 0) return text;
    text = `${text}${" a".repeat(text === "" ? 1 : missing)}`.trimStart();
    const over = (await count(text)) - tokens;
    if (over > 0) text = text.slice(0, Math.max(1, text.length - 2 * over));
  }
  return text;
}

function shuffle(words: readonly string[], rng: Rng): string[] {
  const shuffled = [...words];
  for (let last = shuffled.length - 1; last > 0; last--) {
    const other = rng.below(last + 1);
    const moved = shuffled[last] ?? "";
    shuffled[last] = shuffled[other] ?? "";
    shuffled[other] = moved;
  }
  return shuffled;
}
