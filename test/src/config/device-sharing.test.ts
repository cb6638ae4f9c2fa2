/** Whether several models share the device by turns, and by which weights. */
import { expect, test } from "vitest";
import { modelWeights, sharesDevice } from "../../../src/config/device-sharing.ts";
import { loadConfig } from "../../../src/config/load-config.ts";

test.each<[what: string, flags: Record<string, unknown>, models: number, shares: boolean]>([
  ["one model", {}, 1, false],
  ["one model, whatever is said", { "share-device": "on" }, 1, false],
  ["two", {}, 2, true],
  ["two that may use a GPU", { threads: 4 }, 2, true],
  ["two with cores of their own", { threads: 4, gpu: "off" }, 2, false],
  ["two with those, told to", { threads: 4, gpu: "off", "share-device": "on" }, 2, true],
  ["three with more threads than cores", { threads: 3, gpu: "off" }, 3, true],
  ["two, told not to", { "share-device": "off" }, 2, false],
])("%s", (_what, flags, models, shares) => {
  const { values } = loadConfig({ flags, env: {}, file: undefined });
  expect(sharesDevice(values, models, 8)).toBe(shares);
});

const weights = (entries: string[]): [string, number][] => [
  ...modelWeights(
    entries,
    ["a", "org/b=c"].map((id) => ({ id, aliases: [`${id}-alias`] })),
  ),
];

test("weights are by the ids of models, whatever those are called", () => {
  expect(weights([])).toEqual([]);
  expect(weights(["a=2", "org/b=c-alias=0.5"])).toEqual([
    ["a", 2],
    ["org/b=c", 0.5],
  ]);
  expect(
    loadConfig({ flags: {}, env: { WEFT_MODEL_WEIGHTS: "a=2,b=3" }, file: undefined }).values["model-weight"],
  ).toEqual(["a=2", "b=3"]);
});

test.each([
  ["a", 'Expected --model-weight to be NAME=WEIGHT with a weight from 0.01 to 100, but got "a".'],
  ["a=0", 'Expected --model-weight to be NAME=WEIGHT with a weight from 0.01 to 100, but got "a=0".'],
  ["a=-1", 'Expected --model-weight to be NAME=WEIGHT with a weight from 0.01 to 100, but got "a=-1".'],
  ["x=2", '--model-weight x=2 is for "x", which is not served; served are: a, org/b=c.'],
])("refused: %s", (entry, message) => {
  expect(() => weights([entry])).toThrow(message);
  expect(() => weights(["a=1", "a-alias=2"])).toThrow('--model-weight is given twice for "a".');
});
