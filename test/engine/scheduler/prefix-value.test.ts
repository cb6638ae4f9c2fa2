/** How likely what was computed is wanted again. */
import { expect, test } from "vitest";
import { reuseChance } from "../../../engine/scheduler/prefix-value.ts";

const HOUR_MS = 3_600_000;

test("what a client wants kept comes before what nobody has come back to, not before what is used all the time", () => {
  const kept = { lastUseMs: 0, hits: 0, keepUntilMs: 24 * HOUR_MS };
  const chances = [0, 1, 6, 12, 23].map((hours) => reuseChance(kept, hours * HOUR_MS));
  expect(chances).toEqual(chances.toSorted((a, b) => b - a));
  for (const hours of [0, 1, 6, 12]) {
    const nowMs = hours * HOUR_MS;
    expect(reuseChance(kept, nowMs)).toBeGreaterThan(reuseChance({ lastUseMs: nowMs, hits: 0 }, nowMs));
    expect(reuseChance(kept, nowMs)).toBeLessThan(reuseChance({ lastUseMs: nowMs, hits: 4 }, nowMs));
  }
  const late = 25 * HOUR_MS;
  expect(reuseChance(kept, late)).toBe(reuseChance({ lastUseMs: 0, hits: 0 }, late));
  // Asking for it does not make it less.
  const used = { lastUseMs: 0, hits: 20 };
  expect(reuseChance({ ...used, keepUntilMs: 24 * HOUR_MS }, 0)).toBe(reuseChance(used, 0));
});
