/**
 * What the step loop costs: tokens per second of the engine beside a bare decode loop over the same addon.
 *
 * Both run in a process of their own with the same model, sequences, prompt length and threads, in turns. The
 * bare loop neither samples nor plans and serves nobody, so the ratio is the price of serving.
 */
import { randomUUID } from "node:crypto";
import { EngineClient } from "../engine/client.ts";
import { GREEDY_PARAMS } from "../engine/greedy-params.ts";
import { forkEngine } from "../engine/process/fork.ts";
import { TokenAttribute } from "../engine/token-attribute.ts";
import type { GenerationParams, LoadOptions, ModelFacts, TokenId } from "../engine/protocol.ts";
import type { TokenStream } from "../engine/token-stream.ts";
import { runBareLoopInChild } from "./bare-loop-process.ts";
import type { BenchClock } from "./clock.ts";
import { commonDecodeRate, recordSteps } from "./decode-rate.ts";
import type { TimedStep } from "./decode-rate.ts";
import type { EngineOptions } from "./options.ts";
import { createRng, deriveSeed } from "./rng.ts";

interface EngineRun {
  readonly sequences: number;
  /** From 0. */
  readonly round: number;
  /** Undefined when the requests never decoded all at once: too few output tokens for so many prompts. */
  readonly engineTokensPerSecond: number | undefined;
  readonly bareTokensPerSecond: number;
}

export interface EngineModeResult {
  readonly device: string;
  readonly model: string;
  readonly runs: readonly EngineRun[];
}

/** One run includes loading the model; a hung one must not hang the benchmark. */
const RUN_TIMEOUT_MS = 600_000;
/** Cells beyond prompt and output, for the begin token. */
const SPARE_CELLS = 8;

// A reused prompt would shorten only our prefill.
const GREEDY_TO_THE_LIMIT: GenerationParams = { ...GREEDY_PARAMS, ignoreEos: true, reusePrefix: false };

/**
 * @param modelPath A GGUF file.
 * @throws {Error} When either loop fails.
 */
export async function runEngineMode(
  options: EngineOptions,
  modelPath: string,
  { clock, progress }: { readonly clock: BenchClock; readonly progress: (text: string) => void },
): Promise<EngineModeResult> {
  const runs: EngineRun[] = [];
  let known: ModelFacts | undefined;
  for (const sequences of options.concurrency) {
    const engine = await MeasuredEngine.load(loadOptions(options, modelPath, sequences), clock);
    known = engine.facts;
    try {
      for (let round = 0; round < options.rounds; round++) {
        progress(`${sequences} sequences, round ${round + 1} of ${options.rounds}`);
        const prompts = Array.from({ length: sequences }, (_, index) =>
          randomPrompt(engine.facts, options, deriveSeed(options.seed, round, index)),
        );
        const engineTokensPerSecond = await engine.decode(prompts, options.outputTokens);
        const [bare] = await runBareLoopInChild(
          {
            modelPath,
            sequences: [sequences],
            promptTokens: options.promptTokens,
            steps: options.outputTokens,
            // The same number, however the engine came to it.
            threads: engine.facts.threads,
            rounds: 1,
            flashAttention: options.flashAttention,
            // The engine still has its own: fewer would be chosen where both do not fit, and the loop would look slow.
            gpuLayers: engine.facts.gpuLayers,
          },
          RUN_TIMEOUT_MS,
        );
        if (bare === undefined) throw new Error("The bare loop returned no result.");
        runs.push({ sequences, round, engineTokensPerSecond, bareTokensPerSecond: bare.tokensPerSecond });
      }
    } finally {
      await engine.close();
    }
  }
  return { device: known?.device ?? "unknown", model: known?.name ?? modelPath, runs };
}

/** An engine that has its model: loading it measures for seconds, so that all rounds of a width are of one. */
class MeasuredEngine {
  readonly facts: ModelFacts;
  readonly #client: EngineClient;
  readonly #steps: TimedStep[];
  readonly #clock: BenchClock;

  private constructor(client: EngineClient, facts: ModelFacts, steps: TimedStep[], clock: BenchClock) {
    this.#client = client;
    this.facts = facts;
    this.#steps = steps;
    this.#clock = clock;
  }

  /** @throws {Error} When the model cannot be loaded, or not in time. */
  static async load(options: LoadOptions, clock: BenchClock): Promise<MeasuredEngine> {
    const steps: TimedStep[] = [];
    const client = new EngineClient(recordSteps(forkEngine(), clock, steps));
    const stopTimer = clock.after(RUN_TIMEOUT_MS, () => client.kill());
    try {
      return new MeasuredEngine(client, await client.load(options), steps, clock);
    } catch (error) {
      client.kill();
      throw error;
    } finally {
      stopTimer();
    }
  }

  /**
   * Submits all prompts at once and reads them to their end.
   * @returns Tokens of all per second while all decode; undefined where they never did.
   * @throws {Error} When a request ends before its limit, or the engine does.
   */
  async decode(prompts: readonly TokenId[][], maxTokens: number): Promise<number | undefined> {
    this.#steps.length = 0;
    const stopTimer = this.#clock.after(RUN_TIMEOUT_MS, () => this.#client.kill());
    try {
      const streams = await Promise.all(
        prompts.map((tokens) =>
          this.#client.submit({
            id: randomUUID(),
            prompt: [{ tokens }],
            promptLogprobs: undefined,
            addBos: false,
            params: { ...GREEDY_TO_THE_LIMIT, maxTokens },
            owner: "bench",
          }),
        ),
      );
      await Promise.all(streams.map(readToEnd));
      return commonDecodeRate(this.#steps, prompts.length);
    } finally {
      stopTimer();
    }
  }

  async close(): Promise<void> {
    this.#client.kill();
    await this.#client.exited;
  }
}

function loadOptions(options: EngineOptions, modelPath: string, sequences: number): LoadOptions {
  return {
    modelPath,
    contextTokens: options.promptTokens + options.outputTokens + SPARE_CELLS,
    slots: sequences,
    batchTokens: undefined,
    threads: options.threads,
    gpu: "auto",
    gpuLayers: undefined,
    flashAttention: options.flashAttention,
    kvCacheType: "f16",
    prefillChunk: undefined,
    itlTargetMs: undefined,
    maxQueued: sequences,
    deterministic: false,
    speculate: true,
  };
}

/** Ordinary tokens only: a control token in the middle may be refused or change what is computed. */
function randomPrompt(facts: ModelFacts, options: EngineOptions, seed: number): TokenId[] {
  const ordinary: TokenId[] = [];
  for (const [token, attributes] of facts.tokenAttributes.entries()) {
    if ((attributes & TokenAttribute.normal) !== 0) ordinary.push(token);
  }
  const rng = createRng(seed);
  return Array.from({ length: options.promptTokens }, () => ordinary[rng.below(ordinary.length)] ?? 0);
}

async function readToEnd(stream: TokenStream): Promise<void> {
  for await (const output of stream) {
    if (output.finish?.reason === "stop") throw new Error("A request ended before its token limit.");
  }
}
