/**
 * A decode loop with nothing around it: the floor that llama.cpp itself sets, for comparison.
 *
 * It feeds each sequence one token per call and neither samples nor schedules, so no engine over the same
 * addon can be faster than this.
 */
import { performance } from "node:perf_hooks";
import { getLlama } from "node-llama-cpp";
import { addonContextOf } from "./addon.ts";
import type { AddonContext } from "./addon.ts";

export interface BareLoopOptions {
  readonly modelPath: string;
  /** Numbers of sequences to decode side by side, each measured on its own. */
  readonly sequences: readonly number[];
  /** Tokens in each sequence before the measured ones. */
  readonly promptTokens: number;
  /** Measured calls per round. */
  readonly steps: number;
  readonly threads: number | undefined;
  /** Rounds per number of sequences; the median counts. */
  readonly rounds: number;
  readonly flashAttention: "auto" | "on" | "off";
  /** Layers on the GPU; as many as fit where undefined. */
  readonly gpuLayers?: number;
}

export interface BareLoopResult {
  readonly sequences: number;
  /** Tokens of all sequences per second. */
  readonly tokensPerSecond: number;
}

/** Token ids of the measured calls; which ones does not change the work. */
const TOKEN_CYCLE = 200;

export async function runBareLoop(options: BareLoopOptions): Promise<BareLoopResult[]> {
  const { modelPath, sequences, promptTokens, steps, rounds } = options;
  const llama = await getLlama({ gpu: "auto", build: "never", progressLogs: false, maxThreads: 0 });
  const model = await llama.loadModel({
    modelPath,
    ...(options.gpuLayers === undefined ? {} : { gpuLayers: options.gpuLayers }),
  });
  const threads = options.threads ?? llama.cpuMathCores;
  const most = Math.max(...sequences);
  const context = await model.createContext({
    contextSize: promptTokens + steps + 1,
    sequences: most,
    batchSize: Math.max(64, most),
    threads: { ideal: threads, min: threads },
    flashAttention: options.flashAttention !== "off",
  });
  const addon = addonContextOf(context);
  const results: BareLoopResult[] = [];
  for (const count of sequences) {
    const rates: number[] = [];
    for (let round = 0; round < rounds; round++) {
      await prefill(addon, count, promptTokens);
      rates.push(await decodeRate(addon, count, promptTokens, steps));
    }
    rates.sort((a, b) => a - b);
    results.push({ sequences: count, tokensPerSecond: rates[Math.floor(rates.length / 2)] ?? 0 });
  }
  await context.dispose();
  await model.dispose();
  await llama.dispose();
  return results;
}

async function prefill(addon: AddonContext, sequences: number, promptTokens: number): Promise<void> {
  for (let sequence = 0; sequence < sequences; sequence++) {
    addon.disposeSequence(sequence);
    for (let position = 0; position < promptTokens; position += 48) {
      const tokens = Uint32Array.from(
        { length: Math.min(48, promptTokens - position) },
        (_, i) => (position + i) % TOKEN_CYCLE,
      );
      addon.initBatch(tokens.length);
      addon.addToBatch(sequence, position, tokens, new Uint32Array(0));
      await addon.decodeBatch();
    }
  }
}

async function decodeRate(
  addon: AddonContext,
  sequences: number,
  promptTokens: number,
  steps: number,
): Promise<number> {
  const logitPosition = Uint32Array.of(0);
  const startMs = performance.now();
  for (let step = 0; step < steps; step++) {
    const token = Uint32Array.of(step % TOKEN_CYCLE);
    addon.initBatch(sequences);
    for (let sequence = 0; sequence < sequences; sequence++)
      addon.addToBatch(sequence, promptTokens + step, token, logitPosition);
    await addon.decodeBatch();
  }
  return (sequences * steps * 1000) / (performance.now() - startMs);
}
