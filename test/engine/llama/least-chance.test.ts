/** What a draw leaves out is worth next to nothing, and is left out only where that saves time. */
import { array, assert, double, property } from "fast-check";
import { expect, test } from "vitest";
import { GREEDY_PARAMS } from "../../../engine/greedy-params.ts";
import { leastChance } from "../../../engine/llama/least-chance.ts";

const PLAIN = { ...GREEDY_PARAMS.sampling, temperature: 0.7, topK: 0, topP: 1, minP: 0 };

test("all that is left out has less than a 2048th of the likeliest token's chance, at any temperature", () => {
  assert(
    property(
      array(double({ min: -40, max: 40, noNaN: true }), { minLength: 2, maxLength: 300 }),
      double({ min: 0.01, max: 0.85, noNaN: true }),
      (logits, temperature) => {
        const least = leastChance({ ...PLAIN, temperature }, logits.length);
        const most = Math.max(...logits);
        let leftOut = 0;
        for (const logit of logits)
          if (logit < most + Math.log(least)) leftOut += Math.exp((logit - most) / temperature);
        expect(leftOut).toBeLessThan(1 / 2048);
      },
    ),
  );
});

test.each([
  ["plain draws", {}, 49_152, (1 / 2048 / 49_152) ** 0.7],
  ["the highest temperature", { temperature: 0.85 }, 1000, (1 / 2048 / 1000) ** 0.85],
  ["a temperature at which many tokens remain", { temperature: 0.86 }, 49_152, 0],
  ["temperature 1", { temperature: 1 }, 49_152, 0],
  ["temperature 0", { temperature: 0 }, 49_152, 0],
  ["top-k", { topK: 40 }, 49_152, 0],
  ["top-p", { topP: 0.9 }, 49_152, 0],
  ["an own limit", { minP: 0.05 }, 49_152, 0.05],
])("%s", (_name, sampling, vocabSize, expected) => {
  expect(leastChance({ ...PLAIN, ...sampling }, vocabSize)).toBe(expected);
});
