/**
 * A closed loop over HTTP: a fixed number of clients, each sending its next request when its last one ended.
 *
 * A closed loop measures what a server sustains with that many users; it does not show how long arrivals
 * wait at a rate the server cannot keep up with. An open loop does: requests are sent at given times.
 */
import type { RequestRecord, SendOne, Target } from "./client.ts";
import type { BenchClock } from "./clock.ts";

/** When a level is over: after so many requests, or after so long (running requests are then finished). */
export type LevelLength = { readonly requests: number } | { readonly durationMs: number };

/** How many clients, and how long. */
export interface LevelShape {
  /** Clients of a closed loop; of an open one the most requests that are open at a time. */
  readonly concurrency: number;
  readonly length: LevelLength;
  /** Of an open loop: when each request is sent, in ms after the start, by its index. */
  readonly sendAtMs?: (index: number) => number;
}

/** What all requests of a level have in common. */
export interface RequestShape {
  readonly outputTokens: number;
  readonly seed: number;
  readonly timeoutMs: number;
}

export interface LevelRun<R = RequestRecord> {
  readonly records: readonly R[];
  /** First request sent to last request ended. */
  readonly wallMs: number;
}

/** Requests of one level or scenario at a time; beyond this the client itself, one process, would be what is measured. */
export const MOST_OPEN = 1024;
/** A duration with a server that fails at once must not gather records without end. */
const MAX_REQUESTS_PER_LEVEL = 100_000;

/**
 * How one request is sent; replaced in tests.
 * @param dueMs Of an open loop: when it was to be sent, by the clock.
 */
export type SendRequest<P = string, R = RequestRecord> = (
  target: Target,
  prompt: P,
  index: number,
  dueMs?: number,
) => Promise<R>;

export function sendStreamed({ outputTokens, seed, timeoutMs }: RequestShape, send: SendOne): SendRequest {
  return (target, prompt, index, dueMs) =>
    send(target, { prompt, outputTokens, seed: (seed + index) >>> 0, timeoutMs, dueMs });
}

/** What each request sends; `PromptSource` is one. */
export interface Prompts<P> {
  prompt(index: number): P;
}

export async function runLevel<P, R>(
  target: Target,
  plan: LevelShape,
  prompts: Prompts<P>,
  { clock, send }: { readonly clock: BenchClock; readonly send: SendRequest<P, R> },
): Promise<LevelRun<R>> {
  const startMs = clock.nowMs();
  const { length } = plan;
  const records: R[] = [];
  let next = 0;
  const more = (): boolean =>
    next < MAX_REQUESTS_PER_LEVEL &&
    ("requests" in length ? next < length.requests : clock.nowMs() - startMs < length.durationMs);
  const client = async (): Promise<void> => {
    while (more()) {
      const index = next++;
      const sendMs = plan.sendAtMs?.(index);
      if ("durationMs" in length && (sendMs ?? 0) >= length.durationMs) return;
      const dueMs = sendMs === undefined ? undefined : startMs + sendMs;
      const waitMs = (dueMs ?? 0) - clock.nowMs();
      if (waitMs > 0) await new Promise<void>((resolve) => void clock.after(waitMs, resolve));
      records.push(await send(target, prompts.prompt(index), index, dueMs));
    }
  };
  await Promise.all(Array.from({ length: plan.concurrency }, client));
  return { records, wallMs: clock.nowMs() - startMs };
}

export interface Turn {
  readonly level: number;
  /** From 0. */
  readonly round: number;
  /** Index of the server: 0 is A, 1 is B. */
  readonly side: number;
}

/**
 * The order of an A/B run: level by level, and within a level A B A B. The machine's temperature and its other
 * load drift over minutes; what is compared lies next to each other in time.
 */
export function interleave(levels: readonly number[], rounds: number, sides: number): Turn[] {
  return levels.flatMap((level) =>
    Array.from({ length: rounds }, (_, round) =>
      Array.from({ length: sides }, (__, side) => ({ level, round, side })),
    ).flat(),
  );
}
