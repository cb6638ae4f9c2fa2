/** Settings the engine chooses when nobody has: from the model and the device alone, so that outputs repeat. */

/** From so many tokens on a CPU's flash attention works in tiles of so many (ggml-cpu `GGML_FA_TILE_Q`). */
const CPU_TILE = 64;

/**
 * A 3,000-token prompt next to three streams took half the time it took in cells of 60 (135M model, 2 cores). More than
 * one tile gains little there and makes streams wait longer.
 */
const MOST_CPU_CHUNK = CPU_TILE;

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

interface CellUse {
  /** Whether the runtime has a device, which long calls may be sent to even where all layers are on the CPU. */
  readonly gpu: boolean;
  readonly flashAttention: boolean;
  /** Whether cells can be dropped from the end of a slot; states and windows have not been compared. */
  readonly canRewind: boolean;
}

/**
 * Whether cells of this length have the same bits in one call with those behind them: on a CPU those of whole tiles, and
 * those of sixteens without flash attention (bitwise, 135M model, prompts of 128 to 1,500 tokens in calls of 64 to 1,024). A GPU's
 * cells are long enough.
 */
export function joinsCells(chunk: number, { gpu, flashAttention, canRewind }: CellUse): boolean {
  return !gpu && canRewind && chunk % (flashAttention ? CPU_TILE : EVEN_CPU_CHUNK) === 0;
}

/**
 * Most tokens of a call. Four cells in one take a sixth less time than one by one (a prompt of 3,000 tokens 14.2 s instead
 * of 17.0; eight: 13.9). Without flash attention there is a matrix of call by context in memory.
 */
export function defaultBatchTokens(chunk: number, use: CellUse): number {
  return joinsCells(chunk, use) ? 4 * chunk : chunk;
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
