/** What planning and bookkeeping of a step cost beside queues and owners of several sizes: `weft bench --scheduler`. */
import { FullScheduler } from "../engine/simulate/full-scheduler.ts";
import type { StepTimes } from "../engine/simulate/full-scheduler.ts";
import type { RunContext } from "./http-mode.ts";
import type { SchedulerOptions } from "./options.ts";
import { createRng, deriveSeed } from "./rng.ts";
import { summarize } from "./stats.ts";
import type { Summary } from "./stats.ts";

/** Times in ms. */
export interface SchedulerLevel {
  readonly waiting: number;
  readonly owners: number;
  /** From 0. */
  readonly round: number;
  /** Planning and everything else, of each step. */
  readonly step: Summary;
  readonly plan: Summary;
  readonly apply: Summary;
  /** Taking in one request. */
  readonly submit: Summary;
}

export const SCHEDULER_FORMULAS = [
  "step = plan + apply: all that the scheduler does in a step in which every slot decodes and about one of thirty",
  "changes hands; nothing is computed. submit = taking one request in, with its limits and the headers about them.",
] as const;

/** Steps before each level that are not counted: until then code is being compiled, and slots fill up. */
const WARMUP_STEPS = 500;

export function runSchedulerMode(
  { slots, waiting, owners, steps, rounds, seed, checkpoints }: SchedulerOptions,
  { clock, progress }: RunContext,
  show: (level: SchedulerLevel) => void,
): SchedulerLevel[] {
  const levels: SchedulerLevel[] = [];
  for (let round = 0; round < rounds; round++) {
    for (const queue of waiting) {
      for (const tenants of owners) {
        progress(`${queue} waiting of ${tenants} owners, round ${round + 1} of ${rounds}`);
        const draws = createRng(deriveSeed(seed, round, queue, tenants));
        const below = (limit: number): number => draws.below(limit);
        const nowMs = (): number => clock.nowMs();
        const sizes = { slots, waiting: queue, owners: tenants };
        const scheduler = new FullScheduler({ ...sizes, below, nowMs, checkpoints });
        for (let i = 0; i < WARMUP_STEPS; i++) scheduler.step();
        const times = Array.from({ length: steps }, () => scheduler.step());
        const level = { waiting: queue, owners: tenants, round, ...summaries(times) };
        levels.push(level);
        show(level);
      }
    }
  }
  return levels;
}

function summaries(times: readonly StepTimes[]): Pick<SchedulerLevel, "step" | "plan" | "apply" | "submit"> {
  return {
    step: summarize(times.map(({ planMs, applyMs }) => planMs + applyMs)),
    plan: summarize(times.map(({ planMs }) => planMs)),
    apply: summarize(times.map(({ applyMs }) => applyMs)),
    submit: summarize(times.flatMap(({ submitMs }) => submitMs ?? [])),
  };
}

const HEAD_WIDTH = 32;
const COLUMNS = ["step p50", "step mean", "step p99", "plan p50", "apply p50", "submit p50"] as const;

export function schedulerHead(slots: number): string {
  const title = `${slots} slots, times in ms`.padEnd(HEAD_WIDTH);
  return title + COLUMNS.map((name) => name.padStart(12)).join("");
}

export function formatSchedulerLevel({ waiting, owners, step, plan, apply, submit }: SchedulerLevel): string {
  const cells = [step.p50, step.mean, step.p99, plan.p50, apply.p50, submit.p50];
  const [many, whose] = [waiting, owners].map((count) => count.toLocaleString("en"));
  const place = `${many} waiting, owners: ${whose}`.padEnd(HEAD_WIDTH);
  return place + cells.map((ms) => (ms?.toFixed(3) ?? "-").padStart(12)).join("");
}
