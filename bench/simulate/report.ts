/** The report of a simulation for people: policies side by side, and a replay beside what happened. */
import { median } from "../stats.ts";
import type { Percentiles, SimulationReport } from "./collector.ts";
import type { CallErrors, Replay } from "./replay.ts";
import type { WorkloadRun } from "./run.ts";

interface Row {
  readonly name: string;
  readonly valueOf: (report: SimulationReport) => number | undefined;
  /** What a smaller number means. */
  readonly better: "more" | "less" | "neither";
}

const ROWS: readonly Row[] = [
  { name: "output tok/s", valueOf: (report) => report.outputPerSecond, better: "more" },
  { name: "total tok/s", valueOf: (report) => report.totalPerSecond, better: "more" },
  { name: "good requests/s", valueOf: (report) => report.goodPerSecond, better: "more" },
  { name: "good %", valueOf: (report) => 100 * report.goodShare, better: "more" },
  { name: "ttft p50 ms", valueOf: (report) => report.ttftMs.p50, better: "less" },
  { name: "ttft p95 ms", valueOf: (report) => report.ttftMs.p95, better: "less" },
  { name: "ttft p99 ms", valueOf: (report) => report.ttftMs.p99, better: "less" },
  // Where there are both.
  {
    name: "short ttft p95 ms",
    valueOf: ({ shortTtftMs, longTtftMs }) => (longTtftMs.p95 === undefined ? undefined : shortTtftMs.p95),
    better: "less",
  },
  {
    name: "long ttft p95 ms",
    valueOf: ({ shortTtftMs, longTtftMs }) => (shortTtftMs.p95 === undefined ? undefined : longTtftMs.p95),
    better: "less",
  },
  { name: "itl p50 ms", valueOf: (report) => report.itlMs.p50, better: "less" },
  { name: "itl p95 ms", valueOf: (report) => report.itlMs.p95, better: "less" },
  { name: "itl p99 ms", valueOf: (report) => report.itlMs.p99, better: "less" },
  { name: "e2e p50 ms", valueOf: (report) => report.e2eMs.p50, better: "less" },
  { name: "e2e p95 ms", valueOf: (report) => report.e2eMs.p95, better: "less" },
  { name: "longest gap ms", valueOf: (report) => report.itlMs.max, better: "less" },
  { name: "longest wait ms", valueOf: (report) => report.queueMs.max, better: "less" },
  { name: "reused %", valueOf: (report) => 100 * report.hitShare, better: "more" },
  { name: "evictions", valueOf: (report) => report.evictions, better: "less" },
  { name: "passes a token", valueOf: (report) => report.passesPerToken, better: "less" },
  { name: "fairness gap tok", valueOf: (report) => report.fairnessGap, better: "less" },
  { name: "refused", valueOf: (report) => report.refused, better: "less" },
  { name: "simulated s", valueOf: (report) => report.durationMs / 1000, better: "neither" },
];

export const SIMULATION_FORMULAS: readonly string[] = [
  "ttft            arrival to first token drawn; itl: between tokens of a request, pooled",
  "good            done, with ttft and the mean time between tokens within the objective",
  "reused          prompt tokens that were not computed, of those of admitted requests",
  "short, long     ttft of prompts under 512 tokens, which --reserve-slots keeps slots for, and of the others",
  "fairness gap    largest difference of service between tenants that both waited (prompt tokens + 2 x output)",
  "x +- y          mean over seeds and the half width of its 95 % interval",
  "against first   mean difference to the first policy, seed by seed, with the same interval; * when it excludes 0",
];

/** Half widths of 95 % intervals in standard errors, by degrees of freedom; beyond them the normal law's. */
const STUDENT = [0, 12.71, 4.3, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23];

interface Estimate {
  readonly mean: number;
  /** Of the 95 % interval of the mean; undefined with one sample. */
  readonly halfWidth: number | undefined;
}

/** Undefined without samples. */
export function estimate(samples: readonly number[]): Estimate | undefined {
  const n = samples.length;
  if (n === 0) return undefined;
  const mean = samples.reduce((sum, sample) => sum + sample, 0) / n;
  if (n === 1) return { mean, halfWidth: undefined };
  const variance = samples.reduce((sum, sample) => sum + (sample - mean) ** 2, 0) / (n - 1);
  return { mean, halfWidth: (STUDENT[n - 1] ?? 1.96) * Math.sqrt(variance / n) };
}

export function formatWorkload({ workload, about, perSecond, cv, policies }: WorkloadRun): string[] {
  const [first] = policies;
  const gaps = cv === undefined ? "" : ` with gaps of cv ${cv}`;
  const rate = workload === "closed" ? "" : `, ${show(perSecond)} arrivals a second${gaps}`;
  // A long name must not run into the one before.
  const widths = policies.map(({ policy }) => Math.max(22, policy.length + 2));
  const lines = [
    `${workload}: ${about}${rate}`,
    `${"".padEnd(17)}${policies.map(({ policy }, i) => policy.padStart(widths[i] ?? 0)).join("")}`,
  ];
  for (const { name, valueOf } of ROWS) {
    const samples = policies.map(({ reports }) =>
      reports.map(valueOf).filter((value) => value !== undefined),
    );
    if (samples.every((values) => values.every((value) => value === 0))) continue;
    lines.push(
      `${name.padEnd(17)}${samples.map((values, i) => showEstimate(estimate(values)).padStart(widths[i] ?? 0)).join("")}`,
    );
  }
  for (const other of policies.slice(1)) {
    lines.push("", `${other.policy} against ${first?.policy}`);
    for (const row of ROWS) {
      const change = difference(row, first?.reports ?? [], other.reports);
      if (change !== undefined) lines.push(change);
    }
  }
  return lines;
}

/** Undefined where there is nothing to say. */
function difference(
  { name, valueOf, better }: Row,
  before: readonly SimulationReport[],
  after: readonly SimulationReport[],
): string | undefined {
  if (better === "neither") return undefined;
  const changes = after.flatMap((report, i) => {
    const [a, b] = [before[i] === undefined ? undefined : valueOf(before[i]), valueOf(report)];
    return a === undefined || b === undefined ? [] : [b - a];
  });
  const change = estimate(changes);
  if (change === undefined || change.mean === 0) return undefined;
  const { mean, halfWidth } = change;
  const certain = halfWidth !== undefined && Math.abs(mean) > halfWidth;
  const verdict = certain ? (mean > 0 === (better === "more") ? " * better" : " * worse") : "";
  return `  ${name.padEnd(17)}${showEstimate(change).padStart(20)}${verdict}`;
}

export function formatReplay(result: Replay): string[] {
  const { device, learnt, errors, real, simulated, guessingShare, elsewhere } = result;
  return [
    learnt > 0
      ? `device ${device.name}, fitted to ${learnt} calls, every other one`
      : `device ${device.name}, fitted to another recording`,
    `${(learnt > 0 ? "the calls between them" : "the calls of this one").padEnd(32)}${["calls", "real ms", "model ms", "error", "planner's error"].map((head) => head.padStart(16)).join("")}`,
    ...errors.filter(({ calls }) => calls > 0).map(formatErrors),
    "",
    `${"the whole run".padEnd(20)}${["real", "simulated", "error"].map((head) => head.padStart(12)).join("")}`,
    ...compared(real, simulated).map(
      ({ name, a, b }) =>
        `${name.padEnd(20)}${show(a).padStart(12)}${show(b).padStart(12)}${percent(a, b).padStart(12)}`,
    ),
    ...(guessingShare > 0
      ? [
          `${(100 * guessingShare).toFixed(0)} % of the decode calls held guessed tokens, which are not simulated: record with --speculation off.`,
        ]
      : []),
    ...(elsewhere > 0
      ? [
          `Prompts computed by a prefill worker, which is not simulated: ${elsewhere}. Record with --prefill-worker off.`,
        ]
      : []),
  ];
}

function formatErrors({ kind, calls, realMs, modelMs, plannedMs }: CallErrors): string {
  const cells = [
    String(calls),
    show(realMs),
    show(modelMs),
    percent(realMs, modelMs),
    percent(realMs, plannedMs),
  ];
  return `${kind.padEnd(32)}${cells.map((cell) => cell.padStart(16)).join("")}`;
}

/** What is compared between a run and its simulation. */
export function compared(
  real: SimulationReport,
  simulated: SimulationReport,
): { readonly name: string; readonly a: number; readonly b: number }[] {
  const times = (name: string, pick: (report: SimulationReport) => Percentiles) =>
    (["mean", "p50", "p90", "p99"] as const).map((key) => ({
      name: `${name} ${key} ms`,
      valueOf: (report: SimulationReport) => pick(report)[key],
    }));
  const rows: readonly { name: string; valueOf: (report: SimulationReport) => number | undefined }[] = [
    { name: "duration s", valueOf: ({ durationMs }) => durationMs / 1000 },
    { name: "output tok/s", valueOf: ({ outputPerSecond }) => outputPerSecond },
    { name: "steps", valueOf: ({ steps }) => steps },
    ...times("ttft", ({ ttftMs }) => ttftMs),
    ...times("itl", ({ itlMs }) => itlMs),
    ...times("e2e", ({ e2eMs }) => e2eMs),
    { name: "reused %", valueOf: ({ hitShare }) => 100 * hitShare },
  ];
  return rows.flatMap(({ name, valueOf }) => {
    const [a, b] = [valueOf(real), valueOf(simulated)];
    return a === undefined || b === undefined ? [] : [{ name, a, b }];
  });
}

/** @param seconds CPU time that all runs took. */
export function formatSpeed(steps: readonly number[], seconds: number): string {
  const total = steps.reduce((sum, count) => sum + count, 0);
  return `${total} steps in ${seconds.toFixed(1)} s of CPU time: ${Math.round(total / Math.max(seconds, 1e-3))} simulated steps a second (a run has ${Math.round(median(steps) ?? 0)})`;
}

function percent(a: number, b: number): string {
  return a === 0 ? "-" : `${b >= a ? "+" : ""}${((100 * (b - a)) / a).toFixed(1)} %`;
}

function showEstimate(value: Estimate | undefined): string {
  if (value === undefined) return "-";
  return value.halfWidth === undefined ? show(value.mean) : `${show(value.mean)} +- ${show(value.halfWidth)}`;
}

/** About three figures. */
function show(value: number): string {
  const size = Math.abs(value);
  return value.toFixed(size >= 100 || value === 0 ? 0 : size >= 10 ? 1 : size >= 0.01 ? 2 : 4);
}
