/** Prefixes in files, as Prometheus reads them: what is there, and what became of them. */
import { Counter, Gauge } from "prom-client";
import type { Registry } from "prom-client";
import type { PinStats, SpillStats } from "../../engine/engine-stats.ts";
import type { SpillReport } from "../../engine/step-report.ts";

const MODEL = ["model"] as const;

export class SpillMetrics {
  readonly #prefixes: Gauge<"model">;
  readonly #tokens: Gauge<"model">;
  readonly #bytes: Gauge<"model">;
  readonly #limitBytes: Gauge<"model">;
  readonly #returnChance: Gauge<"model">;
  readonly #pinnedTokens: Gauge<"model">;
  readonly #pinnedBytes: Gauge<"model">;
  readonly #operations: Counter<"model" | "kind">;
  readonly #restoredTokens: Counter<"model">;

  constructor(registry: Registry) {
    const gauge = (name: string, help: string): Gauge<"model"> =>
      new Gauge({ name, help, labelNames: MODEL, registers: [registry] });
    this.#prefixes = gauge("weft_spill_prefixes", "Computed prefixes that are kept in files.");
    this.#tokens = gauge("weft_spill_tokens", "Tokens of all of them.");
    this.#bytes = gauge("weft_spill_bytes", "Bytes of their files.");
    this.#limitBytes = gauge(
      "weft_spill_limit_bytes",
      "Most bytes of their files; less than --spill-size where there was no room for more, or something is pinned.",
    );
    this.#returnChance = gauge(
      "weft_spill_return_chance",
      "Chance that a computed prompt which lost its slot is asked for again, as lately seen; nothing is saved where it is too low to pay.",
    );
    this.#pinnedTokens = gauge("weft_pinned_tokens", "Tokens of what is pinned (--pin-prompt) and there.");
    this.#pinnedBytes = gauge("weft_pinned_bytes", "Bytes of its files.");
    this.#operations = new Counter({
      name: "weft_spill_operations_total",
      help: "Prefixes saved to files, restored from them and dropped, and those of which that failed.",
      labelNames: ["model", "kind"],
      registers: [registry],
    });
    this.#restoredTokens = new Counter({
      name: "weft_spill_restored_tokens_total",
      help: "Prompt tokens that were not computed because a file had them.",
      labelNames: MODEL,
      registers: [registry],
    });
  }

  observeStep(model: string, report: SpillReport): void {
    for (const [kind, count] of [
      ["saved", report.saved],
      ["restored", report.restored],
      ["dropped", report.dropped],
      ["save_failed", report.saveFailures],
      ["restore_failed", report.restoreFailures],
    ] as const)
      this.#operations.inc({ model, kind }, count);
    this.#restoredTokens.inc({ model }, report.restoredTokens);
  }

  setGauges(
    model: string,
    { prefixes, tokens, bytes, limitBytes, returnChance }: SpillStats,
    pins: readonly PinStats[] = [],
  ): void {
    this.#prefixes.set({ model }, prefixes);
    this.#tokens.set({ model }, tokens);
    this.#bytes.set({ model }, bytes);
    this.#limitBytes.set({ model }, limitBytes);
    this.#returnChance.set({ model }, returnChance);
    let [pinnedTokens, pinnedBytes] = [0, 0];
    for (const pin of pins)
      [pinnedTokens, pinnedBytes] = [pinnedTokens + pin.tokens, pinnedBytes + pin.bytes];
    this.#pinnedTokens.set({ model }, pinnedTokens);
    this.#pinnedBytes.set({ model }, pinnedBytes);
  }

  /** An engine that is gone has no files. */
  resetGauges(): void {
    for (const gauge of [this.#prefixes, this.#tokens, this.#bytes, this.#limitBytes]) gauge.reset();
    for (const gauge of [this.#returnChance, this.#pinnedTokens, this.#pinnedBytes]) gauge.reset();
  }
}
