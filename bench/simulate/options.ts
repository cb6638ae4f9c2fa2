/** The options of `weft simulate`: their names, units, ranges and defaults. */
import { Command, CommanderError, InvalidArgumentError, Option } from "commander";
import { OptionsExit, timeOption, wholeNumber as whole } from "../option-values.ts";
import { POLICY_HELP, readPolicy } from "./policies.ts";
import type { Policy } from "./policies.ts";
import type { Objective } from "./collector.ts";
import { WORKLOADS } from "./workloads.ts";

export interface SimulateOptions {
  readonly workloads: readonly string[];
  readonly policies: readonly Policy[];
  readonly requests: number;
  /** Seeds 1 to this; each is a trace of its own, the same for every policy. */
  readonly seeds: number;
  /** A named device or a recording to fit one to. */
  readonly device: string;
  /** The same, where it is given for a replay. */
  readonly replayDevice: string | undefined;
  readonly costRatio: number | undefined;
  /** Standard deviation of the logarithm of call times. */
  readonly noise: number;
  /** Arrivals a second; undefined: as many as `load` of what the device can do. */
  readonly rate: number | undefined;
  readonly load: number;
  /** Coefficient of variation of the gaps between arrivals; undefined: each workload's own. */
  readonly cv: number | undefined;
  readonly contextTokens: number;
  readonly closed: { readonly clients: number; readonly promptTokens: number; readonly outputTokens: number };
  readonly objective: Objective;
  /** A recording to play again instead. */
  readonly replay: string | undefined;
  readonly check: boolean;
  readonly json: string | undefined;
}

interface RawOptions {
  readonly workload: readonly string[];
  readonly policy?: readonly Policy[];
  readonly requests: number;
  readonly seeds: number;
  readonly device?: string;
  readonly costRatio?: number;
  readonly noise: number;
  readonly rate?: number;
  readonly load: number;
  readonly cv?: number;
  readonly context: number;
  readonly clients: number;
  readonly isl: number;
  readonly osl: number;
  readonly ttft: number;
  readonly itl: number;
  readonly replay?: string;
  readonly check?: boolean;
  readonly json?: string;
}

/** Beyond it nearly all arrivals of a trace come at the same moment. */
const MOST_CV = 100;

const DEFAULT_POLICIES = ["balanced", "baseline"];

/** @throws {OptionsExit} */
export function parseSimulateOptions(argv: readonly string[]): SimulateOptions {
  let text = "";
  const collect = (part: string): void => void (text += part);
  const command = createCommand().configureOutput({ writeOut: collect, writeErr: collect });
  try {
    command.parse([...argv], { from: "user" });
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    throw new OptionsExit(error.exitCode === 0 ? 0 : 2, text.trimEnd());
  }
  const raw = command.opts<RawOptions>();
  refuseUntaken(command, raw);
  return {
    workloads: raw.workload,
    policies: raw.policy ?? DEFAULT_POLICIES.map(policyOf),
    requests: raw.requests,
    seeds: raw.seeds,
    device: raw.device ?? "cpu",
    replayDevice: raw.device,
    costRatio: raw.costRatio,
    noise: raw.noise,
    rate: raw.rate,
    load: raw.load,
    cv: raw.cv,
    contextTokens: raw.context,
    closed: { clients: raw.clients, promptTokens: raw.isl, outputTokens: raw.osl },
    objective: { ttftMs: raw.ttft, itlMs: raw.itl },
    replay: raw.replay,
    check: raw.check === true,
    json: raw.json,
  };
}

/** Whose traffic and settings are those of the recording. */
const REPLAY_TAKES = ["replay", "device", "ttft", "itl", "check", "json"];

/** What would not be looked at is not accepted as if it were. */
function refuseUntaken(command: Command, { replay, device, workload }: RawOptions): void {
  const refuse = (names: readonly string[], why: string): void => {
    for (const option of command.options) {
      const name = option.attributeName();
      if (names.includes(name) && command.getOptionValueSource(name) === "cli")
        throw new OptionsExit(2, `error: ${option.long} has no meaning ${why}`);
    }
  };
  if (replay !== undefined) {
    // A device that is fitted to the recording is as it was.
    const taken = device === undefined ? REPLAY_TAKES : [...REPLAY_TAKES, "costRatio"];
    const others = command.options.map((option) => option.attributeName());
    return refuse(
      others.filter((name) => !taken.includes(name)),
      "for --replay",
    );
  }
  if (!workload.includes("closed")) refuse(["clients", "isl", "osl"], "without --workload closed");
  if (workload.every((name) => name === "closed"))
    refuse(["rate", "load", "cv"], "for the workload closed, whose clients ask when they are answered");
}

function createCommand(): Command {
  const shapes = Object.entries(WORKLOADS).map(([name, { about }]) => `  ${name.padEnd(12)} ${about}`);
  return new Command("weft simulate")
    .description("Runs the scheduler against a device that only takes time, and compares policies.")
    .exitOverride()
    .allowExcessArguments(false)
    .option("--workload <list>", "shapes of traffic, such as chat-small,agent", workloadList, ["chat-small"])
    .option("--policy <policy>", `repeatable; ${POLICY_HELP} (default: balanced and baseline)`, addPolicy)
    .option("--requests <n>", "requests of a trace", whole(1, 100_000_000), 1000)
    .option("--seeds <n>", "traces of each workload, of seeds 1 to n", whole(1, 1000), 5)
    .option("--device <name>", "cpu (default), gpu, or a file from /debug/timeline to fit one to")
    .option("--cost-ratio <a/b>", "cost of a device pass over that of one more slot in it", above(0, 10_000))
    .option("--noise <sd>", "standard deviation of the logarithm of call times", from(0, 2), 0.05)
    .addOption(new Option("--rate <per second>", "arrivals").argParser(above(0, 1e6)).conflicts("load"))
    .option("--load <share>", "arrivals, as a share of what the device can serve", above(0, 100), 0.8)
    .option(
      "--cv <ratio>",
      "standard deviation of the gaps between arrivals over their mean: 0 is even, 1 Poisson, more in bursts (default: the workload's own)",
      from(0, MOST_CV),
    )
    .option("--context <tokens>", "of each slot", whole(64, 1_048_576), 4096)
    .option("--clients <n>", "of the workload `closed`", whole(1, 100_000), 8)
    .option("--isl <tokens>", "prompt length of the workload `closed`", whole(1, 1_000_000), 128)
    .option("--osl <tokens>", "answer length of the workload `closed`", whole(1, 1_000_000), 128)
    .addOption(timeOption("--ttft <time>", "objective: longest time to the first token", "2s"))
    .addOption(
      timeOption(
        "--itl <time>",
        "objective: longest time between tokens, on average over a request",
        "200ms",
      ),
    )
    .option(
      "--replay <file>",
      "play a recording from /debug/timeline again and compare with what happened; with --device on that",
    )
    .option("--check", "check the scheduler's invariants in every step")
    .option("--json <file>", "write the results there; - makes them the last line of stdout")
    .addHelpText(
      "after",
      `\nWorkloads:\n${shapes.join("\n")}\n  closed       --clients clients that ask again when they are answered`,
    );
}

function policyOf(label: string): Policy {
  const policy = readPolicy(label);
  if (typeof policy === "string") throw new InvalidArgumentError(`${policy}. It is ${POLICY_HELP}.`);
  return policy;
}

function addPolicy(label: string, before: readonly Policy[] | undefined): readonly Policy[] {
  return [...(before ?? []), policyOf(label)];
}

function workloadList(text: string): readonly string[] {
  const names = text.split(",").map((name) => name.trim());
  for (const name of names) {
    if (name !== "closed" && !Object.hasOwn(WORKLOADS, name))
      throw new InvalidArgumentError(`Workloads are ${[...Object.keys(WORKLOADS), "closed"].join(", ")}.`);
  }
  return names;
}

function from(min: number, max: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (text.trim() !== "" && value >= min && value <= max) return value;
    throw new InvalidArgumentError(`Expected a number from ${min} to ${max}.`);
  };
}

function above(min: number, max: number): (text: string) => number {
  return (text) => {
    const value = from(min, max)(text);
    if (value > min) return value;
    throw new InvalidArgumentError(`Expected a number above ${min}.`);
  };
}
