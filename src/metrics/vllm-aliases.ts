/** The series that routers, autoscalers and dashboards look for under vLLM's names. */
import { Counter, Gauge, Histogram } from "prom-client";
import type { Registry } from "prom-client";
import type { LoadedModel } from "../../models/loaded-model.ts";
import { ITL_SECONDS, LATENCY_SECONDS } from "./buckets.ts";

const LABELS = ["model_name", "engine"] as const;
type Labels = Record<(typeof LABELS)[number], string>;

const SECONDS_PER_MS = 1e-3;

/** vLLM counts cache blocks; our cells are blocks of one token. */
const BLOCK_SIZE = "1";

export interface LoadGauges {
  readonly running: number;
  readonly waiting: number;
  /** 0 to 1. */
  readonly usage: number;
}

export class VllmAliases {
  readonly #registry: Registry;
  readonly #running: Gauge;
  readonly #waiting: Gauge;
  readonly #kvUsage: Gauge;
  readonly #cacheConfig: Gauge;
  readonly #ttft: Histogram;
  readonly #itl: Histogram;
  readonly #e2e: Histogram;
  readonly #promptTokens: Counter;
  readonly #outputTokens: Counter;
  readonly #success: Counter;
  readonly #prefixHits: Counter;
  readonly #prefixQueries: Counter;

  constructor(registry: Registry) {
    this.#registry = registry;
    this.#running = this.#gauge("vllm:num_requests_running", "Requests that hold a slot.");
    this.#waiting = this.#gauge("vllm:num_requests_waiting", "Requests that wait for a slot.");
    this.#kvUsage = this.#gauge("vllm:kv_cache_usage_perc", "KV cache in use, 0 to 1.");
    this.#cacheConfig = this.#gauge("vllm:cache_config_info", "Size of the KV cache; always 1.", [
      "block_size",
      "num_gpu_blocks",
    ]);
    this.#ttft = this.#histogram("vllm:time_to_first_token_seconds", "Time to first token.", LATENCY_SECONDS);
    this.#itl = this.#histogram("vllm:inter_token_latency_seconds", "Time between tokens.", ITL_SECONDS);
    this.#e2e = this.#histogram(
      "vllm:e2e_request_latency_seconds",
      "Time of a whole request.",
      LATENCY_SECONDS,
    );
    this.#promptTokens = this.#counter("vllm:prompt_tokens_total", "Prompt tokens.");
    this.#outputTokens = this.#counter("vllm:generation_tokens_total", "Generated tokens.");
    this.#success = this.#counter("vllm:request_success_total", "Finished requests.", ["finished_reason"]);
    this.#prefixHits = this.#counter("vllm:prefix_cache_hits_total", "Prompt tokens found in the cache.");
    this.#prefixQueries = this.#counter("vllm:prefix_cache_queries_total", "Prompt tokens looked up.");
  }

  observePrompt(
    model: string,
    prompt: { readonly promptTokens: number; readonly cachedTokens: number; readonly ttftMs: number },
  ): void {
    const labels = labelsOf(model);
    this.#ttft.observe(labels, prompt.ttftMs * SECONDS_PER_MS);
    this.#promptTokens.inc(labels, prompt.promptTokens);
    this.#prefixHits.inc(labels, prompt.cachedTokens);
    this.#prefixQueries.inc(labels, prompt.promptTokens);
  }

  /** Of embeddings and of a reranking. */
  countInputs(model: string, tokens: number): void {
    this.#promptTokens.inc(labelsOf(model), tokens);
  }

  countOutput(model: string, count: number): void {
    this.#outputTokens.inc(labelsOf(model), count);
  }

  observeItl(model: string, seconds: number): void {
    this.#itl.observe(labelsOf(model), seconds);
  }

  observeFinish(model: string, reason: "stop" | "length", seconds: number): void {
    this.#e2e.observe(labelsOf(model), seconds);
    this.#success.inc({ ...labelsOf(model), finished_reason: reason }, 1);
  }

  setGauges(model: LoadedModel, load: LoadGauges): void {
    const labels = labelsOf(model.id);
    this.#running.set(labels, load.running);
    this.#waiting.set(labels, load.waiting);
    this.#kvUsage.set(labels, load.usage);
    const blocks = String(model.facts.slots * model.facts.contextTokens);
    this.#cacheConfig.set({ ...labels, block_size: BLOCK_SIZE, num_gpu_blocks: blocks }, 1);
  }

  resetGauges(): void {
    for (const gauge of [this.#running, this.#waiting, this.#kvUsage]) gauge.reset();
  }

  #gauge(name: string, help: string, extra: readonly string[] = []): Gauge {
    return new Gauge({ name, help, labelNames: [...LABELS, ...extra], registers: [this.#registry] });
  }

  #counter(name: string, help: string, extra: readonly string[] = []): Counter {
    return new Counter({ name, help, labelNames: [...LABELS, ...extra], registers: [this.#registry] });
  }

  #histogram(name: string, help: string, buckets: readonly number[]): Histogram {
    return new Histogram({
      name,
      help,
      labelNames: LABELS,
      buckets: [...buckets],
      registers: [this.#registry],
    });
  }
}

function labelsOf(model: string): Labels {
  return { model_name: model, engine: "0" };
}
