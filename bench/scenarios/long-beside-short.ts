/**
 * The scenario every chat user knows: answers are being streamed, and someone sends a long document.
 *
 * Some streams run; when each has produced its first tokens, one long prompt arrives. How long do the streams
 * stand still, and how soon does the newcomer get its first token? A server can buy either with the other, so
 * both are reported.
 */
import type { RequestRecord, SendOne, Target } from "../client.ts";
import { formatErrors, formatSummary, number, sideName, SUMMARY_HEAD } from "../format.ts";
import { countErrors, gapsOf, ttftMs, vllmResultOf } from "../level-summary.ts";
import type { ErrorCount } from "../level-summary.ts";
import { OptionsExit } from "../option-values.ts";
import { summarize } from "../stats.ts";
import type { Summary } from "../stats.ts";
import type { Plot, Series } from "../svg-plot.ts";
import type { PlacedTurn, Scenario, ScenarioTurn, TurnResult } from "./scenario.ts";
import { warmUp } from "./warm-up.ts";

export interface LongBesideShortPlan {
  readonly streamPrompts: readonly string[];
  readonly longPrompt: string;
  /** Of each running stream. */
  readonly outputTokens: number;
  readonly seed: number;
  readonly timeoutMs: number;
}

export interface LongBesideShortRun {
  readonly streams: readonly RequestRecord[];
  /** Undefined when the streams failed or ended before all of them had begun. */
  readonly long: RequestRecord | undefined;
}

/** Times in ms. */
export interface LongBesideShortSummary {
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

/** A stream must still run when the long prompt arrives, 16 chunks after its start. */
const SHORTEST_STREAM_TOKENS = 64;
/** Small beside the long prompt, so that the streams start at once. */
const STREAM_PROMPT_TOKENS = 32;
/** Output chunks each stream must have shown before the long prompt arrives: it then decodes steadily. */
const CHUNKS_BEFORE_ARRIVAL = 16;
/** Enough to have decoded. */
const WARM_UP_OUTPUT_TOKENS = 32;
/** The newcomer's own decoding is not what is measured. */
const LONG_PROMPT_OUTPUT_TOKENS = 16;

export const longBesideShort: Scenario = {
  name: "long-beside-short",
  about: "a prompt of --isl tokens (3000) arrives beside --streams running streams (3)",
  takes: ["isl", "osl", "streams"],
  formulas: [
    "gap before      longest gap between output chunks of a stream, all begun, the long prompt not yet sent",
    "gap after       longest gap that ends after the long prompt was sent",
    "itl             gaps of the streams, pooled: before, and until the long prompt's first output",
    "long ttft       long prompt sent to its first output",
  ],
  plan: ({ isl: promptTokens = 3000, osl: outputTokens = 256, streams = 3 }) => {
    if (outputTokens < SHORTEST_STREAM_TOKENS)
      throw new OptionsExit(2, `error: this scenario needs an --osl of at least ${SHORTEST_STREAM_TOKENS}`);
    return {
      settings: { promptTokens, outputTokens, streams },
      run: async (turn) => resultOf(await runTurn(turn, { promptTokens, outputTokens, streams })),
    };
  },
  plots: (turns) => [gapsPlot(turns)],
};

async function runTurn(
  turn: ScenarioTurn,
  {
    promptTokens,
    outputTokens,
    streams,
  }: Readonly<Record<"promptTokens" | "outputTokens" | "streams", number>>,
): Promise<LongBesideShortRun> {
  const { target, send, seed, timeoutMs, prompts } = turn;
  const shortLengths = { promptTokens: STREAM_PROMPT_TOKENS, sharedPrefixTokens: 0 };
  const short = await prompts(0, shortLengths, streams);
  const long = await prompts(1, { promptTokens, sharedPrefixTokens: 0 }, 1);
  await warmUp(turn, 2, shortLengths, WARM_UP_OUTPUT_TOKENS);
  const streamPrompts = Array.from({ length: streams }, (_, index) => short.prompt(index));
  const plan = { streamPrompts, longPrompt: long.prompt(0), outputTokens, seed, timeoutMs };
  return runLongBesideShort(target, plan, send);
}

/** Never rejects; failures are in the records. */
export async function runLongBesideShort(
  target: Target,
  plan: LongBesideShortPlan,
  streamOne: SendOne,
): Promise<LongBesideShortRun> {
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

export function summarizeLongBesideShort(run: LongBesideShortRun): LongBesideShortSummary {
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

export function resultOf(run: LongBesideShortRun): TurnResult {
  const summary = summarizeLongBesideShort(run);
  return {
    figures: {
      "gap before ms": summary.longestGapBeforeMs,
      "gap after ms": summary.longestGapAfterMs,
      "itl p50 before ms": summary.itlBeforeMs.p50,
      "itl p50 prefill ms": summary.itlDuringPrefillMs.p50,
      "long ttft ms": summary.longTtftMs,
    },
    lines: [
      `longest gap of the streams   before ${number(summary.longestGapBeforeMs)} ms   ` +
        `after ${number(summary.longestGapAfterMs)} ms`,
      `long prompt                  ${summary.longPromptTokens ?? "-"} tokens   ttft ${number(summary.longTtftMs)} ms`,
      SUMMARY_HEAD,
      formatSummary("itl before ms", summary.itlBeforeMs),
      formatSummary("itl prefill ms", summary.itlDuringPrefillMs),
      ...(summary.streamsEndedEarly === 0
        ? []
        : [
            `note: ${summary.streamsEndedEarly} streams ended before the long prompt's first output; a larger --osl keeps them running`,
          ]),
      ...formatErrors(summary.errors),
    ],
    summary: { ...vllmResultOf([...run.streams, ...(run.long === undefined ? [] : [run.long])]), ...summary },
    errors: summary.errors,
    records: run.streams,
    ...(run.long === undefined ? {} : { newcomer: run.long }),
  };
}

/** Every gap of the streams of the first round, around the long prompt's arrival. */
function gapsPlot(turns: readonly PlacedTurn[]): Plot {
  const first = turns.filter(({ round }) => round === 0);
  const beginOf = ({ records }: PlacedTurn): number => Math.min(...records.map(({ startMs }) => startMs));
  return {
    title: "Time between tokens of the streams when a long prompt arrives, first round",
    x: "ms since the streams began",
    y: "gap, ms",
    series: first.map((turn): Series => {
      const points = turn.records.flatMap(({ outputMs }) =>
        gapsOf(outputMs).map((gap, i) => [(outputMs[i + 1] ?? 0) - beginOf(turn), gap] as const),
      );
      return { name: sideName(turn.side), colour: turn.side, kind: "points", points };
    }),
    marks: first.flatMap((turn) => {
      const { newcomer, side } = turn;
      const firstMs = newcomer?.outputMs[0];
      if (newcomer === undefined) return [];
      const sent = { at: newcomer.startMs - beginOf(turn), label: `${sideName(side)} sent` };
      if (firstMs === undefined) return [sent];
      return [sent, { at: firstMs - beginOf(turn), label: `${sideName(side)} first token` }];
    }),
  };
}
