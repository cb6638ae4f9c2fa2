/** Every scenario by its name. */
import { agent } from "./agent.ts";
import { longBesideShort } from "./long-beside-short.ts";
import { mixedTenants } from "./mixed-tenants.ts";
import { multiTurn } from "./multi-turn.ts";
import { overload } from "./overload.ts";
import { predictedEdit } from "./predicted-edit.ts";
import type { Scenario } from "./scenario.ts";
import { sharedPrefix } from "./shared-prefix.ts";

export const SCENARIOS: readonly Scenario[] = [
  sharedPrefix,
  longBesideShort,
  multiTurn,
  agent,
  mixedTenants,
  overload,
  predictedEdit,
];

/** @throws {Error} For a name that is none of theirs. */
export function scenarioNamed(name: string): Scenario {
  const scenario = SCENARIOS.find((known) => known.name === name);
  if (scenario === undefined) throw new Error(`There is no scenario "${name}".`);
  return scenario;
}
