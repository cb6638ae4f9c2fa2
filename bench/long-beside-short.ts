/**
 * The scenario every chat user knows: answers are being streamed, and someone sends a long document.
 *
 * Some streams run; when each has produced its first tokens, one long prompt arrives. How long do the streams
 * stand still, and how soon does the newcomer get its first token? A server can buy either with the other, so
 * both are reported.
 */
import { streamRequest } from "./client.ts";
import type { RequestRecord, StreamedRequest, Target } from "./client.ts";
import type { BenchClock } from "./clock.ts";
import { countErrors, gapsOf, ttftMs } from "./level-summary.ts";
import type { ErrorCount } from "./level-summary.ts";
import { summarize } from "./stats.ts";
import type { Summary } from "./stats.ts";

export interface ScenarioPlan {
  readonly streamPrompts: readonly string[];
  readonly longPrompt: string;
  /** Of each running stream. */
  readonly outputTokens: number;
  readonly seed: number;
  readonly timeoutMs: number;
}

export interface ScenarioRun {
  readonly streams: readonly RequestRecord[];
  /** Undefined when the streams failed or ended before all of them had begun. */
  readonly long: RequestRecord | undefined;
}

/** Times in ms. */
export interface ScenarioSummary {
  /** Longest gap of any stream, from when all had begun to the long prompt's arrival. */
  readonly longestGapBeforeMs: number | undefined;
  /** Longest gap of any stream that ends after the arrival. */
  readonly longestGapAfterMs: number | undefined;
  /** Gaps before the arrival, pooled. */
  readonly itlBeforeMs: Summary;
  /** Gaps that end between the arrival and the long prompt's first token, pooled. */
  readonly itlDuringPrefillMs: Summary;
  readonly longTtftMs: number | undefined;
  readonly longPromptTokens: number | undefined;
  /** Streams that had ended before the long prompt's first token: their gaps say nothing about its prefill. */
  readonly streamsEndedEarly: number;
  readonly errors: readonly ErrorCount[];
}

/** Output chunks each stream must have shown before the long prompt arrives: it then decodes steadily. */
const CHUNKS_BEFORE_ARRIVAL = 16;
/** The newcomer's own decoding is not what is measured. */
const LONG_PROMPT_OUTPUT_TOKENS = 16;

/** How one request is sent; replaced in tests. */
export type StreamOne = (target: Target, request: StreamedRequest) => Promise<RequestRecord>;

export function streamOver(clock: BenchClock): StreamOne {
  return (target, request) => streamRequest(target, request, clock);
}

/** Never rejects; failures are in the records. */
export async function runLongBesideShort(
  target: Target,
  plan: ScenarioPlan,
  streamOne: StreamOne,
): Promise<ScenarioRun> {
  const { outputTokens, seed, timeoutMs } = plan;
  const waiting = new Set(plan.streamPrompts.keys());
  let begin: () => void = () => undefined;
  const allBegan = new Promise<"began">((resolve) => (begin = () => resolve("began")));
  const streams = plan.streamPrompts.map((prompt, index) =>
    streamOne(target, {
      prompt,
      outputTokens,
      seed: (seed + index) >>> 0,
      timeoutMs,
      onOutput: (chunks) => {
        if (chunks < CHUNKS_BEFORE_ARRIVAL) return;
        waiting.delete(index);
        if (waiting.size === 0) begin();
      },
    }),
  );
  const allEnded = Promise.all(streams);
  // One that fails early would leave the others waiting for it; they run out and the report says so.
  const outcome = await Promise.race([allBegan, allEnded]);
  const long =
    outcome === "began"
      ? await streamOne(target, {
          prompt: plan.longPrompt,
          outputTokens: LONG_PROMPT_OUTPUT_TOKENS,
          seed: (seed + streams.length) >>> 0,
          timeoutMs,
        })
      : undefined;
  return { streams: await allEnded, long };
}

export function summarizeScenario(run: ScenarioRun): ScenarioSummary {
  const { long } = run;
  const records = long === undefined ? run.streams : [...run.streams, long];
  const arrivalMs = long?.startMs ?? Number.POSITIVE_INFINITY;
  const firstTokenMs = long?.outputMs[0] ?? long?.endMs ?? Number.POSITIVE_INFINITY;
  const allBeganMs = Math.max(...run.streams.map((stream) => stream.outputMs[0] ?? Number.POSITIVE_INFINITY));
  const gapsEnding = (afterMs: number, untilMs: number): number[] =>
    run.streams.flatMap((stream) =>
      gapsOf(stream.outputMs).filter((_, index) => {
        const end = stream.outputMs[index + 1] ?? 0;
        return end > afterMs && end <= untilMs;
      }),
    );
  const before = summarize(gapsEnding(allBeganMs, arrivalMs));
  return {
    longestGapBeforeMs: before.max,
    longestGapAfterMs: summarize(gapsEnding(arrivalMs, Number.POSITIVE_INFINITY)).max,
    itlBeforeMs: before,
    itlDuringPrefillMs: summarize(gapsEnding(arrivalMs, firstTokenMs)),
    longTtftMs: long === undefined || long.error !== undefined ? undefined : ttftMs(long),
    longPromptTokens: long?.promptTokens,
    streamsEndedEarly:
      long === undefined
        ? run.streams.length
        : run.streams.filter((stream) => (stream.outputMs.at(-1) ?? 0) < firstTokenMs).length,
    errors: countErrors(records),
  };
}
