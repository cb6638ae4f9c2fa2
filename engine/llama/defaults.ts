/** Settings the engine chooses when nobody has: from the model and the device alone, so that outputs repeat. */

/**
 * From 64 tokens on a CPU's flash attention works in tiles (ggml-cpu `GGML_FA_TILE_Q`): a 3,000-token prompt
 * next to three streams took half the time it took in cells of 60 (135M model, 2 cores). More than one tile
 * gains little and makes streams wait longer.
 */
const MOST_CPU_CHUNK = 64;

/**
 * Of cells for even streams on a CPU, without flash attention: behind 2,800 tokens one takes 127 ms, one of 64 with it
 * 497, at about the same cost a token (7.9 and 7.8 ms; 135M model, 2 cores).
 */
export const EVEN_CPU_CHUNK = 16;

/**
 * Prompt tokens of one cell. On a CPU at most about 160 ms of work as measured with a 135M model on 2 cores
 * (2.4 ms a token), so that a stream next to a long prompt waits no longer for its next token; on a GPU a cell
 * that keeps the device busy.
 */
export function defaultPrefillChunk(parameters: number, threads: number, gpu: boolean): number {
  if (gpu) return 256;
  const affordable = 4.4e9 / (parameters / threads);
  const chunk = 2 ** Math.max(4, Math.floor(Math.log2(affordable)));
  return Math.min(MOST_CPU_CHUNK, chunk);
}

/**
 * Compute threads. llama.cpp's threads wait for each other busily at every operation: in a model this small the
 * operations are shorter than that (pocket decodes about ten times faster with one thread on a busy machine).
 */
export function defaultThreads(parameters: number, cores: number): number {
  return parameters < 20e6 ? 1 : cores;
}

/** Longest wanted time between two tokens, in ms. */
export function defaultItlTargetMs(gpu: boolean): number {
  return gpu ? 100 : 400;
}

/** Most tokens a slot gets when nobody says how many. */
export const DEFAULT_CONTEXT_TOKENS = 4096;
