/** What is random in a draw, from the request's seed and the position alone, so that a replay draws the same. */

/** Tells the choice whether XTC takes part in a draw from the draw itself. */
const XTC = 0x78746320;

/** Whether something that has this chance, 0-1, happens to a draw. */
export function xtcHappens(probability: number, seed: number, position: number): boolean {
  return drawSeed((seed ^ XTC) >>> 0, position) < probability * 2 ** 32;
}

/**
 * Both arguments and the result are unsigned 32-bit integers. Mixing as in MurmurHash3's finalizer: near
 * positions get unrelated seeds.
 */
export function drawSeed(seed: number, position: number): number {
  let h = Math.imul(seed ^ 0x9e3779b9, 0x85ebca6b) ^ Math.imul(position + 1, 0xc2b2ae35);
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}
