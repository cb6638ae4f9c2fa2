/**
 * Predicts what a call will cost, from a few measurements at warm-up and every call since.
 *
 * Decode is a table by width of the device pass, because kernels step rather than slope; prefill is a line.
 * Both are times a smoothed ratio of observed to predicted time, which follows growing contexts and other load.
 */
import type { CostModel, SpillCost, TransferCost } from "./types.ts";

/** Weight of the newest observation: a long prompt's cells grow slowly, so a few calls are enough to follow. */
const SMOOTHING = 0.25;
/** One stalled call must not make the next thousand look unaffordable. */
const MIN_SCALE = 0.2;
const MAX_SCALE = 5;
/**
 * With each call that guesses nothing, what is known of those that do moves so far towards it: they may not have been
 * tried for long, and one that stalled must not be the last. A vain try costs less than it would have won.
 */
const FORGETTING = 1 / 64;

export interface Calibration {
  /** Decode passes over adjacent slots, by ascending width; the first of width 1, the last of all slots. */
  readonly decode: readonly { readonly width: number; readonly ms: number }[];
  /** Two prefill calls of different length, the shorter first. */
  readonly prefill: readonly { readonly tokens: number; readonly ms: number }[];
  readonly copyMs: number;
  /** Decode passes over one slot with several tokens, all their logits wanted, by ascending number of tokens. */
  readonly check: readonly { readonly tokens: number; readonly ms: number }[];
}

export function calibratedCostModel({ decode, prefill, copyMs, check }: Calibration): CostModel {
  const [short, long] = [prefill[0], prefill.at(-1)];
  const shortMs = short?.ms ?? 0;
  const longMs = Math.max(long?.ms ?? 0, shortMs);
  const tokensBetween = (long?.tokens ?? 0) - (short?.tokens ?? 0);
  const slope = tokensBetween > 0 ? (longMs - shortMs) / tokensBetween : 0;
  // Where the two do not tell call from token, all of it is put on the tokens.
  const prefillTokenMs = slope > 0 ? slope : longMs / Math.max(1, long?.tokens ?? 1);
  return {
    decodePassMs: interpolated(decode),
    checkPassMs: interpolated([
      { width: 1, ms: decode[0]?.ms ?? 0 },
      ...check.map(({ tokens, ms }) => ({ width: tokens, ms })),
    ]),
    prefillCallMs: Math.max(0, longMs - prefillTokenMs * (long?.tokens ?? 0)),
    prefillTokenMs,
    copyMs,
    decodeScale: 1,
    draftScale: 1,
    prefillScale: 1,
  };
}

/** At best as fast as at warm-up, whatever has held up the last calls. */
export function undisturbed(cost: CostModel): CostModel {
  const { decodeScale, prefillScale } = cost;
  return { ...cost, decodeScale: Math.min(1, decodeScale), prefillScale: Math.min(1, prefillScale) };
}

/** In ms, for device passes over so many adjacent slots each, with `drafts` guessed tokens in every slot. */
export function decodeCallMs(cost: CostModel, passWidths: readonly number[], drafts: number): number {
  let ms = 0;
  for (const width of passWidths) ms += decodePassMs(cost, width, drafts);
  return (drafts > 0 ? cost.draftScale : cost.decodeScale) * ms;
}

/** In ms and without the scale, for one of them; Infinity for more slots than there are. */
export function decodePassMs(cost: CostModel, width: number, drafts: number): number {
  const ms = cost.decodePassMs[width] ?? Infinity;
  return drafts === 0 ? ms : ms + checkMs(cost, width * (1 + drafts)) - checkMs(cost, width);
}

/** Beyond the measured numbers of tokens it goes on as steeply as between the last two. */
function checkMs({ checkPassMs }: CostModel, tokens: number): number {
  const known = checkPassMs.length - 1;
  const last = checkPassMs[known] ?? 0;
  if (tokens <= known) return checkPassMs[tokens] ?? 0;
  return last + (tokens - known) * (last - (checkPassMs[known - 1] ?? 0));
}

/** In ms, for one sequence's `tokens` prompt tokens in one device pass. */
export function prefillCallMs(cost: CostModel, tokens: number): number {
  return cost.prefillScale * (cost.prefillCallMs + tokens * cost.prefillTokenMs);
}

/** In ms, for so many tokens of one sequence, in calls of at most `grid` of them each. */
export function prefillTokensMs(cost: CostModel, grid: number, tokens: number): number {
  if (tokens <= 0) return 0;
  const whole = Math.floor(tokens / grid);
  const rest = tokens - whole * grid;
  return whole * prefillCallMs(cost, grid) + (rest > 0 ? prefillCallMs(cost, rest) : 0);
}

/**
 * The model after a call of this kind took `observedMs`.
 * @param unscaledMs What the model expects of it without its scale; 0 teaches nothing. The scale moves towards
 * the ratio of the two rather than by it, so that many calls planned together do not overshoot.
 */
export function refinedCostModel(
  cost: CostModel,
  kind: "decode" | "draft" | "prefill",
  observedMs: number,
  unscaledMs: number,
): CostModel {
  if (!(unscaledMs > 0)) return cost;
  const next = (scale: number): number => smoothed(scale, observedMs / unscaledMs);
  if (kind === "decode") {
    const decodeScale = next(cost.decodeScale);
    return { ...cost, decodeScale, draftScale: forgotten(cost.draftScale, decodeScale) };
  }
  if (kind === "draft") return { ...cost, draftScale: next(cost.draftScale) };
  return { ...cost, prefillScale: next(cost.prefillScale) };
}

/** A scale that has not been observed, after one more call that goes by another one. */
export function forgotten(scale: number, other: number): number {
  return scale + FORGETTING * (other - scale);
}

/** A file of few cells and one of many. */
export function calibratedSpillCost(
  files: readonly {
    readonly tokens: number;
    readonly bytes: number;
    readonly saveMs: number;
    readonly restoreMs: number;
  }[],
): SpillCost {
  const [few, many] = [files[0], files.at(-1)];
  const bytes = many?.bytes ?? 0;
  const moreTokens = (many?.tokens ?? 0) - (few?.tokens ?? 0);
  const moreBytes = bytes - (few?.bytes ?? 0);
  const tokenBytes = moreTokens > 0 ? Math.max(0, moreBytes / moreTokens) : 0;
  const transfer = (fewMs: number, manyMs: number): TransferCost => {
    // Where the two do not tell file from byte, all of it is put on the file.
    const byteMs = moreBytes > 0 ? Math.max(0, manyMs - fewMs) / moreBytes : 0;
    return { callMs: Math.max(0, manyMs - bytes * byteMs), byteMs, scale: 1 };
  };
  return {
    fileBytes: Math.max(0, bytes - tokenBytes * (many?.tokens ?? 0)),
    tokenBytes,
    save: transfer(few?.saveMs ?? 0, many?.saveMs ?? 0),
    restore: transfer(few?.restoreMs ?? 0, many?.restoreMs ?? 0),
  };
}

/** Bytes of the file of so many cells. */
export function spillBytes({ fileBytes, tokenBytes }: SpillCost, tokens: number): number {
  return fileBytes + tokens * tokenBytes;
}

/** In ms, for a file of so many bytes. */
export function transferMs({ callMs, byteMs, scale }: TransferCost, bytes: number): number {
  return scale * (callMs + bytes * byteMs);
}

/** The model after a transfer took `observedMs`. */
export function refinedTransfer(
  cost: CostModel,
  kind: "save" | "restore",
  bytes: number,
  observedMs: number,
): CostModel {
  const { spill } = cost;
  if (spill === undefined) return cost;
  const transfer = spill[kind];
  const ratio = (transfer.scale * observedMs) / Math.max(transferMs(transfer, bytes), Number.MIN_VALUE);
  return { ...cost, spill: { ...spill, [kind]: { ...transfer, scale: smoothed(transfer.scale, ratio) } } };
}

/** A scale that has moved towards what was observed. */
function smoothed(scale: number, observed: number): number {
  return scale + SMOOTHING * (Math.min(MAX_SCALE, Math.max(MIN_SCALE, observed)) - scale);
}

/** A value for every width, straight lines between the measured ones; a wider pass is never cheaper. */
function interpolated(measured: Calibration["decode"]): number[] {
  const table = [0];
  let from = { width: 0, ms: 0 };
  for (const { width, ms } of measured) {
    const to = { width, ms: Math.max(ms, from.ms) };
    for (let w = from.width + 1; w <= to.width; w++)
      table[w] = from.ms + ((to.ms - from.ms) * (w - from.width)) / (to.width - from.width);
    from = to;
  }
  return table;
}
