/** Prompts that the prefill worker computes, as Prometheus reads them. */
import { Counter, Gauge } from "prom-client";
import type { Registry } from "prom-client";
import type { EngineStats } from "../../engine/engine-stats.ts";
import type { StepReport } from "../../engine/step-report.ts";

const MODEL = ["model"] as const;
const SECONDS_PER_MS = 1e-3;

export class OffloadMetrics {
  readonly #up: Gauge<"model">;
  readonly #prompts: Counter<"model" | "outcome">;
  readonly #tokens: Counter<"model">;
  readonly #seconds: Counter<"model">;

  constructor(registry: Registry) {
    const registers = [registry];
    const counter = (name: string, help: string): Counter<"model"> =>
      new Counter({ name, help, labelNames: MODEL, registers });
    this.#up = new Gauge({
      name: "weft_prefill_worker_up",
      help: "1 while a model's prefill worker can be given long prompts or computes one.",
      labelNames: MODEL,
      registers,
    });
    this.#prompts = new Counter({
      name: "weft_offloaded_prompts_total",
      help: "Prompts that were given to a prefill worker, by what came of it: computed, or failed and computed by the engine.",
      labelNames: ["model", "outcome"],
      registers,
    });
    this.#tokens = counter(
      "weft_offloaded_tokens_total",
      "Prompt tokens that prefill workers have computed.",
    );
    this.#seconds = counter(
      "weft_offloaded_seconds_total",
      "Time from giving prompts to prefill workers to their cells being there, with the engine's own steps in between.",
    );
  }

  observeStep(model: string, { prompts, tokens, ms, failures }: NonNullable<StepReport["offload"]>): void {
    this.#prompts.inc({ model, outcome: "computed" }, prompts);
    this.#prompts.inc({ model, outcome: "failed" }, failures);
    this.#tokens.inc({ model }, tokens);
    this.#seconds.inc({ model }, ms * SECONDS_PER_MS);
  }

  setGauges(model: string, { prefillWorker }: EngineStats): void {
    this.#up.set({ model }, prefillWorker === undefined ? 0 : 1);
  }

  resetGauges(): void {
    this.#up.reset();
  }
}
