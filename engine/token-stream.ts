/**
 * The output of one request: one producer (engine events), one consumer that either listens (the text side, in the
 * same turn in which a step arrives) or iterates.
 *
 * Bounded by construction: a request can produce at most its slot's context in tokens, so nothing is dropped
 * and the producer never waits for a slow consumer.
 */
import type { EngineError } from "./errors.ts";
import type { Allowance } from "./sharing.ts";
import type { EarlyPhase, StepOutput } from "./protocol.ts";

/** What a listener is told; it must not throw. */
export interface OutputListener {
  onOutput(output: StepOutput): void;
  /** The engine failed the request; no output follows. */
  onError(error: EngineError): void;
}

export class TokenStream implements AsyncIterable<StepOutput> {
  /** The prompt as the engine tokenized it. */
  readonly promptTokens: readonly number[];
  /** What its owner has left; undefined where nobody counted. */
  readonly allowance: Allowance | undefined;
  readonly #onAbandon: () => void;
  #outputs: StepOutput[] = [];
  #ended = false;
  #abandoned = false;
  #error: EngineError | undefined;
  #wake: (() => void) | undefined;
  #listener: OutputListener | undefined;
  #phase: EarlyPhase = "queue";

  /** @param onAbandon Called once when the consumer stops before the end, so that the slot is freed. */
  constructor(promptTokens: readonly number[], onAbandon: () => void, allowance?: Allowance) {
    this.allowance = allowance;
    this.promptTokens = promptTokens;
    this.#onAbandon = onAbandon;
  }

  /** Where the request is as long as it has no token; as last heard, and meaningless afterwards. */
  get earlyPhase(): EarlyPhase {
    return this.#phase;
  }

  moved(to: EarlyPhase): void {
    this.#phase = to;
  }

  /** Adds an output; the one with a `finish` is the last. */
  push(output: StepOutput): void {
    if (this.#ended) return;
    if (output.finish !== undefined) this.#ended = true;
    if (this.#listener !== undefined) return this.#listener.onOutput(output);
    this.#outputs.push(output);
    this.#notify();
  }

  /** Ends the stream with an error, after the outputs already there. */
  fail(error: EngineError): void {
    if (this.#ended) return;
    this.#ended = true;
    if (this.#listener !== undefined) return this.#listener.onError(error);
    this.#error = error;
    this.#notify();
  }

  /** Hands over what is there and, from now on, whatever comes. Instead of iterating, once. */
  listen(listener: OutputListener): void {
    const outputs = this.#outputs;
    this.#outputs = [];
    for (const output of outputs) {
      if (this.#abandoned) return;
      listener.onOutput(output);
    }
    if (this.#abandoned) return;
    if (this.#error !== undefined) listener.onError(this.#error);
    this.#listener = listener;
  }

  /** The consumer needs no more; does nothing at the end. */
  abandon(): void {
    this.#abandoned = true;
    if (this.#ended) return;
    this.#ended = true;
    this.#onAbandon();
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
      this.abandon();
    }
  }

  #notify(): void {
    const wake = this.#wake;
    this.#wake = undefined;
    wake?.();
  }
}
