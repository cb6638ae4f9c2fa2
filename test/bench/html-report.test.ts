/** The page of a benchmark, from canned requests. */
import { describe, expect, test } from "vitest";
import { medianInterval } from "../../bench/bootstrap.ts";
import type { RequestRecord } from "../../bench/client.ts";
import { htmlReport } from "../../bench/html-report.ts";
import type { ReportContent } from "../../bench/html-report.ts";
import type { LevelResult } from "../../bench/http-mode.ts";
import { summarizeLevel, toVllmResult } from "../../bench/level-summary.ts";
import { levelPlots, requestPlots } from "../../bench/plots.ts";
import { compareLevels } from "../../bench/report.ts";
import { longBesideShort, resultOf } from "../../bench/scenarios/long-beside-short.ts";
import { svgPlot } from "../../bench/svg-plot.ts";

function record(startMs: number, outputMs: readonly number[]): RequestRecord {
  return {
    startMs,
    endMs: outputMs.at(-1) ?? startMs,
    firstChunkMs: outputMs[0],
    choiceMs: outputMs,
    outputMs,
    promptTokens: 10,
    cachedTokens: 0,
    outputTokens: outputMs.length,
    countedBy: "usage",
    finishReason: "length",
    error: undefined,
  };
}

function level(side: number, round: number, slower: number): LevelResult {
  const records = [record(0, [100 * slower, 150, 200]), record(50, [150 * slower, 250, 400])];
  const run = { records, wallMs: 400 * slower };
  const summary = summarizeLevel(run, 3);
  return { side, round, concurrency: 2, summary, vllm: toVllmResult(run, summary), records };
}

const environment = {
  cpu: "a <fast> & cheap one",
  cores: 2,
  memoryGib: 8,
  platform: "linux",
  node: "v20",
  version: "1",
  date: "2026-01-01",
  arguments: ["--url", "http://a"],
};
const targets = [
  { url: "http://a", model: "m" },
  { url: "http://b", model: "m" },
];
const levels = [
  level(0, 0, 1),
  level(1, 0, 1.25),
  level(0, 1, 1),
  level(1, 1, 1.1),
  level(0, 2, 1),
  level(1, 2, 1),
];

function page(content: Partial<ReportContent>): string {
  const none = { plots: [], comparisons: [], formulas: [] };
  return htmlReport({ environment, targets, ...none, ...content });
}

const headings = (html: string): string[] =>
  [...html.matchAll(/<h2>(.*?)<\/h2>/g)].map(([, text = ""]) => text);

describe("the page", () => {
  test("needs nothing from elsewhere and runs nothing", () => {
    const html = page({ plots: levelPlots(levels, 2) });
    expect(html).not.toMatch(/<script|<link|<img|@import|url\(|src=|href=|\son[a-z]+=/);
    expect(html).toContain("prefers-color-scheme:dark");
  });

  test("of an open loop speaks of no clients", () => {
    const arrivals = { perSecond: 4, burstiness: 1 };
    const [plot] = levelPlots([{ ...level(0, 0, 1), arrivals }], 1);
    expect(plot?.title).toBe("Throughput against time to first token");
    expect(plot?.series[0]?.labels).toBeUndefined();
  });

  test("shows more times between tokens than a call can have arguments", () => {
    const many = record(
      0,
      Array.from({ length: 300_000 }, (_, i) => i * 10 + (i % 1000)),
    );
    const [, gaps] = requestPlots([{ side: 0, records: [many] }], 1, "one");
    const points = gaps?.series[0]?.points ?? [];
    expect(points.length).toBeLessThan(2100);
    expect(points.at(0)).toEqual([-989, 0]);
    expect(points.at(-1)).toEqual([11, 1]);
    expect(
      svgPlot({
        title: "",
        x: "",
        y: "",
        series: [{ name: "", colour: 0, kind: "line", points: many.outputMs.map((ms, i) => [ms, i]) }],
      }),
    ).toContain("3000000");
  });

  test("escapes what it is told", () => {
    expect(page({})).toContain("a &lt;fast&gt; &amp; cheap one, 2 cores");
  });

  test("of levels has their plots and tables, in this order", () => {
    const rows = compareLevels(levels, 2)[0]?.comparisons ?? [];
    expect(
      headings(page({ plots: levelPlots(levels, 2), comparisons: [{ title: "2 clients", rows }] })),
    ).toEqual([
      "Throughput against time to first token, by number of clients",
      "Time to first token, 2 clients",
      "Time between tokens, 2 clients",
      "End to end, 2 clients",
      "Requests of A, 2 clients, first round: waiting for the first token (faint), answering",
      "Open requests of A, 2 clients, first round: all, and waiting for the first token (faint)",
      "Requests of B, 2 clients, first round: waiting for the first token (faint), answering",
      "Open requests of B, 2 clients, first round: all, and waiting for the first token (faint)",
      "2 clients",
      "What the numbers mean",
    ]);
  });

  test("has the objective's time to the first token as a line in the plot against throughput", () => {
    const [without, limited] = [levelPlots(levels, 2)[0], levelPlots(levels, 2, 500)[0]];
    expect([without?.limit, limited?.limit]).toEqual([undefined, { at: 500, label: "--ttft 500 ms" }]);
    const svg = limited === undefined ? "" : svgPlot(limited);
    // It is within the axis, which the times alone would end at 125.
    expect(svg).toContain('<path class="mark" d="M70 16H704"/>');
    expect(svg).toContain(">--ttft 500 ms</text>");
  });

  test("has one point for each level in the plot against throughput, whatever the rounds, with its clients", () => {
    const [plot] = levelPlots([...levels, { ...level(0, 0, 2), concurrency: 1 }], 2);
    const [a, , b] = plot?.series ?? [];
    expect([a?.name, a?.points.length, a?.labels]).toEqual(["A p50", 2, ["1", "2"]]);
    expect([b?.name, b?.points.length, b?.labels]).toEqual(["B p50", 1, ["2"]]);
    expect(b?.points[0]?.[0]).toBeCloseTo(6 / 0.44, 9);
    expect(b?.points[0]?.[1]).toBeCloseTo(112.5, 9);
    expect(page({ plots: plot === undefined ? [] : [plot] })).toMatch(
      /<text x="[\d.]+" y="[\d.]+">2<\/text><\/g>/,
    );
  });

  test("counts who is open and who waits, at each moment", () => {
    const plot = requestPlots([{ side: 0, records: [record(10, [30, 50]), record(20, [40])] }], 1, "x").at(
      -1,
    );
    expect(plot?.series.map(({ points }) => points)).toEqual([
      [
        [0, 1],
        [10, 2],
        [30, 1],
        [40, 0],
      ],
      [
        [0, 1],
        [10, 2],
        [20, 1],
        [30, 0],
      ],
    ]);
  });

  test("says how sure a ratio is", () => {
    const rows = compareLevels(levels, 2)[0]?.comparisons.slice(0, 1) ?? [];
    expect(page({ comparisons: [{ title: "t", rows }] })).toContain(
      "<tr><td>output tok/s</td><td>15.0 (15.0 - 15.0)</td><td>13.6 (12.0 - 15.0)</td>" +
        "<td>1.100 (1.000 - 1.250)</td><td>1.000 - 1.250</td></tr>",
    );
  });

  test("of a long prompt beside streams marks when it came and when it was answered", () => {
    const run = { streams: [record(1000, [1100, 1200, 1900])], long: record(1300, [1800]) };
    const html = page({ plots: longBesideShort.plots?.([{ side: 0, round: 0, ...resultOf(run) }]) ?? [] });
    expect(headings(html)).toEqual([
      "Time between tokens of the streams when a long prompt arrives, first round",
      "What the numbers mean",
    ]);
    expect(html).toContain(">A sent</text>");
    expect(html).toContain(">A first token</text>");
  });
});

test("a plot has round ticks, its series and its marks", () => {
  const svg = svgPlot({
    title: "t",
    x: "ms",
    y: "<y>",
    series: [
      {
        name: "cdf",
        colour: 0,
        kind: "steps",
        points: [
          [10, 0.5],
          [40, 1],
        ],
      },
      { name: "bar", colour: 1, kind: "bars", points: [[10, 1, 20]], faint: true },
    ],
    marks: [{ at: 20, label: "here" }],
  });
  expect([...svg.matchAll(/text-anchor="middle">(\d+)</g)].map(([, text]) => text)).toEqual([
    "0",
    "10",
    "20",
    "30",
    "40",
  ]);
  expect(svg).toContain('<g class="c0"><title>cdf</title><path class="line" d="M228.5 145H704V16"/></g>');
  expect(svg).toContain('<g class="c1 faint"><title>bar</title>');
  expect(svg).toContain("&lt;y&gt;");
  expect(svg).toContain(">here</text>");
});

describe("the interval of a median", () => {
  test("is the same for the same samples and lies within them", () => {
    const samples = [0.9, 1, 1.1, 1.05, 0.95];
    expect(medianInterval(samples)).toEqual({ low: 0.9, high: 1.1 });
    expect(medianInterval(samples)).toEqual(medianInterval(samples));
  });

  test("narrows as samples grow in number", () => {
    const many = Array.from({ length: 101 }, (_, i) => i);
    const { low = 0, high = 100 } = medianInterval(many) ?? {};
    expect([low, high]).toEqual([41, 60]);
  });

  test("is not given for fewer than three", () => {
    expect(medianInterval([1, 2])).toBeUndefined();
  });
});
