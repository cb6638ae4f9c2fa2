/**
 * Learns what prompt tokens cost more the further back in a prompt they stand: each looks at all cells before it.
 *
 * Calls at different depths, whatever their lengths, lie on a line; the older of them count for less. What was measured at
 * warm-up moves only as far as that line is sure of itself: calls at one depth tell nothing, and other load makes it unsure.
 */
import type { CostModel, PlannedCall, PrefillDepths } from "./types.ts";

/** What the calls before count for with each new one: about the last fifty. */
const KEPT = 0.98;
/** Calls before a line is drawn through them. */
const LEAST_CALLS = 8;
/** Standard errors within which the line may be wrong. */
const UNSURE = 2;
/** A call that took more than so many times what was expected of it has stalled. */
const STALLED = 2;

const NONE: PrefillDepths = { calls: 0, x: 0, y: 0, xx: 0, xy: 0, yy: 0 };

/** The model after a prefill call took `observedMs`, as far as depth is concerned; not where that was not measured. */
export function refinedByDepth(
  cost: CostModel,
  { unscaledMs, tokenCells = 0 }: Pick<PlannedCall, "unscaledMs" | "tokenCells">,
  observedMs: number,
): CostModel {
  const { prefillCellsMs, prefillScale } = cost;
  if (prefillCellsMs === undefined || !(unscaledMs > 0)) return cost;
  if (observedMs > STALLED * prefillScale * unscaledMs) return cost;
  const flatMs = unscaledMs - (prefillCellsMs * tokenCells) / 1000;
  if (!(flatMs > 0)) return cost;
  const depths = added(cost.depths ?? NONE, tokenCells / 1000 / flatMs, observedMs / flatMs);
  return { ...cost, depths, prefillCellsMs: moved(prefillCellsMs, depths) };
}

function added({ calls, x, y, xx, xy, yy }: PrefillDepths, nextX: number, nextY: number): PrefillDepths {
  return {
    calls: KEPT * calls + 1,
    x: KEPT * x + nextX,
    y: KEPT * y + nextY,
    xx: KEPT * xx + nextX * nextX,
    xy: KEPT * xy + nextX * nextY,
    yy: KEPT * yy + nextY * nextY,
  };
}

/** As near to what was known as the line through the calls allows. */
function moved(known: number, { calls, x, y, xx, xy, yy }: PrefillDepths): number {
  const spread = xx / calls - (x / calls) ** 2;
  if (calls < LEAST_CALLS || !(spread > 0)) return known;
  const together = xy / calls - (x * y) / calls ** 2;
  const slope = together / spread;
  const flat = (y - slope * x) / calls;
  const rest = Math.max(0, yy / calls - (y / calls) ** 2 - slope * together);
  const error = UNSURE * Math.sqrt(rest / spread / calls);
  if (!(flat > 0)) return known;
  const [least, most] = [Math.max(0, slope - error) / flat, Math.max(0, slope + error) / flat];
  return Math.min(most, Math.max(least, known));
}
