/**
 * Measures each part of the judged table with the modes and scenarios that there are, both servers in turns, within a
 * budget of time.
 */
import type { Figure, JudgedRow, Part, PartOutcome } from "./goals.ts";
import { judge, WIDTHS } from "./goals.ts";
import { levelName, openSession, runClosedLoop } from "../http-mode.ts";
import type { LevelResult, RunContext, Session } from "../http-mode.ts";
import type { JudgedOptions } from "../options.ts";
import { levelPlots } from "../plots.ts";
import {
  compareEngine,
  compareLevels,
  compareTurns,
  formatEngine,
  formatLevel,
  formatSession,
} from "../report.ts";
import type { Comparison } from "../report.ts";
import { formatTurn, runScenario, scenarioPlots } from "../scenario-mode.ts";
import { scenarioNamed } from "../scenarios/catalogue.ts";
import type { ScenarioValues } from "../scenarios/scenario.ts";
import { ratioSpread, spreadOf } from "../stats.ts";
import type { Plot } from "../svg-plot.ts";

/** What a part has to show beside its rows. */
interface Shown {
  readonly comparisons: readonly { readonly title: string; readonly rows: readonly Comparison[] }[];
  /** Drawn when they are asked for: a part is judged whether it can be drawn or not. */
  readonly plots: () => readonly Plot[];
}

export interface JudgedRun {
  readonly targets: Session["targets"];
  readonly rows: readonly JudgedRow[];
  /** Those that were measured and that ask a server. */
  readonly parts: readonly (Shown & { readonly part: Part })[];
}

/** What measuring a part has to work with. */
interface Surroundings {
  readonly options: JudgedOptions;
  readonly session: Session;
  readonly context: RunContext;
  readonly show: (lines: readonly string[]) => void;
  /** Until the budget is spent. */
  readonly leftMs: () => number;
}

type Measured = PartOutcome & { readonly shown?: Shown };
type Measure = (surroundings: Surroundings) => Promise<Measured>;

/**
 * Of plain decoding. With two requests of each client, which all begin at once, a third of the time would be the beginning
 * and the end, where only some of them decode: longer for a server whose streams do not begin in step.
 */
const PROMPT_TOKENS = 128;
const OUTPUT_TOKENS = 64;
const REQUESTS_PER_CLIENT = 6;
const FEWEST_REQUESTS = 8;
const WAITING = [1000, 100_000] as const;
/** The least of parts whose figures wander by more than their goals allow: few tokens, or few requests, are behind them. */
const WANDERING_ROUNDS = 3;
/** Parts of the objective within which goodput counts. */
const OBJECTIVE = { ttft: 2000, itl: 200 };
/** How long `overload` takes in all, in its durations: half for its capacity, then users arrive, and come back. */
const OVERLOAD_DURATIONS = 2.5;

const MEASURES: Readonly<Record<Part, Measure>> = {
  decode: measureDecode,
  "bare-loop": measureBareLoop,
  "long-beside-short": scenario("long-beside-short", "both", {}),
  "shared-prefix": scenario("shared-prefix", "both", {}),
  // One turn less than by itself, since theirs takes minutes.
  "multi-turn": scenario("multi-turn", "both", { turns: 3 }),
  // The others are about ourselves alone: without fairness, limits or predictions theirs would take the whole time.
  "mixed-tenants": measureTenants,
  overload: measureOverload,
  "predicted-edit": scenario("predicted-edit", "ours", { requests: 6 }),
  scheduler: measureScheduler,
};

/** @param show Lines of each part, and its rows' verdicts, as soon as there are any. */
export async function runJudged(
  options: JudgedOptions,
  context: RunContext,
  show: (lines: readonly string[]) => void,
): Promise<JudgedRun> {
  const { clock, progress } = context;
  const session = await openSession(options, clock);
  show(formatSession(session));
  const endMs = clock.nowMs() + options.budgetMs;
  const leftMs = (): number => endMs - clock.nowMs();
  const rows: JudgedRow[] = [];
  const parts: JudgedRun["parts"][number][] = [];
  for (const part of options.parts) {
    progress(part);
    const surroundings = { options, session, context, show, leftMs };
    const outcome = await outcomeOf(part, surroundings);
    rows.push(...judge(part, outcome));
    if (outcome.shown !== undefined) parts.push({ part, ...outcome.shown });
  }
  return { targets: session.targets, rows, parts };
}

async function outcomeOf(part: Part, surroundings: Surroundings): Promise<Measured> {
  const left = surroundings.leftMs();
  if (left <= 0) return NO_TIME;
  const { options } = surroundings;
  // One that is sent late in its part may so end after the budget, by as much at most.
  const bounded = { ...options, timeoutMs: Math.min(options.timeoutMs, left) };
  try {
    return await MEASURES[part]({ ...surroundings, options: bounded });
  } catch (error) {
    return { notRun: error instanceof Error ? error.message : String(error) };
  }
}

const NO_TIME: PartOutcome = { notRun: "no time was left; see --budget" };

async function measureDecode({ options, session, context, show }: Surroundings): Promise<Measured> {
  const sides = session.targets.length;
  const levels: LevelResult[] = [];
  const figures = new Map<string, Figure>();
  const comparisons: Shown["comparisons"][number][] = [];
  for (const width of WIDTHS) {
    const level = {
      ...options,
      mode: "closed-loop" as const,
      concurrency: [width],
      length: { requests: Math.max(FEWEST_REQUESTS, REQUESTS_PER_CLIENT * width) },
      promptTokens: PROMPT_TOKENS,
      outputTokens: OUTPUT_TOKENS,
      sharedPrefixTokens: 0,
    };
    const results = await runClosedLoop(level, session, context, (result) =>
      show(["", ...formatLevel(result)]),
    );
    levels.push(...results);
    const rows = compareLevels(results, sides).flatMap((compared) => compared.comparisons);
    comparisons.push({ title: levelName(width, undefined), rows });
    for (const [name, figure] of figuresOf(rows)) figures.set(`${name}, ${width}`, figure);
  }
  const failed = levels.flatMap(({ summary }) => failures(summary.errors));
  return { figures, failed, shown: { comparisons, plots: () => levelPlots(levels, sides) } };
}

async function measureBareLoop({ options, context, show }: Surroundings): Promise<PartOutcome> {
  const { bareModel: model } = options;
  if (model === undefined) return { notRun: "needs --bare-model, the file that the servers have loaded" };
  // Loaded here only: the other parts need no native code.
  const [{ runEngineMode }, { resolveModel }] = await Promise.all([
    import("../engine-mode.ts"),
    import("../../models/resolve.ts"),
  ]);
  const { path } = await resolveModel(model);
  const engine = {
    ...options,
    mode: "engine" as const,
    model,
    concurrency: WIDTHS,
    promptTokens: OUTPUT_TOKENS,
    outputTokens: OUTPUT_TOKENS,
    rounds: Math.max(WANDERING_ROUNDS, options.rounds),
    threads: undefined,
    flashAttention: "auto" as const,
  };
  const result = await runEngineMode(engine, path, context);
  show(["", ...formatEngine(result)]);
  const figures = compareEngine(result).map(
    ({ sequences, engine: ours, bare: theirs, ratio, interval }) =>
      [`engine tok/s, ${sequences}`, { ours, theirs, ratio, interval }] as const,
  );
  return { figures: new Map(figures), failed: [] };
}

/**
 * @param asked Whether the other server is asked as well.
 * @param fewestRounds Also where fewer are asked for.
 */
function scenario(name: string, asked: "both" | "ours", values: ScenarioValues, fewestRounds = 1): Measure {
  return async ({ options, session: both, context, show }) => {
    const session = asked === "both" ? both : { ...both, targets: both.targets.slice(0, 1) };
    const plan = scenarioNamed(name).plan(values);
    const rounds = Math.max(fewestRounds, options.rounds);
    const run = { ...options, rounds, mode: "scenario" as const, scenario: name, plan };
    const turns = await runScenario(run, session, context, (turn) => show(["", ...formatTurn(name, turn)]));
    const sides = session.targets.length;
    const compared = compareTurns(turns, sides);
    return {
      figures: figuresOf(compared),
      failed: turns.flatMap(({ errors }) => failures(errors)),
      shown: {
        comparisons: [{ title: name, rows: compared }],
        plots: () => scenarioPlots(name, turns, sides),
      },
    };
  };
}

async function measureTenants(surroundings: Surroundings): Promise<Measured> {
  const { apiKey, greedyKey } = surroundings.options;
  if (apiKey === undefined || greedyKey === undefined)
    return { notRun: "needs two keys, --api-key and --greedy-key" };
  return scenario("mixed-tenants", "ours", { apiKey, greedyKey }, WANDERING_ROUNDS)(surroundings);
}

async function measureOverload(surroundings: Surroundings): Promise<Measured> {
  const { durationMs } = surroundings.options;
  if (surroundings.leftMs() < OVERLOAD_DURATIONS * durationMs) return NO_TIME;
  return scenario("overload", "ours", { ...OBJECTIVE, duration: durationMs })(surroundings);
}

async function measureScheduler({ options, context, show }: Surroundings): Promise<PartOutcome> {
  const { formatSchedulerLevel, runSchedulerMode, schedulerHead } = await import("../scheduler-mode.ts");
  const mode = { mode: "scheduler" as const, slots: 64, waiting: WAITING, owners: [4], steps: 2000 };
  show(["", schedulerHead(mode.slots)]);
  const levels = runSchedulerMode({ ...options, ...mode }, context, (level) =>
    show([formatSchedulerLevel(level)]),
  );
  const [few, many] = WAITING.map((waiting) =>
    levels.flatMap((level) => (level.waiting === waiting ? [level.step.p50] : [])),
  );
  const own = (ours: Figure["ours"]): Figure => ({
    ours,
    theirs: undefined,
    ratio: undefined,
    interval: undefined,
  });
  const figures = new Map([
    ["step p50 ms, 1,000", own(spreadOf(few ?? []))],
    ["100,000 / 1,000 waiting", own(ratioSpread(many ?? [], few ?? []))],
  ]);
  return { figures, failed: [] };
}

function figuresOf(comparisons: readonly Comparison[]): Map<string, Figure> {
  return new Map(
    comparisons.map(({ metric, sides: [ours, theirs], ratio, interval }) => [
      metric,
      { ours, theirs, ratio, interval },
    ]),
  );
}

function failures(
  errors: readonly { readonly kind: string; readonly count: number; readonly example: string }[],
): string[] {
  return errors.map(({ kind, count, example }) => `${kind} x ${count}: ${example}`);
}
