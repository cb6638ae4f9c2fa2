/**
 * Where the native calls of a prefill are cut.
 *
 * A prompt is cut at multiples of the grid and before its last token, whoever else is served. A resumed request
 * computes its own output again behind that: its prompt in the same cells as at first, its output in cells of
 * fewer tokens than a flash attention tile, whose results on a CPU are those of decoding token by token.
 */
import type { ScheduledRequest } from "./types.ts";

/** Half a tile of ggml's flash attention on a CPU. */
export const RESUME_CELL = 32;

/**
 * End of the cell that begins at `position`, which lies before the request's last known token.
 * @param grid Tokens; at most this many are in a cell.
 */
export function prefillCellEnd(
  position: number,
  { prompt, output }: Pick<ScheduledRequest, "prompt" | "output">,
  grid: number,
): number {
  const promptEnd = prompt.length - 1;
  if (position < promptEnd) return Math.min((Math.floor(position / grid) + 1) * grid, promptEnd);
  const end = promptEnd + output.length;
  const most = Math.min(RESUME_CELL, grid);
  // A cell of one token runs in other kernels than a longer one: the rest is never one, where that can be.
  const cell = end - position - most === 1 && most > 2 ? most - 1 : most;
  return Math.min(position + cell, end);
}
