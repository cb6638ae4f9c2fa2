/**
 * Which of an owner's first waiting requests goes next: one whose prompt is computed in good part already, before others
 * take the cells that it would reuse.
 *
 * Bounded twice: only the first few are looked at, and nobody is passed over more than a few times. Who has little
 * time goes in its turn.
 */
import { prefillCallMs } from "./cost-model.ts";
import { reusableOfSlots } from "./slot-prefixes.ts";
import type { RequestId } from "../protocol.ts";
import type { CheckpointPlan } from "./checkpoint-plan.ts";
import type { ScheduledRequest, SchedulerState, SlotId } from "./types.ts";

/** Requests behind the first one that are looked at. */
export const MOST_AHEAD = 7;
const MOST_SKIPS = 4;

/** Whether a later request of its owner may go before it, which happens once in a plan. */
export function mayBePassed(request: ScheduledRequest, passedOver: ReadonlySet<RequestId>): boolean {
  const { id, skips, firstTokenByMs, endByMs } = request;
  const timeless = firstTokenByMs === Infinity && endByMs === Infinity;
  return timeless && skips < MOST_SKIPS && !passedOver.has(id);
}

/** What the plan has decided already. */
interface AdmittedSoFar {
  /** Slots whose cells are replaced. */
  readonly overwritten: ReadonlySet<SlotId>;
  readonly passedOver: ReadonlySet<RequestId>;
  /** Absent where none are taken. */
  readonly checkpoints?: CheckpointPlan | undefined;
}

/**
 * @param line Waiting requests of one owner and class, by arrival.
 * @returns The index of the one that saves most, less a cell's time for each that it passes; 0 where that is nobody.
 */
export function bestPrefix(
  line: readonly ScheduledRequest[],
  state: SchedulerState,
  soFar: AdmittedSoFar,
): number {
  const { prefillChunk } = state.config;
  const cellMs = (cells: number): number => prefillCallMs(state.cost, prefillChunk, cells);
  let best = { index: 0, gainMs: 0 };
  for (const [index, request] of line.entries()) {
    // Nobody behind one that has to go in its turn, and nobody before one that has all it can have.
    const reuse = prefixTokens(request, state, soFar);
    const gainMs = (reuse / prefillChunk) * cellMs(reuse / 2) - index * cellMs(0);
    if (index === 0 || gainMs > best.gainMs) best = { index, gainMs };
    if (!mayBePassed(request, soFar.passedOver) || isWhole(request, reuse, prefillChunk)) break;
  }
  return best.index;
}

/** What of a prompt is in a slot, or in a checkpoint that a slot can come back to. */
function prefixTokens(
  request: ScheduledRequest,
  state: SchedulerState,
  { overwritten, checkpoints }: AdmittedSoFar,
): number {
  const { slots, config } = state;
  const comebackIn = checkpoints?.bestFor(request);
  const reuseOf = reusableOfSlots(request, state);
  let most = 0;
  for (const slot of slots) {
    // Nearly always, and several requests are compared with every slot.
    if (comebackIn === undefined && slot.tokens[0] !== request.prompt[0]) continue;
    const isGone = overwritten.has(slot.id);
    if (!isGone) most = Math.max(most, reuseOf(slot));
    if (!isGone || checkpoints?.outlivesSlots === true) most = Math.max(most, comebackIn?.(slot)?.reuse ?? 0);
    if (isWhole(request, most, config.prefillChunk)) break;
  }
  return most;
}

/** Whether less than a cell is left to compute. */
function isWhole({ prompt }: ScheduledRequest, reuse: number, grid: number): boolean {
  return prompt.length - reuse <= grid && reuse > 0;
}
