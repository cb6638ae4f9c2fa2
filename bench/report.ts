/** The report for people: the environment, one block per turn, comparisons over rounds, and every formula. */
import { medianInterval } from "./bootstrap.ts";
import type { Interval } from "./bootstrap.ts";
import type { EngineModeResult } from "./engine-mode.ts";
import type { BenchEnvironment } from "./environment.ts";
import type { EmbeddingSummary } from "./embeddings.ts";
import {
  formatErrors,
  formatGoodput,
  formatInterval,
  formatRequests,
  formatSpread,
  formatSummary,
  number,
  sideName,
  SUMMARY_HEAD,
} from "./format.ts";
import type { Goodput } from "./goodput.ts";
import type { EmbeddingsResult, LevelResult, Session } from "./http-mode.ts";
import { levelName } from "./http-mode.ts";
import type { LevelSummary } from "./level-summary.ts";
import type { PlacedTurn } from "./scenarios/scenario.ts";
import { ratiosOf, ratioSpread, spreadOf } from "./stats.ts";
import type { Spread } from "./stats.ts";

export const LEVEL_FORMULAS: readonly string[] = [
  "output tok/s    output tokens of succeeded requests / (last request ended - first request sent)",
  "ttft (content)  request sent to first non-empty content, reasoning or tool-call text",
  'ttft (choices)  request sent to first chunk with non-empty "choices" (vLLM\'s definition)',
  "tpot            (e2e - ttft) / (output tokens - 1), one per request",
  "itl             gaps between successive chunks with output, pooled over requests",
  "e2e             request sent to last byte",
  "goodput         requests within --ttft and --itl (tpot) / (last request ended - first request sent)",
  "percentiles     linear between closest ranks; - where there are fewer than 1 / (1 - p) samples",
];

/** Of levels whose requests are sent at times drawn beforehand, too. */
export const OPEN_LOOP_FORMULAS: readonly string[] = [
  ...LEVEL_FORMULAS,
  "request sent    of an open loop: when it was due, also where the bench itself was late",
];

export const EMBEDDINGS_FORMULAS: readonly string[] = [
  "prompt tok/s    prompt tokens of succeeded requests / (last request ended - first request sent)",
  "texts/s         their texts / the same time",
  "e2e             request sent to last byte",
];

export const ENGINE_FORMULAS: readonly string[] = [
  "engine tok/s    tokens of the steps between the first and the last one in which all requests decode / time",
  "bare tok/s      the same sequences in a loop over the same addon that neither samples nor schedules",
  "ratio           engine / bare of the same round",
];

/** What is compared over rounds. */
interface Metric {
  readonly name: string;
  readonly valueOf: (summary: LevelSummary) => number | undefined;
}

const LEVEL_METRICS: readonly Metric[] = [
  { name: "output tok/s", valueOf: (level) => level.outputTokensPerSecond },
  { name: "total tok/s", valueOf: (level) => level.totalTokensPerSecond },
  { name: "ttft p50 ms", valueOf: (level) => level.ttftMs.p50 },
  { name: "ttft max ms", valueOf: (level) => level.ttftMs.max },
  { name: "tpot p50 ms", valueOf: (level) => level.tpotMs.p50 },
  { name: "itl p50 ms", valueOf: (level) => level.itlMs.p50 },
  { name: "itl p99 ms", valueOf: (level) => level.itlMs.p99 },
  { name: "longest gap ms", valueOf: (level) => level.longestGapMs },
  { name: "e2e p50 ms", valueOf: (level) => level.e2eMs.p50 },
];

const GOODPUT_METRIC = {
  name: "goodput req/s",
  valueOf: (goodput: Goodput | undefined) => goodput?.requestsPerSecond,
};

const EMBEDDINGS_METRICS: readonly {
  readonly name: string;
  readonly valueOf: (summary: EmbeddingSummary) => number | undefined;
}[] = [
  { name: "prompt tok/s", valueOf: (level) => level.promptTokensPerSecond },
  { name: "texts/s", valueOf: (level) => level.textsPerSecond },
  { name: "e2e p50 ms", valueOf: (level) => level.e2eMs.p50 },
];

/** One metric of one level over all rounds. */
export interface Comparison {
  readonly metric: string;
  /** One per server. */
  readonly sides: readonly (Spread | undefined)[];
  /** A / B; undefined with one server. */
  readonly ratio: Spread | undefined;
  /** In which the median ratio lies with 95 %, by bootstrap over rounds; undefined with fewer than three. */
  readonly interval: Interval | undefined;
}

export function formatEnvironment(environment: BenchEnvironment): string[] {
  const { cpu, cores, memoryGib, platform, node, version, date } = environment;
  return [
    `weft bench ${version}   ${date}`,
    `cpu ${cpu}, ${cores} cores, ${memoryGib} GiB   ${platform}   node ${node}`,
    `arguments ${environment.arguments.join(" ") || "none"}`,
  ];
}

export function formatSession({ targets, countedWith }: Session): string[] {
  return [
    ...targets.map(({ url, model, endpoint }, side) => `${sideName(side)} = ${url}   ${model}   ${endpoint}`),
    `prompt lengths by ${countedWith}`,
  ];
}

export function formatLevel({ side, round, concurrency, arrivals, summary, goodput }: LevelResult): string[] {
  const level = arrivals === undefined ? `concurrency ${concurrency}` : levelName(concurrency, arrivals);
  return [
    `${sideName(side)}   ${level}   round ${round + 1}`,
    ...(goodput === undefined ? [] : [formatGoodput(goodput)]),
    ...formatRequests(summary),
  ];
}

export function formatEmbeddings({ side, round, concurrency, summary }: EmbeddingsResult): string[] {
  return [
    `${sideName(side)}   concurrency ${concurrency}   round ${round + 1}`,
    `requests  ${summary.succeeded} ok   ${summary.failed} failed   ${number(summary.wallMs / 1000)} s   ` +
      `${number(summary.requestsPerSecond)} req/s   ${number(summary.textsPerSecond)} texts/s`,
    `tokens    in ${summary.promptTokens}   ${number(summary.promptTokensPerSecond)} tok/s   ` +
      `vectors of ${summary.dimensions ?? "-"} numbers`,
    SUMMARY_HEAD,
    formatSummary("e2e ms", summary.e2eMs),
    ...formatErrors(summary.errors),
  ];
}

interface LevelComparison {
  readonly concurrency: number;
  readonly comparisons: readonly Comparison[];
}

/** Medians over rounds per level; empty for a single round of a single server, which has been shown already. */
export function compareLevels(results: readonly LevelResult[], sides: number): LevelComparison[] {
  return byLevel(results, (ofLevel) => {
    const compared = compare(LEVEL_METRICS, ofLevel, sides);
    if (ofLevel.every(({ goodput }) => goodput === undefined)) return compared;
    const goodputs = ofLevel.map(({ side, round, goodput }) => ({ side, round, summary: goodput }));
    return [...compared, ...compare([GOODPUT_METRIC], goodputs, sides)];
  });
}

export function compareEmbeddings(results: readonly EmbeddingsResult[], sides: number): LevelComparison[] {
  return byLevel(results, (ofLevel) => compare(EMBEDDINGS_METRICS, ofLevel, sides));
}

function byLevel<R extends { readonly concurrency: number }>(
  results: readonly R[],
  compareLevel: (ofLevel: readonly R[]) => Comparison[],
): LevelComparison[] {
  const levels = [...new Set(results.map((result) => result.concurrency))];
  return levels.map((concurrency) => ({
    concurrency,
    comparisons: compareLevel(results.filter((result) => result.concurrency === concurrency)),
  }));
}

/** Every figure of a scenario's turns, in their order. */
export function compareTurns(turns: readonly PlacedTurn[], sides: number): Comparison[] {
  const names = [...new Set(turns.flatMap(({ figures }) => Object.keys(figures)))];
  return compare(
    names.map((name) => ({ name, valueOf: (figures: PlacedTurn["figures"]) => figures[name] })),
    turns.map(({ side, round, figures }) => ({ side, round, summary: figures })),
    sides,
  );
}

export function formatComparison(title: string, comparisons: readonly Comparison[]): string[] {
  const sides = comparisons[0]?.sides.length ?? 0;
  const columns = [
    ...Array.from({ length: sides }, (_, side) => sideName(side)),
    ...(sides === 2 ? ["A/B", "95 % of A/B"] : []),
  ];
  return [
    `${title}: median over rounds (min - max)`,
    `${"".padEnd(20)}${columns.map((name) => name.padStart(28)).join("")}`,
    ...comparisons.map(({ metric, sides: spreads, ratio, interval }) =>
      [
        metric.padEnd(20),
        ...spreads.map((spread) => formatSpread(spread, 1).padStart(28)),
        ...(sides === 2 ? [formatSpread(ratio, 3).padStart(28), formatInterval(interval).padStart(28)] : []),
      ].join(""),
    ),
  ];
}

export interface EngineComparison {
  readonly sequences: number;
  readonly engine: Spread | undefined;
  readonly bare: Spread | undefined;
  readonly ratio: Spread | undefined;
  /** As of a comparison. */
  readonly interval: Interval | undefined;
}

export function compareEngine({ runs }: EngineModeResult): EngineComparison[] {
  return [...new Set(runs.map((run) => run.sequences))].map((sequences) => {
    const ofLevel = runs.filter((run) => run.sequences === sequences);
    const engine = ofLevel.map((run) => run.engineTokensPerSecond);
    const bare = ofLevel.map((run) => run.bareTokensPerSecond);
    return {
      sequences,
      engine: spreadOf(engine),
      bare: spreadOf(bare),
      ratio: ratioSpread(engine, bare),
      interval: medianInterval(ratiosOf(engine, bare)),
    };
  });
}

export function formatEngine(result: EngineModeResult): string[] {
  const rows = compareEngine(result);
  return [
    `engine beside a bare decode loop   ${result.model}   ${result.device}`,
    `${"sequences".padEnd(12)}${["engine tok/s", "bare tok/s", "ratio"].map((name) => name.padStart(28)).join("")}`,
    ...rows.map(({ sequences, engine, bare, ratio }) =>
      [
        String(sequences).padEnd(12),
        formatSpread(engine, 1).padStart(28),
        formatSpread(bare, 1).padStart(28),
        formatSpread(ratio, 3).padStart(28),
      ].join(""),
    ),
    ...(rows.some(({ engine }) => engine === undefined)
      ? ["note: - means that the requests never decoded all at once; a larger --osl makes them overlap"]
      : []),
  ];
}

function compare<S>(
  metrics: readonly { readonly name: string; readonly valueOf: (summary: S) => number | undefined }[],
  results: readonly { readonly side: number; readonly round: number; readonly summary: S }[],
  sides: number,
): Comparison[] {
  const rounds = [...new Set(results.map((result) => result.round))];
  return metrics.map(({ name, valueOf }) => {
    const valuesBySide = Array.from({ length: sides }, (_, side) =>
      rounds.map((round) => {
        const result = results.find((one) => one.side === side && one.round === round);
        return result === undefined ? undefined : valueOf(result.summary);
      }),
    );
    const [a, b] = valuesBySide;
    const ratios = a === undefined || b === undefined ? [] : ratiosOf(a, b);
    return {
      metric: name,
      sides: valuesBySide.map(spreadOf),
      ratio: spreadOf(ratios),
      interval: medianInterval(ratios),
    };
  });
}
