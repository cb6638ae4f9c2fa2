/** Checkpoints, as Prometheus reads them: what is there, and what became of them. */
import { Counter, Gauge } from "prom-client";
import type { Registry } from "prom-client";
import type { CheckpointStats } from "../../engine/engine-stats.ts";
import type { CheckpointReport } from "../../engine/step-report.ts";

const MODEL = ["model"] as const;

export class CheckpointMetrics {
  readonly #count: Gauge<"model">;
  readonly #bytes: Gauge<"model">;
  readonly #limitBytes: Gauge<"model">;
  readonly #operations: Counter<"model" | "kind">;
  readonly #restoredTokens: Counter<"model">;

  constructor(registry: Registry) {
    const gauge = (name: string, help: string): Gauge<"model"> =>
      new Gauge({ name, help, labelNames: MODEL, registers: [registry] });
    this.#count = gauge("weft_checkpoints", "Checkpoints of a model that cannot take tokens back.");
    this.#bytes = gauge("weft_checkpoint_bytes", "Bytes of all of them, their tokens included.");
    this.#limitBytes = gauge(
      "weft_checkpoint_limit_bytes",
      "Most bytes of all of them; less than --checkpoint-size where there is no memory for more.",
    );
    this.#operations = new Counter({
      name: "weft_checkpoint_operations_total",
      help: "Checkpoints taken, restored, dropped for others, and those that failed.",
      labelNames: ["model", "kind"],
      registers: [registry],
    });
    this.#restoredTokens = new Counter({
      name: "weft_checkpoint_restored_tokens_total",
      help: "Prompt tokens that were not computed because a checkpoint was restored.",
      labelNames: MODEL,
      registers: [registry],
    });
  }

  observeStep(model: string, report: CheckpointReport): void {
    for (const [kind, count] of [
      ["taken", report.taken],
      ["restored", report.restored],
      ["dropped", report.dropped],
      ["failed", report.failures],
    ] as const)
      this.#operations.inc({ model, kind }, count);
    this.#restoredTokens.inc({ model }, report.restoredTokens);
  }

  setGauges(model: string, { count, bytes, limitBytes }: CheckpointStats): void {
    this.#count.set({ model }, count);
    this.#bytes.set({ model }, bytes);
    this.#limitBytes.set({ model }, limitBytes);
  }

  /** An engine that is gone has none. */
  resetGauges(): void {
    for (const gauge of [this.#count, this.#bytes, this.#limitBytes]) gauge.reset();
  }
}
