/**
 * Learns what tokens cost more the more cells stand before them, which each of them looks at: those of prompts, and those
 * that are decoded.
 *
 * Calls at different depths, whatever their lengths, lie on a line; the older of them count for less. What was measured at
 * warm-up moves only as far as that line is sure of itself: calls at one depth tell nothing, and other load makes it unsure.
 */
import type { CallDepths, PlannedCall } from "./types.ts";

/** What the calls before count for with each new one: about the last fifty. */
const KEPT = 0.98;
/** Calls before a line is drawn through them. */
const LEAST_CALLS = 8;
/** Standard errors within which the line may be wrong. */
const UNSURE = 2;
/** A call that took more than so many times what was expected of it has stalled. */
const STALLED = 2;

/** Over their mean, how far the depths of calls must differ: with those of one depth a machine gets slower, too. */
const LEAST_SPREAD = 0.2;

const NONE: CallDepths = { calls: 0, x: 0, y: 0, xx: 0, xy: 0, yy: 0 };

/** What is known of calls of one kind. */
interface Known {
  /** What a token adds for every 1000 cells before it, in ms; undefined: that was not measured, and is not learned. */
  readonly cellsMs: number | undefined;
  readonly depths: CallDepths | undefined;
  /** Observed over predicted time, smoothed. */
  readonly scale: number;
}

/** What is known after such a call took `observedMs`; undefined: nothing else than before. */
export function learnedDepth(
  { cellsMs, depths, scale }: Known,
  { unscaledMs, tokenCells = 0 }: Pick<PlannedCall, "unscaledMs" | "tokenCells">,
  observedMs: number,
): { readonly cellsMs: number; readonly depths: CallDepths } | undefined {
  if (cellsMs === undefined || !(unscaledMs > 0) || observedMs > STALLED * scale * unscaledMs)
    return undefined;
  const flatMs = unscaledMs - (cellsMs * tokenCells) / 1000;
  if (!(flatMs > 0)) return undefined;
  const after = added(depths ?? NONE, tokenCells / 1000 / flatMs, observedMs / flatMs);
  return { cellsMs: moved(cellsMs, after), depths: after };
}

function added({ calls, x, y, xx, xy, yy }: CallDepths, nextX: number, nextY: number): CallDepths {
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
function moved(known: number, { calls, x, y, xx, xy, yy }: CallDepths): number {
  const spread = xx / calls - (x / calls) ** 2;
  if (calls < LEAST_CALLS || !(Math.sqrt(Math.max(0, spread)) > (LEAST_SPREAD * x) / calls)) return known;
  const together = xy / calls - (x * y) / calls ** 2;
  const slope = together / spread;
  const flat = (y - slope * x) / calls;
  const rest = Math.max(0, yy / calls - (y / calls) ** 2 - slope * together);
  const error = UNSURE * Math.sqrt(rest / spread / calls);
  if (!(flat > 0)) return known;
  const [least, most] = [Math.max(0, slope - error) / flat, Math.max(0, slope + error) / flat];
  return Math.min(most, Math.max(least, known));
}
