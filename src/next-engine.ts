/** What an engine that takes the place of another one is told of that. */
import type { LoadOptions, MeasuredCost, ModelFacts } from "../engine/protocol.ts";

/** With what calls of the model itself cost by now, where that has been measured. */
export function withCost(facts: ModelFacts, cost: MeasuredCost["cost"]): ModelFacts {
  const measured = facts.measured?.map((known) =>
    known.of.startsWith(facts.fingerprint) ? { ...known, cost } : known,
  );
  return measured === undefined ? facts : { ...facts, measured };
}

/**
 * Whatever was chosen at first is asked for now: the memory of the dead engine may not be free yet, and on another device
 * outputs would not go on as they began. What calls cost is not measured again, since the clients of the dead engine wait.
 */
export function sameSizes(options: LoadOptions, facts: ModelFacts): LoadOptions {
  const { contextTokens, batchTokens, threads, prefillChunk, itlTargetMs, gpu, gpuLayers } = facts;
  const layers = gpu === "off" ? options.gpuLayers : gpuLayers;
  const { measured = [], pins = [] } = facts;
  return {
    ...options,
    contextTokens,
    batchTokens,
    threads,
    prefillChunk,
    itlTargetMs,
    measured,
    ...(pins.length === 0 ? {} : { pins }),
    gpu,
    gpuLayers: layers,
  };
}
