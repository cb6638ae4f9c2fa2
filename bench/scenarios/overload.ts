/**
 * More users than a server can serve: what it does within the objective, as a share of what it can do, and whether the
 * others are told in time when to come back.
 *
 * What it can do is measured first, by a closed loop. Then users arrive at a multiple of that, answered or not. Each
 * tells its objective for the first token in the header `x-request-ttft-deadline-ms`, which servers that do not know it
 * ignore.
 */
import { arrivalTimes } from "../arrivals.ts";
import type { RequestRecord } from "../client.ts";
import { MOST_OPEN, runLevel, sendStreamed } from "../closed-loop.ts";
import type { LevelRun } from "../closed-loop.ts";
import { formatErrors, formatSummary, number, SUMMARY_HEAD } from "../format.ts";
import { isGood } from "../goodput.ts";
import { countErrors, summarizeLevel, toVllmResult } from "../level-summary.ts";
import type { Objective } from "../simulate/collector.ts";
import { sum, summarize } from "../stats.ts";
import type { Summary } from "../stats.ts";
import { runUsers } from "./returning-users.ts";
import type { UsersRun, Visit } from "./returning-users.ts";
import type { Scenario, ScenarioTurn, TurnResult } from "./scenario.ts";
import { warmUp } from "./warm-up.ts";

interface Settings {
  readonly overload: number;
  readonly durationMs: number;
  /** Clients of the closed loop. */
  readonly concurrency: number;
  readonly promptTokens: number;
  readonly outputTokens: number;
  readonly ttftMs: number;
  readonly itlMs: number;
}

/** Part of the time that fills the server and is not counted; it is what a request takes at least, since none ends before. */
const RAMP = 0.1;
/** How far a told time may be off, as a share of what it took. */
const RIGHT_WITHIN = 0.3;
/** Prompts whose length is fitted to the token count; the others have the same words in another order. */
const FITTED = 32;
const TTFT_HEADER = "x-request-ttft-deadline-ms";

export const overload: Scenario = {
  name: "overload",
  about:
    "users arrive at --overload times (3) what --concurrency clients (8) get served, for --duration (60); goodput by --ttft (2s) and --itl (200ms)",
  takes: ["overload", "duration", "concurrency", "isl", "osl", "ttft", "itl"],
  formulas: [
    "capacity        requests a second of a closed loop for half of the duration, by waves of as many ends as there are clients, between the means of the first and the last",
    "goodput         requests a second that ended while users arrived, ttft and tpot within the objective; the first tenth is left out, or what a request of the closed loop takes",
    "refused         answered 429 or 503; who is told when to come back does, until let in or as long again has passed",
    "right           refusals whose told time is within 30 % of the time from them until their user was let in",
    "overtaken       refusals within whose told time a user was let in who came later",
  ],
  plan: ({
    overload: factor = 3,
    duration: durationMs = 60_000,
    concurrency = 8,
    isl: promptTokens = 128,
    osl: outputTokens = 64,
    ttft: ttftMs = 2000,
    itl: itlMs = 200,
  }) => {
    const settings = {
      overload: factor,
      durationMs,
      concurrency,
      promptTokens,
      outputTokens,
      ttftMs,
      itlMs,
    };
    return { settings, run: (turn) => runTurn(turn, settings) };
  },
};

async function runTurn(turn: ScenarioTurn, settings: Settings): Promise<TurnResult> {
  const { promptTokens, outputTokens, durationMs, ttftMs, concurrency } = settings;
  const { target, clock, seed, roundSeed, timeoutMs } = turn;
  const lengths = { promptTokens, sharedPrefixTokens: 0 };
  const closed = await turn.prompts(0, lengths, FITTED);
  const open = await turn.prompts(1, lengths, FITTED);
  const send = sendStreamed({ outputTokens, seed, timeoutMs }, turn.send);
  await warmUp(turn, 2, lengths, outputTokens);
  const saturated = await runLevel(target, { concurrency, length: { durationMs: durationMs / 2 } }, closed, {
    clock,
    send,
  });
  const capacity = capacityOf(saturated.records, concurrency);
  if (capacity === undefined) return unmeasured(saturated);
  const startMs = clock.nowMs();
  const users = await runUsers(turn, {
    arrivalMs: arrivalTimes({ perSecond: capacity * settings.overload, burstiness: 1 }, roundSeed),
    durationMs,
    patienceMs: 2 * durationMs,
    request: (user) => ({
      prompt: open.prompt(user),
      outputTokens,
      seed: (seed + user) >>> 0,
      timeoutMs,
      headers: { [TTFT_HEADER]: String(ttftMs) },
    }),
  });
  return resultOf({ ...users, saturated, capacity, startMs, endMs: clock.nowMs() }, settings);
}

/**
 * Requests a second while every client had one open. Clients that began together end together, in waves that draw
 * together and apart: the time from wave to wave is that between the means of their ends. Those that ended when no
 * request began any more had less company.
 */
export function capacityOf(records: readonly RequestRecord[], clients: number): number | undefined {
  const lastStartMs = Math.max(...records.map(({ startMs }) => startMs));
  const endsMs = records
    .filter(({ error, endMs }) => error === undefined && endMs <= lastStartMs)
    .map(({ endMs }) => endMs)
    .sort((a, b) => a - b);
  const waves = Math.floor(endsMs.length / clients);
  const meanEndMs = (wave: number): number => mean(endsMs.slice(wave * clients, (wave + 1) * clients));
  const tookMs = meanEndMs(waves - 1) - meanEndMs(0);
  return waves > 1 && tookMs > 0 ? ((waves - 1) * clients) / (tookMs / 1000) : undefined;
}

/** Until the server is full and its requests end as often as they will. */
export function rampMs(closedLoop: readonly RequestRecord[], arrivedMs: number): number {
  const served = closedLoop.filter(({ error }) => error === undefined);
  return Math.max(RAMP * arrivedMs, mean(served.map(({ startMs, endMs }) => endMs - startMs)));
}

function mean(values: readonly number[]): number {
  return sum(values) / values.length;
}

function unmeasured({ records }: LevelRun): TurnResult {
  const errors = countErrors(records);
  const line = "capacity could not be measured: too few requests ended; a longer --duration helps";
  const noFigures = { "goodput / capacity": undefined };
  return { figures: noFigures, lines: [line, ...formatErrors(errors)], summary: {}, errors, records };
}

interface Measured extends UsersRun {
  readonly saturated: LevelRun;
  /** Requests a second. */
  readonly capacity: number;
  readonly startMs: number;
  readonly endMs: number;
}

function resultOf(measured: Measured, settings: Settings): TurnResult {
  const { saturated, capacity, visits, arrivedMs, held, startMs, endMs } = measured;
  const { outputTokens } = settings;
  const objective: Objective = settings;
  const answers = visits.flatMap(({ answer }) => (answer === undefined ? [] : [answer]));
  const [fromMs, toMs] = [startMs + rampMs(saturated.records, arrivedMs), startMs + arrivedMs];
  const within = answers.filter((answer) => answer.endMs > fromMs && answer.endMs <= toMs);
  const seconds = (toMs - fromMs) / 1000;
  const good = within.filter((answer) => isGood(answer, objective)).length;
  const goodput = seconds > 0 ? good / seconds : undefined;
  const run = { records: answers, wallMs: endMs - startMs };
  const level = summarizeLevel(run, outputTokens);
  const refusals = judgeRefusals(visits);
  const errors = countErrors([...saturated.records, ...answers]);
  const letInAtOnce = visits.filter((visit) => visit.refusals.length === 0 && isLetIn(visit.answer)).length;
  const share = goodput === undefined ? undefined : goodput / capacity;
  const goodShare = within.length === 0 ? undefined : (100 * good) / within.length;
  return {
    figures: {
      "goodput / capacity": share,
      "goodput req/s": goodput,
      "capacity req/s": capacity,
      "good % of ended": goodShare,
      "right %": percent(refusals.right, refusals.decided),
      "overtaken %": percent(refusals.overtaken, refusals.count - refusals.untold),
      "refusal p50 ms": refusals.answerMs.p50,
      "told p50 ms": refusals.toldMs.p50,
      "took p50 ms": refusals.tookMs.p50,
      "ttft p50 ms": level.ttftMs.p50,
    },
    lines: [
      `capacity  ${number(capacity)} req/s   offered ${number(capacity * settings.overload)} req/s`,
      `goodput   ${number(goodput)} req/s   ${share === undefined ? "-" : (100 * share).toFixed(1)}% of capacity   ` +
        `${good} of ${within.length} that ended in ${number(Math.max(0, seconds))} s with ttft <= ${settings.ttftMs} ms, ` +
        `tpot <= ${settings.itlMs} ms`,
      `users     ${visits.length} came   ${letInAtOnce} let in at once   ` +
        `${answers.filter(isLetIn).length} in all`,
      `refused   ${refusals.count} times   told p50 ${number(refusals.toldMs.p50)} ms   ` +
        `took p50 ${number(refusals.tookMs.p50)} ms   right ${refusals.right} of ${refusals.decided}   ` +
        `overtaken ${refusals.overtaken}   not told ${refusals.untold}`,
      SUMMARY_HEAD,
      formatSummary("refusal after ms", refusals.answerMs),
      formatSummary("ttft (content) ms", level.ttftMs),
      formatSummary("tpot ms", level.tpotMs),
      formatSummary("e2e ms", level.e2eMs),
      ...(held === 0
        ? []
        : [
            `note: ${held} requests waited at the client, where ${MOST_OPEN} were open: the server got less than was offered`,
          ]),
      ...formatErrors(errors),
    ],
    summary: {
      capacityRequestsPerSecond: capacity,
      goodputRequestsPerSecond: goodput,
      goodputShareOfCapacity: share,
      users: visits.length,
      arrivedMs,
      held,
      refusals,
      ...toVllmResult(run, level, objective),
      ...level,
    },
    errors,
    records: answers,
  };
}

interface Refusals {
  readonly count: number;
  /** Those without a time to come back. */
  readonly untold: number;
  /** Those of which it is known what it took, or that it took longer than what would have been right. */
  readonly decided: number;
  readonly right: number;
  readonly overtaken: number;
  /** From sending to the refusal. */
  readonly answerMs: Summary;
  readonly toldMs: Summary;
  /** From the refusal until its user was let in, where it was. */
  readonly tookMs: Summary;
}

/** Whether somebody was served; what failed without any output may never have got as far. */
function isLetIn(answer: RequestRecord | undefined): answer is RequestRecord {
  return answer !== undefined && (answer.error === undefined || answer.outputMs.length > 0);
}

export function judgeRefusals(visits: readonly Visit[]): Refusals {
  const letIn = visits
    .flatMap(({ arrivalMs, answer }) => (isLetIn(answer) ? [{ arrivalMs, atMs: answer.startMs }] : []))
    .sort((a, b) => a.atMs - b.atMs);
  /** Whether a user who came after `arrivalMs` was let in between these times. */
  const isOvertaken = (arrivalMs: number, fromMs: number, toMs: number): boolean => {
    for (let index = firstAfter(letIn, fromMs); index < letIn.length; index++) {
      const other = letIn[index];
      if (other === undefined || other.atMs >= toMs) return false;
      if (other.arrivalMs > arrivalMs) return true;
    }
    return false;
  };
  let [untold, decided, right, overtaken] = [0, 0, 0, 0];
  const [answerMs, told, took]: [number[], number[], number[]] = [[], [], []];
  for (const { arrivalMs, refusals, answer } of visits) {
    // Who was not let in is known to have waited until the last refusal, not what came after it.
    const served = isLetIn(answer);
    const knownMs = (served ? answer.startMs : refusals.at(-1)?.atMs) ?? arrivalMs;
    for (const { sentMs, atMs, toldMs } of refusals) {
      answerMs.push(atMs - sentMs);
      if (toldMs === undefined) {
        untold += 1;
        continue;
      }
      told.push(toldMs);
      const tookMs = knownMs - atMs;
      if (served) took.push(tookMs);
      const isRight = Math.abs(toldMs - tookMs) <= RIGHT_WITHIN * tookMs;
      const tooShort = toldMs < (1 - RIGHT_WITHIN) * tookMs;
      if (served || tooShort) decided += 1;
      if (served && isRight) right += 1;
      if (isOvertaken(arrivalMs, atMs, atMs + toldMs)) overtaken += 1;
    }
  }
  return {
    count: answerMs.length,
    untold,
    decided,
    right,
    overtaken,
    answerMs: summarize(answerMs),
    toldMs: summarize(told),
    tookMs: summarize(took),
  };
}

/** @returns The index of the first one after that time, of those that are sorted by it. */
function firstAfter(sorted: readonly { readonly atMs: number }[], timeMs: number): number {
  let [low, high] = [0, sorted.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((sorted[middle]?.atMs ?? Infinity) > timeMs) high = middle;
    else low = middle + 1;
  }
  return low;
}

function percent(part: number, whole: number): number | undefined {
  return whole === 0 ? undefined : (100 * part) / whole;
}
