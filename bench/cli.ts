/** `weft bench`: parses the options, runs the mode, prints the report and the JSON, and decides the exit code. */
import { writeFile } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { threadsWarning } from "../models/command-line/thread-count.ts";
import { realClock } from "./clock.ts";
import { describeEnvironment } from "./environment.ts";
import type { BenchEnvironment } from "./environment.ts";
import { htmlReport } from "./html-report.ts";
import type { ReportContent } from "./html-report.ts";
import { runJudged } from "./judged/measure.ts";
import { formatJudged, JUDGED_FORMULAS, judgedTable } from "./judged/report.ts";
import { levelName, openSession, runClosedLoop, runEmbeddings } from "./http-mode.ts";
import type { LevelResult, RunContext } from "./http-mode.ts";
import { OptionsExit, printExit } from "./option-values.ts";
import { parseOptions } from "./options.ts";
import type {
  BenchOptions,
  ClosedLoopOptions,
  EmbeddingsOptions,
  EngineOptions,
  JudgedOptions,
  ScenarioOptions,
  SchedulerOptions,
} from "./options.ts";
import { levelPlots } from "./plots.ts";
import {
  compareEmbeddings,
  compareEngine,
  compareLevels,
  compareTurns,
  EMBEDDINGS_FORMULAS,
  ENGINE_FORMULAS,
  formatComparison,
  formatEmbeddings,
  formatEngine,
  formatEnvironment,
  formatLevel,
  formatSession,
  LEVEL_FORMULAS,
  OPEN_LOOP_FORMULAS,
} from "./report.ts";
import { formatSaturation, saturations } from "./saturation.ts";
import { formatTurn, runScenario, scenarioPlots } from "./scenario-mode.ts";
import { scenarioNamed } from "./scenarios/catalogue.ts";

/** Where a benchmark writes; replaced in tests. */
export interface BenchOutput {
  readonly out: (text: string) => void;
  readonly err: (text: string) => void;
}

/** What a mode leaves behind: its part of the JSON document, and how many requests failed. */
interface Outcome {
  readonly document: Readonly<Record<string, unknown>>;
  readonly failures: number;
  /** What a page shows, drawn where one is wanted; absent for what has no plots. */
  readonly report?: () => Omit<ReportContent, "environment">;
}

/** Changes when a field of the JSON document changes its meaning. */
const SCHEMA = "weft-bench/1";

export const processOutput: BenchOutput = {
  out: (text) => void process.stdout.write(text),
  err: (text) => void process.stderr.write(text),
};

/**
 * @param argv What follows `weft bench`.
 * @returns The exit code: 0 when every request succeeded, 1 when something failed, 2 for wrong usage.
 */
export async function runBench(
  argv: readonly string[],
  output: BenchOutput = processOutput,
): Promise<0 | 1 | 2> {
  let options: BenchOptions;
  try {
    options = parseOptions(argv);
  } catch (error) {
    if (!(error instanceof OptionsExit)) throw error;
    return printExit("weft bench", error, output);
  }
  const environment = describeEnvironment(argv, new Date());
  try {
    printLines(output, formatEnvironment(environment));
    const outcome = await runMode(options, output);
    await writeJson(options, environment, outcome, output);
    if ("report" in options && options.report !== undefined && outcome.report !== undefined)
      await writeFile(options.report, htmlReport({ environment, ...outcome.report() }));
    return outcome.failures === 0 ? 0 : 1;
  } catch (error) {
    output.err(`weft bench: ${error instanceof Error ? error.message : String(error)}\n`);
    return 1;
  }
}

function runMode(options: BenchOptions, output: BenchOutput): Promise<Outcome> {
  const context: RunContext = {
    clock: realClock,
    progress: (text) => output.err(`weft bench: ${text}\n`),
  };
  switch (options.mode) {
    case "closed-loop":
      return closedLoop(options, context, output);
    case "scenario":
      return scenario(options, context, output);
    case "embeddings":
      return embeddings(options, context, output);
    case "engine":
      return engine(options, context, output);
    case "judged":
      return judged(options, context, output);
    case "scheduler":
      return scheduler(options, context, output);
  }
}

async function closedLoop(
  options: ClosedLoopOptions,
  context: RunContext,
  output: BenchOutput,
): Promise<Outcome> {
  const session = await openSession(options, context.clock);
  printLines(output, formatSession(session));
  const results = await runClosedLoop(options, session, context, (result) => {
    printLines(output, ["", ...formatLevel(result)]);
  });
  const comparisons = compareLevels(results, session.targets.length);
  if (options.rounds > 1 || session.targets.length > 1) {
    for (const level of comparisons) {
      const title =
        options.arrivals === undefined
          ? `concurrency ${level.concurrency}`
          : levelName(level.concurrency, options.arrivals);
      printLines(output, ["", ...formatComparison(title, level.comparisons)]);
    }
  }
  const formulas = options.arrivals === undefined ? LEVEL_FORMULAS : OPEN_LOOP_FORMULAS;
  const most = options.untilSaturated === true ? saturations(results) : undefined;
  if (most !== undefined) printLines(output, ["", ...most.map(formatSaturation)]);
  printLines(output, ["", ...formulas]);
  return {
    document: {
      targets: session.targets.map(({ url, model, endpoint }) => ({ url, model, endpoint })),
      promptLengthsBy: session.countedWith,
      formulas,
      levels: results.map(levelDocument),
      ...(most === undefined ? {} : { saturation: most }),
      comparisons,
    },
    report: () => ({
      targets: session.targets,
      plots: levelPlots(results, session.targets.length, options.objective?.ttftMs),
      comparisons: comparisons.map((level) => ({
        title: levelName(level.concurrency, options.arrivals),
        rows: level.comparisons,
      })),
      formulas,
    }),
    failures: results.reduce((total, { summary }) => total + summary.failed, 0),
  };
}

async function embeddings(
  options: EmbeddingsOptions,
  context: RunContext,
  output: BenchOutput,
): Promise<Outcome> {
  const session = await openSession(options, context.clock);
  printLines(output, formatSession(session));
  const results = await runEmbeddings(options, session, context, (result) => {
    printLines(output, ["", ...formatEmbeddings(result)]);
  });
  const comparisons = compareEmbeddings(results, session.targets.length);
  if (options.rounds > 1 || session.targets.length > 1) {
    for (const level of comparisons) {
      const title = `concurrency ${level.concurrency}`;
      printLines(output, ["", ...formatComparison(title, level.comparisons)]);
    }
  }
  printLines(output, ["", ...EMBEDDINGS_FORMULAS]);
  return {
    document: {
      targets: session.targets.map(({ url, model, endpoint }) => ({ url, model, endpoint })),
      promptLengthsBy: session.countedWith,
      formulas: EMBEDDINGS_FORMULAS,
      levels: results.map(({ summary, ...place }) => ({ ...place, ...summary })),
      comparisons,
    },
    failures: results.reduce((total, { summary }) => total + summary.failed, 0),
  };
}

async function scenario(
  options: ScenarioOptions,
  context: RunContext,
  output: BenchOutput,
): Promise<Outcome> {
  const { name, formulas } = scenarioNamed(options.scenario);
  const session = await openSession(options, context.clock);
  printLines(output, formatSession(session));
  const turns = await runScenario(options, session, context, (turn) => {
    printLines(output, ["", ...formatTurn(name, turn)]);
  });
  const sides = session.targets.length;
  const comparisons = compareTurns(turns, sides);
  if (options.rounds > 1 || sides > 1) printLines(output, ["", ...formatComparison(name, comparisons)]);
  printLines(output, ["", ...formulas]);
  return {
    document: {
      targets: session.targets.map(({ url, model, endpoint }) => ({ url, model, endpoint })),
      promptLengthsBy: session.countedWith,
      formulas,
      runs: turns.map(({ side, round, figures, summary }) => ({ side, round, figures, summary })),
      comparisons,
    },
    report: () => ({
      targets: session.targets,
      plots: scenarioPlots(name, turns, sides),
      comparisons: [{ title: name, rows: comparisons }],
      formulas,
    }),
    failures: turns.flatMap(({ errors }) => errors).reduce((total, { count }) => total + count, 0),
  };
}

async function engine(options: EngineOptions, context: RunContext, output: BenchOutput): Promise<Outcome> {
  // Loaded here only: measuring over HTTP needs neither the engine nor a model's file.
  const [{ runEngineMode }, { resolveModel }] = await Promise.all([
    import("./engine-mode.ts"),
    import("../models/resolve.ts"),
  ]);
  const tooMany = threadsWarning(options.threads, availableParallelism());
  if (tooMany !== undefined) context.progress(tooMany);
  const { path } = await resolveModel(options.model);
  const result = await runEngineMode(options, path, context);
  printLines(output, ["", ...formatEngine(result), "", ...ENGINE_FORMULAS]);
  return {
    document: { ...result, formulas: ENGINE_FORMULAS, comparisons: compareEngine(result) },
    failures: 0,
  };
}

async function scheduler(
  options: SchedulerOptions,
  context: RunContext,
  output: BenchOutput,
): Promise<Outcome> {
  const { formatSchedulerLevel, runSchedulerMode, SCHEDULER_FORMULAS, schedulerHead } =
    await import("./scheduler-mode.ts");
  printLines(output, ["", schedulerHead(options.slots)]);
  const levels = runSchedulerMode(options, context, (level) => {
    printLines(output, [formatSchedulerLevel(level)]);
  });
  printLines(output, ["", ...SCHEDULER_FORMULAS]);
  return { document: { formulas: SCHEDULER_FORMULAS, levels }, failures: 0 };
}

/** A missed goal is not a failure: the table says it. */
async function judged(options: JudgedOptions, context: RunContext, output: BenchOutput): Promise<Outcome> {
  const { targets, rows, parts } = await runJudged(options, context, (lines) => printLines(output, lines));
  printLines(output, ["", ...formatJudged(rows), "", ...JUDGED_FORMULAS]);
  return {
    document: {
      formulas: JUDGED_FORMULAS,
      rows,
      parts: parts.map(({ part, comparisons }) => ({ part, comparisons })),
    },
    report: () => ({
      targets,
      table: judgedTable(rows),
      plots: [],
      comparisons: [],
      parts: parts.map(({ part, comparisons: compared, plots }) => ({
        title: part,
        plots: plots(),
        comparisons: compared,
      })),
      formulas: JUDGED_FORMULAS,
    }),
    failures: rows.filter(({ why }) => why !== undefined).length,
  };
}

/** Our fields, and beside them the names that vLLM's benchmark writes. */
function levelDocument(result: LevelResult): Record<string, unknown> {
  const { side, round, concurrency, arrivals, summary, vllm, goodput } = result;
  const place = { side, round, concurrency, ...(goodput === undefined ? {} : { goodput }) };
  if (arrivals === undefined) return { ...place, max_concurrency: concurrency, ...vllm, ...summary };
  const { perSecond, burstiness } = arrivals;
  return { ...place, request_rate: perSecond, burstiness, ...vllm, ...summary };
}

async function writeJson(
  options: BenchOptions,
  environment: BenchEnvironment,
  { document }: Outcome,
  output: BenchOutput,
): Promise<void> {
  if (options.json === undefined) return;
  const shown = shownOptions(options);
  const line = `${JSON.stringify({ schema: SCHEMA, environment, options: shown, ...document })}\n`;
  if (options.json === "-") output.out(line);
  else await writeFile(options.json, line);
}

/** Without keys. */
function shownOptions(options: BenchOptions): Readonly<Record<string, unknown>> {
  if (options.mode === "engine" || options.mode === "scheduler") return { ...options };
  const { apiKey: _hidden, ...shown } = options;
  if (shown.mode === "judged") {
    const { greedyKey: _other, ...known } = shown;
    return known;
  }
  if (!("plan" in shown)) return shown;
  const { plan, ...rest } = shown;
  return { ...rest, ...plan.settings };
}

function printLines(output: BenchOutput, lines: readonly string[]): void {
  output.out(`${lines.join("\n")}\n`);
}
