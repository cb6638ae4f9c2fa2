/** The report of `weft tune`: every trial, the best settings, and what a core for the server is worth. */
import type { Objective } from "../simulate/collector.ts";
import type { Measurement, ServerFacts } from "./measure.ts";
import type { TuneOptions } from "./options.ts";
import { isWithin, score } from "./search.ts";
import type { Knob, SearchResult, Trial, TuneSettings } from "./search.ts";

/** Of what most trials change, and a space. */
const WIDTH = 40;

export function trialLine(trial: Trial, objective: Objective): string {
  const { measured, failure, taken } = trial;
  const what = changes(trial).padEnd(WIDTH);
  if (measured === undefined) return `${what}failed: ${failure ?? "it did not work a second time"}`;
  return `${what}${measurementText(measured, objective)}${taken ? "   taken" : ""}`;
}

interface ReportContext {
  readonly facts: ServerFacts;
  readonly cores: number;
  /** Whether every trial has a line. */
  readonly trials: boolean;
}

export function tuneReport(
  { best, measured, trials, complete }: SearchResult,
  { objective, load, model }: TuneOptions,
  { facts, cores, trials: shown }: ReportContext,
): string[] {
  const settings = Object.entries(best).map(([name, value]) => `${name} ${written(value)}`);
  return [
    `${model} (${facts.name}) on ${facts.device}, ${cores} cores`,
    `objective: ttft ${objective.ttftMs} ms, itl ${objective.itlMs} ms; ${load.clients} clients, prompts of ${load.promptTokens} and answers of ${load.outputTokens} tokens`,
    "90th percentiles, or the largest of fewer than 10 requests; itl is the mean of each request",
    "",
    ...(shown ? [...trials.map((trial) => trialLine(trial, objective)), ""] : []),
    `best: ${settings.join(", ")}`,
    measurementText(measured, objective).trim(),
    ...(isWithin(measured, objective)
      ? []
      : ["Nothing that was tried keeps the objective; this comes nearest to it."]),
    ...coreVerdict(trials, cores, objective),
    ...(complete ? [] : ["The time was over before everything had been tried; --budget gives more."]),
  ];
}

/** Whether a core left to the server is worth more than one more that computes. */
function coreVerdict(trials: readonly Trial[], cores: number, objective: Objective): string[] {
  const measuredWith = (threads: number): Measurement | undefined =>
    trials
      .filter(
        ({ settings, knob }) => settings.threads === threads && (knob === undefined || knob === "threads"),
      )
      .flatMap(({ measured }) => measured ?? [])
      .at(-1);
  const [all, fewer] = [measuredWith(cores), measuredWith(cores - 1)];
  const unknown = [cores, cores - 1].filter((threads) => failed(trials, threads));
  if (unknown.length > 0)
    return [
      `What a core left to the server is worth is not known: ${unknown.map(threadsOf).join(" and ")} could not be measured.`,
    ];
  if (all === undefined || fewer === undefined) return [];
  const rate = fewer.outputPerSecond / all.outputPerSecond - 1;
  const change = `${rate > 0 ? "+" : ""}${(100 * rate).toFixed(0)} % tok/s`;
  const kept = [[fewer, cores - 1] as const, [all, cores] as const].map(
    ([measured, threads]) =>
      `${isWithin(measured, objective) ? "within" : "outside"} the objective with ${threads}`,
  );
  const pays = score(fewer, objective) > score(all, objective);
  return [
    `${threadsOf(cores - 1)}, with a core left to the server, against ${cores}: ${change}, ${kept.join(", ")}${pays ? "; leaving it pays" : ""}`,
  ];
}

function threadsOf(count: number): string {
  return `${count} ${count === 1 ? "thread" : "threads"}`;
}

/** Whether so many threads were tried and not once measured. */
function failed(trials: readonly Trial[], threads: number): boolean {
  const tried = trials.filter(({ settings }) => settings.threads === threads);
  return tried.length > 0 && tried.every(({ measured }) => measured === undefined);
}

function measurementText(measured: Measurement, objective: Objective): string {
  const { outputPerSecond, ttftMs, itlMs, longestGapMs } = measured;
  const within = isWithin(measured, objective) ? "within" : "outside";
  return `${outputPerSecond.toFixed(1).padStart(8)} tok/s   ttft ${ttftMs.toFixed(0)} ms   itl ${itlMs.toFixed(1)} ms   longest gap ${longestGapMs.toFixed(0)} ms   ${within}`;
}

/** The knob, and what had to change with it. */
function changes({ settings, knob, against }: Trial): string {
  if (knob === undefined) return "as the engine chooses";
  const names = (Object.keys(settings) as Knob[]).filter(
    (name) => name !== knob && settings[name] !== against[name],
  );
  return [knob, ...names].map((name) => `${name} ${written(settings[name])}`).join(", ");
}

function written(value: TuneSettings[keyof TuneSettings]): string {
  if (typeof value === "boolean") return value ? "on" : "off";
  return String(value);
}
