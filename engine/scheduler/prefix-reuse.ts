/** How much of a prompt a slot already holds, and how much of that may be kept. */
import type { ScheduledRequest, SchedulerConfig, Slot } from "./types.ts";

/** Length of the longest common prefix of the prompt and the slot's cells, in tokens. */
export function commonPrefixLength(prompt: Uint32Array, slot: Slot): number {
  const end = Math.min(prompt.length, slot.length);
  const { tokens } = slot;
  let i = 0;
  while (i < end && prompt[i] === tokens[i]) i++;
  return i;
}

/**
 * Tokens of the prompt that this slot can keep; at most all but the last, which is fed as a decode token.
 *
 * Cells computed in other shapes than a cold run would use can differ in the last bits, and then so can an
 * output. Where the exact point costs less than one grid cell more to compute, it is taken; beyond that
 * (a conversation continued after its own answer) speed wins, unless `deterministic` asks for exactness.
 */
export function reusableTokens(request: ScheduledRequest, slot: Slot, config: SchedulerConfig): number {
  if (!request.reusePrefix || slot.length === 0 || slot.cacheKey !== request.cacheKey) return 0;
  const common = Math.min(commonPrefixLength(request.prompt, slot), request.prompt.length - 1);
  if (!config.canRewind && common < slot.length) return 0;
  const exact = exactReuse(common, request.prompt.length - 1, slot, config.prefillChunk);
  if (!config.canRewind) return common;
  return config.deterministic || common - exact < config.prefillChunk ? exact : common;
}

function exactReuse(common: number, prefillEnd: number, slot: Slot, grid: number): number {
  // The same prompt again: its last, partial cell was computed with the same length.
  if (common === prefillEnd && slot.tailEnd === prefillEnd) return prefillEnd;
  return Math.min(Math.floor(common / grid) * grid, slot.gridEnd);
}
