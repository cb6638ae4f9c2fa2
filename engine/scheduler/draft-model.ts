/**
 * What the draft model has of each slot, what its guesses cost and how often they are right.
 *
 * The draft model is a second, smaller model with as many sequences. Its cells follow a slot's known tokens lazily:
 * they are cut where a guess was wrong, and what is missing is computed once guesses promise to pay for it. Pure
 * bookkeeping; the native calls are in drafter.ts.
 */
import { decodePassMs, forgotten, prefillTokensMs, refinedCostModel, speedChange } from "./cost-model.ts";
import { adjacentRuns } from "./passes.ts";
import type { CostModel, DraftModel, DraftSlot, ScheduledRequest, SlotId } from "./types.ts";
import type { TokenId } from "../protocol.ts";

/** Most tokens that slots are fed before their first guess; who lacks more catches up in calls of its own. */
export const MOST_FED = 8;

/** What is expected of a model that somebody has chosen: enough to try. */
const FIRST_RATE = 0.7;
/** Weight of one guess in the hit rate of its request, and of all requests. */
const NEWEST_OF_REQUEST = 0.1;
const NEWEST_OF_ALL = 0.02;
/**
 * What was learned of a request moves so far towards what is known of all, with each step that asks nothing of the
 * draft model; and what is known of all towards what was expected, with each request that gets a slot.
 */
const FORGOTTEN_EACH_STEP = 1 / 512;
const FORGOTTEN_EACH_REQUEST = 0.02;

/** @param cost Of the draft model's calls, drawing included. */
export function createDraftModel(config: DraftModel["config"], slots: number, cost: CostModel): DraftModel {
  return {
    config,
    slots: Array.from({ length: slots }, (): DraftSlot => ({
      tokens: new Uint32Array(config.contextTokens),
      length: 0,
      cacheKey: "",
      hitRate: FIRST_RATE,
    })),
    cost,
    hitRate: FIRST_RATE,
  };
}

/** A request has been given the slot: what the draft model has of its tokens is kept, the rest forgotten. */
export function takeDraftSlot(draft: DraftModel, id: SlotId, request: ScheduledRequest): void {
  const slot = draft.slots[id];
  if (slot === undefined) return;
  const mayReuse = request.reusePrefix && slot.cacheKey === request.cacheKey;
  slot.length = mayReuse ? sharedLength(slot, request) : 0;
  slot.cacheKey = request.cacheKey;
  slot.hitRate = draft.hitRate;
  draft.hitRate += FORGOTTEN_EACH_REQUEST * (FIRST_RATE - draft.hitRate);
}

function sharedLength({ tokens, length }: DraftSlot, { prompt, output }: ScheduledRequest): number {
  const most = Math.min(length, prompt.length + output.length);
  for (let i = 0; i < most; i++)
    if (tokens[i] !== (i < prompt.length ? prompt[i] : output[i - prompt.length])) return i;
  return most;
}

/** The slot's request goes on with this token: guesses from there on that say otherwise are cut. */
export function followToken(draft: DraftModel, id: SlotId, position: number, token: TokenId): void {
  const slot = draft.slots[id];
  if (slot !== undefined && position < slot.length && slot.tokens[position] !== token) slot.length = position;
}

/** The draft model holds these tokens of the slot now, known or guessed, and none behind them. */
export function noteFed(draft: DraftModel, id: SlotId, position: number, tokens: ArrayLike<TokenId>): void {
  const slot = draft.slots[id];
  if (slot === undefined) return;
  slot.tokens.set(tokens, position);
  slot.length = position + tokens.length;
}

/** Tokens that it has to be fed before it can guess; at least one, the last known one. */
export function missingTokens(draft: DraftModel, id: SlotId, known: number): number {
  return Math.max(1, known - (draft.slots[id]?.length ?? 0));
}

/** Learns from the guesses of one slot that were compared with what was drawn. */
export function noteGuesses(draft: DraftModel, id: SlotId, hits: readonly boolean[]): void {
  const slot = draft.slots[id];
  for (const hit of hits) {
    const value = hit ? 1 : 0;
    if (slot !== undefined) slot.hitRate += NEWEST_OF_REQUEST * (value - slot.hitRate);
    draft.hitRate += NEWEST_OF_ALL * (value - draft.hitRate);
  }
}

/**
 * A step has gone by without it; what other calls take is the best that is known of its own.
 * @param before What was known of those before this step, and `after` it.
 */
export function restDraftModel(draft: DraftModel, before: CostModel, after: CostModel): void {
  const { cost } = draft;
  const faster = speedChange(before, after);
  draft.cost = {
    ...cost,
    decodeScale: forgotten(cost.decodeScale * faster, after.decodeScale),
    prefillScale: forgotten(cost.prefillScale * faster, after.prefillScale),
  };
  for (const slot of draft.slots) slot.hitRate += FORGOTTEN_EACH_STEP * (draft.hitRate - slot.hitRate);
}

/**
 * In ms and without the scale, for as many guesses in each of these slots.
 * @param slots Ascending.
 * @param fed Tokens that each is fed before its first guess.
 */
export function guessingMs(
  { cost }: DraftModel,
  slots: readonly SlotId[],
  fed: number,
  guesses: number,
): number {
  let ms = 0;
  for (const { first, last } of adjacentRuns(slots)) {
    const width = last - first + 1;
    ms += decodePassMs(cost, width, fed - 1) + (guesses - 1) * decodePassMs(cost, width, 0);
  }
  return ms;
}

/** In ms, for a slot that lacks so many tokens from that position on, in calls of at most a cell each. */
export function catchingUpMs(
  { cost, config: { prefillChunk } }: DraftModel,
  position: number,
  tokens: number,
): number {
  return prefillTokensMs(cost, prefillChunk, tokens, position);
}

/** The guesses of a step, or a cell of catching up, took `observedMs`. */
export function learnDraftCost(
  draft: DraftModel,
  kind: "decode" | "prefill",
  observedMs: number,
  unscaledMs: number,
): void {
  draft.cost = refinedCostModel(draft.cost, kind, observedMs, unscaledMs);
}
