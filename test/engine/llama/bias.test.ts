/** Which tokens a draw may bring, and that a penalty behind the biases in the runtime's chain does not change it. */
import { expect, test } from "vitest";
import { GREEDY_PARAMS } from "../../../engine/greedy-params.ts";
import { biasConfig, biasOf, withPenalties, withoutSequences } from "../../../engine/llama/bias.ts";
import type { SamplingParams } from "../../../engine/protocol.ts";

const LOGITS = [6, 5, -1, -2, 9];
const END = 4;

type Wishes = Partial<SamplingParams>;

const biasFor = (wishes: Wishes, grammar?: string, ends: readonly number[] = []) =>
  biasOf({ grammar, sampling: { ...GREEDY_PARAMS.sampling, ...wishes } }, ends, LOGITS.length);

/** Tokens in the order in which a draw prefers them, without those it cannot bring. */
function preferred(
  bias: ReturnType<typeof biasFor>,
  repeatPenalty: number,
  output: readonly number[],
): number[] {
  const { tokenBiasKeys = [], tokenBiasValues = [] } = biasConfig(bias);
  const logits = [...LOGITS];
  for (const [i, token] of [...tokenBiasKeys].entries())
    logits[token] = (logits[token] ?? 0) + (tokenBiasValues[i] ?? 0);
  for (const token of output) {
    const logit = logits[token] ?? 0;
    logits[token] = logit > 0 ? logit / repeatPenalty : logit * repeatPenalty;
  }
  const open = [...LOGITS.keys()].filter((token) => logits[token] !== -Infinity && !bias.banned.has(token));
  return open.toSorted((a, b) => (logits[b] ?? 0) - (logits[a] ?? 0));
}

test.each([
  { allowedTokens: [0, 1, 2, 3] },
  {
    logitBias: [
      [0, 100],
      [1, 100],
      [2, 100],
      [3, 150],
    ],
  },
] as const)("a repeat penalty weighs what alone may be drawn by its own logits: %o", (wishes) => {
  // 6 / 1.1 is still above 5, and -1 x 3 below -2.
  const slight = biasFor({ ...wishes, repeatPenalty: 1.1 });
  expect(preferred(slight, 1.1, [0])).toEqual([0, 1, 2, 3]);
  expect(preferred(biasFor({ ...wishes, repeatPenalty: 3 }), 3, [0, 2])).toEqual([1, 0, 3, 2]);
  expect(preferred(biasFor({ ...wishes, repeatPenalty: 0.9 }), 0.9, [1])).toEqual([0, 1, 2, 3]);
});

test("what is banned among the allowed stays so, and a bias that forces chooses among them", () => {
  const allowedTokens = [0, 1, END];
  const steady = { allowedTokens, repeatPenalty: 1.1 };
  const banning = biasFor({ ...steady, logitBias: [[0, -100]] }, undefined, [END]);
  expect([preferred(banning, 1.1, []), banning.banned.size]).toEqual([[1], 4]);
  const forcing = biasFor({
    ...steady,
    logitBias: [
      [1, 100],
      [2, 100],
    ],
  });
  expect([preferred(forcing, 1.1, [1]), forcing.banned.size]).toEqual([[1], 4]);
  const taking = withPenalties(
    biasFor(steady),
    new Map([
      [0, 3],
      [2, 3],
    ]),
  );
  expect(preferred(taking, 1, [])).toEqual([END, 1, 0]);
  const without = withoutSequences(biasFor(steady), [[0]], []);
  expect([preferred(without, 1, []), without.banned.size]).toEqual([[END, 1], 3]);
});

test("what a bias forces gives way where a grammar or a bad sequence may refuse it", () => {
  const wishes: Wishes = { logitBias: [[1, 100]], repeatPenalty: 1.1 };
  expect(preferred(biasFor(wishes), 1.1, [])).toEqual([1]);
  expect(preferred(biasFor(wishes, "root ::= [a]"), 1.1, [])).toEqual([1, END, 0, 2, 3]);
  expect(preferred(biasFor({ ...wishes, badSequences: [[1]] }), 1.1, [])).toEqual([1, END, 0, 2, 3]);
  expect(preferred(biasFor({ ...wishes, logitBias: [[END, 100]] }, undefined, [END]), 1.1, [])).toEqual([
    0, 1, 2, 3,
  ]);
});
