/**
 * Two API keys: one floods the server, the other asks for a few answers one by one. What does the second one wait for its
 * first token, against when it has the server for itself?
 */
import { setMaxListeners } from "node:events";
import type { RequestRecord } from "../client.ts";
import { MOST_OPEN, runLevel, sendStreamed } from "../closed-loop.ts";
import type { LevelRun } from "../closed-loop.ts";
import { cumulative } from "../distribution.ts";
import { formatErrors, formatSummary, number, sideName, SUMMARY_HEAD } from "../format.ts";
import { countErrors, summarizeLevel, toVllmResult, ttftMs } from "../level-summary.ts";
import { OptionsExit } from "../option-values.ts";
import type { PromptSource } from "../prompts.ts";
import { quantile, sum } from "../stats.ts";
import type { Plot, Series } from "../svg-plot.ts";
import type { PlacedTurn, Scenario, ScenarioTurn, TurnResult } from "./scenario.ts";
import { warmUp } from "./warm-up.ts";

interface Settings {
  /** Of the greedy key, all sent at once. */
  readonly requests: number;
  /** Of the small key, alone and once more beside the greedy one. */
  readonly few: number;
  /** Clients of the small key. */
  readonly concurrency: number;
  readonly promptTokens: number;
  readonly outputTokens: number;
}

/** Chunks that one of the greedy key's streams has shown when the small key begins: the slots are taken by then. */
const CHUNKS_BEFORE = 16;
/** Prompts whose length is fitted to the token count; the others have the same words in another order. */
const FITTED = 32;

export const mixedTenants: Scenario = {
  name: "mixed-tenants",
  about:
    "--greedy-key sends --requests requests (200) at once, --api-key --few (5) beside them, by --concurrency clients (1)",
  takes: ["requests", "few", "concurrency", "isl", "osl", "greedyKey"],
  formulas: [
    "alone           the small key's requests while the server has nothing else to do",
    "beside          as many after a stream of the greedy key has begun; its rest is given up when they have ended",
    "p95             linear between closest ranks, of however few: of five nearly the longest",
    "beside / alone  ratio of the two p95; none unless the greedy key had a request open until the last one beside it began",
  ],
  plan: ({
    requests = 200,
    few = 5,
    concurrency = 1,
    isl: promptTokens = 128,
    osl: outputTokens = 64,
    apiKey,
    greedyKey,
  }) => {
    if (apiKey === undefined || greedyKey === undefined || apiKey === greedyKey)
      throw new OptionsExit(2, "error: mixed-tenants needs two keys, --api-key and --greedy-key");
    const settings = { requests, few, concurrency, promptTokens, outputTokens };
    return { settings, run: (turn) => runTurn(turn, settings, greedyKey) };
  },
  plots: (turns) => [smallKeyPlot(turns)],
};

async function runTurn(turn: ScenarioTurn, settings: Settings, greedyKey: string): Promise<TurnResult> {
  const { requests, few, promptTokens, outputTokens } = settings;
  const lengths = { promptTokens, sharedPrefixTokens: 0 };
  const [ownAlone, ownBeside, others] = await Promise.all([
    turn.prompts(0, lengths, Math.min(FITTED, few)),
    turn.prompts(1, lengths, Math.min(FITTED, few)),
    turn.prompts(2, lengths, Math.min(FITTED, requests)),
  ]);
  await warmUp(turn, 3, lengths, outputTokens);
  const alone = await runSmall(turn, settings, ownAlone);
  const flood = startFlood(turn, settings, { greedyKey, prompts: others });
  await flood.begun;
  const beside = await runSmall(turn, settings, ownBeside);
  flood.giveUp();
  return resultOf({ alone, beside, greedy: await flood.ended }, settings);
}

function runSmall(turn: ScenarioTurn, settings: Settings, prompts: PromptSource): Promise<LevelRun> {
  const { few, concurrency, outputTokens } = settings;
  const { target, clock, seed, timeoutMs } = turn;
  const send = sendStreamed({ outputTokens, seed, timeoutMs }, turn.send);
  return runLevel(target, { concurrency, length: { requests: few } }, prompts, { clock, send });
}

interface Flood {
  /** When a stream of it has shown some chunks, or all of it has ended before. */
  readonly begun: Promise<void>;
  readonly ended: Promise<LevelRun>;
  readonly giveUp: () => void;
}

function startFlood(
  turn: ScenarioTurn,
  { requests, outputTokens }: Settings,
  { greedyKey, prompts }: { readonly greedyKey: string; readonly prompts: PromptSource },
): Flood {
  const { clock, seed, timeoutMs } = turn;
  const abort = new AbortController();
  // Each request listens, and there are many on purpose.
  setMaxListeners(0, abort.signal);
  let begin: () => void = () => undefined;
  const shown = new Promise<void>((resolve) => (begin = resolve));
  const chunksBefore = Math.min(CHUNKS_BEFORE, outputTokens);
  const ended = runLevel(
    { ...turn.target, apiKey: greedyKey },
    { concurrency: Math.min(requests, MOST_OPEN), length: { requests } },
    prompts,
    {
      clock,
      send: (target, prompt, index) =>
        turn.send(target, {
          prompt,
          outputTokens,
          seed: (seed + index) >>> 0,
          timeoutMs,
          signal: abort.signal,
          onOutput: (chunks) => {
            if (chunks >= chunksBefore) begin();
          },
        }),
    },
  );
  const begun = Promise.race([shown, ended.then(() => undefined)]);
  return { begun, ended, giveUp: () => abort.abort() };
}

interface Runs {
  readonly alone: LevelRun;
  readonly beside: LevelRun;
  readonly greedy: LevelRun;
}

function resultOf({ alone, beside, greedy }: Runs, { concurrency, outputTokens }: Settings): TurnResult {
  const aloneLevel = summarizeLevel(alone, outputTokens);
  const besideLevel = summarizeLevel(beside, outputTokens);
  const [aloneP95, besideP95] = [p95Of(alone.records), p95Of(beside.records)];
  const flooded = wasFlooded(beside.records, greedy.records);
  const ratio =
    !flooded || aloneP95 === undefined || besideP95 === undefined ? undefined : besideP95 / aloneP95;
  const failed = [...alone.records, ...beside.records, ...greedy.records].filter(
    ({ error }) => error !== undefined && error.kind !== "cancelled",
  );
  const errors = countErrors(failed);
  const greedyAnswered = greedy.records.filter(({ error }) => error === undefined).length;
  // Chunks, because a stream that is given up has no usage.
  const greedyTokens = sum(greedy.records.map(({ outputMs }) => outputMs.length));
  const greedyPerSecond = greedy.wallMs > 0 ? greedyTokens / (greedy.wallMs / 1000) : 0;
  return {
    figures: {
      "beside / alone": ratio,
      "beside ttft p95 ms": besideP95,
      "alone ttft p95 ms": aloneP95,
      "beside ttft p50 ms": besideLevel.ttftMs.p50,
      "alone ttft p50 ms": aloneLevel.ttftMs.p50,
      "beside tpot p50 ms": besideLevel.tpotMs.p50,
      "greedy chunks/s": greedyPerSecond,
    },
    lines: [
      `small key's ttft p95   alone ${number(aloneP95)} ms   beside ${number(besideP95)} ms   ratio ${number(ratio)}`,
      `greedy key   ${greedyAnswered} of ${greedy.records.length} answered when given up   ` +
        `${number(greedyPerSecond)} chunks/s`,
      SUMMARY_HEAD,
      formatSummary("ttft alone ms", aloneLevel.ttftMs),
      formatSummary("ttft beside ms", besideLevel.ttftMs),
      formatSummary("e2e alone ms", aloneLevel.e2eMs),
      formatSummary("e2e beside ms", besideLevel.e2eMs),
      ...(flooded
        ? []
        : [
            "note: the greedy key had no request open when the last one beside it began, so there is no ratio; more --requests or a larger --osl keep it busy",
          ]),
      ...formatErrors(errors),
    ],
    summary: {
      ratio,
      aloneTtftP95Ms: aloneP95,
      besideTtftP95Ms: besideP95,
      alone: aloneLevel,
      greedyAnswered,
      greedyChunksPerSecond: greedyPerSecond,
      max_concurrency: concurrency,
      ...toVllmResult(beside, besideLevel),
      ...besideLevel,
    },
    errors,
    records: [...beside.records, ...greedy.records],
    groups: { alone: alone.records, beside: beside.records },
  };
}

/** What the scenario is about: the records of both keys together do not show it. */
function smallKeyPlot(turns: readonly PlacedTurn[]): Plot {
  const sides = [...new Set(turns.map(({ side }) => side))];
  const of = (side: number, group: "alone" | "beside"): Series => {
    const records = turns.filter((turn) => turn.side === side).flatMap(({ groups }) => groups?.[group] ?? []);
    const times = records.flatMap((record) => (record.error === undefined ? (ttftMs(record) ?? []) : []));
    return {
      ...cumulative(side, times),
      name: `${sideName(side)} ${group}`,
      ...(group === "alone" ? { faint: true } : {}),
    };
  };
  return {
    title: "Time to first token of the small key: alone (faint), beside the greedy one",
    x: "ms",
    y: "share of requests",
    series: sides.flatMap((side) => [of(side, "alone"), of(side, "beside")]),
  };
}

/** Whether a request of the greedy key was still open when the last one beside it began. */
function wasFlooded(beside: readonly RequestRecord[], greedy: readonly RequestRecord[]): boolean {
  const lastStartMs = Math.max(...beside.map(({ startMs }) => startMs));
  return greedy.some(({ startMs, endMs }) => startMs <= lastStartMs && endMs > lastStartMs);
}

function p95Of(records: readonly RequestRecord[]): number | undefined {
  const samples = records.flatMap((record) => (record.error === undefined ? (ttftMs(record) ?? []) : []));
  return quantile(samples, 0.95);
}
