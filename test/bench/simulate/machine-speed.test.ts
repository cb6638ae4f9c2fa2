/** Calls on a machine that was slow, fast and away at times: literal durations. */
import { expect, test } from "vitest";
import { asFastAs } from "../../../bench/simulate/machine-speed.ts";

/** From 100 to 150 twice as slow, then away from 160 to 1160 in a call of 10 ms, then as usual. */
const lasts = asFastAs(
  [
    { fromMs: 1100, toMs: 1150, ratio: 2 },
    { fromMs: 1160, toMs: 2160, ratio: 100 },
    { fromMs: 2170, toMs: 2180, ratio: 1 },
  ],
  1000,
);

test.each([
  ["before everything that is known", 0, 50, 50],
  ["into what is slow", 90, 20, 10 + 20],
  ["within it", 110, 15, 30],
  ["behind it, which is as slow until the next call", 150, 3, 6],
  ["in what was away: the rest of that, and its own work", 160, 7, 700],
  ["longer than that call was", 160, 30, 1000 + 20],
  ["through slowness, absence and what comes behind", 140, 50, 1020 + 50 - 20 / 2 - 10],
  ["behind the absence", 1165, 20, 20],
  ["behind everything", 5000, 40, 40],
])("a call that begins %s", (_when, nowMs, ms, expected) => {
  expect(lasts(nowMs, ms)).toBeCloseTo(expected, 6);
});

test("without anything known it takes what it takes", () => {
  expect(asFastAs([], 0)(12, 34)).toBe(34);
});
