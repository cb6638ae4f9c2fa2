/** How well requests are served: evenly in time, within the targets, and fairly between those who wait. */
import { Counter, Gauge, Histogram } from "prom-client";
import type { Registry } from "prom-client";
import type { EngineStats } from "../../engine/protocol.ts";
import { ITL_SECONDS } from "./buckets.ts";

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
  readonly #queuedTokens: Gauge;
  readonly #serviceGap: Gauge;

  constructor(registry: Registry) {
    const histogram = (name: string, help: string): Histogram =>
      new Histogram({ name, help, labelNames: MODEL, buckets: [...ITL_SECONDS], registers: [registry] });
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

  observeFinish(model: string, finished: Finished, { ttftMs: latestMs, itlMs }: Targets): void {
    const { e2eMs, ttftMs, decodeMs, outputTokens } = finished;
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
