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
/** The longer ago the last one of its kind, the more the newest observation counts, up to this. */
const MOST_WEIGHT = 0.75;
/** A call that took more than so many times what was expected of it has stalled, whatever else it says. */
const STALLED = 2;
/**
 * With each call that guesses nothing, what was learned of those that do moves so far towards what was measured at
 * warm-up, so that one mistake does not last. A vain try every thousand calls costs next to nothing.
 */
const FORGETTING = 1 / 1024;

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

/** In ms, for device passes over so many adjacent slots each, with `drafts` guessed tokens in every slot. */
export function decodeCallMs(cost: CostModel, passWidths: readonly number[], drafts: number): number {
  let ms = 0;
  for (const width of passWidths) ms += decodePassMs(cost, width, drafts);
  return decodeScaleOf(cost, drafts) * ms;
}

/** Of decode calls with so many guessed tokens in every slot. */
export function decodeScaleOf({ decodeScale, draftScale, checks }: CostModel, drafts: number): number {
  return drafts === 0 ? decodeScale : (checks?.[drafts]?.scale ?? draftScale);
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

/**
 * The model after a prefill call took `observedMs`.
 * @param unscaledMs What the model expects of it without its scale; 0 teaches nothing. The scale moves towards
 * the ratio of the two rather than by it, so that many calls planned together do not overshoot.
 */
export function refinedByPrefill(cost: CostModel, observedMs: number, unscaledMs: number): CostModel {
  if (!(unscaledMs > 0)) return cost;
  return { ...cost, prefillScale: smoothed(cost.prefillScale, observedMs / unscaledMs) };
}

/**
 * The same after a decode call. Each number of guesses has a scale of its own: other numbers run in other kernels, and
 * a call of another shape than the one before makes the runtime build its graph again.
 */
export function refinedByDecode(
  cost: CostModel,
  drafts: number,
  observedMs: number,
  unscaledMs: number,
): CostModel {
  if (!(unscaledMs > 0)) return cost;
  const plainAge = (cost.plainAge ?? 0) + 1;
  const checks = (cost.checks ?? []).map((check) => check && { ...check, age: check.age + 1 });
  if (drafts > 0) {
    const { scale, age } = checks[drafts] ?? { scale: cost.draftScale, age: Infinity };
    const observed = notStalledMs(scale, observedMs, unscaledMs) / unscaledMs;
    checks[drafts] = { scale: smoothed(scale, observed, weightAfter(age)), age: 0 };
    return { ...cost, checks, draftScale: smoothed(cost.draftScale, observed), plainAge };
  }
  const after = {
    ...cost,
    decodeScale: smoothed(cost.decodeScale, observedMs / unscaledMs, weightAfter(plainAge)),
    plainAge: 0,
  };
  return {
    ...after,
    checks: checks.map((check) => check && { ...check, scale: unobservedScale(check.scale, cost, after) }),
    draftScale: unobservedScale(cost.draftScale, cost, after),
  };
}

/**
 * What is to be thought of another kind of call after a decode call without guesses: when that takes longer than the
 * one before, so will the other.
 */
export function unobservedScale(scale: number, before: CostModel, { decodeScale }: CostModel): number {
  // After guesses it is the older knowledge that changes.
  const followed = (before.plainAge ?? 0) > 0 ? scale : (scale * decodeScale) / before.decodeScale;
  return followed + FORGETTING * (decodeScale - followed);
}

/** What is to be learned of a call that is seldom made: one that stalled must not be the last. */
export function notStalledMs(scale: number, observedMs: number, unscaledMs: number): number {
  return Math.min(observedMs, STALLED * scale * unscaledMs);
}

function weightAfter(age: number): number {
  return Math.min(MOST_WEIGHT, 1 - (1 - SMOOTHING) ** age);
}

/** The model after drawing tokens behind a call took `ms`, of which so many were drawn one after the other. */
export function refinedByDraws(cost: CostModel, ms: number, draws: number): CostModel {
  const eachMs = ms / draws;
  const before = cost.drawMs ?? eachMs;
  return { ...cost, drawMs: before + SMOOTHING * (Math.min(eachMs, MAX_SCALE * before) - before) };
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
function smoothed(scale: number, observed: number, weight = SMOOTHING): number {
  return scale + weight * (Math.min(MAX_SCALE, Math.max(MIN_SCALE, observed)) - scale);
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
