/**
 * Scripted scenarios, step by step, against what was planned when they were last looked at (test/fixtures/plans). A change
 * of the planner that changes one must be able to say why; `npx vitest run -u` writes them anew.
 */
import { describe, expect, test } from "vitest";
import { DEFAULT_FAIRNESS } from "../../../engine/scheduler/owners.ts";
import { cancel, setPaused } from "../../../engine/scheduler/transitions.ts";
import type {
  PlannedCall,
  SchedulerConfig,
  SchedulerState,
  StepPlan,
} from "../../../engine/scheduler/types.ts";
import { addRequest, planMs, runStep, schedulerState } from "../../support/scheduler.ts";

interface Scenario {
  readonly config?: Partial<SchedulerConfig>;
  readonly steps: number;
  /** What happens before a step, by its number. */
  readonly script: Readonly<Record<number, (state: SchedulerState, nowMs: number) => void>>;
}

const text = (first: number, tokens: number): Uint32Array =>
  Uint32Array.from({ length: tokens }, (_, i) => first + i);

const SCENARIOS: Readonly<Record<string, Scenario>> = {
  "long-beside-short": {
    config: { slots: 3 },
    steps: 10,
    script: {
      0: (state, nowMs) => {
        addRequest(state, "short", { maxTokens: 9 }, nowMs);
        addRequest(state, "other", { maxTokens: 4 }, nowMs);
      },
      2: (state, nowMs) => void addRequest(state, "long", { prompt: text(50_000, 75), maxTokens: 2 }, nowMs),
    },
  },
  "shared-prefix": {
    config: { slots: 3 },
    steps: 9,
    script: {
      0: (state, nowMs) => {
        for (const id of ["a", "b", "c"]) {
          const prompt = Uint32Array.from([...text(1, 30), ...text(1000 * state.nextArrival + 500, 6)]);
          addRequest(state, id, { prompt, maxTokens: 2 }, nowMs);
        }
      },
    },
  },
  "two-turns": {
    config: { slots: 2 },
    steps: 8,
    script: {
      0: (state, nowMs) => void addRequest(state, "first", { prompt: text(1, 24), maxTokens: 3 }, nowMs),
      6: (state, nowMs) => {
        const prompt = Uint32Array.from([...text(1, 24), 7, 7, 7, ...text(900, 5)]);
        addRequest(state, "second", { prompt, maxTokens: 1 }, nowMs);
      },
    },
  },
  "higher-class": {
    config: { slots: 2, fairness: { ...DEFAULT_FAIRNESS, agingQuantumMs: 1e6 } },
    steps: 12,
    script: {
      0: (state, nowMs) => {
        addRequest(state, "low0", { priority: 2, maxTokens: 150 }, nowMs);
        addRequest(state, "low1", { priority: 2, maxTokens: 8 }, nowMs);
      },
      3: (state, nowMs) => void addRequest(state, "high", { priority: 0, maxTokens: 2 }, nowMs),
    },
  },
  "cancel-and-pause": {
    config: { slots: 2 },
    steps: 8,
    script: {
      0: (state, nowMs) => {
        for (const id of ["kept", "gone", "paused", "last"]) addRequest(state, id, { maxTokens: 4 }, nowMs);
        setPaused(state, "paused", true);
      },
      2: (state, nowMs) => cancel(state, "gone", nowMs),
      4: (state) => void setPaused(state, "paused", false),
    },
  },
  "two-adapters": {
    config: { slots: 4 },
    steps: 16,
    script: {
      0: (state, nowMs) => {
        state.cost = { ...state.cost, switchMs: 3 };
        const adapters = { key: "pirate*1", uses: [{ adapter: 0, scale: 1 }] };
        for (const [id, tokens] of Object.entries({ base0: 12, base1: 3, tuned0: 12, tuned1: 5 })) {
          const tuned = id.startsWith("tuned") ? { adapters, cacheKey: adapters.key } : {};
          addRequest(state, id, { prompt: text(1, 15), maxTokens: tokens, ...tuned }, nowMs);
        }
      },
    },
  },
  "gaps-closed": {
    config: { slots: 4 },
    steps: 6,
    script: {
      0: (state, nowMs) => {
        for (const id of ["r0", "r1", "r2", "r3"])
          addRequest(state, id, { maxTokens: id === "r1" || id === "r2" ? 1 : 6 }, nowMs);
      },
    },
  },
};

function callLine({ kind, entries, passes }: PlannedCall): string {
  const shown = entries.map(({ slot, request, position, tokens }) => {
    const end = tokens.length === 1 ? "" : `..${position + tokens.length - 1}`;
    return `${slot}:${request ?? "plug"}@${position}${end}`;
  });
  return `  ${kind} ${shown.join(" ")} (${passes} ${passes === 1 ? "pass" : "passes"})`;
}

function planLines(step: number, plan: StepPlan): string[] {
  return [`step ${step}`, ...plan.why.map((reason) => `  ${reason}`), ...plan.calls.map(callLine)];
}

describe("the plans of", () => {
  test.each(Object.entries(SCENARIOS))("%s are those that were looked at", async (name, scenario) => {
    const state = schedulerState(scenario.config);
    const lines: string[] = [];
    let nowMs = 0;
    for (let step = 0; step < scenario.steps; step++) {
      scenario.script[step]?.(state, nowMs);
      const plan = runStep(state, nowMs);
      nowMs += planMs(plan) + 1;
      lines.push(...planLines(step, plan));
    }
    await expect(`${lines.join("\n")}\n`).toMatchFileSnapshot(`../../fixtures/plans/${name}.txt`);
  });
});
