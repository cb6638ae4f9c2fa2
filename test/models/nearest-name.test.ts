/** What a mistyped name was meant to be, and when nothing is said. */
import { expect, test } from "vitest";
import { nearestName } from "../../models/nearest-name.ts";

const KNOWN = ["slots", "max-queued", "model", "port", "host", "gpu"];

test.each([
  ["slotz", "slots"],
  ["max_queued", "max-queued"],
  ["MODELS", "model"],
  ["prot", "port"],
  ["gpus", "gpu"],
  ["temperature", undefined],
  ["", undefined],
])("%j is taken for %j", (typed, meant) => {
  expect(nearestName(typed, KNOWN)).toBe(meant);
});
