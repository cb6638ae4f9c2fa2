/** A conversation as a scenario's client holds it: each turn sends all that was said before, and what its turns cost later. */
import type { ChatMessage, RequestRecord } from "../client.ts";
import { ttftMs } from "../level-summary.ts";
import { sum, summarize } from "../stats.ts";
import type { Summary } from "../stats.ts";
import type { Gate } from "./gate.ts";
import type { ScenarioTurn } from "./scenario.ts";

export interface TurnRecord {
  /** From 0. */
  readonly turn: number;
  readonly record: RequestRecord;
}

export interface Conversation {
  /** Tells its draws from those of others. */
  readonly index: number;
  readonly turns: number;
  /** Of each answer. */
  readonly outputTokens: number;
  /** What the user says in a turn. */
  readonly message: (turn: number) => string;
  /** Before the turn after this one. */
  readonly pauseMs: (turn: number) => number;
  readonly gate: Gate;
  /** Receives each turn when it has ended. */
  readonly records: TurnRecord[];
}

/** One that gets no answer ends: nobody asks on. */
export async function converse(
  { target, clock, send, seed, timeoutMs }: ScenarioTurn,
  { index, turns, outputTokens, message, pauseMs, gate, records }: Conversation,
): Promise<void> {
  const messages: ChatMessage[] = [];
  for (let turn = 0; turn < turns; turn++) {
    messages.push({ role: "user", content: message(turn) });
    const record = await gate.pass(() =>
      send(target, {
        prompt: [...messages],
        outputTokens,
        seed: (seed + index) >>> 0,
        timeoutMs,
        keepAnswer: true,
      }),
    );
    records.push({ turn, record });
    if (record.error !== undefined) return;
    messages.push({ role: "assistant", content: record.answer ?? "" });
    const waitMs = pauseMs(turn);
    if (waitMs > 0 && turn + 1 < turns)
      await new Promise<void>((resolve) => void clock.after(waitMs, resolve));
  }
}

interface TurnFigures {
  /** Times to first token of the first turns, and of all others. */
  readonly firstTtftMs: Summary;
  readonly laterTtftMs: Summary;
  /** Of the later turns' prompts; undefined where the server does not say what it took from its cache. */
  readonly laterCachedShare: number | undefined;
}

/** Later turns are those after the first, whose prompts have been seen but for the last message. */
export function turnFigures(turns: readonly TurnRecord[]): TurnFigures {
  const ttftOf = (wanted: (turn: number) => boolean): Summary =>
    summarize(turns.flatMap(({ turn, record }) => (wanted(turn) ? (ttftMs(record) ?? []) : [])));
  return {
    firstTtftMs: ttftOf((turn) => turn === 0),
    laterTtftMs: ttftOf((turn) => turn > 0),
    laterCachedShare: cachedShareOf(turns.flatMap(({ turn, record }) => (turn > 0 ? [record] : []))),
  };
}

function cachedShareOf(records: readonly RequestRecord[]): number | undefined {
  const counted = records.flatMap(({ promptTokens, cachedTokens }) =>
    promptTokens === undefined || cachedTokens === undefined ? [] : [{ promptTokens, cachedTokens }],
  );
  const promptTokens = sum(counted.map((record) => record.promptTokens));
  return promptTokens === 0 ? undefined : sum(counted.map((record) => record.cachedTokens)) / promptTokens;
}
