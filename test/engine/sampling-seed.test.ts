/** Chances that are decided by seed and position. */
import { expect, test } from "vitest";
import { drawSeed, xtcHappens } from "../../engine/sampling-seed.ts";

test.each([0, 0.1, 0.5, 1])("a chance of %s comes about as often, whatever the draw itself is", (chance) => {
  const draws = Array.from({ length: 20_000 }, (_, i) => ({
    happens: xtcHappens(chance, i % 7, i),
    low: drawSeed(i % 7, i) < 2 ** 31,
  }));
  for (const low of [true, false]) {
    const those = draws.filter((draw) => draw.low === low);
    const share = those.filter(({ happens }) => happens).length / those.length;
    expect(Math.abs(share - chance)).toBeLessThan(0.01);
  }
});
