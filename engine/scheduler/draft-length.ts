/**
 * Chooses how many tokens are guessed in a step, and who guesses them: the number that promises most tokens for the
 * time, 0 where guesses do not pay.
 *
 * A slot's guesses come from what was said before where that has been right as often as the draft model, which costs
 * time. A slot whose tokens the draft model has not followed catches up a cell a step, where that is worth it.
 */
import { decodeCallMs } from "./cost-model.ts";
import { cellsOf, slotLayout } from "./decode-layout.ts";
import { MOST_FED, catchingUpMs, guessingMs, missingTokens } from "./draft-model.ts";
import { mayFollow, worthOf } from "./guess-record.ts";
import type { Running } from "./admission.ts";
import type { DecodeLayout } from "./decode-layout.ts";
import type {
  DraftFeed,
  DraftModel,
  PlannedCall,
  PlannedDrafting,
  ScheduledRequest,
  SchedulerConfig,
  SchedulerState,
  SlotId,
} from "./types.ts";
import type { TokenId } from "../protocol.ts";

/** Numbers of guessed tokens that are weighed against each other; a device pass needs the same in every slot. */
const DRAFT_LENGTHS = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32] as const;

/** Guesses must promise this much more than none: predictions are rough, and draws and cuts cost time too. */
const WORTH_GUESSING = 1.1;

/** A step with guesses may take so many times as long as one without, where that exceeds the inter-token target; not behind cells. */
const MOST_STRETCH = 2;

/** Catching up must pay within so many tokens of a request, or within as many as it has brought already. */
const LEAST_HORIZON = 64;

/** Least tokens of a cell for catching up; more where that takes no longer than the step. */
const LEAST_CATCH_UP = 8;

export interface DraftPlan {
  readonly layout: DecodeLayout;
  /** Guessed tokens of each slot. */
  readonly drafts: number;
  /** Slots whose guesses the draft model makes. */
  readonly byModel: ReadonlySet<SlotId>;
  readonly drafting: PlannedDrafting | undefined;
  readonly promise: PlannedCall["promise"];
}

/** A way to decode this step; tokens it promises for a ms. */
interface Choice {
  readonly layout: DecodeLayout;
  readonly drafts: number;
  readonly guessers: readonly Guesser[];
  readonly promise: PlannedCall["promise"];
  readonly rate: number;
  /** What another choice has to promise to be better. */
  readonly toBeat: number;
}

/** A decoding slot, and what guesses for it are worth. */
interface Guesser {
  readonly running: Running;
  /** Guesses that it can take. */
  readonly most: number;
  /** Chances that the first guess is right; 0 where there is none. */
  readonly fromText: number;
  readonly fromModel: number;
  /** Tokens that the draft model has to be fed first. */
  readonly missing: number;
}

/** What is known once for all choices of a step. */
interface Weighing {
  readonly state: SchedulerState;
  readonly guessers: readonly Guesser[];
  /** What a step without guesses takes. */
  readonly singleMs: number;
  /** Of the decoding slots. */
  readonly cells: number;
  /** Those that fit. */
  readonly lengths: readonly { readonly drafts: number; readonly layout: DecodeLayout }[];
}

/** @param length Cells of a slot in this step, whoever has it. */
export function planDrafts(
  state: SchedulerState,
  decoding: readonly Running[],
  length: (slot: SlotId) => number,
): DraftPlan {
  const layout = slotLayout(state, decoding, length, 0);
  const none = { layout, drafts: 0, byModel: new Set<SlotId>(), drafting: undefined, promise: undefined };
  if (!mayGuess(state, decoding, layout)) return none;
  const cells = cellsOf(decoding);
  const singleMs = decodeCallMs(state.cost, layout.passWidths, 0, cells);
  const weighing: Weighing = {
    state,
    guessers: decoding.map((running) => guesserOf(state, running)),
    singleMs,
    cells,
    lengths: fittingLengths(state, decoding, length),
  };
  const rate = decoding.length / (singleMs + drawingMs(state, decoding.length));
  const toBeat = rate * WORTH_GUESSING;
  const single: Choice = { layout, drafts: 0, guessers: [], promise: undefined, rate, toBeat };
  const without = bestChoice(weighing, single, []);
  const { draft } = state;
  if (draft === undefined)
    return { ...none, layout: without.layout, drafts: without.drafts, promise: without.promise };
  const mostFed = mostFedTokens(state, draft, decoding);
  const preferring = weighing.guessers.filter((guesser) => prefersModel(guesser));
  const ready = preferring.filter(({ missing }) => missing <= mostFed);
  const late = preferring.filter(({ missing }) => missing > mostFed);
  const chosen = ready.length === 0 ? without : bestChoice(weighing, without, ready);
  const catchUp = worthCatchingUp(weighing, chosen, [ready, late])
    ? catchUpFeed(weighing, draft, late, chosen)
    : undefined;
  return {
    layout: chosen.layout,
    drafts: chosen.drafts,
    byModel: new Set(chosen.guessers.map(({ running }) => running.slot)),
    drafting: draftingOf(draft, chosen, catchUp),
    // What comes before it for others is no part of what was promised.
    promise: catchUp === undefined ? chosen.promise : undefined,
  };
}

/** What follows a token that a resumed request feeds again is known. */
export function isLastKnown({ prompt, output }: ScheduledRequest, position: number): boolean {
  return position === prompt.length + output.length - 1;
}

export function knownToken({ prompt, output }: ScheduledRequest, position: number): TokenId {
  return (position < prompt.length ? prompt[position] : output[position - prompt.length]) ?? 0;
}

/** Where cells are joined a call has room for more guesses than what checking them was measured for. */
function mostChecked({ joinedCells, batchTokens, prefillChunk, slots }: SchedulerConfig): number {
  return joinedCells === true ? Math.min(batchTokens, Math.max(prefillChunk, slots)) : batchTokens;
}

function mayGuess(
  { config, draft, offload }: SchedulerState,
  decoding: readonly Running[],
  layout: DecodeLayout,
): boolean {
  if (!config.speculate || !config.canRewind || config.deterministic) return false;
  // A longer step leaves the prefill worker less of the time between two tokens, which both have to share.
  if (offload.current !== undefined) return false;
  if (config.speculateAdapted === false && decoding[0]?.request.adapters !== undefined) return false;
  if (decoding.some((r) => !isLastKnown(r.request, r.length))) return false;
  if (draft === undefined && !decoding.some(({ request }) => request.drafts?.guesses === true)) return false;
  return longestOf(decoding) + 1 < mostCells(config, decoding, layout);
}

/**
 * Of the longest slot, guesses included: a slot alone leaves its kernel for another one beyond so many. Whoever says what to
 * expect asks for speed, and gets the bits that it would get beside another stream.
 */
function mostCells(config: SchedulerConfig, decoding: readonly Running[], { plugs }: DecodeLayout): number {
  const alone = decoding.length === 1 && plugs.length === 0;
  if (!alone || decoding[0]?.request.drafts?.followsPrediction === true) return config.contextTokens;
  return Math.min(config.contextTokens, config.speculateAloneTokens);
}

function fittingLengths(
  state: SchedulerState,
  decoding: readonly Running[],
  length: (slot: SlotId) => number,
): Weighing["lengths"] {
  const { config } = state;
  const longest = longestOf(decoding);
  const fitting: { drafts: number; layout: DecodeLayout }[] = [];
  for (const drafts of DRAFT_LENGTHS) {
    const layout = slotLayout(state, decoding, length, drafts);
    if (longest + 1 + drafts > mostCells(config, decoding, layout)) break;
    if ((decoding.length + layout.plugs.length) * (1 + drafts) > mostChecked(config)) break;
    fitting.push({ drafts, layout });
  }
  return fitting;
}

function longestOf(decoding: readonly Running[]): number {
  return Math.max(...decoding.map((r) => r.length));
}

function guesserOf({ draft }: SchedulerState, running: Running): Guesser {
  const { request, slot } = running;
  const { drafts, output, prompt, maxNew } = request;
  // Who gets its slot in this very step is not known to the draft model yet.
  const followed = draft !== undefined && request.slot === slot;
  return {
    running,
    most: maxNew - output.length - 1,
    fromText: drafts?.guesses === true ? drafts.hitRate : 0,
    fromModel: followed ? (draft.slots[slot]?.hitRate ?? 0) : 0,
    missing: followed ? missingTokens(draft, slot, prompt.length + output.length) : Infinity,
  };
}

/** Within the draft model's batch, and no more than each request has. */
function mostFedTokens({ slots }: SchedulerState, draft: DraftModel, decoding: readonly Running[]): number {
  const fewest = Math.min(...decoding.map(({ request }) => request.prompt.length + request.output.length));
  return Math.min(MOST_FED, Math.floor(draft.config.batchTokens / slots.length), fewest);
}

function prefersModel({ fromText, fromModel, most }: Guesser): boolean {
  return fromModel > fromText && most > 0;
}

/** The best choice with the draft model guessing for `modelled`, or the one there is. */
function bestChoice(
  { state, guessers, lengths, singleMs, cells }: Weighing,
  atLeast: Choice,
  modelled: readonly Guesser[],
): Choice {
  const { config, cost, draft } = state;
  const slots = modelled.map(({ running }) => running.slot);
  const fed = fedTokens(modelled);
  const byModel = new Set(modelled);
  const worth = worthOf(state.guessed, modelled.length > 0);
  const tokenMs = singleMs / guessers.length + drawingMs(state, 1);
  // Whoever is not guessed for waits as long, too; where a token takes longer than it may anyway, a little longer.
  const waitedMs = guessers.some(({ running }) => running.request.output.length > 0)
    ? state.sinceDecodeMs
    : 0;
  const mostMs = Math.max(config.itlTargetMs - waitedMs, waitedMs > 0 ? singleMs : MOST_STRETCH * singleMs);
  let best = atLeast;
  for (const { drafts, layout } of lengths) {
    let tokens = guessers.length;
    for (const guesser of guessers) tokens += expectedHits(guesser, drafts, byModel.has(guesser));
    let ms = decodeCallMs(cost, layout.passWidths, drafts, cells);
    if (draft !== undefined && slots.length > 0)
      ms += draft.cost.decodeScale * guessingMs(draft, slots, fed, drafts);
    if (ms > mostMs) break;
    ms += drawingMs(state, tokens);
    const rate = (worth * tokens) / ms;
    if (rate > best.toBeat)
      best = { layout, drafts, guessers: modelled, promise: { tokens, ms, tokenMs }, rate, toBeat: rate };
  }
  return best;
}

/** Tokens are drawn one after the other, and those that guesses bring are no cheaper. */
function drawingMs({ cost }: SchedulerState, tokens: number): number {
  return tokens * (cost.drawMs ?? 0);
}

/** Slots in one device pass need equally many tokens: the others are fed known ones again. */
function fedTokens(guessers: readonly Guesser[]): number {
  // Who still has to catch up will have done so.
  return Math.max(1, ...guessers.map(({ missing }) => (missing <= MOST_FED ? missing : 1)));
}

/** Each guess counts only when all before it were right. */
function expectedHits({ running, most, fromModel }: Guesser, drafts: number, byModel: boolean): number {
  const guesses = Math.min(drafts, most);
  if (!byModel) return running.request.drafts?.expectedHits(guesses) ?? 0;
  let chance = 1;
  let hits = 0;
  for (let i = 0; i < guesses; i++) hits += chance *= fromModel;
  return hits;
}

/** Whether the time to catch up comes back within the tokens that may still come. */
function worthCatchingUp(
  weighing: Weighing,
  chosen: Choice,
  [ready, late]: readonly [readonly Guesser[], readonly Guesser[]],
): boolean {
  const { guessers } = weighing;
  const { draft } = weighing.state;
  if (draft === undefined || late.length === 0 || !mayFollow(weighing.state.guessed)) return false;
  const caughtUp = bestChoice(weighing, chosen, [...ready, ...late]);
  if (caughtUp === chosen) return false;
  let tokens = 0;
  for (const { running, most } of guessers)
    tokens += Math.min(most, Math.max(LEAST_HORIZON, running.request.output.length));
  const savedMs = tokens / chosen.rate - tokens / caughtUp.rate;
  const costMs = late.reduce((ms, guesser) => ms + catchingUpMs(draft, fedFrom(guesser), guesser.missing), 0);
  return savedMs > costMs;
}

/** First position that the draft model lacks. */
function fedFrom({ running: { request }, missing }: Guesser): number {
  return request.prompt.length + request.output.length - missing;
}

/** A cell of the slot that lacks least. It takes no longer than the step, or streams would stutter. */
function catchUpFeed(
  { state, cells }: Weighing,
  draft: DraftModel,
  late: readonly Guesser[],
  { layout, drafts }: Choice,
): DraftFeed {
  const next = late.reduce((least, guesser) => (guesser.missing < least.missing ? guesser : least));
  const { request, slot } = next.running;
  const start = fedFrom(next);
  const roomMs = decodeCallMs(state.cost, layout.passWidths, drafts, cells);
  const most = Math.min(draft.config.prefillChunk, next.missing - 1);
  let tokens = most;
  while (tokens > LEAST_CATCH_UP && catchingUpMs(draft, start, tokens) > roomMs)
    tokens = Math.ceil(tokens / 2);
  return feedOf(request, slot, start, tokens);
}

function draftingOf(
  draft: DraftModel,
  chosen: Choice,
  catchUp: DraftFeed | undefined,
): PlannedDrafting | undefined {
  const { guessers, drafts } = chosen;
  if (guessers.length === 0 && catchUp === undefined) return undefined;
  const fed = fedTokens(guessers);
  const feeds = guessers.map(({ running: { request, slot } }) =>
    feedOf(request, slot, request.prompt.length + request.output.length - fed, fed),
  );
  const slots = feeds.map(({ slot }) => slot);
  const unscaledMs = slots.length === 0 ? 0 : guessingMs(draft, slots, fed, drafts);
  let predictedMs = draft.cost.decodeScale * unscaledMs;
  if (catchUp === undefined) return { catchUp, feeds, predictedMs, unscaledMs };
  const catchUpMs = catchingUpMs(draft, catchUp.position, catchUp.tokens.length);
  predictedMs += catchUpMs;
  const cellMs = catchUpMs / draft.cost.prefillScale;
  return { catchUp: { ...catchUp, unscaledMs: cellMs }, feeds, predictedMs, unscaledMs };
}

function feedOf(request: ScheduledRequest, slot: SlotId, position: number, count: number): DraftFeed {
  const tokens = Uint32Array.from({ length: count }, (_, i) => knownToken(request, position + i));
  return { slot, position, tokens };
}
