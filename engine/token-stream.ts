/**
 * The output of one request as an async iterator: one producer (engine events), one consumer (the text side).
 *
 * Bounded by construction: a request can produce at most its slot's context in tokens, so nothing is dropped
 * and the producer never waits for a slow consumer.
 */
import type { EngineError } from "./errors.ts";
import type { Allowance } from "./sharing.ts";
import type { StepOutput } from "./protocol.ts";

export class TokenStream implements AsyncIterable<StepOutput> {
  /** The prompt as the engine tokenized it. */
  readonly promptTokens: readonly number[];
  /** What its owner has left; undefined where nobody counted. */
  readonly allowance: Allowance | undefined;
  readonly #onAbandon: () => void;
  #outputs: StepOutput[] = [];
  #ended = false;
  #error: EngineError | undefined;
  #wake: (() => void) | undefined;

  /** @param onAbandon Called once when the consumer stops before the end, so that the slot is freed. */
  constructor(promptTokens: readonly number[], onAbandon: () => void, allowance?: Allowance) {
    this.allowance = allowance;
    this.promptTokens = promptTokens;
    this.#onAbandon = onAbandon;
  }

  /** Adds an output; the one with a `finish` is the last. */
  push(output: StepOutput): void {
    if (this.#ended) return;
    this.#outputs.push(output);
    if (output.finish !== undefined) this.#ended = true;
    this.#notify();
  }

  /** Ends the stream with an error, after the outputs already there. */
  fail(error: EngineError): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#error = error;
    this.#notify();
  }

  /**
   * Yields every output in order; outputs that gathered while the consumer was busy come one by one.
   * @throws {EngineError} When the engine failed this request.
   */
  async *[Symbol.asyncIterator](): AsyncGenerator<StepOutput, void, void> {
    try {
      for (;;) {
        const outputs = this.#outputs;
        this.#outputs = [];
        yield* outputs;
        if (this.#outputs.length > 0) continue;
        if (this.#error !== undefined) throw this.#error;
        if (this.#ended) return;
        await new Promise<void>((resolve) => (this.#wake = resolve));
      }
    } finally {
      if (!this.#ended) {
        this.#ended = true;
        this.#onAbandon();
      }
    }
  }

  #notify(): void {
    const wake = this.#wake;
    this.#wake = undefined;
    wake?.();
  }
}
