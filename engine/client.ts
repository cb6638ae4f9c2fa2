/**
 * The server's side of the line to one engine: calls become promises, requests become token streams.
 *
 * Knows nothing of the transport (`EnginePort`) and nothing of text.
 */
import { EngineError } from "./errors.ts";
import { TokenStream } from "./token-stream.ts";
import type { EngineStats } from "./engine-stats.ts";
import type {
  EngineEvent,
  EngineExit,
  EnginePort,
  InputOwner,
  LoadOptions,
  ModelFacts,
  PinPrompt,
  PinnedPrompt,
  PromptPart,
  RequestId,
  SubmitCommand,
  TokenId,
} from "./protocol.ts";
import type { StepReport } from "./step-report.ts";
import type { RequestChange } from "./sharing.ts";
import type { Timeline } from "./timeline.ts";

/** What a caller says of a request, a new one if nothing is to be resumed; the client adds the message type. */
export type SubmitRequest = Omit<SubmitCommand, "type" | "resume"> & Partial<Pick<SubmitCommand, "resume">>;

interface Waiting<T> {
  readonly resolve: (value: T) => void;
  readonly reject: (error: EngineError) => void;
}

type CallAnswer = Extract<EngineEvent, { call: number }>;

export type Embeddings = Omit<Extract<EngineEvent, { type: "embedded" }>, "type" | "call">;
export type Rankings = Omit<Extract<EngineEvent, { type: "ranked" }>, "type" | "call">;

export interface EngineClientHooks {
  /** After each step, for metrics. */
  readonly onStep?: (report: StepReport) => void;
  /** While a model loads, `ratio` from 0 to 1. */
  readonly onLoadProgress?: (ratio: number) => void;
}

export class EngineClient {
  /** Settles when the engine is gone; every open request has failed by then. */
  readonly exited: Promise<EngineExit>;
  readonly #port: EnginePort;
  readonly #hooks: EngineClientHooks;
  #loading: Waiting<ModelFacts> | undefined;
  readonly #submitting = new Map<RequestId, Waiting<TokenStream>>();
  readonly #streams = new Map<RequestId, TokenStream>();
  /** Takes the abort listener of an accepted request off its signal. */
  readonly #releases = new Map<RequestId, () => void>();
  readonly #calls = new Map<number, Waiting<CallAnswer>>();
  #nextCall = 1;
  #gone: EngineError | undefined;

  constructor(port: EnginePort, hooks: EngineClientHooks = {}) {
    this.#port = port;
    this.#hooks = hooks;
    port.onEvent((event) => this.#receive(event));
    this.exited = port.exited.then((exit) => {
      this.#failAll(new EngineError("engine_exited", `The engine has ended: ${exit.detail}.`));
      return exit;
    });
  }

  /** Requests that were submitted and have not ended. */
  get openRequests(): number {
    return this.#submitting.size + this.#streams.size;
  }

  /** @throws {EngineError} A load code, or `engine_exited`. */
  load(options: LoadOptions): Promise<ModelFacts> {
    return new Promise((resolve, reject) => {
      if (this.#gone !== undefined) return reject(this.#gone);
      this.#loading = { resolve, reject };
      this.#port.send({ type: "load", options });
    });
  }

  /**
   * Resolves when the engine has accepted the request (it may still wait for a slot); the stream ends with a
   * finish or throws. Aborting `signal` frees the request in any phase: before acceptance the promise
   * rejects with the signal's reason, afterwards the stream ends with finish reason `abort`.
   *
   * @throws {EngineError} `context_exceeded`, `empty_prompt`, `invalid_request`, `queue_full`, `draining`,
   * `engine_exited`.
   */
  submit(request: SubmitRequest, signal?: AbortSignal): Promise<TokenStream> {
    const { id } = request;
    return new Promise((resolve, reject) => {
      if (this.#gone !== undefined) return reject(this.#gone);
      if (signal?.aborted === true) return reject(signal.reason as Error);
      const onAbort = (): void => {
        this.#submitting.get(id)?.reject(signal?.reason as EngineError);
        this.cancel(id);
      };
      const release = (): void => signal?.removeEventListener("abort", onAbort);
      signal?.addEventListener("abort", onAbort, { once: true });
      this.#submitting.set(id, {
        resolve: (stream) => {
          this.#releases.set(id, release);
          resolve(stream);
        },
        reject: (error) => {
          release();
          reject(error);
        },
      });
      this.#port.send({ type: "submit", resume: [], ...request });
    });
  }

  /** Frees the request in any phase. Its stream, if it has one, ends at once with finish reason `abort`. */
  cancel(id: RequestId): void {
    const known = this.#submitting.delete(id);
    const stream = this.#streams.get(id);
    if (!known && stream === undefined) return;
    this.#forget(id);
    this.#port.send({ type: "cancel", id });
    stream?.push({
      id,
      tokens: [],
      logprobs: undefined,
      start: undefined,
      finish: { reason: "abort", stopToken: undefined },
    });
  }

  /** Pauses, resumes or reprioritises a request in any phase; does nothing to one that has ended. */
  control(id: RequestId, change: RequestChange): void {
    if (this.#submitting.has(id) || this.#streams.has(id)) this.#port.send({ type: "control", id, change });
  }

  /** Token ids of the parts, special text parsed where a part allows it. */
  async tokenize(
    parts: readonly PromptPart[],
    addBos: boolean,
    signal?: AbortSignal,
  ): Promise<readonly TokenId[]> {
    const [tokens = []] = await this.tokenizeEach([parts], addBos, signal);
    return tokens;
  }

  /**
   * As `tokenize`, of many short texts in one call. Aborting `signal` rejects with its reason.
   * @returns Per text.
   */
  async tokenizeEach(
    texts: readonly (readonly PromptPart[])[],
    addBos: boolean,
    signal?: AbortSignal,
  ): Promise<readonly (readonly TokenId[])[]> {
    const answer = await this.#call((call) => ({ type: "tokenize", call, texts, addBos }), signal);
    return answer.type === "tokenized" ? answer.tokens : unexpectedAnswer(answer);
  }

  /**
   * Vectors of length 1. Aborting `signal` rejects with its reason and takes the work back.
   * @param keep As in `EmbedCommand`.
   * @throws {EngineError} `context_exceeded` and `empty_prompt` with the `index` of the input, `invalid_request`,
   * `queue_full`, `owner_queue_full`, `owner_tokens_exceeded`, `draining`, `out_of_memory`, `decode_failed`, `engine_exited`.
   */
  async embed(
    inputs: readonly (readonly PromptPart[])[],
    signal?: AbortSignal,
    { keep, ...who }: InputOwner & { readonly keep?: number | undefined } = {},
  ): Promise<Embeddings> {
    const answer = await this.#call((call) => ({ type: "embed", call, inputs, keep, ...who }), signal);
    return answer.type === "embedded" ? answer : unexpectedAnswer(answer);
  }

  /**
   * Scores from 0 to 1. Errors and `signal` as for `embed`.
   */
  async rank(
    query: readonly PromptPart[],
    documents: readonly (readonly PromptPart[])[],
    signal?: AbortSignal,
    who: InputOwner = {},
  ): Promise<Rankings> {
    const answer = await this.#call((call) => ({ type: "rank", call, query, documents, ...who }), signal);
    return answer.type === "ranked" ? answer : unexpectedAnswer(answer);
  }

  /** @throws {EngineError} `invalid_request` for what cannot be kept, `decode_failed`, `engine_exited`. */
  async pin(prompts: readonly PinPrompt[]): Promise<readonly PinnedPrompt[]> {
    const answer = await this.#call((call) => ({ type: "pin", call, prompts }));
    return answer.type === "pinned" ? answer.pins : unexpectedAnswer(answer);
  }

  async stats(): Promise<EngineStats> {
    const answer = await this.#call((call) => ({ type: "stats", call }));
    return answer.type === "stats" ? answer.stats : unexpectedAnswer(answer);
  }

  /** @param steps Of the last steps, so many at most. */
  async timeline(steps: number): Promise<Timeline> {
    const answer = await this.#call((call) => ({ type: "timeline", call, steps }));
    return answer.type === "timeline" ? answer.timeline : unexpectedAnswer(answer);
  }

  /** Resolves when nothing runs or waits any more; new requests fail with `draining` from now on. */
  async drain(): Promise<void> {
    await this.#call((call) => ({ type: "drain", call }));
  }

  /** Asks the engine to end and waits until it has. */
  async stop(): Promise<void> {
    this.#port.send({ type: "stop" });
    await this.exited;
  }

  /** Ends the engine without waiting; for one that does not answer. */
  kill(): void {
    this.#port.kill();
  }

  #call(
    command: (call: number) => Parameters<EnginePort["send"]>[0],
    signal?: AbortSignal,
  ): Promise<CallAnswer> {
    return new Promise((resolve, reject) => {
      if (this.#gone !== undefined) return reject(this.#gone);
      if (signal?.aborted === true) return reject(signal.reason as Error);
      const call = this.#nextCall++;
      const onAbort = (): void => {
        if (!this.#calls.delete(call)) return;
        this.#port.send({ type: "cancel_call", call });
        reject(signal?.reason as Error);
      };
      const release = (): void => signal?.removeEventListener("abort", onAbort);
      signal?.addEventListener("abort", onAbort, { once: true });
      this.#calls.set(call, {
        resolve: (answer) => {
          release();
          resolve(answer);
        },
        reject: (error) => {
          release();
          reject(error);
        },
      });
      this.#port.send(command(call));
    });
  }

  #receive(event: EngineEvent): void {
    switch (event.type) {
      case "load_progress":
        return this.#hooks.onLoadProgress?.(event.ratio);
      case "companion":
      case "device_wanted":
      case "device_freed":
        return undefined;
      case "loaded":
        return this.#loading?.resolve(event.facts);
      case "load_failed":
        return this.#loading?.reject(new EngineError(event.code, event.message));
      case "accepted":
        return this.#accept(event);
      case "failed":
        return this.#fail(event.id, new EngineError(event.code, event.message, event.details));
      case "step":
        for (const { id, to } of event.moves ?? []) this.#streams.get(id)?.moved(to);
        for (const output of event.outputs) {
          this.#streams.get(output.id)?.push(output);
          if (output.finish !== undefined) this.#forget(output.id);
        }
        for (const report of event.before ?? []) this.#hooks.onStep?.(report);
        return this.#hooks.onStep?.(event.report);
      case "tokenized":
      case "embedded":
      case "ranked":
      case "pinned":
      case "stats":
      case "timeline":
      case "drained":
      case "call_failed":
        return this.#answer(event);
    }
  }

  #accept({ id, promptTokens, allowance }: Extract<EngineEvent, { type: "accepted" }>): void {
    const waiting = this.#submitting.get(id);
    if (waiting === undefined) return;
    this.#submitting.delete(id);
    const stream = new TokenStream(promptTokens, () => this.cancel(id), allowance);
    this.#streams.set(id, stream);
    waiting.resolve(stream);
  }

  #fail(id: RequestId, error: EngineError): void {
    const waiting = this.#submitting.get(id);
    this.#submitting.delete(id);
    const stream = this.#streams.get(id);
    this.#forget(id);
    waiting?.reject(error);
    stream?.fail(error);
  }

  #forget(id: RequestId): void {
    this.#streams.delete(id);
    this.#releases.get(id)?.();
    this.#releases.delete(id);
  }

  #answer(event: CallAnswer): void {
    const waiting = this.#calls.get(event.call);
    this.#calls.delete(event.call);
    if (event.type === "call_failed")
      waiting?.reject(new EngineError(event.code, event.message, event.details));
    else waiting?.resolve(event);
  }

  #failAll(error: EngineError): void {
    this.#gone = error;
    this.#loading?.reject(error);
    for (const id of [...this.#submitting.keys(), ...this.#streams.keys()]) this.#fail(id, error);
    for (const waiting of this.#calls.values()) waiting.reject(error);
    this.#calls.clear();
  }
}

function unexpectedAnswer(answer: CallAnswer): never {
  throw new EngineError("internal", `Engine answered with an unexpected "${answer.type}".`);
}
