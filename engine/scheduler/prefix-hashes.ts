/** Short names of what token sequences begin with. */

/** FNV-1a's. */
const BASIS = 0x811c9dc5;
const PRIME = 0x01000193;

/**
 * Of the first so many tokens each, a 32-bit number: those of different tokens are rarely the same. Takes as long as the
 * longest has tokens.
 * @param ascending Lengths.
 * @param basis What they begin with; texts of different ones have nothing in common.
 * @returns As many as there are lengths no longer than the tokens.
 */
export function prefixHashes(tokens: Uint32Array, ascending: readonly number[], basis = BASIS): number[] {
  const found: number[] = [];
  let hash = basis;
  let i = 0;
  for (const length of ascending) {
    if (length > tokens.length) break;
    for (; i < length; i++) {
      hash = Math.imul(hash ^ (tokens[i] ?? 0), PRIME);
      hash ^= hash >>> 15;
    }
    found.push(hash);
  }
  return found;
}

/** A basis for texts of this key. */
export function basisOf(key: string): number {
  let hash = BASIS;
  for (let i = 0; i < key.length; i++) hash = Math.imul(hash ^ key.charCodeAt(i), PRIME);
  return hash;
}
