/** The options of `weft tune`: their names, units, ranges and defaults. */
import { Command, CommanderError } from "commander";
import { OptionsExit, timeOption, wholeNumber as whole } from "../option-values.ts";
import type { Objective } from "../simulate/collector.ts";
import type { TuneLoad } from "./measure.ts";

export interface TuneOptions {
  readonly model: string;
  readonly objective: Objective;
  readonly load: TuneLoad;
  readonly budgetMs: number;
  /** Configuration file to write. */
  readonly output: string;
  /** Report to write; undefined for none. */
  readonly report: string | undefined;
}

interface RawOptions {
  readonly model: string;
  readonly ttft: number;
  readonly itl: number;
  readonly clients: number;
  readonly isl: number;
  readonly osl: number;
  readonly requests?: number;
  readonly budget: number;
  readonly output: string;
  readonly report?: string;
}

/** @throws {OptionsExit} */
export function parseTuneOptions(argv: readonly string[]): TuneOptions {
  let text = "";
  const collect = (part: string): void => void (text += part);
  const command = createCommand().configureOutput({ writeOut: collect, writeErr: collect });
  try {
    command.parse([...argv], { from: "user" });
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    throw new OptionsExit(error.exitCode === 0 ? 0 : 2, text.trimEnd());
  }
  const { model, ttft, itl, clients, isl, osl, requests, budget, output, report } =
    command.opts<RawOptions>();
  return {
    model,
    objective: { ttftMs: ttft, itlMs: itl },
    // Two each, so that answers overlap with prompts, and enough for a 90th percentile.
    load: { clients, promptTokens: isl, outputTokens: osl, requests: requests ?? Math.max(10, 2 * clients) },
    budgetMs: budget,
    output,
    report,
  };
}

function createCommand(): Command {
  return new Command("weft tune")
    .description(
      "Measures this machine with a model and writes the settings that serve best within an objective.",
    )
    .exitOverride()
    .allowExcessArguments(false)
    .option("--model <name>", "as for weft serve", "pocket")
    .addOption(timeOption("--ttft <time>", "objective: time to the first token, 90th percentile", "2s"))
    .addOption(
      timeOption("--itl <time>", "objective: time between tokens of a request, 90th percentile", "200ms"),
    )
    .option("--clients <n>", "clients at the same time", whole(1, 256), 8)
    .option("--isl <tokens>", "prompt length", whole(1, 100_000), 128)
    .option("--osl <tokens>", "answer length", whole(2, 100_000), 64)
    .option(
      "--requests <n>",
      "requests of one measurement (default: 2 per client, at least 10)",
      whole(1, 10_000),
    )
    .addOption(timeOption("--budget <time>", "longest time for everything", "10m"))
    .option("--output <file>", "configuration to write, for weft serve --config", "weft-tuned.json")
    .option("--report <file>", "report to write beside it");
}
