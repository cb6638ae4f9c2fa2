/** What the device's calls consist of, and how near the cost model comes to what they take. */
import { Histogram } from "prom-client";
import type { Registry } from "prom-client";
import type { StepReport } from "../../engine/protocol.ts";
import { PROMPT_TOKENS, RATIOS, SEQUENCES } from "./buckets.ts";

export class DeviceMetrics {
  readonly #sequences: Histogram;
  readonly #promptTokens: Histogram;
  readonly #ratio: Histogram;

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
  }

  observeStep(model: string, report: StepReport): void {
    const { decodeSequences, prefillTokens, decodeRatio, prefillRatio } = report;
    if (decodeSequences > 0) this.#sequences.observe({ model }, decodeSequences);
    if (prefillTokens > 0) this.#promptTokens.observe({ model }, prefillTokens);
    if (decodeRatio !== undefined) this.#ratio.observe({ model, kind: "decode" }, decodeRatio);
    if (prefillRatio !== undefined) this.#ratio.observe({ model, kind: "prefill" }, prefillRatio);
  }
}
