/** The parts that every report for people is made of: numbers, summaries, failures and the names of the two servers. */
import type { Interval } from "./bootstrap.ts";
import type { Goodput } from "./goodput.ts";
import type { ErrorCount, LevelSummary } from "./level-summary.ts";
import type { Spread, Summary } from "./stats.ts";

const SIDE_NAMES = ["A", "B"] as const;
const SMALL = 10;

export const SUMMARY_HEAD = `${"".padEnd(18)}${["n", "mean", "p50", "p90", "p99", "max"].map((name) => name.padStart(10)).join("")}`;

/** Of a level or of what a scenario sent in all. */
export function formatRequests(summary: LevelSummary): string[] {
  const missing = summary.outputTokens - summary.outputChunks;
  return [
    `requests  ${summary.succeeded} ok   ${summary.failed} failed   ${number(summary.wallMs / 1000)} s   ` +
      `${number(summary.requestsPerSecond)} req/s`,
    `tokens    in ${summary.promptTokens} (${formatCached(summary)})   out ${summary.outputTokens}   ` +
      `output ${number(summary.outputTokensPerSecond)} tok/s   total ${number(summary.totalTokensPerSecond)} tok/s`,
    SUMMARY_HEAD,
    formatSummary("ttft (content) ms", summary.ttftMs),
    formatSummary("ttft (choices) ms", summary.ttftAnyChunkMs),
    formatSummary("tpot ms", summary.tpotMs),
    formatSummary("itl ms", summary.itlMs),
    formatSummary("e2e ms", summary.e2eMs),
    `longest gap ${number(summary.longestGapMs)} ms   ${summary.outputChunks} chunks for ` +
      `${summary.outputTokens} tokens (difference ${missing})`,
    ...notes(summary),
    ...formatErrors(summary.errors),
  ];
}

export function formatGoodput({ good, share, requestsPerSecond, objective }: Goodput): string {
  const within = [
    ...(objective.ttftMs < Infinity ? [`ttft <= ${objective.ttftMs} ms`] : []),
    ...(objective.itlMs < Infinity ? [`tpot <= ${objective.itlMs} ms`] : []),
  ].join(", ");
  return `goodput   ${number(requestsPerSecond)} req/s   ${good} requests (${(100 * share).toFixed(1)}%) with ${within}`;
}

function formatCached({ cachedTokens, promptTokens }: LevelSummary): string {
  if (cachedTokens === undefined || promptTokens === 0) return "cached -";
  return `cached ${((100 * cachedTokens) / promptTokens).toFixed(1)}%`;
}

function notes(summary: LevelSummary): string[] {
  const lines: string[] = [];
  if (summary.countedByChunks > 0) {
    lines.push(
      `note: no usage from the server for ${summary.countedByChunks} requests; chunks taken for tokens`,
    );
  }
  if (summary.wrongLength > 0) {
    lines.push(`note: ${summary.wrongLength} requests ended with another number of tokens than asked for`);
  }
  if (summary.itlMs.p50 === 0) {
    lines.push(
      "note: the server sends several tokens at a time, which are 0 ms apart here; see the mean, or tpot",
    );
  }
  return lines;
}

export function formatErrors(errors: readonly ErrorCount[]): string[] {
  if (errors.length === 0) return ["errors: none"];
  return errors.map(({ kind, count, example }) => `error: ${kind} x ${count}   first: ${oneLine(example)}`);
}

export function formatSummary(name: string, { count, mean, p50, p90, p99, max }: Summary): string {
  const cells = [String(count), ...[mean, p50, p90, p99, max].map(number)];
  return name.padEnd(18) + cells.map((cell) => cell.padStart(10)).join("");
}

/** Small numbers get three digits behind the point, others so many. */
export function formatSpread(spread: Spread | undefined, digits: number): string {
  if (spread === undefined) return "-";
  const shown = spread.max < SMALL ? 3 : digits;
  const [median, min, max] = [spread.median, spread.min, spread.max].map((value) => value.toFixed(shown));
  return `${median} (${min} - ${max})`;
}

export function formatInterval(interval: Interval | undefined): string {
  return interval === undefined ? "-" : `${interval.low.toFixed(3)} - ${interval.high.toFixed(3)}`;
}

/** Three digits that mean something; a dash where there is no number. */
export function number(value: number | undefined): string {
  if (value === undefined) return "-";
  return value.toFixed(value >= 100 ? 1 : value >= 1 ? 2 : 3);
}

export function sideName(side: number): string {
  return SIDE_NAMES[side] ?? String(side);
}

function oneLine(text: string): string {
  return text.replace(/\s+/g, " ").trim();
}
