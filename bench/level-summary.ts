/** The numbers of one level, computed from its request records; each formula is stated where it is computed. */
import type { RequestRecord } from "./client.ts";
import type { LevelRun } from "./closed-loop.ts";
import type { Objective } from "./simulate/collector.ts";
import { standardDeviation, sum, summarize } from "./stats.ts";
import type { Summary } from "./stats.ts";

export interface ErrorCount {
  readonly kind: string;
  readonly count: number;
  /** Message of the first one. */
  readonly example: string;
}

/** Rates per second, times in ms; all but `errors` and `failed` over the requests that succeeded. */
export interface LevelSummary {
  readonly succeeded: number;
  readonly failed: number;
  readonly errors: readonly ErrorCount[];
  readonly wallMs: number;
  readonly requestsPerSecond: number;
  readonly promptTokens: number;
  /** Undefined when the server does not report cached tokens. */
  readonly cachedTokens: number | undefined;
  readonly outputTokens: number;
  readonly outputTokensPerSecond: number;
  readonly totalTokensPerSecond: number;
  /** Sent to first content, reasoning or tool-call text. */
  readonly ttftMs: Summary;
  /** Sent to the first frame with non-empty `choices`. */
  readonly ttftAnyChunkMs: Summary;
  readonly tpotMs: Summary;
  readonly itlMs: Summary;
  readonly e2eMs: Summary;
  readonly longestGapMs: number | undefined;
  readonly outputChunks: number;
  /** Requests whose tokens the server did not count, so that chunks were taken for tokens. */
  readonly countedByChunks: number;
  /** Requests that ended with another number of tokens than asked for. */
  readonly wrongLength: number;
}

/** @param askedTokens Output tokens each request asked for. */
export function summarizeLevel(run: LevelRun, askedTokens: number): LevelSummary {
  const succeeded = run.records.filter((record) => record.error === undefined);
  const seconds = run.wallMs / 1000;
  const outputTokens = sum(succeeded.map((record) => record.outputTokens));
  const promptTokens = sum(succeeded.map((record) => record.promptTokens ?? 0));
  const cached = succeeded.map((record) => record.cachedTokens).filter((tokens) => tokens !== undefined);
  const gaps = succeeded.flatMap((record) => gapsOf(record.outputMs));
  const itlMs = summarize(gaps);
  return {
    succeeded: succeeded.length,
    failed: run.records.length - succeeded.length,
    errors: countErrors(run.records),
    wallMs: run.wallMs,
    requestsPerSecond: rate(succeeded.length, seconds),
    promptTokens,
    cachedTokens: cached.length === 0 ? undefined : sum(cached),
    outputTokens,
    outputTokensPerSecond: rate(outputTokens, seconds),
    totalTokensPerSecond: rate(promptTokens + outputTokens, seconds),
    ttftMs: summarize(present(succeeded.map(ttftMs))),
    ttftAnyChunkMs: summarize(present(succeeded.map(ttftAnyChunkMs))),
    tpotMs: summarize(present(succeeded.map(tpotMs))),
    itlMs,
    e2eMs: summarize(succeeded.map((record) => record.endMs - record.startMs)),
    longestGapMs: itlMs.max,
    outputChunks: sum(succeeded.map((record) => record.outputMs.length)),
    countedByChunks: succeeded.filter((record) => record.countedBy === "chunks").length,
    wrongLength: succeeded.filter((record) => record.outputTokens !== askedTokens).length,
  };
}

export function ttftMs(record: RequestRecord): number | undefined {
  const first = record.outputMs[0];
  return first === undefined ? undefined : first - record.startMs;
}

function ttftAnyChunkMs(record: RequestRecord): number | undefined {
  const first = record.choiceMs[0];
  return first === undefined ? undefined : first - record.startMs;
}

/** `(end to end - TTFT) / (output tokens - 1)`; undefined for fewer than two tokens. */
export function tpotMs(record: RequestRecord): number | undefined {
  const ttft = ttftMs(record);
  if (ttft === undefined || record.outputTokens < 2) return undefined;
  return (record.endMs - record.startMs - ttft) / (record.outputTokens - 1);
}

export function gapsOf(timesMs: readonly number[]): number[] {
  return timesMs.slice(1).map((time, index) => time - (timesMs[index] ?? time));
}

/**
 * The same level under the names and definitions of `vllm bench serve`, for notebooks that read its files:
 * a frame with non-empty `choices` is a token, end to end ends with the last such frame.
 *
 * @param objective Of `request_goodput`, which is absent without one.
 */
export function toVllmResult(
  run: LevelRun,
  level: LevelSummary,
  objective?: Objective,
): Record<string, number | null> {
  const succeeded = run.records.filter((record) => record.error === undefined);
  const samples = {
    ttft: present(succeeded.map(ttftAnyChunkMs)),
    tpot: present(succeeded.map(vllmTpotMs)),
    itl: succeeded.flatMap((record) => gapsOf(record.choiceMs)),
    e2el: succeeded.map(vllmLastingMs),
  };
  const result: Record<string, number | null> = {
    duration: level.wallMs / 1000,
    completed: level.succeeded,
    failed: level.failed,
    total_input_tokens: level.promptTokens,
    total_output_tokens: level.outputTokens,
    request_throughput: level.requestsPerSecond,
    output_throughput: level.outputTokensPerSecond,
    total_token_throughput: level.totalTokensPerSecond,
    ...vllmPeaks(succeeded),
  };
  if (objective !== undefined) {
    const good = succeeded.filter(
      (record) =>
        (ttftAnyChunkMs(record) ?? Infinity) <= objective.ttftMs &&
        (vllmTpotMs(record) ?? 0) <= objective.itlMs,
    );
    result["request_goodput"] = rate(good.length, level.wallMs / 1000);
  }
  for (const [name, values] of Object.entries(samples)) {
    const { mean, p50, p90, p99 } = summarize(values);
    result[`mean_${name}_ms`] = mean ?? null;
    result[`median_${name}_ms`] = p50 ?? null;
    result[`std_${name}_ms`] = standardDeviation(values) ?? null;
    result[`p90_${name}_ms`] = p90 ?? null;
    result[`p99_${name}_ms`] = p99 ?? null;
  }
  return result;
}

/** The same of requests that are no level: from the first one sent to the last one ended. */
export function vllmResultOf(records: readonly RequestRecord[]): Record<string, number | null> {
  const [beginMs, endMs] = [
    Math.min(...records.map(({ startMs }) => startMs)),
    Math.max(...records.map((record) => record.endMs)),
  ];
  const run = { records, wallMs: records.length === 0 ? 0 : endMs - beginMs };
  // What each was asked for plays no part in vLLM's numbers.
  return toVllmResult(run, summarizeLevel(run, 0));
}

/** Of whole seconds since the first request: most tokens that came in one, and most requests that were open in one. */
function vllmPeaks(records: readonly RequestRecord[]): Record<string, number> {
  const beginMs = Math.min(...records.map(({ startMs }) => startMs));
  const secondOf = (ms: number): number => Math.floor((ms - beginMs) / 1000);
  const tokens = new Map<number, number>();
  const open = new Map<number, number>();
  const count = (seconds: Map<number, number>, second: number): void =>
    void seconds.set(second, (seconds.get(second) ?? 0) + 1);
  for (const record of records) {
    for (const ms of record.choiceMs) count(tokens, secondOf(ms));
    const last = secondOf(record.startMs + vllmLastingMs(record));
    for (let second = secondOf(record.startMs); second <= last; second++) count(open, second);
  }
  return {
    max_output_tokens_per_s: Math.max(0, ...tokens.values()),
    max_concurrent_requests: Math.max(0, ...open.values()),
  };
}

/** Until the last frame with non-empty `choices`. */
function vllmLastingMs({ choiceMs, startMs }: RequestRecord): number {
  return (choiceMs.at(-1) ?? startMs) - startMs;
}

function vllmTpotMs(record: RequestRecord): number | undefined {
  const ttft = ttftAnyChunkMs(record);
  if (ttft === undefined || record.outputTokens < 2) return undefined;
  return (vllmLastingMs(record) - ttft) / (record.outputTokens - 1);
}

/** Most frequent first. */
export function countErrors(records: readonly Pick<RequestRecord, "error">[]): ErrorCount[] {
  const byKind = new Map<string, ErrorCount>();
  for (const { error } of records) {
    if (error === undefined) continue;
    const known = byKind.get(error.kind);
    byKind.set(error.kind, {
      kind: error.kind,
      count: (known?.count ?? 0) + 1,
      example: known?.example ?? error.message,
    });
  }
  return [...byKind.values()].sort((a, b) => b.count - a.count);
}

export function rate(count: number, seconds: number): number {
  return seconds > 0 ? count / seconds : 0;
}

function present(values: readonly (number | undefined)[]): number[] {
  return values.filter((value) => value !== undefined);
}
