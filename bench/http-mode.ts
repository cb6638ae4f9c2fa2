/** Runs the HTTP modes from options to results: finds the models, prepares the prompts, takes the turns. */
import { describeConnectionError } from "../models/command-line/connection-error.ts";
import { arrivalTimes } from "./arrivals.ts";
import type { ArrivalRate } from "./arrivals.ts";
import { requestHeaders, sendOver } from "./client.ts";
import type { RequestRecord, Target } from "./client.ts";
import type { BenchClock } from "./clock.ts";
import { interleave, runLevel, sendStreamed } from "./closed-loop.ts";
import type { LevelRun, LevelShape, SendRequest } from "./closed-loop.ts";
import { requestEmbeddings, summarizeEmbeddings } from "./embeddings.ts";
import type { EmbeddingRecord, EmbeddingSummary } from "./embeddings.ts";
import { goodputOf } from "./goodput.ts";
import type { Goodput } from "./goodput.ts";
import { summarizeLevel, toVllmResult } from "./level-summary.ts";
import type { LevelSummary } from "./level-summary.ts";
import { defaultRequests } from "./options.ts";
import type { ClosedLoopOptions, EmbeddingsOptions, HttpOptions } from "./options.ts";
import { estimateTokens, PromptSource, serverTokenCounter } from "./prompts.ts";
import type { TokenCounter } from "./prompts.ts";
import { deriveSeed } from "./rng.ts";
import { isSaturated } from "./saturation.ts";

/** Which server and which turn a result is of. */
interface ResultPlace {
  /** 0 is A, 1 is B. */
  readonly side: number;
  /** From 0. */
  readonly round: number;
}

export interface LevelResult extends ResultPlace {
  readonly concurrency: number;
  readonly summary: LevelSummary;
  /** Where there is an objective. */
  readonly goodput?: Goodput | undefined;
  /** Of an open loop. */
  readonly arrivals?: ArrivalRate | undefined;
  readonly vllm: Readonly<Record<string, number | null>>;
  readonly records: readonly RequestRecord[];
}

export interface EmbeddingsResult extends ResultPlace {
  readonly concurrency: number;
  readonly summary: EmbeddingSummary;
}

export interface Session {
  readonly targets: readonly Target[];
  readonly count: TokenCounter;
  /** Where prompt lengths come from, for the report. */
  readonly countedWith: string;
}

export interface RunContext {
  readonly clock: BenchClock;
  /** One line about what is being done, for a person who waits. */
  readonly progress: (text: string) => void;
}

/** Longest a server may take to list its models, in ms. */
const LIST_TIMEOUT_MS = 30_000;
/** Texts of embeddings requests whose length is fitted to the token count. */
const FITTED_TEXTS = 64;
/** Prompts of a level for which that is done: each takes some calls, and an open loop may send many thousands. */
const FITTED_PROMPTS = 256;

/** @throws {Error} When a server cannot be reached or offers no model; the message says what to do. */
export async function openSession(options: HttpOptions, clock: BenchClock): Promise<Session> {
  const { endpoint, apiKey } = options;
  const targets: Target[] = [];
  for (const url of options.urls) {
    const model = options.model ?? (await firstModel(url, apiKey, clock));
    targets.push({ url, endpoint, model, apiKey });
  }
  // Both servers get the same prompts, so one tokenizer decides.
  for (const target of targets) {
    const count = await serverTokenCounter(target, clock);
    if (count !== undefined) return { targets, count, countedWith: `${target.url}/tokenize` };
  }
  return { targets, count: estimateTokens, countedWith: "an estimate of 4 characters per token" };
}

/**
 * @param report Called after each turn, so that a run that is broken off has shown what it had.
 */
export async function runClosedLoop(
  options: ClosedLoopOptions,
  session: Session,
  { clock, progress }: RunContext,
  report: (result: LevelResult) => void,
): Promise<LevelResult[]> {
  const results: LevelResult[] = [];
  const turns = interleave(options.concurrency, options.rounds, session.targets.length);
  for (const { level: concurrency, round, side } of turns) {
    const target = session.targets[side];
    if (target === undefined) continue;
    if (options.untilSaturated === true && isSaturated(results, concurrency)) break;
    const length = options.length ?? { requests: defaultRequests(concurrency) };
    const plan: LevelShape = { concurrency, length };
    progress(
      `${target.url}: ${levelName(concurrency, options.arrivals)}, round ${round + 1} of ${options.rounds}`,
    );
    const prepare = (part: number, exact: number): Promise<PromptSource> =>
      PromptSource.prepare(
        { ...options, seed: promptSeed(session, options.seed, [concurrency, round, part], side) },
        exact,
        session.count,
      );
    const prompts = await prepare(0, fittedPrompts(plan, options.arrivals));
    const send = sendStreamed(options, sendOver(clock));
    if (options.warmup > 0) {
      const warmup = { ...plan, length: { requests: options.warmup } };
      await runLevel(target, warmup, await prepare(1, options.warmup), { clock, send });
    }
    // Both sides of a round get their requests at the same times.
    const arrivals =
      options.arrivals === undefined
        ? {}
        : { sendAtMs: arrivalTimes(options.arrivals, deriveSeed(options.seed, round)) };
    const run: LevelRun = await runLevel(target, { ...plan, ...arrivals }, prompts, { clock, send });
    const summary = summarizeLevel(run, options.outputTokens);
    const goodput = options.objective && goodputOf(run, options.objective);
    const vllm = toVllmResult(run, summary, options.objective);
    const result = {
      side,
      round,
      concurrency,
      arrivals: options.arrivals,
      summary,
      goodput,
      vllm,
      records: run.records,
    };
    results.push(result);
    report(result);
  }
  return results;
}

/** As many as will be sent, as far as that is known, but no more than can be fitted before anybody wonders. */
function fittedPrompts({ length, concurrency }: LevelShape, arrivals: ArrivalRate | undefined): number {
  if ("requests" in length) return Math.min(FITTED_PROMPTS, length.requests);
  const sent =
    arrivals === undefined
      ? defaultRequests(concurrency)
      : Math.max(1, Math.ceil((arrivals.perSecond * length.durationMs) / 1000));
  return Math.min(FITTED_PROMPTS, sent);
}

/** What tells a level from the others, for people. */
export function levelName(concurrency: number, arrivals: ArrivalRate | undefined): string {
  if (arrivals === undefined) return `${concurrency} clients`;
  return `${arrivals.perSecond} requests a second, burstiness ${arrivals.burstiness}`;
}

/** As `runClosedLoop`, for requests that ask for the vectors of several texts. */
export async function runEmbeddings(
  options: EmbeddingsOptions,
  session: Session,
  { clock, progress }: RunContext,
  report: (result: EmbeddingsResult) => void,
): Promise<EmbeddingsResult[]> {
  const results: EmbeddingsResult[] = [];
  const { texts, warmup } = options;
  const send: SendRequest<readonly string[], EmbeddingRecord> = (target, prompts) =>
    requestEmbeddings(target, prompts, options.timeoutMs, clock);
  const turns = interleave(options.concurrency, options.rounds, session.targets.length);
  for (const { level: concurrency, round, side } of turns) {
    const target = session.targets[side];
    if (target === undefined) continue;
    progress(`${target.url}: ${concurrency} clients, round ${round + 1} of ${options.rounds}`);
    const level: LevelShape = {
      concurrency,
      length: options.length ?? { requests: defaultRequests(concurrency) },
    };
    const requests = "requests" in level.length ? level.length.requests : defaultRequests(concurrency);
    const prepare = async (part: number, count: number) => {
      const source = await PromptSource.prepare(
        {
          promptTokens: options.promptTokens,
          sharedPrefixTokens: 0,
          seed: promptSeed(session, options.seed, [concurrency, round, part], side),
        },
        // Fitting each of thousands of texts would take longer than the run; the others are permutations.
        Math.min(count * texts, FITTED_TEXTS),
        session.count,
      );
      return {
        prompt: (index: number) => Array.from({ length: texts }, (_, i) => source.prompt(index * texts + i)),
      };
    };
    const prompts = await prepare(0, requests);
    if (warmup > 0)
      await runLevel(target, { ...level, length: { requests: warmup } }, await prepare(1, warmup), {
        clock,
        send,
      });
    const run = await runLevel(target, level, prompts, { clock, send });
    const result = { side, round, concurrency, summary: summarizeEmbeddings(run, texts) };
    results.push(result);
    report(result);
  }
  return results;
}

/**
 * Both sides of a round get the same prompts; another round gets others, or it would find them cached. So would
 * side B when it is the same server as A, which is how one measures the noise of a comparison.
 */
export function promptSeed(
  { targets }: Session,
  seed: number,
  labels: readonly number[],
  side: number,
): number {
  const sameServer = targets[0]?.url === targets[side]?.url;
  return deriveSeed(seed, ...labels, sameServer ? side : 0);
}

async function firstModel(url: string, apiKey: string | undefined, clock: BenchClock): Promise<string> {
  const abort = new AbortController();
  const stopTimer = clock.after(LIST_TIMEOUT_MS, () => abort.abort());
  try {
    const response = await fetch(`${url}/v1/models`, {
      headers: requestHeaders(apiKey),
      signal: abort.signal,
    });
    if (!response.ok) throw new Error(`status ${response.status}`);
    const list = (await response.json()) as { readonly data?: readonly { readonly id?: unknown }[] };
    const id = list.data?.[0]?.id;
    if (typeof id !== "string") throw new Error("no model listed");
    return id;
  } catch (error) {
    throw new Error(
      `GET ${url}/v1/models failed: ${describeConnectionError(error)}. Is the server running? ` +
        "Give its address with --url, or the model with --model.",
      { cause: error },
    );
  } finally {
    stopTimer();
  }
}
