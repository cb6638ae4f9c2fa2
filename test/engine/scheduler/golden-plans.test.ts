/**
 * Scripted scenarios, step by step, against what was planned when they were last looked at (test/fixtures/plans). A change
 * of the planner that changes one must be able to say why; `npx vitest run -u` writes them anew.
 */
import { describe, expect, test } from "vitest";
import type { PlannedCall, StepPlan } from "../../../engine/scheduler/types.ts";
import { planMs, runStep, schedulerState } from "../../support/scheduler.ts";
import { SCENARIOS, stageOf } from "./golden-scenarios.ts";

function callLine({ kind, entries, passes, drafts }: PlannedCall): string {
  const shown = entries.map(({ slot, request, position, tokens }) => {
    const end = tokens.length === 1 ? "" : `..${position + tokens.length - 1}`;
    return `${slot}:${request ?? "plug"}@${position}${end}`;
  });
  const guessing = drafts === 0 ? "" : `, ${drafts} guessed`;
  return `  ${kind} ${shown.join(" ")} (${passes} ${passes === 1 ? "pass" : "passes"}${guessing})`;
}

function planLines(step: number, plan: StepPlan): string[] {
  return [`step ${step}`, ...plan.why.map((reason) => `  ${reason}`), ...plan.calls.map(callLine)];
}

describe("the plans of", () => {
  test.each(Object.entries(SCENARIOS))("%s are those that were looked at", async (name, scenario) => {
    const state = schedulerState(scenario.config);
    const lines = [`# ${scenario.about}`];
    let nowMs = 0;
    for (let step = 0; step < scenario.steps; step++) {
      scenario.script[step]?.(stageOf(state, nowMs));
      const plan = runStep(state, nowMs);
      nowMs += planMs(plan) + 1;
      lines.push(...planLines(step, plan));
    }
    await expect(`${lines.join("\n")}\n`).toMatchFileSnapshot(`../../fixtures/plans/${name}.txt`);
  });
});
