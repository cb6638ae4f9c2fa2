/** What the device's calls consist of, and how near the cost model comes to what they take. */
import { Counter, Histogram } from "prom-client";
import type { Registry } from "prom-client";
import type { StepReport } from "../../engine/step-report.ts";
import { PASSES, PROMPT_TOKENS, RATIOS, SEQUENCES, STEP_SECONDS } from "./buckets.ts";

export class DeviceMetrics {
  readonly #sequences: Histogram;
  readonly #promptTokens: Histogram;
  readonly #ratio: Histogram;
  readonly #passes: Histogram;
  readonly #gap: Histogram;
  readonly #wait: Histogram;
  readonly #time: Counter;

  constructor(registry: Registry) {
    const histogram = (
      name: string,
      help: string,
      buckets: readonly number[],
      ...more: string[]
    ): Histogram =>
      new Histogram({
        name,
        help,
        labelNames: ["model", ...more],
        buckets: [...buckets],
        registers: [registry],
      });
    this.#sequences = histogram("weft_batch_sequences", "Requests that decode together.", SEQUENCES);
    this.#promptTokens = histogram("weft_batch_tokens", "Prompt tokens computed in a step.", PROMPT_TOKENS);
    this.#ratio = histogram(
      "weft_cost_model_ratio",
      "What calls took over what was expected of them; 1 is right.",
      RATIOS,
      "kind",
    );
    this.#passes = histogram("weft_passes_per_call", "Device passes of each call.", PASSES);
    this.#gap = histogram(
      "weft_device_gap_seconds",
      "From the end of a call to the beginning of the next one, where the engine has not rested between them: draws, planning, changes of cells.",
      STEP_SECONDS,
    );
    this.#wait = histogram(
      "weft_device_wait_seconds",
      "Where models take turns on the device: from an engine asking for a turn to having it.",
      STEP_SECONDS,
    );
    this.#time = new Counter({
      name: "weft_device_held_seconds_total",
      help: "Where models take turns on the device: how long each has had it, counted when it gives it back.",
      labelNames: ["model"],
      registers: [registry],
    });
  }

  observeWait(model: string, ms: number): void {
    this.#wait.observe({ model }, ms / 1000);
  }

  countHeld(model: string, ms: number): void {
    this.#time.inc({ model }, ms / 1000);
  }

  observeStep(model: string, report: StepReport): void {
    const { decodeSequences, prefillTokens, decodeRatio, prefillRatio, passes, gapMs } = report;
    // A message tells of one call.
    if (passes > 0) this.#passes.observe({ model }, passes);
    if (gapMs !== undefined) this.#gap.observe({ model }, gapMs / 1000);
    if (decodeSequences > 0) this.#sequences.observe({ model }, decodeSequences);
    if (prefillTokens > 0) this.#promptTokens.observe({ model }, prefillTokens);
    if (decodeRatio !== undefined) this.#ratio.observe({ model, kind: "decode" }, decodeRatio);
    if (prefillRatio !== undefined) this.#ratio.observe({ model, kind: "prefill" }, prefillRatio);
  }
}
