/** How evenly an answer came, for who reads six tokens a second: 1000 / 6 ms each. */
import { expect, test } from "vitest";
import { ReadingLine } from "../../../src/metrics/reading-line.ts";

const EACH_MS = 1000 / 6;

function qualityOf(arrivalsMs: readonly number[]): number | undefined {
  const line = new ReadingLine();
  for (const atMs of arrivalsMs) line.add(1, atMs);
  return line.quality;
}

test("who never waits has the best there is, however the tokens came", () => {
  expect(qualityOf([0, 50, 100, 150])).toBe(1);
  expect(qualityOf([0, EACH_MS, 2 * EACH_MS, 3 * EACH_MS])).toBeCloseTo(1, 9);
  const line = new ReadingLine();
  line.add(1, 0);
  line.add(8, 900 / 6);
  expect(line.quality).toBe(1);
});

test("a gap makes all behind it late, and a reader who is ahead feels less of it", () => {
  // The line ends at 2 of these units; the second token is read at 3: one unit late, of 3 - 1 and 3 - 2 under the line.
  expect(qualityOf([0, 2 * EACH_MS])).toBeCloseTo(1 - 1 / 3, 9);
  // Read at 1, 2, 3 and 11: 7 late, of 10 + 9 + 8 + 7 under the line.
  expect(qualityOf([0, 1, 2, 10 * EACH_MS])).toBeCloseTo(1 - 7 / 34, 9);
  expect(qualityOf([0, 10 * EACH_MS, 10 * EACH_MS, 10 * EACH_MS])).toBeCloseTo(1 - 27 / 42, 9);
});

test("one token has nobody wait between tokens", () => {
  expect(qualityOf([])).toBeUndefined();
  expect(qualityOf([0])).toBeUndefined();
});
