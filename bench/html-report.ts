/**
 * The report as one HTML page that needs nothing else: no script, no font, no request. Light or dark as the reader's
 * system is.
 */
import type { RequestRecord } from "./client.ts";
import type { BenchEnvironment } from "./environment.ts";
import type { LevelResult, ScenarioResult } from "./http-mode.ts";
import { levelName } from "./http-mode.ts";
import { gapsOf, ttftMs } from "./level-summary.ts";
import type { Comparison } from "./report.ts";
import { escapeHtml, svgPlot } from "./svg-plot.ts";
import type { Plot, Series } from "./svg-plot.ts";

export interface ReportContent {
  readonly environment: BenchEnvironment;
  /** What A and B are. */
  readonly targets: readonly { readonly url: string; readonly model: string }[];
  readonly levels: readonly LevelResult[];
  readonly scenarios: readonly ScenarioResult[];
  readonly comparisons: readonly { readonly title: string; readonly rows: readonly Comparison[] }[];
  readonly formulas: readonly string[];
}

const STYLE = `:root{color-scheme:light dark;--ink:#1b1f24;--paper:#fff;--grid:#d8dde3;--a:#0b62c4;--b:#c2410c}
@media (prefers-color-scheme:dark){:root{--ink:#e6e9ed;--paper:#14171b;--grid:#343a42;--a:#6cb0ff;--b:#ff9a5c}}
body{margin:2rem auto;max-width:60rem;padding:0 1rem;background:var(--paper);color:var(--ink);font:15px/1.5 system-ui,sans-serif}
svg{width:100%;height:auto}svg text{fill:var(--ink);font-size:12px}.grid{stroke:var(--grid)}.mark{stroke:var(--ink);stroke-dasharray:4 3}
.c0{fill:var(--a);stroke:var(--a)}.c1{fill:var(--b);stroke:var(--b)}.line{fill:none;stroke-width:2}.faint{opacity:.35}rect,circle{stroke:none}
table{border-collapse:collapse;width:100%}td,th{padding:.2rem .6rem;text-align:right;border-bottom:1px solid var(--grid)}td:first-child,th:first-child{text-align:left}
.key::before{content:"";display:inline-block;width:.8em;height:.8em;margin-right:.4em;background:currentColor}.k0{color:var(--a)}.k1{color:var(--b)}pre{white-space:pre-wrap}`;

export function htmlReport(content: ReportContent): string {
  const { environment, targets, comparisons, formulas } = content;
  const { version, date, cpu, cores, memoryGib, platform, node } = environment;
  const machine = `${cpu}, ${cores} cores, ${memoryGib} GiB, ${platform}, node ${node}`;
  const plots = plotsOf(content);
  return [
    `<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">`,
    `<title>weft bench ${escapeHtml(date)}</title><style>${STYLE}</style></head><body>`,
    `<h1>weft bench ${escapeHtml(version)}</h1><p>${escapeHtml(date)}<br>${escapeHtml(machine)}<br>`,
    `<code>${escapeHtml(environment.arguments.join(" "))}</code></p><ul>`,
    ...targets.map(
      ({ url, model }, side) =>
        `<li class="key k${side}">${name(side)}: ${escapeHtml(url)}, ${escapeHtml(model)}</li>`,
    ),
    `</ul>`,
    ...plots.map((plot) => `<h2>${escapeHtml(plot.title)}</h2>${svgPlot(plot)}`),
    ...comparisons.map(({ title, rows }) => `<h2>${escapeHtml(title)}</h2>${table(rows)}`),
    `<h2>What the numbers mean</h2><pre>${escapeHtml(formulas.join("\n"))}</pre></body></html>\n`,
  ].join("\n");
}

function plotsOf({ levels, scenarios, targets }: ReportContent): Plot[] {
  const sides = targets.map((_, side) => side);
  if (levels.length === 0) return scenarios.length === 0 ? [] : [gapsPlot(scenarios)];
  const most = Math.max(...levels.map(({ concurrency }) => concurrency));
  const what = levelName(most, levels[0]?.arrivals);
  const widest = levels.filter(({ concurrency }) => concurrency === most);
  const records = (side: number): RequestRecord[] =>
    widest.filter((level) => level.side === side).flatMap((level) => succeeded(level.records));
  const distribution = (title: string, samples: (record: RequestRecord) => readonly number[]): Plot => ({
    title: `${title}, ${what}`,
    x: "ms",
    y: "share of samples",
    series: sides.map((side) => cumulative(side, records(side).flatMap(samples))),
  });
  return [
    {
      title: "Throughput against time to first token",
      x: "output tokens a second",
      y: "TTFT p50, ms",
      series: sides.map((side): Series => {
        const points = levels
          .filter((level) => level.side === side && level.summary.ttftMs.p50 !== undefined)
          .map(({ summary }) => [summary.outputTokensPerSecond, summary.ttftMs.p50 ?? 0] as const)
          .sort(([a], [b]) => a - b);
        return { name: name(side), colour: side, kind: "line", points };
      }),
    },
    distribution("Time to first token", (record) => [ttftMs(record) ?? []].flat()),
    distribution("Time between tokens", (record) => gapsOf(record.outputMs)),
    distribution("End to end", (record) => [record.endMs - record.startMs]),
    ...sides.map((side) => timeline(side, widest.find((level) => level.side === side)?.records ?? [], what)),
  ];
}

function succeeded(records: readonly RequestRecord[]): RequestRecord[] {
  return records.filter(({ error }) => error === undefined);
}

function cumulative(side: number, samples: readonly number[]): Series {
  const sorted = [...samples].sort((a, b) => a - b);
  const points = sorted.map((sample, i) => [sample, (i + 1) / sorted.length] as const);
  const [least] = sorted;
  const begin = least === undefined ? [] : [[least, 0] as const];
  return { name: name(side), colour: side, kind: "steps", points: [...begin, ...points] };
}

/** One row for each request of a round: until its first token, and from then on. */
function timeline(side: number, records: readonly RequestRecord[], level: string): Plot {
  const begin = Math.min(...records.map(({ startMs }) => startMs));
  const rows = [...records].sort((a, b) => a.startMs - b.startMs);
  const bars = (from: (r: RequestRecord) => number, to: (r: RequestRecord) => number) =>
    rows.map(
      (record, row) => [from(record) - begin, rows.length - row - 0.5, to(record) - from(record)] as const,
    );
  const first = (record: RequestRecord): number => record.outputMs[0] ?? record.endMs;
  return {
    title: `Requests of ${name(side)}, ${level}, first round: waiting for the first token (faint), answering`,
    x: "ms",
    y: "requests",
    noYTicks: true,
    series: [
      { name: "waiting", colour: side, kind: "bars", faint: true, points: bars((r) => r.startMs, first) },
      { name: "answering", colour: side, kind: "bars", points: bars(first, (r) => r.endMs) },
    ],
  };
}

/** Every gap of the streams of the first round, around the long prompt's arrival. */
function gapsPlot(scenarios: readonly ScenarioResult[]): Plot {
  const runs = scenarios.filter(({ round }) => round === 0);
  const beginOf = ({ run }: ScenarioResult): number => Math.min(...run.streams.map(({ startMs }) => startMs));
  return {
    title: "Time between tokens of the streams when a long prompt arrives, first round",
    x: "ms since the streams began",
    y: "gap, ms",
    series: runs.map((result): Series => {
      const points = result.run.streams.flatMap(({ outputMs }) =>
        gapsOf(outputMs).map((gap, i) => [(outputMs[i + 1] ?? 0) - beginOf(result), gap] as const),
      );
      return { name: name(result.side), colour: result.side, kind: "points", points };
    }),
    marks: runs.flatMap((result) => {
      const { long } = result.run;
      const firstMs = long?.outputMs[0];
      if (long === undefined) return [];
      const sent = { at: long.startMs - beginOf(result), label: `${name(result.side)} sent` };
      if (firstMs === undefined) return [sent];
      return [sent, { at: firstMs - beginOf(result), label: `${name(result.side)} first token` }];
    }),
  };
}

function table(rows: readonly Comparison[]): string {
  const spread = (value: Comparison["ratio"], digits: number): string =>
    value === undefined
      ? "-"
      : `${value.median.toFixed(digits)} (${value.min.toFixed(digits)} - ${value.max.toFixed(digits)})`;
  const both = rows.some(({ sides }) => sides.length > 1);
  const head = ["", ...(rows[0]?.sides ?? []).map((_, side) => name(side)), ...(both ? ["A/B", "95 %"] : [])];
  const body = rows.map(({ metric, sides, ratio, interval }) => {
    const sure = interval === undefined ? "-" : `${interval.low.toFixed(3)} - ${interval.high.toFixed(3)}`;
    return [metric, ...sides.map((side) => spread(side, 1)), ...(both ? [spread(ratio, 3), sure] : [])];
  });
  const row = (cells: readonly string[], tag: "td" | "th"): string =>
    `<tr>${cells.map((cell) => `<${tag}>${escapeHtml(cell)}</${tag}>`).join("")}</tr>`;
  return `<table>${row(head, "th")}${body.map((cells) => row(cells, "td")).join("")}</table>`;
}

function name(side: number): string {
  return side === 0 ? "A" : "B";
}
