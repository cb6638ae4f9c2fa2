/** What a server does within an objective: requests whose first token came in time and whose tokens flowed fast enough. */
import type { RequestRecord } from "./client.ts";
import { tpotMs, ttftMs } from "./level-summary.ts";
import type { Objective } from "./simulate/collector.ts";

/** Whether it succeeded with its TTFT (to the first content) and its TPOT within the objective. */
export function isGood(record: RequestRecord, { ttftMs: ttft, itlMs }: Objective): boolean {
  // A request of one token has no time between tokens.
  return record.error === undefined && (ttftMs(record) ?? Infinity) <= ttft && (tpotMs(record) ?? 0) <= itlMs;
}

export interface Goodput {
  readonly objective: Objective;
  readonly good: number;
  /** Of the requests that were sent, failed ones included; 0-1. */
  readonly share: number;
  readonly requestsPerSecond: number;
}

export function goodputOf(
  { records, wallMs }: { readonly records: readonly RequestRecord[]; readonly wallMs: number },
  objective: Objective,
): Goodput {
  const good = records.filter((record) => isGood(record, objective)).length;
  return {
    objective,
    good,
    share: records.length === 0 ? 0 : good / records.length,
    requestsPerSecond: wallMs > 0 ? good / (wallMs / 1000) : 0,
  };
}
