/** One choice from prompt to finish: submits it, turns its tokens into text, stops it at a stop string. */
import type { PrefillReport, PromptLogprobs, StartInfo, StepOutput, TokenId } from "../engine/protocol.ts";
import type { Allowance, PriorityClass } from "../engine/sharing.ts";
import type { TokenStream } from "../engine/token-stream.ts";
import type { LoadedModel } from "../models/loaded-model.ts";
import type { WholeOutput } from "../models/output-check.ts";
import { TextPipeline } from "../models/text/text-pipeline.ts";
import type { DeltaToken, OutputDelta } from "../models/text/text-pipeline.ts";
import type { AppConfig, Clock, Lifecycle, Log } from "./deps.ts";
import type { GenerationEvent, GenerationListener, GenerationProgress } from "./generation-events.ts";
import type { Metrics } from "./metrics/metrics.ts";
import { ReadingLine } from "./metrics/reading-line.ts";
import type { Finished } from "./metrics/service-metrics.ts";
import { asShown, inClientsWords } from "./client-words.ts";
import { ApiError } from "./openai/api-error.ts";
import type { LiveRequests } from "./live-requests.ts";
import type { CallReading, GenerateRequest } from "./generate-request.ts";
import { RequestControl } from "./request-control.ts";
import { RequestTrace } from "./tracing/request-trace.ts";
import { singleTokens } from "./single-tokens.ts";
import { assertWorthTokenizing, submitOf, targetsOf } from "./submit-request.ts";

export interface GenerateDeps {
  readonly clock: Clock;
  readonly metrics: Metrics;
  readonly lifecycle: Lifecycle;
  readonly log: Log;
  readonly config: Pick<AppConfig, "isolateKeys" | "limits" | "ttftLimitMs">;
  readonly live: LiveRequests;
}

/** Where a choice is that has not ended. */
export interface GenerationState {
  /** `queued` until its first token. */
  readonly status: "queued" | "running" | "paused";
  readonly priority: PriorityClass;
  readonly promptTokens: number;
  readonly completionTokens: number;
  readonly ageMs: number;
}

/**
 * Resolves when the engine has accepted the request.
 *
 * @throws {ApiError} What the engine said, in the client's words; `client_closed` when `signal` aborts first.
 */
export async function generate(
  model: LoadedModel,
  request: GenerateRequest,
  deps: GenerateDeps,
  signal: AbortSignal,
): Promise<Generation> {
  if (!model.facts.generates) {
    const message = `The model '${model.id}' gives embeddings or scores and does not generate text.`;
    throw new ApiError("unsupported_value", message, "model");
  }
  assertWorthTokenizing(request, model);
  const submittedMs = deps.clock.nowMs();
  return inClientsWords(request, deps, signal, async () => {
    const submit = submitOf(model, request, deps.config.isolateKeys, submittedMs);
    const stream = await model.engine.submit(submit, signal);
    const control = new RequestControl(model.engine, request.id, submit.priority);
    const generation = new Generation(model, request, stream, {
      ...deps,
      signal,
      submittedMs,
      control,
      trace: RequestTrace.current,
    });
    const { id, answerId = id, owner, scheduling } = request;
    deps.live.add(generation, { id: answerId, requestId: scheduling?.requestId, owner, model: model.id });
    return generation;
  });
}

interface RunContext extends GenerateDeps {
  readonly control: RequestControl;
  readonly signal: AbortSignal;
  readonly submittedMs: number;
  /** Of the HTTP request: what an engine says reaches the choice in no request's context. */
  readonly trace: RequestTrace | undefined;
}

/**
 * The events of one choice: deltas, then one finish. A choice whose client has gone ends without a finish.
 *
 * Tokens become events in the turn in which they arrive, so that a stop string frees the slot however slowly the
 * client reads. Who passes the events on holds it back with `setPaused` when too many of them wait.
 */
export class Generation {
  readonly promptTokens: readonly TokenId[];
  /** What is left to whoever asked, as it was when the engine took the request. */
  readonly allowance: Allowance | undefined;
  readonly control: RequestControl;
  readonly #model: LoadedModel;
  readonly #request: GenerateRequest;
  readonly #run: RunContext;
  readonly #calls: CallReading | undefined;
  readonly #pipeline: TextPipeline;
  /** The answer so far, kept when it is to be looked at in the end. */
  readonly #whole: WholeOutput | undefined;
  readonly #acceptedMs: number;
  #events: GenerationEvent[] = [];
  #ended = false;
  #error: Error | undefined;
  #listener: GenerationListener | undefined;
  #start: StartInfo | undefined;
  /** What was last told of the prompt. */
  #prefill: PrefillReport | undefined;
  #unsent: TokenId[] = [];
  #promptLogprobs: PromptLogprobs | undefined;
  #completionTokens = 0;
  #guessesRight = 0;
  #guessesWrong = 0;
  #predictionsRight = 0;
  #predictionsWrong = 0;
  #firstMs: number | undefined;
  #lastMs = 0;
  readonly #reading = new ReadingLine();
  /** Since when its client is behind; undefined: it is not. */
  #behindMs: number | undefined;
  #callCount = 0;
  /** Every token so far, kept while thinking may have to be ended. */
  #output: TokenId[] | undefined;
  #thought = 0;
  /** A call that has begun and has no arguments yet. */
  #bareCall: number | undefined;

  constructor(model: LoadedModel, request: GenerateRequest, stream: TokenStream, run: RunContext) {
    this.promptTokens = stream.promptTokens;
    this.allowance = stream.allowance;
    this.control = run.control;
    this.#model = model;
    this.#request = request;
    this.#run = run;
    this.#acceptedMs = run.clock.nowMs();
    this.#output = request.thinking && [];
    const { stops, includeStop, skipControl, minTokens } = request.settings;
    this.#calls = request.calls?.();
    this.#whole = request.verify && { content: "", calls: [] };
    this.#pipeline = new TextPipeline({
      table: model.tokens,
      stops,
      includeStop,
      skipControl,
      minTokens,
      reasoning: request.reasoning,
      calls: this.#calls,
    });
    this.#follow(stream);
  }

  /** Hands over the events that are there and, from now on, each as it comes. Once. */
  listen(listener: GenerationListener): void {
    for (const event of this.#events) listener.onEvent(event);
    this.#events = [];
    this.#listener = listener;
    if (this.#ended) listener.onEnd(this.#error);
  }

  /** Frees the slot of a choice that nobody wants any more; does nothing to one that has ended. */
  cancel(): void {
    this.control.cancel();
  }

  /** Where it is now, for whoever looks. */
  get state(): GenerationState {
    const { control } = this;
    return {
      status: control.paused ? "paused" : this.#start === undefined ? "queued" : "running",
      priority: control.priority,
      promptTokens: this.promptTokens.length,
      completionTokens: this.#completionTokens,
      ageMs: this.#run.clock.nowMs() - this.#run.submittedMs,
    };
  }

  /** A paused choice gets no tokens but those on their way; it loses its slot only to somebody who waits for one. */
  setPaused(paused: boolean): void {
    if (!this.control.hold(paused)) return;
    if (paused) this.#run.metrics.countPause();
    this.#endPause();
    if (paused) this.#behindMs = this.#run.clock.nowMs();
  }

  #endPause(): void {
    if (this.#behindMs === undefined) return;
    this.#run.metrics.observeReaderPause(this.#model.id, this.#run.clock.nowMs() - this.#behindMs);
    this.#behindMs = undefined;
  }

  #follow(stream: TokenStream): void {
    stream.listen({
      onOutput: (output) => this.#read(output, stream),
      onError: (error) => this.#fail(error),
    });
  }

  #read(output: StepOutput, stream: TokenStream): void {
    if (this.#ended) return;
    try {
      if (output.prefill !== undefined) return this.#emitPrefill(output.prefill);
      this.#observe(output);
      for (const single of singleTokens(output)) {
        if (this.#take(single, stream)) {
          stream.abandon();
          return this.#end();
        }
        if (this.#thinksTooLong(single)) {
          stream.abandon();
          void this.#endThinking();
          return;
        }
      }
    } catch (error) {
      stream.abandon();
      this.#fail(error);
    }
  }

  #fail(error: unknown): void {
    const { signal, lifecycle, metrics } = this.#run;
    if (signal.aborted && error === signal.reason) metrics.countDisconnect("decode");
    else this.#error = asShown(error, this.#request, lifecycle);
    this.#end();
  }

  #end(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#endPause();
    this.control.end();
    this.#listener?.onEnd(this.#error);
  }

  #thinksTooLong({ tokens }: StepOutput): boolean {
    const limit = this.#request.thinking;
    if (limit === undefined || this.#output === undefined) return false;
    if (!this.#pipeline.thinking) {
      // Thinking comes first, or not at all.
      if (this.#thought > 0) this.#output = undefined;
      return false;
    }
    this.#thought += tokens.length;
    const after = this.#completionTokens + limit.closing.length;
    const fits = after < (this.#request.settings.maxTokens ?? Infinity);
    return this.#thought >= limit.tokens && fits && this.promptTokens.length + after < this.#contextTokens;
  }

  /** Goes on as if the model had ended its thinking itself. Never rejects. */
  async #endThinking(): Promise<void> {
    try {
      this.#follow(await this.#submitAnswer());
    } catch (error) {
      this.#fail(error);
    }
  }

  #submitAnswer(): Promise<TokenStream> {
    const closing = this.#request.thinking?.closing ?? [];
    const resume = [...(this.#output ?? []), ...closing];
    this.#output = undefined;
    this.#count(closing);
    for (const delta of this.#pipeline.push(closing, undefined)) this.#emitDelta(delta);
    const submit = {
      ...submitOf(this.#model, this.#request, this.#run.config.isolateKeys, this.#run.clock.nowMs()),
      ...this.control.continueAs(`${this.#request.id}-answer`),
      resume,
    };
    return this.#model.engine.submit(submit, this.#run.signal);
  }

  get #contextTokens(): number {
    return this.#model.facts.contextTokens;
  }

  /** @returns Whether this was the last output that matters. */
  #take(output: StepOutput, stream: TokenStream): boolean {
    if (output.finish?.reason === "abort") {
      if (this.control.stopped)
        throw new ApiError("request_cancelled", "The request was cancelled before it was finished.");
      if (!this.#run.signal.aborted) {
        throw new ApiError("engine_error", "The model's engine ended this request before it was finished.");
      }
      this.#run.metrics.countDisconnect(this.#firstMs === undefined ? stream.earlyPhase : "decode");
      return true;
    }
    this.#count(output.tokens);
    // The token that ends the output is no part of the text unless asked for.
    const ending = this.#request.settings.includeStop ? undefined : output.finish?.stopToken;
    const cut = ending !== undefined;
    const visible = cut ? output.tokens.slice(0, -1) : output.tokens;
    const logprobs = cut ? output.logprobs?.slice(0, -1) : output.logprobs;
    for (const delta of this.#pipeline.push(visible, logprobs)) this.#emitDelta(delta);
    if (this.#pipeline.stopString !== undefined) {
      this.#emitFinish("stop", this.#pipeline.stopString, undefined);
      return true;
    }
    if (output.finish === undefined) return false;
    const { reason, stopToken } = output.finish;
    for (const delta of this.#pipeline.flush(reason !== "length")) this.#emitDelta(delta);
    const asked = this.#request.settings.stopTokens.some(({ token }) => token === stopToken);
    const endToken = cut ? { token: ending, logprobs: output.logprobs?.at(-1) } : undefined;
    this.#emitFinish(reason === "length" ? "length" : "stop", asked ? stopToken : undefined, endToken);
    return true;
  }

  /** A prompt that is computed once more, by another engine or in another slot, is told of where it is new. */
  #emitPrefill(report: PrefillReport): void {
    const { computedTokens } = report;
    const before = this.#prefill;
    if (before !== undefined && computedTokens <= before.computedTokens) return;
    // Another engine counts its time from 0 again.
    const ms = Math.max(report.ms, before?.ms ?? 0);
    this.#prefill = { cachedTokens: before?.cachedTokens ?? report.cachedTokens, computedTokens, ms };
    const { usage, timings } = this.#counts();
    this.#emit({
      kind: "prefill",
      promptLogprobs: undefined,
      tokenIds: [],
      usage: { ...usage, cachedTokens: this.#prefill.cachedTokens },
      timings,
      computedTokens,
      ms,
    });
  }

  /** Times what a step brought. */
  #observe({ tokens, start, guessed = 0, ofPrediction = false }: StepOutput): void {
    const { metrics, clock, trace } = this.#run;
    const nowMs = clock.nowMs();
    if (start !== undefined) {
      this.#start = start;
      if (this.#prefill !== undefined)
        this.#emitPrefill({ ...start, computedTokens: this.promptTokens.length, ms: start.prefillMs });
      this.#promptLogprobs = start.promptLogprobs;
      const { cachedTokens, cachedFrom, queueMs, heldMs, prefillMs } = start;
      const ttftMs = nowMs - this.#acceptedMs;
      const promptTokens = this.promptTokens.length;
      const prompt = { promptTokens, cachedTokens, cachedFrom, queueMs, heldMs, prefillMs, ttftMs };
      metrics.observePrompt(this.#model.id, prompt);
      trace?.firstToken(prompt);
    }
    if (tokens.length === 0) return;
    const right = Math.min(guessed, tokens.length - 1);
    this.#guessesRight += right;
    this.#guessesWrong += guessed - right;
    if (ofPrediction) {
      this.#predictionsRight += right;
      this.#predictionsWrong += guessed - right;
    }
    const gapMs = this.#firstMs === undefined ? undefined : nowMs - this.#lastMs;
    metrics.observeTokens(this.#model.id, tokens.length, gapMs);
    this.#firstMs ??= nowMs;
    this.#reading.add(tokens.length, nowMs - this.#firstMs);
    this.#lastMs = nowMs;
  }

  #count(tokens: readonly TokenId[]): void {
    this.#unsent.push(...tokens);
    this.#output?.push(...tokens);
    this.#completionTokens += tokens.length;
  }

  #emitDelta(delta: OutputDelta): void {
    if (delta.kind === "tool_call") {
      this.#endCall();
      this.#callCount++;
      this.#bareCall = delta.index;
      this.#emit({ ...this.#progress(), ...delta, id: this.#calls?.nextId() ?? "" });
    } else if (delta.kind === "tool_arguments") {
      if (delta.text === "") return;
      this.#bareCall = undefined;
      this.#emit({ ...this.#progress(), ...delta });
    } else this.#emit({ ...this.#progress(), kind: delta.kind, text: delta.text, tokens: delta.tokens });
  }

  /** Arguments are JSON, also those of a call that has none. */
  #endCall(): void {
    if (this.#bareCall === undefined) return;
    this.#emit({ ...this.#progress(), kind: "tool_arguments", index: this.#bareCall, text: "{}" });
    this.#bareCall = undefined;
  }

  #finished(): Finished {
    const { clock, submittedMs } = this.#run;
    const firstMs = this.#firstMs;
    return {
      e2eMs: clock.nowMs() - submittedMs,
      ttftMs: firstMs === undefined ? undefined : firstMs - submittedMs,
      decodeMs: firstMs === undefined ? 0 : this.#lastMs - firstMs,
      outputTokens: this.#completionTokens,
      quality: this.#reading.quality,
    };
  }

  #emitFinish(
    ended: "stop" | "length",
    stopReason: string | TokenId | undefined,
    endToken: DeltaToken | undefined,
  ): void {
    if (ended === "stop") this.#endCall();
    if (ended === "stop" && stopReason === undefined) void this.#verify();
    const { metrics, trace, submittedMs, config } = this.#run;
    const targets = targetsOf(this.#model, this.#request, submittedMs, config.ttftLimitMs);
    metrics.observeFinish(this.#model.id, ended, this.#finished(), targets);
    trace?.finished(ended);
    const reason = ended === "stop" && this.#callCount > 0 ? "tool_calls" : ended;
    this.#emit({ ...this.#progress(), kind: "finish", reason, stopReason, endToken });
  }

  /** Tells the operator; the answer does not wait for it. Never rejects. */
  async #verify(): Promise<void> {
    const wrong = this.#whole && (await this.#request.verify?.(this.#whole));
    if (wrong === undefined) return;
    const { log, metrics } = this.#run;
    metrics.countInvalidOutput(this.#model.id);
    log.warn({ id: this.#request.id, model: this.#model.id, wrong }, "an answer is not what its schema says");
  }

  /** Keeps what is looked at in the end. */
  #collect(event: GenerationEvent): void {
    const whole = this.#whole;
    if (whole === undefined) return;
    if (event.kind === "content") whole.content += event.text;
    else if (event.kind === "tool_call") whole.calls.push({ name: event.name, arguments: "" });
    else if (event.kind === "tool_arguments") {
      const call = whole.calls.at(-1);
      if (call !== undefined) call.arguments += event.text;
    }
  }

  #emit(event: GenerationEvent): void {
    this.#collect(event);
    if (this.#listener === undefined) this.#events.push(event);
    else this.#listener.onEvent(event);
  }

  #progress(): GenerationProgress {
    const tokenIds = this.#unsent;
    const promptLogprobs = this.#promptLogprobs;
    this.#unsent = [];
    this.#promptLogprobs = undefined;
    return { promptLogprobs, tokenIds, ...this.#counts() };
  }

  #counts(): Pick<GenerationProgress, "usage" | "timings"> {
    return {
      usage: {
        promptTokens: this.promptTokens.length,
        cachedTokens: this.#start?.cachedTokens ?? 0,
        completionTokens: this.#completionTokens,
        guessesRight: this.#guessesRight,
        guessesWrong: this.#guessesWrong,
        predictionsRight: this.#predictionsRight,
        predictionsWrong: this.#predictionsWrong,
        reasoningTokens: this.#pipeline.reasoningTokens,
      },
      timings: {
        prefillMs: this.#start?.prefillMs ?? 0,
        decodeMs: this.#firstMs === undefined ? 0 : this.#lastMs - this.#firstMs,
        queueMs: this.#start?.queueMs,
        ttftMs: this.#firstMs === undefined ? undefined : this.#firstMs - this.#run.submittedMs,
      },
    };
  }
}
