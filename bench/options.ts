/** The options of `weft bench`: their names, units, ranges and defaults, and what each mode makes of them. */
import { Command, CommanderError, Option } from "commander";
import { serverUrl } from "../models/command-line/server-url.ts";
import { MOST_THREADS } from "../models/command-line/thread-count.ts";
import type { Endpoint } from "./client.ts";
import { MOST_OPEN } from "./closed-loop.ts";
import type { LevelLength } from "./closed-loop.ts";
import type { Part } from "./judged/goals.ts";
import { addJudgedOptions, JUDGED_TAKES } from "./judged/options.ts";
import type { JudgedFlags } from "./judged/options.ts";
import {
  DEFAULT_LEVELS,
  LEVEL_SCENARIOS,
  levelLength,
  levelPlan,
  levelScenario,
  LEVELS_TAKE,
} from "./level-options.ts";
import type { LevelFlags, LevelPlan } from "./level-options.ts";
import {
  duration,
  OptionsExit,
  positiveNumber,
  seconds,
  wholeNumber,
  wholeNumbers,
} from "./option-values.ts";
import { scenarioNamed, SCENARIOS } from "./scenarios/catalogue.ts";
import { addScenarioOptions } from "./scenarios/options.ts";
import type { ScenarioPlan, ScenarioFlags, ScenarioValues } from "./scenarios/scenario.ts";
import type { FullSchedulerOptions } from "../engine/simulate/full-scheduler.ts";

interface CommonOptions {
  readonly rounds: number;
  readonly seed: number;
  /** A file, `-` for the last line of stdout, undefined for none. */
  readonly json: string | undefined;
}

export interface HttpOptions extends CommonOptions {
  /** A file for the report as a page with plots. */
  readonly report?: string | undefined;
  /** One server, or A and B to compare. */
  readonly urls: readonly string[];
  readonly endpoint: Endpoint;
  /** Undefined takes the first model each server lists. */
  readonly model: string | undefined;
  readonly apiKey: string | undefined;
  /** Requests before each level that are not counted. */
  readonly warmup: number;
  readonly timeoutMs: number;
}

export interface ClosedLoopOptions extends HttpOptions, LevelPlan {
  readonly mode: "closed-loop";
}

export interface ScenarioOptions extends HttpOptions {
  readonly mode: "scenario";
  readonly scenario: string;
  readonly plan: ScenarioPlan;
}

export interface JudgedOptions extends HttpOptions {
  readonly mode: "judged";
  readonly parts: readonly Part[];
  readonly budgetMs: number;
  /** Of `overload`. */
  readonly durationMs: number;
  readonly greedyKey: string | undefined;
  readonly bareModel: string | undefined;
}

export interface EmbeddingsOptions extends HttpOptions {
  readonly mode: "embeddings";
  readonly concurrency: readonly number[];
  /** Undefined: as many requests as `defaultRequests` says. */
  readonly length: LevelLength | undefined;
  readonly promptTokens: number;
  /** Texts of one request, of `promptTokens` each. */
  readonly texts: number;
}

export interface EngineOptions extends CommonOptions {
  readonly mode: "engine";
  /** A path or a model's name. */
  readonly model: string;
  readonly concurrency: readonly number[];
  readonly promptTokens: number;
  readonly outputTokens: number;
  readonly threads: number | undefined;
  readonly flashAttention: "auto" | "on" | "off";
}

export interface SchedulerOptions extends CommonOptions {
  readonly mode: "scheduler";
  readonly slots: number;
  /** Requests that wait, and owners that they are of: every number beside every other. */
  readonly waiting: readonly number[];
  readonly owners: readonly number[];
  /** Counted steps of each level. */
  readonly steps: number;
  /** Of a model that cannot take tokens back; absent: of one that can. */
  readonly checkpoints?: FullSchedulerOptions["checkpoints"];
}

export type BenchOptions =
  | ClosedLoopOptions
  | ScenarioOptions
  | JudgedOptions
  | EmbeddingsOptions
  | EngineOptions
  | SchedulerOptions;

/** Enough that each client sends several requests and a level of one client still has a median. */
export function defaultRequests(concurrency: number): number {
  return Math.max(8, 4 * concurrency);
}

const MOST_LEVELS = 32;
const MOST_TOKENS = 1_000_000;
const DEFAULT_URL = "http://127.0.0.1:9338";

/** Which server is asked, and how; of all modes that ask one. */
const ASKING = ["url", "vs", "endpoint", "model", "apiKey", "warmup", "timeout", "report"];

/** Options that not all modes take, by the mode that does; the scenarios say it themselves. */
const TAKEN: Readonly<
  Record<"levels" | "embeddings" | "engine" | "scheduler" | "judged", readonly string[]>
> = {
  levels: [...ASKING, ...LEVELS_TAKE],
  embeddings: [...ASKING, "requests", "duration", "concurrency", "isl", "texts"],
  engine: ["model", "concurrency", "isl", "osl", "threads", "flashAttention"],
  scheduler: ["slots", "waiting", "owners", "steps", "checkpoints"],
  judged: [...ASKING, ...JUDGED_TAKES],
};

/** @throws {OptionsExit} */
export function parseOptions(argv: readonly string[]): BenchOptions {
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
  refuseUntaken(raw, (name) => command.getOptionValueSource(name) === "cli");
  return toOptions(raw);
}

/** What a mode would not look at is not accepted as if it did. */
function refuseUntaken(raw: RawOptions, given: (name: string) => boolean): void {
  const everywhere = [...Object.values(TAKEN), ...SCENARIOS.map(({ takes }) => takes)].flat();
  const [mode, taken] = modeOf(raw);
  for (const name of everywhere) {
    if (taken.includes(name) || !given(name)) continue;
    const flag = name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
    throw new OptionsExit(2, `error: --${flag} has no meaning for ${mode}`);
  }
}

/** Its name, and what it takes. */
function modeOf({ engine, scheduler, judged, scenario }: RawOptions): readonly [string, readonly string[]] {
  if (engine === true) return ["--engine", TAKEN.engine];
  if (scheduler === true) return ["--scheduler", TAKEN.scheduler];
  if (judged === true) return ["--judged", TAKEN.judged];
  return scenario === undefined ? ["levels", TAKEN.levels] : [`--scenario ${scenario}`, takenBy(scenario)];
}

function takenBy(scenario: string): readonly string[] {
  if (scenario === "embeddings") return TAKEN.embeddings;
  return [...ASKING, ...(levelScenario(scenario) ?? scenarioNamed(scenario)).takes];
}

interface RawOptions extends ScenarioFlags, JudgedFlags, LevelFlags {
  readonly url: string;
  readonly vs?: string;
  readonly endpoint: Endpoint;
  readonly model?: string;
  readonly apiKey?: string;
  readonly warmup: number;
  readonly timeout: number;
  readonly repeat: number;
  readonly seed: number;
  readonly json?: string;
  readonly report?: string;
  readonly scenario?: string;
  readonly texts: number;
  readonly engine?: boolean;
  readonly threads?: number;
  readonly flashAttention: "auto" | "on" | "off";
  readonly scheduler?: boolean;
  readonly judged?: boolean;
  readonly slots: number;
  readonly waiting: readonly number[];
  readonly owners: readonly number[];
  readonly steps: number;
  readonly checkpoints?: FullSchedulerOptions["checkpoints"];
}

function createCommand(): Command {
  const whole = wholeNumber;
  const command = new Command("weft bench")
    .description("Measures a server over HTTP as its clients see it, or the step loop against a bare one.")
    .exitOverride()
    .allowExcessArguments(false)
    .option("--url <url>", "server to measure; /v1 at its end is optional", serverUrl, DEFAULT_URL)
    .option("--vs <url>", "second server, measured in turns with the first", serverUrl)
    .addOption(
      new Option("--endpoint <name>", "which API to call").choices(["chat", "completions"]).default("chat"),
    )
    .option("--model <name>", "model to ask for (default: the first one a server lists)")
    .option("--api-key <key>", "sent as bearer token; other processes can see it in the process list")
    .option(
      "--concurrency <list>",
      "clients per level (default: 1,4,8,16)",
      wholeNumbers(MOST_LEVELS, MOST_OPEN),
    )
    .option("--requests <n>", "requests per level (default: 4 per client, at least 8)", whole(1, 100_000))
    .addOption(
      new Option(
        "--duration <time>",
        "length of a level in seconds or with a unit, instead of a number of requests, or of a scenario",
      )
        .argParser(seconds(86_400))
        .conflicts("requests"),
    )
    .addOption(
      new Option(
        "--rate <per second>",
        "open loop: requests sent, answered or not (default: one minute of them)",
      )
        .argParser(positiveNumber(10_000))
        .conflicts(["concurrency", "engine"]),
    )
    .option(
      "--burstiness <shape>",
      "of --rate: 1 (default) is Poisson, less comes in bursts",
      positiveNumber(1000),
    )
    .option("--isl <tokens>", "prompt length (default: 128; engine 64)", whole(1, MOST_TOKENS))
    .option("--osl <tokens>", "output length (default: 128)", whole(1, MOST_TOKENS))
    .option(
      "--shared-prefix <tokens>",
      "tokens all prompts of a level start with (default: 0)",
      whole(0, MOST_TOKENS),
    )
    .option("--ttft <time>", "goodput: longest time to the first token, such as 500ms", duration)
    .option("--itl <time>", "goodput: longest time between tokens, on average over a request", duration)
    .option("--warmup <n>", "requests before each level that are not counted", whole(0, 1000), 1)
    .addOption(
      new Option("--timeout <time>", "longest a request may take, in seconds or with a unit")
        .argParser(seconds(86_400))
        .default(600, "600s"),
    )
    .option("--repeat <rounds>", "rounds per level; medians are over rounds", whole(1, 100), 1)
    .option("--seed <n>", "seed of the prompts and requests", whole(0, 0xffff_ffff), 1)
    .option("--json <file>", "write the results there; - makes them the last line of stdout")
    .addOption(new Option("--report <file>", "write an HTML page with plots there").conflicts(["engine"]))
    .addOption(
      new Option("--scenario <name>", "a shape of traffic with figures of its own; see below")
        .choices([...LEVEL_SCENARIOS, ...SCENARIOS].map(({ name }) => name).concat("embeddings"))
        .conflicts(["engine"]),
    )
    .option("--texts <n>", "texts of one embeddings request", whole(1, 2048), 16)
    .addOption(
      new Option("--engine", "compare the step loop with a bare decode loop; needs --model").conflicts([
        "vs",
        "requests",
        "duration",
      ]),
    )
    .option(
      "--threads <n>",
      "compute threads of --engine (default: as the engine chooses)",
      whole(1, MOST_THREADS),
    )
    .addOption(
      new Option("--flash-attention <mode>", "of --engine").choices(["auto", "on", "off"]).default("auto"),
    )
    .addOption(
      new Option(
        "--scheduler",
        "what planning and bookkeeping of a step cost; no server, no model",
      ).conflicts(["vs", "engine", "scenario", "report"]),
    )
    .option("--slots <n>", "slots of --scheduler, all in use", whole(1, 256), 64)
    .option(
      "--waiting <list>",
      "requests that wait beside them",
      wholeNumbers(MOST_LEVELS, 1_000_000, 0),
      [0, 1000, 10_000, 100_000],
    )
    .option("--owners <list>", "owners of those", wholeNumbers(MOST_LEVELS, 100_000), [1, 4, 1000])
    .option("--steps <n>", "steps of --scheduler that are counted", whole(1, 10_000_000), 2000)
    .addOption(
      new Option(
        "--checkpoints <needs>",
        "a model that cannot take tokens back, and what has to be there to come back to a checkpoint",
      ).choices(["none", "cells", "own-cells"]),
    )
    .addOption(
      new Option(
        "--judged",
        "all that is judged, each row with its goal, as one table; with --vs against that server",
      ).conflicts(["engine", "scheduler", "scenario"]),
    )
    .addHelpText("after", `\nScenarios, with their defaults:\n${scenarioHelp().join("\n")}`);
  return addJudgedOptions(addScenarioOptions(command));
}

function scenarioHelp(): string[] {
  const embeddings = {
    name: "embeddings",
    about: "levels of requests for the vectors of --texts texts (16) of --isl tokens (128) each",
  };
  return [...LEVEL_SCENARIOS, ...SCENARIOS, embeddings].map(
    ({ name, about }) => `  ${name.padEnd(18)} ${about}`,
  );
}

function toOptions(raw: RawOptions): BenchOptions {
  const common = { rounds: raw.repeat, seed: raw.seed, json: raw.json };
  if (raw.engine === true) {
    if (raw.model === undefined) {
      throw new OptionsExit(2, "error: --engine needs --model, a path to a .gguf file or a model's name");
    }
    const { model, concurrency = DEFAULT_LEVELS, threads, flashAttention } = raw;
    // The rate is taken between two common steps, so two tokens are the least.
    const outputTokens = raw.osl ?? 128;
    if (outputTokens < 2) throw new OptionsExit(2, "error: --engine needs an --osl of at least 2");
    return {
      ...common,
      mode: "engine",
      model,
      concurrency,
      threads,
      flashAttention,
      outputTokens,
      promptTokens: raw.isl ?? 64,
    };
  }
  if (raw.scheduler === true) {
    const { slots, waiting, owners, steps, checkpoints } = raw;
    return { ...common, mode: "scheduler", slots, waiting, owners, steps, checkpoints };
  }
  const http = {
    ...common,
    urls: raw.vs === undefined ? [raw.url] : [raw.url, raw.vs],
    endpoint: raw.endpoint,
    model: raw.model,
    apiKey: raw.apiKey,
    warmup: raw.warmup,
    timeoutMs: raw.timeout * 1000,
    ...(raw.report === undefined ? {} : { report: raw.report }),
  };
  if (raw.judged === true) {
    if (raw.endpoint !== "chat") throw new OptionsExit(2, "error: --judged needs --endpoint chat");
    const { rows: parts, budget: budgetMs, greedyKey, bareModel } = raw;
    const durationMs = 1000 * (raw.duration ?? 60);
    return { ...http, mode: "judged", parts, budgetMs, durationMs, greedyKey, bareModel };
  }
  if (raw.scenario === "embeddings") {
    if (raw.report !== undefined) throw new OptionsExit(2, "error: embeddings have no --report");
    if (raw.endpoint !== "chat") throw new OptionsExit(2, "error: embeddings have no --endpoint");
    return {
      ...http,
      mode: raw.scenario,
      endpoint: "embeddings",
      concurrency: raw.concurrency ?? DEFAULT_LEVELS,
      length: levelLength(raw),
      promptTokens: raw.isl ?? 128,
      texts: raw.texts,
    };
  }
  const levels = levelScenario(raw.scenario);
  if (raw.scenario === undefined || levels !== undefined)
    return { ...http, mode: "closed-loop", ...levelPlan(raw, levels) };
  const scenario = scenarioNamed(raw.scenario);
  if (scenario.chatOnly === true && raw.endpoint !== "chat")
    throw new OptionsExit(2, `error: ${raw.scenario} needs --endpoint chat`);
  const plan = scenario.plan(scenarioValues(raw));
  return { ...http, mode: "scenario", scenario: raw.scenario, plan };
}

function scenarioValues({ concurrency, duration: length, ...others }: RawOptions): ScenarioValues {
  const raw = length === undefined ? others : { ...others, duration: length * 1000 };
  if (concurrency === undefined) return raw;
  const [clients, more] = concurrency;
  if (clients === undefined || more !== undefined)
    throw new OptionsExit(2, "error: a scenario has one level of --concurrency");
  return { ...raw, concurrency: clients };
}
