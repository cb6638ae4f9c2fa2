/**
 * What a scenario of `weft bench` is: a shape of traffic that is sent to one server at a time, turn by turn, and the few
 * figures that say how well it was served.
 */
import type { RequestRecord, SendOne, Target } from "../client.ts";
import type { BenchClock } from "../clock.ts";
import type { ErrorCount } from "../level-summary.ts";
import type { PromptSource } from "../prompts.ts";
import type { Plot } from "../svg-plot.ts";

/** Options that only scenarios have, as given; undefined where they are not. Times in ms. */
export interface ScenarioFlags {
  /** Of `long-beside-short`. */
  readonly streams?: number;
  readonly conversations?: number;
  readonly turns?: number;
  readonly think?: number;
  readonly few?: number;
  readonly greedyKey?: string;
  readonly overload?: number;
}

/** What scenarios make their traffic from: their own options and those that they share with the levels. */
export interface ScenarioValues extends ScenarioFlags {
  readonly requests?: number;
  readonly concurrency?: number;
  readonly isl?: number;
  readonly osl?: number;
  readonly sharedPrefix?: number;
  readonly apiKey?: string;
  readonly duration?: number;
  readonly ttft?: number;
  readonly itl?: number;
}

export interface Scenario {
  /** After `--scenario`. */
  readonly name: string;
  /** For the help, in one line. */
  readonly about: string;
  /** The options it takes; others are refused. */
  readonly takes: readonly (keyof ScenarioValues)[];
  /** Whether it cannot be sent as text completions. */
  readonly chatOnly?: boolean;
  readonly formulas: readonly string[];
  /** @throws {OptionsExit} When a value is out of what the scenario can do. */
  readonly plan: (values: ScenarioValues) => ScenarioPlan;
  /** Plots of its own for the page, in front of those of its requests. */
  readonly plots?: (turns: readonly PlacedTurn[]) => Plot[];
}

export interface ScenarioPlan {
  /** Every number that the traffic is made from, for the JSON. */
  readonly settings: Readonly<Record<string, number>>;
  /** One turn. Failed requests are in the result. */
  readonly run: (turn: ScenarioTurn) => Promise<TurnResult>;
}

/** What one turn has to work with. */
export interface ScenarioTurn {
  readonly target: Target;
  readonly clock: BenchClock;
  readonly send: SendOne;
  /** Of the requests' own draws. */
  readonly seed: number;
  /** Of what the scenario draws itself, such as times: another in every round, the same for both servers. */
  readonly roundSeed: number;
  /** From sending to the last byte, of one request. */
  readonly timeoutMs: number;
  /** Requests before what is measured. */
  readonly warmup: number;
  /**
   * Prompts that nobody has sent before: others in every round, the same for both servers.
   * @param part Tells the prompts of a turn apart.
   * @param exact So many are fitted to the token count.
   */
  readonly prompts: (part: number, tokens: PromptTokens, exact: number) => Promise<PromptSource>;
}

export interface PromptTokens {
  /** Of each prompt, shared prefix included. */
  readonly promptTokens: number;
  readonly sharedPrefixTokens: number;
}

export interface TurnResult {
  /** What is compared over rounds and servers, by name with its unit; first what the scenario is for. */
  readonly figures: Readonly<Record<string, number | undefined>>;
  /** For people, without a heading. */
  readonly lines: readonly string[];
  /** For the JSON. */
  readonly summary: Readonly<Record<string, unknown>>;
  readonly errors: readonly ErrorCount[];
  /** Every request of what is measured. */
  readonly records: readonly RequestRecord[];
  /** Of some of them, and of others that were sent before: what a plot of the scenario's own compares. */
  readonly groups?: Readonly<Record<string, readonly RequestRecord[]>>;
  /** The request beside them that a scenario is about, where there is one. */
  readonly newcomer?: RequestRecord;
}

export interface PlacedTurn extends TurnResult {
  /** 0 is A, 1 is B. */
  readonly side: number;
  /** From 0. */
  readonly round: number;
}
