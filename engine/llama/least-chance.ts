/**
 * Which tokens a draw need not look at, because all of them together are next to impossible.
 *
 * The runtime works out an exponential for each token of the vocabulary, though most are hopeless: without those a draw
 * takes 0.25 ms instead of 0.65 at temperature 0.7 (49,152 tokens). Finding them costs about as much as it saves where
 * many of them are not, as at temperature 1.
 */
import type { GenerationParams } from "../protocol.ts";

/** What may be left out, all tokens together, as a part of the likeliest token's chance. */
const MOST_LEFT_OUT = 1 / 2048;

/** Above it too many tokens remain. */
const MOST_TEMPERATURE = 0.85;

/**
 * @returns The runtime's `minP`: the least chance of a token that can be drawn, as a part of the likeliest one's, both
 * before the temperature; 0 where all can be. No less than the request's own.
 */
export function leastChance(
  { temperature, topK, topP, minP }: GenerationParams["sampling"],
  vocabSize: number,
): number {
  // What leaves few tokens by itself does so before, and an own limit leaves few enough.
  const looksAtAll = topK <= 0 && topP >= 1 && minP <= 0;
  if (!looksAtAll || temperature <= 0 || temperature > MOST_TEMPERATURE) return minP;
  return (MOST_LEFT_OUT / vocabSize) ** temperature;
}
