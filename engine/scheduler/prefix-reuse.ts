/** How much of a prompt a slot or a file already holds, and how much of that may be kept. */
import { promptCellEnd } from "./prefill-cells.ts";
import type { Checkpoint, ScheduledRequest, SchedulerConfig, Slot, SpilledPrefix } from "./types.ts";

/** What has computed tokens: a slot, or one that a file or a checkpoint is brought into. */
type Holder = Slot | SpilledPrefix | Checkpoint;

/** Length of the longest common prefix, in tokens; at most `most`, which both arrays have. */
export function commonPrefixLength(a: Uint32Array, b: Uint32Array, most: number): number {
  let i = 0;
  while (i < most && a[i] === b[i]) i++;
  return i;
}

/** Share of a grid cell below which computing again is preferred to keeping cells of another shape. */
const WORTH_KEEPING = 1 / 4;

/** Whether so many tokens behind a grid line are kept though they were computed in another shape. */
export function worthKeeping(tokens: number, grid: number): boolean {
  return tokens >= grid * WORTH_KEEPING;
}

/**
 * Tokens of the prompt that this slot, file or checkpoint can keep; at most all but the last, which is fed as a decode token.
 *
 * Cells computed in other shapes than a cold run would use can differ in the last bits, and then so can an
 * output. A few such cells, as of a common chat template's first tokens, are not worth that; a shared system
 * message or a continued conversation is, unless `deterministic` asks for exactness.
 */
export function reusableTokens(request: Reuser, slot: Holder, config: SchedulerConfig): number {
  if (!request.reusePrefix || slot.length === 0 || slot.cacheKey !== request.cacheKey) return 0;
  const most = Math.min(request.prompt.length - 1, slot.length);
  const common = commonPrefixLength(request.prompt, slot.tokens, most);
  // Nearly always, and every waiting request is compared with every slot.
  return common === 0 ? 0 : reusableOf(request, slot, common, config);
}

type Reuser = Pick<ScheduledRequest, "prompt" | "cacheKey" | "reusePrefix">;

/** The same where it is known that all but the last token of the prompt have so many in common with it. */
export function reusableOf(
  { prompt }: Reuser,
  slot: Holder,
  common: number,
  config: SchedulerConfig,
): number {
  const prefillEnd = prompt.length - 1;
  const { prefillChunk: grid, deterministic } = config;
  const exact = exactReuse(common, prefillEnd, slot, grid);
  const better = deterministic || !worthKeeping(common - exact, grid) ? [exact] : [];
  const wanted = deterministic
    ? better
    : [...better, withoutSingleTokenCell(common, prefillEnd, config), common];
  return wanted.find((length) => mayCutTo(length, slot, config)) ?? 0;
}

/** Whether a slot, file or checkpoint can go on from its first `length` tokens. */
export function mayCutTo(
  length: number,
  slot: Holder,
  { canRewind, windowTokens = Infinity }: SchedulerConfig,
): boolean {
  if (canRewind || slot.firstCell === 0) return true;
  return length === slot.length || slot.firstCell <= length - windowTokens;
}

/**
 * One token less where only one would be left to its cell: a cell of one token runs in other kernels than a
 * longer one (on a CPU that alone made the results of cut and uncut prompts differ).
 */
function withoutSingleTokenCell(reuse: number, prefillEnd: number, config: SchedulerConfig): number {
  const { prefillChunk: grid, joinedCells } = config;
  if (reuse % grid === 0) return reuse;
  const isSingle =
    joinedCells === true
      ? (prefillEnd - reuse) % grid === 1
      : promptCellEnd(reuse, prefillEnd, config) - reuse === 1;
  return isSingle ? reuse - 1 : reuse;
}

function exactReuse(common: number, prefillEnd: number, slot: Holder, grid: number): number {
  // The same prompt again: its last, partial cell was computed with the same length.
  if (common === prefillEnd && slot.tailEnd === prefillEnd) return prefillEnd;
  return Math.min(Math.floor(common / grid) * grid, slot.gridEnd);
}
