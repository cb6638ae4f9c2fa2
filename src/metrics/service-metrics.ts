/** How well requests are served: evenly in time, within the targets, and fairly between those who wait. */
import { Counter, Gauge, Histogram } from "prom-client";
import type { Registry } from "prom-client";
import type { EngineStats } from "../../engine/engine-stats.ts";
import type { StepReport } from "../../engine/step-report.ts";
import { ITL_SECONDS, LATENCY_SECONDS, QUALITIES } from "./buckets.ts";
import { READING_TOKENS_PER_SECOND } from "./reading-line.ts";

const MODEL = ["model"] as const;
const SECONDS_PER_MS = 1e-3;

/** Times in ms. */
export interface Finished {
  readonly e2eMs: number;
  /** From being submitted; undefined where no token was wanted. */
  readonly ttftMs: number | undefined;
  /** From the first token to the last. */
  readonly decodeMs: number;
  readonly outputTokens: number;
  /** See `ReadingLine`. */
  readonly quality: number | undefined;
}

/** Longest times of a good answer, in ms; Infinity where there is no target. */
export interface Targets {
  readonly ttftMs: number;
  readonly itlMs: number;
}

export class ServiceMetrics {
  readonly #gap: Histogram;
  readonly #tpot: Histogram;
  readonly #normalized: Histogram;
  readonly #good: Counter;
  readonly #quality: Histogram;
  readonly #held: Histogram;
  readonly #freed: Histogram;
  readonly #readerPause: Histogram;
  readonly #queuedTokens: Gauge;
  readonly #serviceGap: Gauge;

  constructor(registry: Registry) {
    const histogram = (name: string, help: string, buckets: readonly number[] = ITL_SECONDS): Histogram =>
      new Histogram({ name, help, labelNames: MODEL, buckets: [...buckets], registers: [registry] });
    const gauge = (name: string, help: string): Gauge =>
      new Gauge({ name, help, labelNames: MODEL, registers: [registry] });
    this.#gap = histogram(
      "weft_inter_chunk_seconds",
      "Between two deliveries of a request, each of one token or of several that were guessed right.",
    );
    this.#tpot = histogram(
      "weft_tpot_seconds",
      "First to last token over the tokens behind the first, per request.",
    );
    this.#normalized = histogram(
      "weft_normalized_latency_seconds",
      "Submitted to last token over all tokens, per request.",
    );
    this.#good = new Counter({
      name: "weft_goodput_requests_total",
      help: "Finished requests whose first token came within --ttft-limit and their own deadline for it, and the others within --itl-target on average.",
      labelNames: MODEL,
      registers: [registry],
    });
    this.#quality = histogram(
      "weft_stream_qoe",
      `How evenly the tokens behind the first one came for who would read ${READING_TOKENS_PER_SECOND} of them a second, per request of two tokens and more, streamed or not: 1 less the area by which the reader is late over the whole area under that line.`,
      QUALITIES,
    );
    this.#held = histogram(
      "weft_hold_seconds",
      "Held back for a prefix that another request computed, until the slot was assigned: of requests that were, as part of weft_queue_seconds.",
      LATENCY_SECONDS,
    );
    this.#freed = histogram(
      "weft_cancel_seconds",
      "From a request in a slot being cancelled, by its client or at a stop string, to the slot being free.",
    );
    this.#readerPause = histogram(
      "weft_slow_reader_pause_seconds",
      "How long a generation was held back because its client did not read.",
      LATENCY_SECONDS,
    );
    this.#queuedTokens = gauge(
      "weft_queued_prompt_tokens",
      "Prompt tokens of requests that wait for a slot.",
    );
    this.#serviceGap = gauge(
      "weft_owner_service_gap_tokens",
      "Most less least service, in tokens over weight, of the keys with waiting requests.",
    );
  }

  observeGap(model: string, gapMs: number): void {
    this.#gap.observe({ model }, gapMs * SECONDS_PER_MS);
  }

  observeStep(model: string, { freedMs = [] }: StepReport): void {
    for (const ms of freedMs) this.#freed.observe({ model }, ms * SECONDS_PER_MS);
  }

  observeHold(model: string, heldMs: number): void {
    this.#held.observe({ model }, heldMs * SECONDS_PER_MS);
  }

  observeReaderPause(model: string, ms: number): void {
    this.#readerPause.observe({ model }, ms * SECONDS_PER_MS);
  }

  observeFinish(model: string, finished: Finished, { ttftMs: latestMs, itlMs }: Targets): void {
    const { e2eMs, ttftMs, decodeMs, outputTokens, quality } = finished;
    if (quality !== undefined) this.#quality.observe({ model }, quality);
    const tpotMs = outputTokens > 1 ? decodeMs / (outputTokens - 1) : 0;
    if (outputTokens > 1) this.#tpot.observe({ model }, tpotMs * SECONDS_PER_MS);
    if (outputTokens > 0) this.#normalized.observe({ model }, (e2eMs / outputTokens) * SECONDS_PER_MS);
    if ((ttftMs ?? 0) <= latestMs && tpotMs <= itlMs) this.#good.inc({ model });
  }

  /** Those of an engine that is gone are not told. */
  resetGauges(): void {
    this.#queuedTokens.reset();
    this.#serviceGap.reset();
  }

  setGauges(model: string, { queuedTokens = 0, serviceGap = 0 }: EngineStats): void {
    this.#queuedTokens.set({ model }, queuedTokens);
    this.#serviceGap.set({ model }, serviceGap);
  }
}
