/** Runs a scenario from options to results: every round, one server after the other. */
import { sendOver } from "./client.ts";
import { interleave } from "./closed-loop.ts";
import { sideName } from "./format.ts";
import { promptSeed } from "./http-mode.ts";
import type { RunContext, Session } from "./http-mode.ts";
import type { ScenarioOptions } from "./options.ts";
import { requestPlots } from "./plots.ts";
import { PromptSource } from "./prompts.ts";
import { deriveSeed } from "./rng.ts";
import { scenarioNamed } from "./scenarios/catalogue.ts";
import type { PlacedTurn } from "./scenarios/scenario.ts";
import type { Plot } from "./svg-plot.ts";

/** @param report Called after each turn, so that a run that is broken off has shown what it had. */
export async function runScenario(
  options: ScenarioOptions,
  session: Session,
  { clock, progress }: RunContext,
  report: (turn: PlacedTurn) => void,
): Promise<PlacedTurn[]> {
  const { scenario, plan, rounds, seed, timeoutMs, warmup } = options;
  const turns: PlacedTurn[] = [];
  for (const { round, side } of interleave([0], rounds, session.targets.length)) {
    const target = session.targets[side];
    if (target === undefined) continue;
    progress(`${target.url}: ${scenario}, round ${round + 1} of ${rounds}`);
    const result = await plan.run({
      target,
      clock,
      send: sendOver(clock),
      seed,
      roundSeed: deriveSeed(seed, round),
      timeoutMs,
      warmup,
      prompts: (part, tokens, exact) =>
        PromptSource.prepare(
          // Several scenarios in one run must not send each other's prompts.
          { ...tokens, seed: promptSeed(session, seed, [...Buffer.from(scenario), round, part], side) },
          exact,
          session.count,
        ),
    });
    const turn = { side, round, ...result };
    turns.push(turn);
    report(turn);
  }
  return turns;
}

/** Those of its own, then those of its requests. */
export function scenarioPlots(scenario: string, turns: readonly PlacedTurn[], sides: number): Plot[] {
  return [...(scenarioNamed(scenario).plots?.(turns) ?? []), ...requestPlots(turns, sides, scenario)];
}

export function formatTurn(scenario: string, { side, round, lines }: PlacedTurn): string[] {
  return [`${sideName(side)}   ${scenario}   round ${round + 1}`, ...lines];
}
