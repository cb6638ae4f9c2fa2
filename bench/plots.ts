/** What the page of a benchmark shows of its requests: throughput against waiting, distributions, and time lines. */
import type { RequestRecord } from "./client.ts";
import { sideName } from "./format.ts";
import type { LevelResult } from "./http-mode.ts";
import { levelName } from "./http-mode.ts";
import { gapsOf, ttftMs } from "./level-summary.ts";
import type { Plot, Series } from "./svg-plot.ts";

/**
 * Of all levels, and of the requests of the widest one.
 * @param ttftLimitMs Of an objective.
 */
export function levelPlots(levels: readonly LevelResult[], sides: number, ttftLimitMs = Infinity): Plot[] {
  if (levels.length === 0) return [];
  const most = Math.max(...levels.map(({ concurrency }) => concurrency));
  const widest = levels.filter(({ concurrency }) => concurrency === most);
  const against = (side: number, percentile: "p50" | "p90"): Series => ({
    name: `${sideName(side)} ${percentile}`,
    colour: side,
    kind: "line",
    ...(percentile === "p90" ? { faint: true } : {}),
    points: levels
      .filter((level) => level.side === side)
      .flatMap(({ summary }) => {
        const ttft = summary.ttftMs[percentile];
        return ttft === undefined ? [] : [[summary.outputTokensPerSecond, ttft] as const];
      })
      .sort(([a], [b]) => a - b),
  });
  return [
    {
      title: "Throughput against time to first token",
      x: "output tokens a second",
      y: "TTFT, ms: p50, p90 (faint)",
      ...(ttftLimitMs < Infinity ? { limit: { at: ttftLimitMs, label: `--ttft ${ttftLimitMs} ms` } } : {}),
      series: eachOf(sides, (side) => [against(side, "p50"), against(side, "p90")]).flat(),
    },
    ...requestPlots(widest, sides, levelName(most, levels[0]?.arrivals)),
  ];
}

interface Requests {
  readonly side: number;
  readonly records: readonly RequestRecord[];
  /** Shown on the time line with them. */
  readonly newcomer?: RequestRecord;
}

/** Of the requests of one level or scenario, over all its turns; time lines of the first turns. */
export function requestPlots(turns: readonly Requests[], sides: number, what: string): Plot[] {
  const records = (side: number): RequestRecord[] =>
    turns.filter((turn) => turn.side === side).flatMap((turn) => succeeded(turn.records));
  const distribution = (title: string, samples: (record: RequestRecord) => readonly number[]): Plot => ({
    title: `${title}, ${what}`,
    x: "ms",
    y: "share of samples",
    series: eachOf(sides, (side) => cumulative(side, records(side).flatMap(samples))),
  });
  return [
    distribution("Time to first token", (record) => [ttftMs(record) ?? []].flat()),
    distribution("Time between tokens", (record) => gapsOf(record.outputMs)),
    distribution("End to end", (record) => [record.endMs - record.startMs]),
    ...eachOf(sides, (side) => {
      const { records: shown = [], newcomer } = turns.find((turn) => turn.side === side) ?? {};
      const all = newcomer === undefined ? shown : [...shown, newcomer];
      return [timeline(side, all, what), overTime(side, all, what)];
    }).flat(),
  ];
}

function eachOf<T>(sides: number, of: (side: number) => T): T[] {
  return Array.from({ length: sides }, (_, side) => of(side));
}

function succeeded(records: readonly RequestRecord[]): RequestRecord[] {
  return records.filter(({ error }) => error === undefined);
}

function cumulative(side: number, samples: readonly number[]): Series {
  const sorted = [...samples].sort((a, b) => a - b);
  const points = sorted.map((sample, i) => [sample, (i + 1) / sorted.length] as const);
  const [least] = sorted;
  const begin = least === undefined ? [] : [[least, 0] as const];
  return { name: sideName(side), colour: side, kind: "steps", points: [...begin, ...points] };
}

/** One row for each request of a round: until its first token, and from then on. */
function timeline(side: number, records: readonly RequestRecord[], what: string): Plot {
  const begin = Math.min(...records.map(({ startMs }) => startMs));
  const rows = [...records].sort((a, b) => a.startMs - b.startMs);
  const bars = (from: (r: RequestRecord) => number, to: (r: RequestRecord) => number) =>
    rows.map(
      (record, row) => [from(record) - begin, rows.length - row - 0.5, to(record) - from(record)] as const,
    );
  const first = (record: RequestRecord): number => record.outputMs[0] ?? record.endMs;
  return {
    title: `Requests of ${sideName(side)}, ${what}, first round: waiting for the first token (faint), answering`,
    x: "ms",
    y: "requests",
    noYTicks: true,
    series: [
      { name: "waiting", colour: side, kind: "bars", faint: true, points: bars((r) => r.startMs, first) },
      { name: "answering", colour: side, kind: "bars", points: bars(first, (r) => r.endMs) },
    ],
  };
}

/** How many requests of a round were open at each moment, and how many of them had nothing yet. */
function overTime(side: number, records: readonly RequestRecord[], what: string): Plot {
  const begin = Math.min(...records.map(({ startMs }) => startMs));
  const open = (name: string, faint: boolean, end: (record: RequestRecord) => number): Series => {
    const changes = records
      .flatMap((record) => [[record.startMs, 1] as const, [end(record), -1] as const])
      .sort(([a], [b]) => a - b);
    let count = 0;
    const points = changes.map(([ms, change]) => [ms - begin, (count += change)] as const);
    return { name, colour: side, kind: "steps", points, ...(faint ? { faint } : {}) };
  };
  return {
    title: `Open requests of ${sideName(side)}, ${what}, first round: all, and waiting for the first token (faint)`,
    x: "ms",
    y: "requests",
    series: [
      open("open", false, ({ endMs }) => endMs),
      open("waiting", true, ({ outputMs, endMs }) => outputMs[0] ?? endMs),
    ],
  };
}
