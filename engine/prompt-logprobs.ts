/** Log probabilities of a prompt's own tokens: gathered while it is computed, read where they are wanted. */
import { EngineError } from "./errors.ts";
import type { LogitsHandle, LogprobReader } from "./backend.ts";
import type { PromptLogprobs, TokenLogprobs } from "./protocol.ts";

/** Bounds what one request's prompt can bring in a message. */
export const MOST_PROMPT_LOGPROBS = 20;

/** @throws {EngineError} `invalid_request`. */
export function checkPromptLogprobs(top: number): void {
  if (Number.isInteger(top) && top >= 0 && top <= MOST_PROMPT_LOGPROBS) return;
  const message = `Alternatives of prompt tokens are 0 to ${MOST_PROMPT_LOGPROBS}, not ${top}.`;
  throw new EngineError("invalid_request", message);
}

/** Of the token at `index` of the prompt; undefined for the first, which nothing precedes. */
export function promptLogprobsAt(
  { logprobs, top, topTokens, topLogprobs }: PromptLogprobs,
  index: number,
): TokenLogprobs | undefined {
  const logprob = logprobs[index];
  if (index === 0 || logprob === undefined) return undefined;
  const start = index * top;
  return {
    logprob,
    top: Array.from(
      { length: top },
      (_, i) => [topTokens[start + i] ?? 0, topLogprobs[start + i] ?? 0] as const,
    ),
  };
}

/** Gathers them for one request. */
export class PromptLogprobCollector {
  readonly #reader: LogprobReader;
  readonly #prompt: Uint32Array;
  readonly #top: number;
  #gathered: PromptLogprobs | undefined;

  constructor(reader: LogprobReader, prompt: Uint32Array, top: number) {
    this.#reader = reader;
    this.#prompt = prompt;
    this.#top = top;
  }

  /**
   * @param position Of the first token of the entry, which was computed with these logits.
   * @throws {EngineError} When they cannot be read.
   */
  async add(position: number, logits: readonly LogitsHandle[]): Promise<void> {
    const gathered = this.#arrays();
    // What follows the last token of an entry is known too: a prompt is computed without its last token.
    await Promise.all(
      logits.map(async (handle, i) => {
        const index = position + i + 1;
        const { logprob, top } = await this.#reader.read(handle, this.#prompt[index] ?? 0);
        gathered.logprobs[index] = logprob;
        top.slice(0, this.#top).forEach(([token, topLogprob], rank) => {
          gathered.topTokens[index * this.#top + rank] = token;
          gathered.topLogprobs[index * this.#top + rank] = topLogprob;
        });
      }),
    );
  }

  /** All of them, once the prompt is computed. */
  take(): PromptLogprobs {
    return this.#arrays();
  }

  dispose(): void {
    this.#reader.dispose();
  }

  /** Made when needed: a request may wait long before it is computed. */
  #arrays(): PromptLogprobs {
    const tokens = this.#prompt.length;
    this.#gathered ??= {
      logprobs: new Float32Array(tokens),
      top: this.#top,
      topTokens: new Uint32Array(tokens * this.#top),
      topLogprobs: new Float32Array(tokens * this.#top),
    };
    return this.#gathered;
  }
}
