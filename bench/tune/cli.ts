/** `weft tune`: measures this machine with a model, and writes the settings that served best and a report of all. */
import { writeFile } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { ownCommand } from "../../models/command-line/own-command.ts";
import type { BenchOutput } from "../cli.ts";
import { realClock } from "../clock.ts";
import type { BenchClock } from "../clock.ts";
import { describeEnvironment } from "../environment.ts";
import { OptionsExit, printExit } from "../option-values.ts";
import { measureServer, readFacts } from "./measure.ts";
import type { Measurement, ServerFacts } from "./measure.ts";
import { parseTuneOptions } from "./options.ts";
import type { TuneOptions } from "./options.ts";
import { trialLine, tuneReport } from "./report.ts";
import { candidatesFor, isWithin, search } from "./search.ts";
import type { SearchResult, TuneSettings } from "./search.ts";
import { ServerEnded, startServerProcess } from "./server-process.ts";
import type { ServerProcess } from "./server-process.ts";

type TuneExitCode = 0 | 1 | 2 | 3 | 4;

/** What a test replaces. */
export interface TuneDeps {
  /** @param flags Of `weft serve`. */
  readonly startServer: (flags: readonly string[], timeoutMs: number) => Promise<ServerProcess>;
  readonly clock: BenchClock;
  readonly cores: number;
}

const realDeps: TuneDeps = {
  startServer: startServerProcess,
  clock: realClock,
  cores: availableParallelism(),
};

/** Settings with which everything takes so much longer than at first are given up. */
const SLOWEST = 4;
const LEAST_LIMIT_MS = 20_000;
/** Room in a slot for the begin token, and for prompts that are a little too long. */
const SPARE_CELLS = 32;

/**
 * @param argv What follows `weft tune`.
 * @returns The exit code: 0, 1 when something failed or nothing keeps the objective, 2 for wrong usage; where not even the
 * first server starts, that server's.
 */
export async function runTune(
  argv: readonly string[],
  output: BenchOutput,
  deps: TuneDeps = realDeps,
): Promise<TuneExitCode> {
  try {
    const options = parseTuneOptions(argv);
    const { result, facts } = await tune(options, deps, output);
    const machine = { facts, cores: deps.cores };
    await writeFile(options.output, `${JSON.stringify(result.best, undefined, 2)}\n`);
    if (options.report !== undefined)
      await writeFile(
        options.report,
        reportText(argv, tuneReport(result, options, { ...machine, trials: true })),
      );
    // Each trial has been told when it was made.
    const lines = tuneReport(result, options, { ...machine, trials: false });
    const serve = ownCommand(`serve --model ${options.model} --config ${options.output}`);
    output.out(`${lines.join("\n")}\n\n${serve}\n`);
    if (isWithin(result.measured, options.objective)) return 0;
    output.err(
      `weft tune: nothing that was tried keeps the objective; ${options.output} has what comes nearest to it\n`,
    );
    return 1;
  } catch (error) {
    if (error instanceof OptionsExit) {
      return printExit("weft tune", error, output);
    }
    output.err(`weft tune: ${error instanceof Error ? error.message : String(error)}\n`);
    return error instanceof ServerEnded ? codeOf(error) : 1;
  }
}

/** Wrong options of the server are not the user's, who has given none. */
function codeOf({ exitCode }: ServerEnded): TuneExitCode {
  return exitCode === 3 || exitCode === 4 ? exitCode : 1;
}

async function tune(
  options: TuneOptions,
  deps: TuneDeps,
  output: BenchOutput,
): Promise<{ readonly result: SearchResult; readonly facts: ServerFacts }> {
  const { clock, cores } = deps;
  const startMs = clock.nowMs();
  const first = await tryFlags(options, deps, [], options.budgetMs);
  const { facts } = first;
  const firstMs = clock.nowMs() - startMs;
  const limitMs = Math.max(LEAST_LIMIT_MS, SLOWEST * firstMs);
  const start: TuneSettings = {
    threads: facts.threads,
    slots: facts.slots,
    "flash-attention": facts.flashAttention ? "on" : "off",
    "prefill-chunk": facts.prefillChunk,
    "itl-target": facts.itlTargetMs,
    "batch-size": facts.batchTokens,
    "kv-type": "f16",
    plugs: true,
  };
  // What the engine chooses by itself has been measured already.
  let known: Measurement | undefined = first.measured;
  const result = await search(
    start,
    candidatesFor(cores, !facts.device.startsWith("CPU"), options.objective),
    options.objective,
    {
      measure: async (settings) => {
        const measured = known;
        known = undefined;
        if (measured !== undefined) return measured;
        const leftMs = startMs + options.budgetMs - clock.nowMs();
        return (await tryFlags(options, deps, flagsOf(settings), Math.min(limitMs, Math.max(1, leftMs))))
          .measured;
      },
      // The next one may take as long as the first one did.
      hasTime: () => clock.nowMs() + firstMs <= startMs + options.budgetMs,
      onTrial: (trial) => output.err(`weft tune: ${trialLine(trial, options.objective)}\n`),
    },
  );
  return { result, facts };
}

/** @throws {Error} When the server does not start with these flags, a request fails, or the time is over. */
async function tryFlags(
  { model, load }: TuneOptions,
  { startServer, clock }: TuneDeps,
  flags: readonly string[],
  limitMs: number,
): Promise<{ readonly facts: ServerFacts; readonly measured: Measurement }> {
  const untilMs = clock.nowMs() + limitMs;
  const context = String(load.promptTokens + load.outputTokens + SPARE_CELLS);
  // Made-up prompts would tell wrongly what guessing is worth.
  const fixed = ["--model", model, "--context", context, "--speculation", "off"];
  const server = await startServer([...fixed, ...flags], limitMs);
  try {
    const facts = await readFacts(server.url);
    const timeoutMs = Math.max(1, untilMs - clock.nowMs());
    return { facts, measured: await measureServer(server.url, load, { clock, timeoutMs }) };
  } finally {
    await server.stop();
  }
}

function flagsOf(settings: TuneSettings): string[] {
  return Object.entries(settings).flatMap(([name, value]) => {
    if (typeof value === "boolean") return [value ? `--${name}` : `--no-${name}`];
    return [`--${name}`, String(value)];
  });
}

/** What was measured means nothing without the machine and the command. */
function reportText(argv: readonly string[], lines: readonly string[]): string {
  const { version, date, cpu, cores, node } = describeEnvironment(argv, new Date());
  return [
    `weft tune ${argv.join(" ")}`,
    `weft ${version}   ${date}   cpu ${cpu}, ${cores} cores   node ${node}`,
    "",
    ...lines,
    "",
  ].join("\n");
}
