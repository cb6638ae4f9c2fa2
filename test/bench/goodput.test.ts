import { expect, test } from "vitest";
import { goodputOf, isGood } from "../../bench/goodput.ts";
import { summarizeLevel, toVllmResult } from "../../bench/level-summary.ts";
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

test("under vLLM's name it is by vLLM's definitions: a chunk with choices is a token, and the end", () => {
  // Its role chunk came in time, its first word did not.
  const role = recordOf(0, [150, 155, 160], { choiceMs: [90, 100, 110] });
  // What follows the last chunk with choices is not time between tokens.
  const usage = recordOf(0, [90, 95, 100], { endMs: 500 });
  const slow = recordOf(0, [10, 20, 60]);
  const failed = recordOf(0, [1, 2], { error: { kind: "no_finish", message: "" } });
  const run = { records: [role, usage, slow, failed], wallMs: 2000 };
  expect(goodputOf(run, objective).good).toBe(0);
  const level = summarizeLevel(run, 3);
  expect(toVllmResult(run, level, objective)).toMatchObject({ request_goodput: 1 });
  expect(toVllmResult(run, level, { ...objective, itlMs: Infinity })).toMatchObject({ request_goodput: 1.5 });
  expect(toVllmResult(run, level)).not.toHaveProperty("request_goodput");
});
