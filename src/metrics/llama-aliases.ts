/** The series that llama-server's dashboards look for, under its names: without labels, of all models together. */
import { Counter, Gauge } from "prom-client";
import type { Registry } from "prom-client";
import type { InputWork } from "../../engine/protocol.ts";
import type { StepReport } from "../../engine/step-report.ts";

const SECONDS_PER_MS = 1e-3;

export class LlamaAliases {
  readonly #promptTokens: Counter;
  readonly #cachedTokens: Counter;
  readonly #promptSeconds: Counter;
  readonly #outputTokens: Counter;
  readonly #outputSeconds: Counter;
  readonly #calls: Counter;
  readonly #longest: Counter;
  readonly #guessed: Counter;
  readonly #guessedRight: Counter;
  readonly #guessing: Counter;
  readonly #promptRate: Gauge;
  readonly #outputRate: Gauge;
  readonly #running: Gauge;
  readonly #waiting: Gauge;
  readonly #busySlots: Gauge;
  readonly #prompt = { tokens: 0, seconds: 0 };
  /** Tokens without the first of each request, which come with its prompt. */
  readonly #output = { tokens: 0, seconds: 0 };
  readonly #decode = { calls: 0, requests: 0 };
  #most = 0;

  constructor(registry: Registry) {
    const registers = [registry];
    const counter = (name: string, help: string): Counter =>
      new Counter({ name: `llamacpp:${name}`, help, registers });
    const gauge = (name: string, help: string): Gauge =>
      new Gauge({ name: `llamacpp:${name}`, help, registers });
    this.#promptTokens = counter("prompt_tokens_total", "Prompt tokens computed.");
    this.#cachedTokens = counter("prompt_tokens_cached_total", "Prompt tokens found computed.");
    this.#promptSeconds = counter("prompt_seconds_total", "Time of computing prompts.");
    this.#outputTokens = counter("tokens_predicted_total", "Generated tokens.");
    this.#outputSeconds = counter("tokens_predicted_seconds_total", "Time of generating tokens.");
    this.#calls = counter("n_decode_total", "Native calls that compute tokens.");
    this.#longest = counter("n_tokens_max", "Most tokens seen in a slot.");
    this.#guessed = counter("spec_decode_num_draft_tokens_total", "Tokens guessed.");
    this.#guessedRight = counter("spec_decode_num_accepted_tokens_total", "Tokens guessed right.");
    this.#guessing = counter("spec_decode_num_drafts_total", "Native calls that checked guesses.");
    this.#promptRate = gauge("prompt_tokens_seconds", "Mean speed of computing prompts, tokens/s.");
    this.#outputRate = gauge("predicted_tokens_seconds", "Mean speed of a request's output, tokens/s.");
    this.#running = gauge("requests_processing", "Requests that hold a slot.");
    this.#waiting = gauge("requests_deferred", "Requests that wait for a slot.");
    this.#busySlots = gauge("n_busy_slots_per_decode", "Mean number of requests in a decode call.");
  }

  observeStep({ decodeSequences, prefillTokens, guessesRight = 0, guessesWrong = 0 }: StepReport): void {
    const decodes = decodeSequences > 0 ? 1 : 0;
    this.#calls.inc(decodes + (prefillTokens > 0 ? 1 : 0));
    this.#decode.calls += decodes;
    this.#decode.requests += decodeSequences;
    const guesses = guessesRight + guessesWrong;
    this.#guessed.inc(guesses);
    this.#guessedRight.inc(guessesRight);
    this.#guessing.inc(guesses > 0 ? 1 : 0);
  }

  observePrompt(prompt: {
    readonly promptTokens: number;
    readonly cachedTokens: number;
    readonly prefillMs: number;
  }): void {
    this.#countComputed(prompt.promptTokens - prompt.cachedTokens, prompt.prefillMs);
    this.#cachedTokens.inc(prompt.cachedTokens);
    this.#sawTokens(prompt.promptTokens);
  }

  /** Of embeddings and of a reranking. */
  observeInputs(tokens: number, { calls, ms }: InputWork): void {
    this.#calls.inc(calls);
    this.#countComputed(tokens, ms);
  }

  /** @param gapMs Since the tokens before; undefined for the first ones. */
  countOutput(count: number, gapMs: number | undefined): void {
    this.#outputTokens.inc(count);
    if (gapMs === undefined) return;
    this.#outputSeconds.inc(gapMs * SECONDS_PER_MS);
    this.#output.tokens += count;
    this.#output.seconds += gapMs * SECONDS_PER_MS;
  }

  /** Before the loads of the models are added. */
  resetGauges(): void {
    this.#running.set(0);
    this.#waiting.set(0);
    this.#promptRate.set(ratio(this.#prompt.tokens, this.#prompt.seconds));
    this.#outputRate.set(ratio(this.#output.tokens, this.#output.seconds));
    this.#busySlots.set(ratio(this.#decode.requests, this.#decode.calls));
  }

  /** @param longest Tokens of the fullest slot. */
  addLoad(running: number, waiting: number, longest: number): void {
    this.#running.inc(running);
    this.#waiting.inc(waiting);
    this.#sawTokens(longest);
  }

  #countComputed(tokens: number, ms: number): void {
    const seconds = ms * SECONDS_PER_MS;
    this.#promptTokens.inc(tokens);
    this.#promptSeconds.inc(seconds);
    this.#prompt.tokens += tokens;
    this.#prompt.seconds += seconds;
  }

  #sawTokens(count: number): void {
    this.#longest.inc(Math.max(0, count - this.#most));
    this.#most = Math.max(this.#most, count);
  }
}

function ratio(sum: number, by: number): number {
  return by > 0 ? sum / by : 0;
}
