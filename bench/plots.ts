/** What the page of a benchmark shows of its requests: throughput against waiting, distributions, and time lines. */
import type { RequestRecord } from "./client.ts";
import { cumulative } from "./distribution.ts";
import { sideName } from "./format.ts";
import type { LevelResult } from "./http-mode.ts";
import { levelName } from "./http-mode.ts";
import { gapsOf, ttftMs } from "./level-summary.ts";
import { median } from "./stats.ts";
import type { Plot, Series } from "./svg-plot.ts";

/**
 * Of all levels, and of the requests of the widest one.
 * @param ttftLimitMs Of an objective.
 */
export function levelPlots(levels: readonly LevelResult[], sides: number, ttftLimitMs = Infinity): Plot[] {
  if (levels.length === 0) return [];
  const most = Math.max(...levels.map(({ concurrency }) => concurrency));
  const widest = levels.filter(({ concurrency }) => concurrency === most);
  // It has one level, which is none of clients.
  const open = levels[0]?.arrivals !== undefined;
  const widths = [...new Set(levels.map(({ concurrency }) => concurrency))].sort((a, b) => a - b);
  // A point is a level, in the median over rounds; the line goes from few clients to many.
  const against = (side: number, percentile: "p50" | "p90"): Series => {
    const found = widths.flatMap((width) => {
      const own = levels.filter((level) => level.side === side && level.concurrency === width);
      const rate = median(own.map(({ summary }) => summary.outputTokensPerSecond));
      const ttft = median(own.flatMap(({ summary }) => summary.ttftMs[percentile] ?? []));
      return rate === undefined || ttft === undefined ? [] : [{ point: [rate, ttft] as const, width }];
    });
    const line = { colour: side, kind: "line", points: found.map(({ point }) => point) } as const;
    const name = `${sideName(side)} ${percentile}`;
    if (percentile === "p90") return { ...line, name, faint: true };
    const labels = open ? {} : { labels: found.map(({ width }) => String(width)) };
    return { ...line, ...labels, name };
  };
  return [
    {
      title: `Throughput against time to first token${open ? "" : ", by number of clients"}`,
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
