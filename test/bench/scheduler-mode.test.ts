/** `weft bench --scheduler`: what is measured is a full scheduler beside a queue that keeps its length. */
import { expect, test } from "vitest";
import { runBench } from "../../bench/cli.ts";
import { parseOptions } from "../../bench/options.ts";
import { runSchedulerMode } from "../../bench/scheduler-mode.ts";
import { createRng } from "../../bench/rng.ts";
import { FullScheduler } from "../../engine/simulate/full-scheduler.ts";

test("every slot is in use and as many wait as were asked for, step after step", () => {
  for (const [waiting, owners, checkpoints] of [
    [0, 1, undefined],
    [40, 3, undefined],
    [40, 40, undefined],
    [0, 1, "none"],
    [40, 3, "cells"],
    [40, 40, "own-cells"],
  ] as const) {
    const draws = createRng(5);
    const below = (limit: number): number => draws.below(limit);
    const options = { slots: 6, waiting, owners, nowMs: () => 0, below, checkpoints };
    const scheduler = new FullScheduler(options);
    scheduler.step();
    expect(scheduler.load).toEqual({ waiting, running: 6 });
    let newcomers = 0;
    for (let i = 0; i < 200; i++) {
      if (scheduler.step().submitMs !== undefined) newcomers++;
      const { waiting: queued, running } = scheduler.load;
      // Newcomers of this step have their slots in the next one.
      expect(queued + running).toBe(waiting + 6);
      expect(queued).toBeGreaterThanOrEqual(waiting);
    }
    expect(newcomers).toBeGreaterThan(10);
    expect(new FullScheduler(options).load.waiting).toBe(waiting + 6);
  }
});

test("levels are every queue beside every number of owners, and times are those between looks at the clock", () => {
  let nowMs = 0;
  const clock = { nowMs: () => (nowMs += 1), after: () => () => undefined };
  const options = parseOptions("--scheduler --slots 2 --waiting 0,9 --owners 1,3 --steps 30".split(" "));
  if (options.mode !== "scheduler") throw new Error("another mode");
  const shown: unknown[] = [];
  const levels = runSchedulerMode(options, { clock, progress: () => undefined }, (level) =>
    shown.push(level),
  );
  expect(levels.map(({ waiting, owners }) => [waiting, owners])).toEqual([
    [0, 1],
    [0, 3],
    [9, 1],
    [9, 3],
  ]);
  expect(shown).toEqual(levels);
  for (const { step, plan, apply, submit } of levels) {
    expect([step.count, step.p50, plan.p50, apply.p50, submit.p50]).toEqual([30, 3, 1, 2, 1]);
  }
});

test("the command prints a line for each level, and its JSON", async () => {
  let out = "";
  const argv = "--scheduler --slots 3 --waiting 5 --owners 2 --steps 5 --json -".split(" ");
  expect(await runBench(argv, { out: (text) => (out += text), err: () => undefined })).toBe(0);
  expect(out).toContain("3 slots, times in ms");
  expect(out).toMatch(/^5 waiting, owners: 2 +\d+\.\d{3}/m);
  expect(JSON.parse(out.trimEnd().split("\n").at(-1) ?? "")).toMatchObject({
    options: { mode: "scheduler", slots: 3, waiting: [5], owners: [2], steps: 5 },
    levels: [{ waiting: 5, owners: 2, round: 0, step: { count: 5 } }],
  });
});
