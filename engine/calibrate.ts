/**
 * Warms the runtime up and measures what its calls cost, before the first request has to pay for it.
 *
 * The first call of each shape allocates and builds graphs; it is run once unmeasured.
 */
import { performance } from "node:perf_hooks";
import { calibratedCostModel } from "./scheduler/cost-model.ts";
import type { Backend, BatchEntry } from "./backend.ts";
import type { CostModel } from "./scheduler/types.ts";

const MEASURED_RUNS = 3;

export async function calibrate(backend: Backend): Promise<CostModel> {
  const { slots, prefillChunk, contextTokens, bosToken } = backend.facts;
  const token = bosToken ?? 0;
  const prefillTokens = Math.min(prefillChunk, contextTokens - 1);
  const decodeEntries = (count: number): BatchEntry[] =>
    Array.from({ length: count }, (_, slot) => ({
      slot,
      position: 0,
      tokens: Uint32Array.of(token),
      sample: true,
    }));
  const prefillEntry: BatchEntry = {
    slot: 0,
    position: 0,
    tokens: new Uint32Array(prefillTokens).fill(token),
    sample: false,
  };
  const decodeOneMs = await measure(backend, decodeEntries(1));
  const decodeAllMs = slots === 1 ? decodeOneMs : await measure(backend, decodeEntries(slots));
  const prefillMs = await measure(backend, [prefillEntry]);
  return calibratedCostModel({ decodeOneMs, decodeAllMs, sequences: slots, prefillMs, prefillTokens });
}

/** Fastest of a few runs, in ms: anything above it is other load. */
async function measure(backend: Backend, entries: readonly BatchEntry[]): Promise<number> {
  let bestMs = Infinity;
  for (let run = 0; run <= MEASURED_RUNS; run++) {
    const startMs = performance.now();
    await backend.run(entries).done;
    const ms = performance.now() - startMs;
    if (run > 0) bestMs = Math.min(bestMs, ms);
    for (const { slot } of entries) backend.truncate(slot, 0);
    // A slow model tells enough with one run.
    if (run > 0 && ms > 500) break;
  }
  return bestMs;
}
