/**
 * More conversations than a server has slots: each turn's prompt is the whole conversation so far, which the server may
 * have computed in a slot that somebody else has used since.
 */
import { formatRequests, number } from "../format.ts";
import { summarizeLevel, toVllmResult } from "../level-summary.ts";
import { createRng, deriveSeed } from "../rng.ts";
import { converse, turnFigures } from "./conversation.ts";
import type { TurnRecord } from "./conversation.ts";
import { Gate } from "./gate.ts";
import type { Scenario, ScenarioTurn, TurnResult } from "./scenario.ts";
import { warmUp } from "./warm-up.ts";

interface Settings {
  readonly conversations: number;
  readonly turns: number;
  /** Most requests that are open at a time. */
  readonly concurrency: number;
  /** Of the first message. */
  readonly promptTokens: number;
  readonly outputTokens: number;
  readonly thinkMs: number;
}

/** Of each message after the first. */
const LATER_TOKENS = 32;
/** Messages whose length is fitted to the token count; the others have the same words in another order. */
const FITTED = 64;

export const multiTurn: Scenario = {
  name: "multi-turn",
  about:
    "--conversations chats (24) of --turns turns (4) at once; --think between turns (0), --concurrency of them open (all)",
  takes: ["conversations", "turns", "concurrency", "think", "isl", "osl"],
  chatOnly: true,
  formulas: [
    "later turns     those after the first of each conversation, whose prompts have been seen but for the last message",
    "cached          prompt tokens of later turns that the server took from its cache / all of them",
    "total           first request sent to last request ended",
  ],
  plan: ({
    conversations = 24,
    turns = 4,
    concurrency = conversations,
    think: thinkMs = 0,
    isl: promptTokens = 200,
    osl: outputTokens = 32,
  }) => {
    const settings = { conversations, turns, concurrency, promptTokens, outputTokens, thinkMs };
    return { settings, run: (turn) => runTurn(turn, settings) };
  },
};

async function runTurn(turn: ScenarioTurn, settings: Settings): Promise<TurnResult> {
  const { conversations, turns, concurrency, promptTokens, outputTokens, thinkMs } = settings;
  const { clock, roundSeed } = turn;
  const lengths = (tokens: number) => ({ promptTokens: tokens, sharedPrefixTokens: 0 });
  const first = await turn.prompts(0, lengths(promptTokens), Math.min(FITTED, conversations));
  const later = await turn.prompts(
    1,
    lengths(LATER_TOKENS),
    Math.min(FITTED, Math.max(1, conversations * (turns - 1))),
  );
  await warmUp(turn, 2, lengths(promptTokens), outputTokens);
  const startMs = clock.nowMs();
  const gate = new Gate(concurrency);
  const records: TurnRecord[] = [];
  await Promise.all(
    Array.from({ length: conversations }, (_, index) => {
      const rng = createRng(deriveSeed(roundSeed, index));
      return converse(turn, {
        index,
        turns,
        outputTokens,
        message: (n) => (n === 0 ? first.prompt(index) : later.prompt(index * (turns - 1) + n - 1)),
        // Readers are not all equally fast.
        pauseMs: () => thinkMs * (0.5 + rng.next()),
        gate,
        records,
      });
    }),
  );
  return resultOf(records, clock.nowMs() - startMs, settings);
}

function resultOf(
  turns: readonly TurnRecord[],
  wallMs: number,
  { concurrency, outputTokens }: Settings,
): TurnResult {
  const records = turns.map(({ record }) => record);
  const run = { records, wallMs };
  const level = summarizeLevel(run, outputTokens);
  const figures = turnFigures(turns);
  const { firstTtftMs: first, laterTtftMs: later, laterCachedShare: cachedShare } = figures;
  return {
    figures: {
      "later ttft p50 ms": later.p50,
      "later ttft p90 ms": later.p90,
      "first ttft p50 ms": first.p50,
      "ttft p50 ms": level.ttftMs.p50,
      "later cached %": cachedShare === undefined ? undefined : 100 * cachedShare,
      "total s": wallMs / 1000,
      "output tok/s": level.outputTokensPerSecond,
    },
    lines: [
      `turns after the first: ttft p50 ${number(later.p50)} ms   p90 ${number(later.p90)} ms   ` +
        `cached ${cachedShare === undefined ? "-" : `${(100 * cachedShare).toFixed(1)} %`}   ` +
        `first turns: ttft p50 ${number(first.p50)} ms`,
      ...formatRequests(level),
    ],
    summary: {
      ...figures,
      totalMs: wallMs,
      max_concurrency: concurrency,
      ...toVllmResult(run, level),
      ...level,
    },
    errors: level.errors,
    records,
  };
}
