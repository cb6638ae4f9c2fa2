/**
 * Many requests at once whose prompts begin with the same long text that nobody has computed yet, as when an application
 * with a long system prompt comes up: how often does the server compute it?
 */
import { runLevel, sendStreamed } from "../closed-loop.ts";
import { formatRequests, number } from "../format.ts";
import { summarizeLevel, toVllmResult } from "../level-summary.ts";
import type { RequestRecord } from "../client.ts";
import { OptionsExit } from "../option-values.ts";
import { sum } from "../stats.ts";
import type { Scenario, ScenarioTurn, TurnResult } from "./scenario.ts";
import { warmUp } from "./warm-up.ts";

interface Settings {
  readonly requests: number;
  readonly clients: number;
  readonly prefixTokens: number;
  readonly promptTokens: number;
  readonly outputTokens: number;
}

/** Of a prompt behind the prefix, where no length is given. */
const OWN_TOKENS = 32;

export const sharedPrefix: Scenario = {
  name: "shared-prefix",
  about:
    "--requests requests (16) of --concurrency clients (8) share a cold prefix of --shared-prefix tokens (1000)",
  takes: ["requests", "concurrency", "sharedPrefix", "isl", "osl"],
  formulas: [
    "total           first request sent to last request ended",
    "prefilled       prompt tokens that the server did not take from its cache, as its usage counts them",
    "prefix computed tokens of the prefix among them / tokens of the prefix: about 1 is the least, as a chat template's tokens may be cached",
  ],
  plan: ({ requests = 16, concurrency: clients = 8, sharedPrefix: prefixTokens = 1000, isl, osl = 32 }) => {
    const promptTokens = isl ?? prefixTokens + OWN_TOKENS;
    if (prefixTokens === 0 || prefixTokens >= promptTokens)
      throw new OptionsExit(2, "error: --shared-prefix must be above 0 and smaller than --isl");
    const settings = { requests, clients, prefixTokens, promptTokens, outputTokens: osl };
    return { settings, run: (turn) => runTurn(turn, settings) };
  },
};

async function runTurn(turn: ScenarioTurn, settings: Settings): Promise<TurnResult> {
  const { requests, clients, prefixTokens, promptTokens, outputTokens } = settings;
  const { target, clock, seed, timeoutMs } = turn;
  const send = sendStreamed({ outputTokens, seed, timeoutMs }, turn.send);
  const lengths = { promptTokens, sharedPrefixTokens: prefixTokens };
  const prompts = await turn.prompts(0, lengths, requests);
  // Of another prefix: this one must be cold.
  await warmUp(turn, 1, lengths, outputTokens);
  const shape = { concurrency: clients, length: { requests } };
  const run = await runLevel(target, shape, prompts, { clock, send });
  const level = summarizeLevel(run, outputTokens);
  const computed = computedTokens(run.records, prefixTokens);
  return {
    figures: {
      "total s": run.wallMs / 1000,
      "ttft p50 ms": level.ttftMs.p50,
      "ttft max ms": level.ttftMs.max,
      "prefilled tokens": computed?.tokens,
      "prefix computed": computed?.prefixTimes,
      "longest gap ms": level.longestGapMs,
    },
    lines: [
      `total ${number(run.wallMs / 1000)} s   ttft p50 ${number(level.ttftMs.p50)} ms   ` +
        `prefilled ${computed?.tokens ?? "-"} tokens   prefix computed ${number(computed?.prefixTimes)} times`,
      ...formatRequests(level),
    ],
    summary: {
      totalMs: run.wallMs,
      prefilledTokens: computed?.tokens,
      prefixTimesComputed: computed?.prefixTimes,
      max_concurrency: clients,
      ...toVllmResult(run, level),
      ...level,
    },
    errors: level.errors,
    records: run.records,
  };
}

/** Undefined where the server does not say what it took from its cache. */
function computedTokens(
  records: readonly RequestRecord[],
  prefixTokens: number,
): { readonly tokens: number; readonly prefixTimes: number } | undefined {
  const counted = records.flatMap(({ error, promptTokens, cachedTokens }) =>
    error !== undefined || promptTokens === undefined || cachedTokens === undefined
      ? []
      : [{ promptTokens, cachedTokens }],
  );
  if (counted.length === 0) return undefined;
  return {
    tokens: sum(counted.map(({ promptTokens, cachedTokens }) => promptTokens - cachedTokens)),
    prefixTimes:
      sum(counted.map(({ cachedTokens }) => Math.max(0, prefixTokens - cachedTokens))) / prefixTokens,
  };
}
