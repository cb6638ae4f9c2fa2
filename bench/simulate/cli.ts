/** `weft simulate`: parses the options, runs or replays, prints the report and the JSON. */
import { writeFile } from "node:fs/promises";
import { describeEnvironment } from "../environment.ts";
import { OptionsExit, printExit } from "../option-values.ts";
import type { BenchOutput } from "../cli.ts";
import { parseSimulateOptions } from "./options.ts";
import type { SimulateOptions } from "./options.ts";
import { readTimeline } from "./read-timeline.ts";
import { replay } from "./replay.ts";
import { compared, formatReplay, formatSpeed, formatWorkload, SIMULATION_FORMULAS } from "./report.ts";
import { openDevice, runWorkload } from "./run.ts";

/** Changes when a field of the JSON document changes its meaning. */
const SCHEMA = "weft-simulation/1";

/**
 * @param argv What follows `weft simulate`.
 * @returns The exit code: 0, 1 when something failed, 2 for wrong usage.
 */
export async function runSimulate(argv: readonly string[], output: BenchOutput): Promise<0 | 1 | 2> {
  let options: SimulateOptions;
  try {
    options = parseSimulateOptions(argv);
  } catch (error) {
    if (!(error instanceof OptionsExit)) throw error;
    return printExit("weft simulate", error, output);
  }
  try {
    const document =
      options.replay === undefined
        ? await runPolicies(options, output)
        : await runReplay(options.replay, options, output);
    await writeJson(options, argv, document, output);
    return 0;
  } catch (error) {
    output.err(`weft simulate: ${error instanceof Error ? error.message : String(error)}\n`);
    return 1;
  }
}

async function runPolicies(options: SimulateOptions, output: BenchOutput): Promise<object> {
  const device = await openDevice(options);
  printLines(output, [`device ${device.model.name}, ${options.requests} requests, ${options.seeds} seeds`]);
  const start = process.cpuUsage();
  const runs = options.workloads.map((name) => {
    const run = runWorkload(name, device, options, (policy, seed) =>
      output.err(`weft simulate: ${name}, ${policy}, seed ${seed} of ${options.seeds}\n`),
    );
    printLines(output, ["", ...formatWorkload(run)]);
    return run;
  });
  const { user, system } = process.cpuUsage(start);
  const seconds = (user + system) / 1e6;
  const steps = runs.flatMap(({ policies }) =>
    policies.flatMap(({ reports }) => reports.map((r) => r.steps)),
  );
  printLines(output, ["", ...SIMULATION_FORMULAS, "", formatSpeed(steps, seconds)]);
  return { device: device.model, workloads: runs, cpuSeconds: seconds };
}

async function runReplay(file: string, options: SimulateOptions, output: BenchOutput): Promise<object> {
  const other = options.replayDevice === undefined ? undefined : await openDevice(options);
  const result = replay(await readTimeline(file), options.objective, {
    device: other?.model,
    check: options.check,
  });
  printLines(output, formatReplay(result));
  const { device, errors, real, simulated } = result;
  return { device, calls: errors, real, simulated, compared: compared(real, simulated) };
}

async function writeJson(
  options: SimulateOptions,
  argv: readonly string[],
  document: object,
  output: BenchOutput,
): Promise<void> {
  if (options.json === undefined) return;
  const environment = describeEnvironment(argv, new Date());
  const line = `${JSON.stringify({ schema: SCHEMA, environment, options, ...document })}\n`;
  if (options.json === "-") output.out(line);
  else await writeFile(options.json, line);
}

function printLines(output: BenchOutput, lines: readonly string[]): void {
  output.out(`${lines.join("\n")}\n`);
}
