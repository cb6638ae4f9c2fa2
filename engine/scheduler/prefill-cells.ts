/**
 * What of a request is computed by prefill, and where the native calls for it are cut.
 *
 * A prompt is cut at multiples of the grid and before its last token, whoever else is served; what follows tokens of
 * another shape, which no cold run computes alike anyway, in whole cells from there on where those are faster than the
 * parts at both ends (a CPU's flash attention takes shorter cells query by query), and a short end with the last of them.
 *
 * A resumed request computes its own output again behind that: its prompt in the same cells as at first, its output in
 * cells of fewer tokens than a flash attention tile, whose results on a CPU are those of decoding token by token. Where
 * no cell's are, its output is fed as it was drawn.
 */
import type { ScheduledRequest, SchedulerConfig } from "./types.ts";

/** Half a tile of ggml's flash attention on a CPU. */
const RESUME_CELL = 32;

/**
 * A prompt's end is part of the cell before it where it is at most this share of the grid: a call of its own for 5 tokens
 * takes 33 ms instead of the 20 that they add to one of 64, and its stream one step more (135M model, 2 cores).
 */
const SHORT_END = 1 / 8;

type Tokens = Pick<ScheduledRequest, "prompt" | "output">;

/** How a model's prompts are cut. */
type Cutting = Pick<SchedulerConfig, "prefillChunk" | "batchTokens" | "exactCells" | "joinedCells">;

/**
 * Position from which on tokens are fed one by one: that of the last known token, or the one before it where that
 * would be a cell of its own. A call of one token runs in other kernels than a longer one, decode calls have company.
 */
export function prefillEnd({ prompt, output }: Tokens, cutting: Cutting): number {
  if (cutting.exactCells === false) return prompt.length - 1;
  const alone = output.length % resumeCell(cutting) === 1 ? 1 : 0;
  return prompt.length - 1 + output.length - alone;
}

/** End of the cell that begins at `position`, which lies before `prefillEnd`. */
export function prefillCellEnd(position: number, request: Tokens, cutting: Cutting): number {
  const promptEnd = request.prompt.length - 1;
  if (position < promptEnd) return promptCellEnd(position, promptEnd, cutting);
  return Math.min(position + resumeCell(cutting), prefillEnd(request, cutting));
}

/** The same of a prompt that is known to its last token, which is at `promptEnd`. */
export function promptCellEnd(
  position: number,
  promptEnd: number,
  { prefillChunk: grid, batchTokens, joinedCells }: Omit<Cutting, "exactCells">,
): number {
  if (joinedCells !== true || position % grid === 0)
    return Math.min(Math.floor(position / grid) * grid + grid, promptEnd);
  const left = promptEnd - position;
  return left <= Math.min(grid + SHORT_END * grid, batchTokens) ? promptEnd : position + grid;
}

function resumeCell({ prefillChunk }: Cutting): number {
  return Math.min(RESUME_CELL, prefillChunk);
}
