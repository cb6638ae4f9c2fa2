/**
 * Measures one configuration as clients see it: a server with these settings, and a closed loop of requests.
 *
 * The whole server runs, because it takes part in the race for the cores: text and sockets cost time as well.
 */
import { z } from "zod";
import type { BenchClock } from "../clock.ts";
import { openSession, runClosedLoop } from "../http-mode.ts";
import type { LevelSummary } from "../level-summary.ts";

export interface TuneLoad {
  /** Clients, each of which asks again when it is answered. */
  readonly clients: number;
  readonly promptTokens: number;
  readonly outputTokens: number;
  /** Of all clients together. */
  readonly requests: number;
}

/** Times in ms; 90th percentiles, or the largest of fewer than 10 samples. */
export interface Measurement {
  readonly outputPerSecond: number;
  readonly ttftMs: number;
  /** Mean time between the tokens of a request. */
  readonly itlMs: number;
  readonly longestGapMs: number;
}

/** What the engine runs with, chosen by itself where nobody has. */
export interface ServerFacts {
  readonly name: string;
  readonly device: string;
  readonly threads: number;
  readonly flashAttention: boolean;
  readonly slots: number;
  readonly prefillChunk: number;
  readonly batchTokens: number;
  readonly itlTargetMs: number;
}

const factsSchema = z.object({
  model: z.object({ name: z.string(), device: z.string(), threads: z.number(), flashAttention: z.boolean() }),
  config: z.object({
    slots: z.number(),
    prefillChunk: z.number(),
    batchTokens: z.number(),
    itlTargetMs: z.number(),
  }),
});

/** @throws {Error} When the server does not tell. */
export async function readFacts(url: string): Promise<ServerFacts> {
  const response = await fetch(`${url}/debug/timeline?steps=1`);
  const { model, config } = factsSchema.parse(await response.json());
  return { ...model, ...config };
}

/** @throws {Error} When the server cannot be reached, or a request fails. */
export async function measureServer(
  url: string,
  load: TuneLoad,
  { clock, timeoutMs }: { readonly clock: BenchClock; readonly timeoutMs: number },
): Promise<Measurement> {
  const options = {
    mode: "closed-loop",
    rounds: 1,
    seed: 1,
    json: undefined,
    promptTokens: load.promptTokens,
    outputTokens: load.outputTokens,
    urls: [url],
    // Without a chat template's tokens, which differ between models.
    endpoint: "completions",
    model: undefined,
    apiKey: undefined,
    warmup: 1,
    timeoutMs,
    concurrency: [load.clients],
    length: { requests: load.requests },
    sharedPrefixTokens: 0,
  } as const;
  const session = await openSession(options, clock);
  const context = { clock, progress: () => undefined };
  const [result] = await runClosedLoop(options, session, context, () => undefined);
  if (result === undefined) throw new Error("Nothing was measured.");
  const { summary } = result;
  const [error] = summary.errors;
  if (summary.failed > 0)
    throw new Error(`${summary.failed} requests failed: ${error?.example ?? "no reason given"}`);
  return measurementOf(summary);
}

function measurementOf({ outputTokensPerSecond, ttftMs, tpotMs, longestGapMs }: LevelSummary): Measurement {
  return {
    outputPerSecond: outputTokensPerSecond,
    ttftMs: ttftMs.p90 ?? ttftMs.max ?? 0,
    itlMs: tpotMs.p90 ?? tpotMs.max ?? 0,
    longestGapMs: longestGapMs ?? 0,
  };
}
