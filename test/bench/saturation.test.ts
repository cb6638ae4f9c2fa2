import { expect, test } from "vitest";
import { formatSaturation, isSaturated, saturations } from "../../bench/saturation.ts";

const turn = (side: number, concurrency: number, outputTokensPerSecond: number) => ({
  side,
  concurrency,
  summary: { outputTokensPerSecond },
});

test("levels end where neither server has more with twice as many clients", () => {
  const first = [turn(0, 1, 50), turn(1, 1, 40)];
  const second = [...first, turn(0, 2, 51), turn(1, 2, 60)];
  const third = [...second, turn(0, 4, 52), turn(1, 4, 62)];
  expect(isSaturated([], 1)).toBe(false);
  expect(isSaturated(first, 2)).toBe(false);
  // B had more.
  expect(isSaturated(second, 4)).toBe(false);
  expect(isSaturated(third, 8)).toBe(true);
  // In the middle of a level nothing is decided.
  expect(isSaturated([...second, turn(0, 4, 52)], 4)).toBe(false);
});

test("a server that gives nothing is not asked by ever more clients", () => {
  const dead = [turn(0, 1, 0), turn(0, 2, 0)];
  expect(isSaturated(dead, 4)).toBe(true);
  // As long as the other one gives more.
  expect(isSaturated([turn(0, 1, 0), turn(1, 1, 40), turn(0, 2, 0), turn(1, 2, 80)], 4)).toBe(false);
});

test("the most is that of the best level, by the median over rounds", () => {
  const turns = [
    turn(0, 1, 50),
    turn(0, 1, 60),
    turn(0, 1, 10),
    turn(0, 2, 55),
    turn(0, 2, 54),
    turn(0, 2, 1),
  ];
  const [most] = saturations(turns);
  expect(most).toEqual({ side: 0, concurrency: 2, outputTokensPerSecond: 54 });
  expect(formatSaturation({ side: 0, concurrency: 1, outputTokensPerSecond: 50 })).toBe(
    "A   most output 50.0 tok/s, with 1 client",
  );
});
