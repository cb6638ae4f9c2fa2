import { expect, test } from "vitest";
import { goodputOf, isGood } from "../../bench/goodput.ts";
import { recordOf } from "./scenarios/fake-turn.ts";

const objective = { ttftMs: 100, itlMs: 10 };

test("a request is good when its first token and the mean of its gaps are in time, up to the limit", () => {
  expect(isGood(recordOf(0, [100, 105, 120]), objective)).toBe(true);
  expect(isGood(recordOf(0, [101, 105, 110]), objective)).toBe(false);
  expect(isGood(recordOf(0, [100, 105, 121]), objective)).toBe(false);
  expect(isGood(recordOf(0, [100]), objective)).toBe(true);
  expect(isGood(recordOf(0, []), objective)).toBe(false);
});

test("one that failed is not good, however fast it was", () => {
  expect(isGood(recordOf(0, [1, 2], { error: { kind: "no_finish", message: "" } }), objective)).toBe(false);
});

test("the rate is over the whole run, the share over everything that was sent", () => {
  const records = [
    recordOf(0, [50]),
    recordOf(0, [500]),
    recordOf(0, [], { error: { kind: "timeout", message: "" } }),
  ];
  expect(goodputOf({ records, wallMs: 2000 }, objective)).toEqual({
    objective,
    good: 1,
    share: 1 / 3,
    requestsPerSecond: 0.5,
  });
});
