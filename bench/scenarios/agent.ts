/**
 * Agents at work: each calls the model again and again, with what its tools have put out since, and every prompt is all that
 * went before. All begin with the same instructions. Beside its first and its last call an agent sends a small request of
 * its own, for a title and for a summary, which a server should not answer at the price of the long conversation's cells.
 *
 * Tool outputs go back as the user's messages: how a template shows the role `tool` differs, and so would the prompts.
 */
import type { RequestRecord } from "../client.ts";
import { formatErrors, formatRequests, formatSummary, number } from "../format.ts";
import { countErrors, summarizeLevel, toVllmResult, ttftMs } from "../level-summary.ts";
import type { PromptSource } from "../prompts.ts";
import { createRng, deriveSeed } from "../rng.ts";
import { summarize } from "../stats.ts";
import { converse, turnFigures } from "./conversation.ts";
import type { TurnRecord } from "./conversation.ts";
import { Gate } from "./gate.ts";
import type { Scenario, ScenarioTurn, TurnResult } from "./scenario.ts";
import { warmUp } from "./warm-up.ts";

interface Settings {
  readonly agents: number;
  /** Calls of each agent. */
  readonly turns: number;
  /** Instructions and descriptions of tools, the same for all agents. */
  readonly prefixTokens: number;
  /** Of a tool's output, on average. */
  readonly promptTokens: number;
  readonly outputTokens: number;
  /** How long a tool runs, on average. */
  readonly thinkMs: number;
}

/** Of what an agent is told to do, behind the instructions. */
const TASK_TOKENS = 64;
/** Lengths of tool outputs in shares of the average: most say little, some are whole files. */
const OUTPUT_SHARES = [0.25, 0.25, 0.5, 3] as const;
/** Of a request for a title or a summary. */
const SIDE_PROMPT_TOKENS = 300;
const SIDE_OUTPUT_TOKENS = 16;
/** Texts whose length is fitted to the token count; the others have the same words in another order. */
const FITTED = 32;

export const agent: Scenario = {
  name: "agent",
  about:
    "--conversations agents (4) make --turns calls (6), with tool outputs of --isl tokens (200) between, which take --think (0)",
  takes: ["conversations", "turns", "sharedPrefix", "think", "isl", "osl"],
  chatOnly: true,
  formulas: [
    "later calls     those after the first of each agent, whose prompts have been seen but for the tool's last output",
    "cached          prompt tokens of later calls that the server took from its cache / all of them",
    "task            an agent's first call sent to its last one ended, of those that got all answers",
    "side            requests for a title or a summary, of 300 tokens, sent with an agent's first and last call",
  ],
  plan: ({
    conversations: agents = 4,
    turns = 6,
    sharedPrefix: prefixTokens = 500,
    isl: promptTokens = 200,
    osl: outputTokens = 32,
    think: thinkMs = 0,
  }) => {
    const settings = { agents, turns, prefixTokens, promptTokens, outputTokens, thinkMs };
    return { settings, run: (turn) => runTurn(turn, settings) };
  },
};

async function runTurn(turn: ScenarioTurn, settings: Settings): Promise<TurnResult> {
  const { agents, prefixTokens, promptTokens } = settings;
  const { clock, prompts } = turn;
  const first = { promptTokens: prefixTokens + TASK_TOKENS, sharedPrefixTokens: prefixTokens };
  const tasks = await prompts(0, first, Math.min(FITTED, agents));
  const sideLengths = { promptTokens: SIDE_PROMPT_TOKENS, sharedPrefixTokens: 0 };
  const side = await prompts(1, sideLengths, Math.min(FITTED, 2 * agents));
  const outputs: PromptSource[] = [];
  for (const share of OUTPUT_SHARES) {
    const tokens = Math.max(1, Math.round(share * promptTokens));
    outputs.push(await prompts(3 + outputs.length, { promptTokens: tokens, sharedPrefixTokens: 0 }, FITTED));
  }
  // Of another prefix: this one must be cold.
  await warmUp(turn, 2, sideLengths, SIDE_OUTPUT_TOKENS);
  const startMs = clock.nowMs();
  const runs = await Promise.all(
    Array.from({ length: agents }, (_, index) => work(turn, settings, { index, tasks, outputs, side })),
  );
  return resultOf(runs, clock.nowMs() - startMs, settings);
}

interface AgentTexts {
  readonly index: number;
  readonly tasks: PromptSource;
  /** Of each length. */
  readonly outputs: readonly PromptSource[];
  readonly side: PromptSource;
}

interface AgentRun {
  readonly calls: readonly TurnRecord[];
  readonly side: readonly RequestRecord[];
}

async function work(
  turn: ScenarioTurn,
  { turns, outputTokens, thinkMs }: Settings,
  { index, tasks, outputs, side }: AgentTexts,
): Promise<AgentRun> {
  const { target, send, seed, roundSeed, timeoutMs } = turn;
  const rng = createRng(deriveSeed(roundSeed, index));
  const calls: TurnRecord[] = [];
  const asides: Promise<RequestRecord>[] = [];
  const askAside = (): void => {
    const place = 2 * index + asides.length;
    const prompt = side.prompt(place);
    asides.push(
      send(target, { prompt, outputTokens: SIDE_OUTPUT_TOKENS, seed: (seed + place) >>> 0, timeoutMs }),
    );
  };
  await converse(turn, {
    index,
    turns,
    outputTokens,
    message: (n) => {
      // Sent right before the call itself.
      if (n === 0 || n === turns - 1) askAside();
      if (n === 0) return tasks.prompt(index);
      return outputs[rng.below(outputs.length)]?.prompt(index * (turns - 1) + n - 1) ?? "";
    },
    pauseMs: () => thinkMs * (0.5 + rng.next()),
    // One call at a time each: nobody waits at the client.
    gate: new Gate(1),
    records: calls,
  });
  return { calls, side: await Promise.all(asides) };
}

function resultOf(
  runs: readonly AgentRun[],
  wallMs: number,
  { agents, turns, outputTokens }: Settings,
): TurnResult {
  const calls = runs.flatMap((run) => run.calls);
  const side = runs.flatMap((run) => run.side);
  const run = { records: calls.map(({ record }) => record), wallMs };
  const level = summarizeLevel(run, outputTokens);
  const figures = turnFigures(calls);
  const { firstTtftMs: first, laterTtftMs: later, laterCachedShare: cachedShare } = figures;
  const taskMs = summarize(runs.flatMap((one) => taskTime(one.calls, turns) ?? []));
  const sideTtftMs = summarize(side.flatMap((record) => ttftMs(record) ?? []));
  const errors = countErrors([...run.records, ...side]);
  return {
    figures: {
      "task p50 s": taskMs.p50 === undefined ? undefined : taskMs.p50 / 1000,
      "later ttft p50 ms": later.p50,
      "later ttft p90 ms": later.p90,
      "first ttft p50 ms": first.p50,
      "side ttft p50 ms": sideTtftMs.p50,
      "later cached %": cachedShare === undefined ? undefined : 100 * cachedShare,
      "total s": wallMs / 1000,
    },
    lines: [
      `calls after the first: ttft p50 ${number(later.p50)} ms   p90 ${number(later.p90)} ms   ` +
        `cached ${cachedShare === undefined ? "-" : `${(100 * cachedShare).toFixed(1)} %`}   ` +
        `tasks ended ${taskMs.count} of ${agents}`,
      ...formatRequests(level),
      formatSummary("task ms", taskMs),
      formatSummary("side ttft ms", sideTtftMs),
      ...(side.every(({ error }) => error === undefined) ? [] : formatErrors(countErrors(side))),
    ],
    summary: {
      ...figures,
      taskMs,
      sideTtftMs,
      totalMs: wallMs,
      max_concurrency: agents,
      ...toVllmResult(run, level),
      ...level,
    },
    errors,
    records: [...run.records, ...side],
  };
}

/** Undefined for an agent that did not get all its answers. */
function taskTime(calls: readonly TurnRecord[], turns: number): number | undefined {
  const [first, last] = [calls[0], calls[turns - 1]];
  if (first === undefined || last === undefined || last.record.error !== undefined) return undefined;
  return last.record.endMs - first.record.startMs;
}
