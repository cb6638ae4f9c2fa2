/**
 * Predicts what a call will cost, from a few measurements at warm-up and every call since.
 *
 * Decode is a table by width of the device pass, because kernels step rather than slope; prefill is a line.
 * Both are times a smoothed ratio of observed to predicted time, which follows growing contexts and other load.
 * The tables themselves are refined by calls of different widths that follow each other: what was measured beside
 * other load may be wrong for one width and right for the next.
 */
import { learnedDepth } from "./depth-cost.ts";
import type { CostModel, PlannedCall, SpillCost, TransferCost } from "./types.ts";

/** Weight of the newest observation: a long prompt's cells grow slowly, so a few calls are enough to follow. */
const SMOOTHING = 0.25;
/** Draws take what they take; a stall says little. */
const DRAW_SMOOTHING = 0.1;
const LEAST_DRAW_MS = 0.01;
/** One stalled call must not make the next thousand look unaffordable. */
const MIN_SCALE = 0.2;
const MAX_SCALE = 5;
/**
 * With each call that guesses nothing, what is known of those that do moves so far towards it, besides following it: they may not have been
 * tried for long, and one that stalled must not be the last. A vain try costs less than it would have won.
 */
const FORGETTING = 1 / 1024;
/** A call with guesses that took more than so many times what was expected of it has stalled, whatever else it says. */
const STALLED = 2;

/** How far a table moves towards what one call says of it, and the most that such a call says. */
const SHAPE_STEP = 0.4;
const MOST_RESIDUAL = 1.6;
/** Tables end here: beyond, kernels do not change any more, and a step must not cost too much planning. */
const MOST_WIDTH = 256;
/** While no guesses are made, what checking them is thought to cost moves so far towards what prompt tokens cost. */
const HEALING = 1 / 128;
/** Logits of every token are wanted of a check, and few tokens cost more each than many. */
const DEAREST_CHECK = 1.5;
/** In place of the width of a call of several passes. */
const SEVERAL = 0;

/** Cells of the grid before the one that tells at warm-up what depth costs: more would tell better, and take longer. */
export const DEEP_CELLS = 4;

/** What the cost of a decode call depends on: widths of its device passes, and guessed tokens in every slot. */
export interface DecodeShape {
  readonly passWidths: readonly number[];
  readonly drafts: number;
  /** Its tokens times the cells before them; absent is 0. */
  readonly tokenCells?: number | undefined;
  /** Key of the adapters; absent is the model alone. */
  readonly adapters?: string | undefined;
}

export interface Calibration {
  /** Decode passes over adjacent slots, by ascending width; the first of width 1, the last of all slots. */
  readonly decode: readonly { readonly width: number; readonly ms: number }[];
  /** Two prefill calls of different length, the shorter first. */
  readonly prefill: readonly { readonly tokens: number; readonly ms: number }[];
  /** One as long as the longer of them, behind so many cells; absent: depth is taken to cost nothing. */
  readonly deep?: { readonly cells: number; readonly ms: number };
  /** A decode pass over one slot of so many cells; absent: they are taken to cost nothing. */
  readonly deepDecode?: { readonly cells: number; readonly ms: number };
  readonly copyMs: number;
  /** Decode passes over one slot with several tokens, all their logits wanted, by ascending number of tokens. */
  readonly check: readonly { readonly tokens: number; readonly ms: number }[];
}

export function calibratedCostModel(measured: Calibration): CostModel {
  const { decode, prefill, deep, deepDecode, copyMs, check } = measured;
  const [short, long] = [prefill[0], prefill.at(-1)];
  const shortMs = short?.ms ?? 0;
  const longMs = Math.max(long?.ms ?? 0, shortMs);
  const tokensBetween = (long?.tokens ?? 0) - (short?.tokens ?? 0);
  const slope = tokensBetween > 0 ? (longMs - shortMs) / tokensBetween : 0;
  // Where the two do not tell call from token, all of it is put on the tokens.
  const prefillTokenMs = slope > 0 ? slope : longMs / Math.max(1, long?.tokens ?? 1);
  // Whatever was measured, as many calls of one token do the same: what takes longer was other load.
  const oneMs = decode[0]?.ms ?? 0;
  const deepTokens = (long?.tokens ?? 0) * (deep?.cells ?? 0);
  const deeperMs = Math.max(0, (deep?.ms ?? 0) - longMs);
  const capped = (width: number, ms: number) => ({ width, ms: Math.min(ms, width * oneMs) });
  return {
    decodePassMs: interpolated(decode.map(({ width, ms }) => capped(width, ms))),
    checkPassMs: interpolated([
      { width: 1, ms: oneMs },
      ...check.map(({ tokens, ms }) => capped(tokens, ms)),
    ]),
    prefillCallMs: Math.max(0, longMs - prefillTokenMs * (long?.tokens ?? 0)),
    prefillTokenMs,
    ...(deepTokens > 0 ? { prefillCellsMs: (1000 * deeperMs) / deepTokens } : {}),
    ...(deepDecode === undefined
      ? {}
      : { decodeCellsMs: (1000 * Math.max(0, deepDecode.ms - oneMs)) / deepDecode.cells }),
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

/**
 * In ms, for device passes over so many adjacent slots each, with `drafts` guessed tokens in every slot.
 * @param cells Of all of these slots.
 */
export function decodeCallMs(
  cost: CostModel,
  passWidths: readonly number[],
  drafts: number,
  cells: number,
): number {
  // Guesses look at the cells as often as the tokens before them.
  let ms = (((1 + drafts) * cells) / 1000) * (cost.decodeCellsMs ?? 0);
  for (const width of passWidths) ms += decodePassMs(cost, width, drafts);
  return (drafts > 0 ? cost.draftScale : cost.decodeScale) * ms;
}

/** In ms and without the scale, for one of them; Infinity for more slots than there are. */
export function decodePassMs(cost: CostModel, width: number, drafts: number): number {
  const ms = cost.decodePassMs[width] ?? Infinity;
  return drafts === 0 ? ms : ms + checkMs(cost, width * (1 + drafts)) - checkMs(cost, width);
}

function checkMs({ checkPassMs }: CostModel, tokens: number): number {
  return tokens < checkPassMs.length ? (checkPassMs[tokens] ?? 0) : beyond(checkPassMs, tokens);
}

/** Beyond its end a table goes on as steeply as in its second half. */
function beyond(table: readonly number[], tokens: number): number {
  const known = table.length - 1;
  const half = known >> 1;
  const last = table[known] ?? 0;
  return last + ((tokens - known) * (last - (table[half] ?? 0))) / Math.max(1, known - half);
}

/** In ms, for one sequence's `tokens` prompt tokens in one device pass, behind so many cells. */
export function prefillCallMs(cost: CostModel, tokens: number, cells: number): number {
  return cost.prefillScale * cost.prefillCallMs + tokens * promptTokenMs(cost, cells);
}

/** In ms, for one prompt token behind so many cells, without its call. */
export function promptTokenMs(
  { prefillScale, prefillTokenMs, prefillCellsMs = 0 }: CostModel,
  cells: number,
): number {
  return prefillScale * (prefillTokenMs + (cells / 1000) * prefillCellsMs);
}

/** In ms, for so many tokens of one sequence behind so many cells, in calls of at most `grid` of them each. */
export function prefillTokensMs(cost: CostModel, grid: number, tokens: number, cells: number): number {
  if (tokens <= 0) return 0;
  const whole = Math.floor(tokens / grid);
  const rest = tokens - whole * grid;
  // The calls between the first and the last whole one are as far from their middle on both sides.
  const middle = cells + ((whole - 1) * grid) / 2;
  const wholeMs = whole > 0 ? whole * prefillCallMs(cost, grid, middle) : 0;
  return wholeMs + (rest > 0 ? prefillCallMs(cost, rest, cells + whole * grid) : 0);
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
  const after = copyOf(cost);
  moveScale(after, kind, observedMs, unscaledMs);
  return after;
}

/** Of a model that is being made. */
function moveScale(
  cost: NewCostModel,
  kind: "decode" | "draft" | "prefill",
  observedMs: number,
  unscaledMs: number,
): void {
  if (!(unscaledMs > 0)) return;
  if (kind === "decode") {
    cost.decodeScale = smoothed(cost.decodeScale, observedMs / unscaledMs);
    cost.draftScale = forgotten(cost.draftScale, cost.decodeScale);
  } else if (kind === "draft") {
    const mostMs = STALLED * cost.draftScale * unscaledMs;
    cost.draftScale = smoothed(cost.draftScale, Math.min(observedMs, mostMs) / unscaledMs);
  } else cost.prefillScale = smoothed(cost.prefillScale, observedMs / unscaledMs);
}

/** With all fields, also those that may be absent: a copy that forgets one is an error of types. */
type NewCostModel = { -readonly [Field in keyof Required<CostModel>]: CostModel[Field] };

/** Field by field: of an object that begins as a copy V8 keeps most fields elsewhere, and every step reads and copies them. */
function copyOf(cost: CostModel): NewCostModel {
  return {
    decodePassMs: cost.decodePassMs,
    checkPassMs: cost.checkPassMs,
    prefillCallMs: cost.prefillCallMs,
    prefillTokenMs: cost.prefillTokenMs,
    prefillCellsMs: cost.prefillCellsMs,
    decodeCellsMs: cost.decodeCellsMs,
    prefillDepths: cost.prefillDepths,
    decodeDepths: cost.decodeDepths,
    copyMs: cost.copyMs,
    switchMs: cost.switchMs,
    decodeScale: cost.decodeScale,
    draftScale: cost.draftScale,
    prefillScale: cost.prefillScale,
    last: cost.last,
    drawMs: cost.drawMs,
    spill: cost.spill,
    checkpoint: cost.checkpoint,
  };
}

/** The model after a prefill call took `observedMs`. */
export function refinedByPrefill(
  cost: CostModel,
  { unscaledMs, tokenCells = 0 }: Pick<PlannedCall, "unscaledMs" | "tokenCells">,
  observedMs: number,
): CostModel {
  const { prefillCellsMs: cellsMs, prefillDepths: depths, prefillScale: scale } = cost;
  const learned = learnedDepth({ cellsMs, depths, scale }, { unscaledMs, tokenCells }, observedMs);
  const deeperMs = learned === undefined ? 0 : ((learned.cellsMs - (cellsMs ?? 0)) * tokenCells) / 1000;
  const after = copyOf(cost);
  moveScale(after, "prefill", observedMs, unscaledMs + deeperMs);
  if (learned !== undefined) {
    after.prefillCellsMs = learned.cellsMs;
    after.prefillDepths = learned.depths;
  }
  return after;
}

/**
 * The model after a decode call took `observedMs`: the same for its kind, and for the table, where it was of another
 * width than the one before. Calls of one width tell how fast the machine is now, and nothing of the others.
 */
export function refinedByDecode(cost: CostModel, shape: DecodeShape, observedMs: number): CostModel {
  const { passWidths, drafts, tokenCells = 0, adapters = "" } = shape;
  const width = passWidths.length === 1 ? (passWidths[0] ?? 0) * (1 + drafts) : SEVERAL;
  const learned = drafts > 0 ? undefined : learnedDecodeDepth(cost, shape, observedMs);
  const depthMs = (tokenCells / 1000) * (learned?.cellsMs ?? cost.decodeCellsMs ?? 0);
  const ratio = observedMs / (tableMs(cost, shape) + depthMs);
  const now = { guesses: drafts > 0, width, ratio, adapters };
  const shaped = reshaped(cost, now);
  // One that stalled is compared with one other call, not with those on both sides of it.
  const last = shaped === cost ? now : { ...now, width: SEVERAL };
  const kind = drafts > 0 ? "draft" : "decode";
  const after = copyOf(shaped);
  moveScale(after, kind, observedMs, tableMs(shaped, shape) + depthMs);
  if (learned !== undefined) {
    after.decodeCellsMs = learned.cellsMs;
    after.decodeDepths = learned.depths;
  }
  if (drafts === 0) {
    after.draftScale = bounded(after.draftScale * speedChange(shaped, after), MIN_SCALE, MAX_SCALE);
    after.checkPassMs = healed(after);
  }
  after.last = last;
  return after;
}

/**
 * What checks cost is learned of checks, and none are made while they are thought to be dear: where that was measured
 * beside other load, prompts tell better, sooner or later.
 */
function healed(cost: CostModel): readonly number[] {
  const { checkPassMs, decodeScale, prefillScale, prefillTokenMs } = cost;
  const eachMs = (DEAREST_CHECK * prefillScale * prefillTokenMs) / decodeScale;
  const oneMs = cost.decodePassMs[1] ?? 0;
  const mostMs = (tokens: number): number => oneMs + (tokens - 1) * eachMs;
  const last = checkPassMs.length - 1;
  if (!(eachMs > 0) || (checkPassMs[last] ?? 0) <= mostMs(last)) return checkPassMs;
  return checkPassMs.map((ms, tokens) => ms - HEALING * Math.max(0, tokens === 0 ? 0 : ms - mostMs(tokens)));
}

/** By what factor all calls take longer since a decode call without guesses, as far as that can be told. */
export function speedChange(before: CostModel, after: CostModel): number {
  // After guesses it is the older knowledge that changes, and not the machine.
  return before.last?.guesses === false ? after.decodeScale / before.decodeScale : 1;
}

function learnedDecodeDepth(
  cost: CostModel,
  shape: DecodeShape,
  observedMs: number,
): ReturnType<typeof learnedDepth> {
  const { decodeCellsMs: cellsMs, decodeDepths: depths, decodeScale: scale } = cost;
  if (cellsMs === undefined) return undefined;
  const { tokenCells = 0 } = shape;
  const unscaledMs = tableMs(cost, shape) + (tokenCells / 1000) * cellsMs;
  return learnedDepth({ cellsMs, depths, scale }, { unscaledMs, tokenCells }, observedMs);
}

/** In ms and without the scale, over empty slots. */
function tableMs(cost: CostModel, { passWidths, drafts }: DecodeShape): number {
  let ms = 0;
  for (const width of passWidths) ms += decodePassMs(cost, width, drafts);
  return ms;
}

/**
 * Two calls of different widths, one after the other, tell how the widths are related, however fast the machine is: the
 * table's entries of both move towards that, one up and one down.
 */
function reshaped(cost: CostModel, now: NonNullable<CostModel["last"]>): CostModel {
  const { last } = cost;
  if (last === undefined || last.guesses !== now.guesses || last.width === now.width) return cost;
  if (last.adapters !== now.adapters) return cost;
  const [least, most] = [Math.min(last.width, now.width), Math.max(last.width, now.width)];
  const residual = now.ratio / last.ratio;
  if (least === SEVERAL || most > MOST_WIDTH || !(residual > 0 && residual < Infinity)) return cost;
  const step = (SHAPE_STEP / 2) * Math.log(bounded(residual, 1 / MOST_RESIDUAL, MOST_RESIDUAL));
  const table = extended(now.guesses ? cost.checkPassMs : cost.decodePassMs, most);
  const moved = bent(bent(table, now.width, step), last.width, -step);
  return now.guesses ? { ...cost, checkPassMs: moved } : { ...cost, decodePassMs: moved };
}

/** Changes one entry by a factor, its neighbours by less the further off they are; a wider pass is never cheaper. */
function bent(table: readonly number[], width: number, logFactor: number): number[] {
  const next = [...table];
  // Nothing is near beyond half and twice the width.
  for (let at = Math.ceil(width / 2); at <= Math.min(2 * width, table.length - 1); at++) {
    const near = Math.max(0, 1 - Math.abs(Math.log2(at / width)));
    next[at] = (table[at] ?? 0) * Math.exp(logFactor * near);
  }
  for (let at = width + 1; at < next.length; at++) next[at] = Math.max(next[at] ?? 0, next[at - 1] ?? 0);
  for (let at = width - 1; at > 0; at--) next[at] = Math.min(next[at] ?? 0, next[at + 1] ?? 0);
  return next;
}

/** A table with this entry, as steep as before. */
function extended(table: readonly number[], width: number): readonly number[] {
  if (width < table.length) return table;
  return [
    ...table,
    ...Array.from({ length: width + 1 - table.length }, (_, i) => beyond(table, table.length + i)),
  ];
}

/** The model after drawing took so many ms for each token. */
export function withDrawMs(cost: CostModel, ms: number): CostModel {
  const before = cost.drawMs ?? ms;
  const mostMs = MAX_SCALE * Math.max(before, LEAST_DRAW_MS);
  const after = copyOf(cost);
  after.drawMs = before + DRAW_SMOOTHING * (Math.min(ms, mostMs) - before);
  return after;
}

/** A scale that has not been observed, after one more call that goes by another one. */
export function forgotten(scale: number, other: number): number {
  return bounded(scale + FORGETTING * (other - scale), MIN_SCALE, MAX_SCALE);
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

/** What is known of transfers after one of so many bytes took `observedMs`. */
export function refinedTransfer(
  spill: SpillCost,
  kind: "save" | "restore",
  bytes: number,
  observedMs: number,
): SpillCost {
  const transfer = spill[kind];
  const ratio = (transfer.scale * observedMs) / Math.max(transferMs(transfer, bytes), Number.MIN_VALUE);
  return { ...spill, [kind]: { ...transfer, scale: smoothed(transfer.scale, ratio) } };
}

/** What is known of sizes after one of so many bytes was there where others were predicted. */
export function refinedSize(spill: SpillCost, bytes: number, predictedBytes: number): SpillCost {
  const factor = smoothed(1, bytes / Math.max(predictedBytes, 1));
  return { ...spill, fileBytes: spill.fileBytes * factor, tokenBytes: spill.tokenBytes * factor };
}

/** A scale that has moved towards what was observed. */
function smoothed(scale: number, observed: number): number {
  return scale + SMOOTHING * (bounded(observed, MIN_SCALE, MAX_SCALE) - scale);
}

function bounded(value: number, least: number, most: number): number {
  return Math.min(most, Math.max(least, value));
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
