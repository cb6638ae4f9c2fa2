/** Requests by what they do and their priority class. */
import { Gauge } from "prom-client";
import type { Registry } from "prom-client";
import type { RequestsByClass } from "../../engine/engine-stats.ts";
import { PRIORITY_NAMES } from "../openai/priority-field.ts";

const GAUGES: Readonly<Record<keyof RequestsByClass, { readonly name: string; readonly help: string }>> = {
  waiting: {
    name: "weft_requests_waiting_by_class",
    help: "Requests that wait for a slot and are not paused.",
  },
  held: {
    name: "weft_requests_held",
    help: "Waiting requests that are held back for a prefix which another request computes.",
  },
  prefilling: {
    name: "weft_requests_prefilling",
    help: "Requests in a slot that has not all of their prompt yet, or not all that they had before they lost another one.",
  },
  decoding: {
    name: "weft_requests_decoding",
    help: "Requests in a slot that get a token with the next decode call.",
  },
  paused: { name: "weft_requests_paused", help: "Paused requests, in a slot or without one." },
};

export class ClassMetrics {
  readonly #gauges: readonly (readonly [keyof RequestsByClass, Gauge])[];

  constructor(registry: Registry) {
    const gauge = (kind: keyof RequestsByClass): Gauge =>
      new Gauge({ ...GAUGES[kind], labelNames: ["model", "class"], registers: [registry] });
    const kinds = Object.keys(GAUGES) as (keyof RequestsByClass)[];
    this.#gauges = kinds.map((kind) => [kind, gauge(kind)]);
  }

  /** Those of an engine that is gone are not told. */
  resetGauges(): void {
    for (const [, gauge] of this.#gauges) gauge.reset();
  }

  setGauges(model: string, counts: RequestsByClass): void {
    for (const [kind, gauge] of this.#gauges)
      for (const [priority, name] of PRIORITY_NAMES.entries())
        gauge.set({ model, class: name }, counts[kind][priority] ?? 0);
  }
}
