/** Settings the engine chooses when nobody has: from the model and the device alone, so that outputs repeat. */

/**
 * Prompt tokens of one cell. On a CPU about 160 ms of work as measured with a 135M model on 2 cores (2.4 ms a
 * token), so that a stream next to a long prompt waits no longer for its next token; on a GPU a cell that
 * keeps the device busy. A power of two.
 */
export function defaultPrefillChunk(parameters: number, threads: number, gpu: boolean): number {
  if (gpu) return 256;
  const affordable = 4.4e9 / (parameters / threads);
  return 2 ** Math.min(8, Math.max(4, Math.floor(Math.log2(affordable))));
}

/** Longest wanted time between two tokens, in ms. */
export function defaultItlTargetMs(gpu: boolean): number {
  return gpu ? 100 : 250;
}

/** Most tokens a slot gets when nobody says how many. */
export const DEFAULT_CONTEXT_TOKENS = 4096;
