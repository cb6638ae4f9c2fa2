/** What becomes of computed cells, as Prometheus reads it: reused, copied, lost to other prompts. */
import { Counter, Gauge } from "prom-client";
import type { Registry } from "prom-client";
import type { EngineStats } from "../../engine/engine-stats.ts";
import type { PrefixSource } from "../../engine/protocol.ts";
import type { StepReport } from "../../engine/step-report.ts";

export class CellMetrics {
  readonly #reused: Counter<"model" | "source">;
  readonly #copies: Counter<"model">;
  readonly #lost: Counter<"model" | "by">;
  readonly #busy: Gauge<"model">;

  constructor(registry: Registry) {
    const registers = [registry];
    this.#reused = new Counter({
      name: "weft_reused_prompt_tokens_total",
      help: "Prompt tokens found computed, by where: in the slot itself, in another one that was copied, in a file, or behind a checkpoint.",
      labelNames: ["model", "source"],
      registers,
    });
    this.#copies = new Counter({
      name: "weft_slot_copies_total",
      help: "Slots whose cells were copied to another slot.",
      labelNames: ["model"],
      registers,
    });
    this.#lost = new Counter({
      name: "weft_slot_prefixes_lost_total",
      help: "Slots that lost all the cells they held to another request, by what that began with: nothing but its prompt, or a copy, a file or a checkpoint.",
      labelNames: ["model", "by"],
      registers,
    });
    this.#busy = new Gauge({
      name: "weft_kv_cache_busy_ratio",
      help: "Cells of the requests that hold a slot, 0 to 1 of all.",
      labelNames: ["model"],
      registers,
    });
  }

  observePrompt(model: string, tokens: number, source: PrefixSource): void {
    if (tokens > 0) this.#reused.inc({ model, source }, tokens);
  }

  observeStep(model: string, { copies = 0, lost = {} }: StepReport): void {
    this.#copies.inc({ model }, copies);
    for (const [by, slots = 0] of Object.entries(lost)) this.#lost.inc({ model, by }, slots);
  }

  setGauges(model: string, { slots, contextTokens }: EngineStats): void {
    let cells = 0;
    for (const { requestId, tokens } of slots) if (requestId !== undefined) cells += tokens;
    this.#busy.set({ model }, cells / Math.max(1, slots.length * contextTokens));
  }

  /** An engine that is gone has no cells. */
  resetGauges(): void {
    this.#busy.reset();
  }
}
