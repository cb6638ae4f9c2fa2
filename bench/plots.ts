/** What the page of a benchmark shows of its requests: throughput against waiting, distributions, and time lines. */
import type { RequestRecord } from "./client.ts";
import { sideName } from "./format.ts";
import type { LevelResult } from "./http-mode.ts";
import { levelName } from "./http-mode.ts";
import { gapsOf, ttftMs } from "./level-summary.ts";
import type { Plot, Series } from "./svg-plot.ts";

/** Of all levels, and of the requests of the widest one. */
export function levelPlots(levels: readonly LevelResult[], sides: number): Plot[] {
  if (levels.length === 0) return [];
  const most = Math.max(...levels.map(({ concurrency }) => concurrency));
  const widest = levels.filter(({ concurrency }) => concurrency === most);
  return [
    {
      title: "Throughput against time to first token",
      x: "output tokens a second",
      y: "TTFT p50, ms",
      series: eachOf(sides, (side): Series => {
        const points = levels
          .filter((level) => level.side === side && level.summary.ttftMs.p50 !== undefined)
          .map(({ summary }) => [summary.outputTokensPerSecond, summary.ttftMs.p50 ?? 0] as const)
          .sort(([a], [b]) => a - b);
        return { name: sideName(side), colour: side, kind: "line", points };
      }),
    },
    ...requestPlots(widest, sides, levelName(most, levels[0]?.arrivals)),
  ];
}

interface Requests {
  readonly side: number;
  readonly records: readonly RequestRecord[];
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
    ...eachOf(sides, (side) => timeline(side, turns.find((turn) => turn.side === side)?.records ?? [], what)),
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
