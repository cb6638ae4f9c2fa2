/**
 * Plans the decode call of a step: a token for every request that can decode, throw-away tokens that close gaps
 * between their slots, and guessed tokens behind them where checking those is cheaper than a step for each.
 */
import { decodeCallMs, decodePassMs } from "./cost-model.ts";
import { decodeLayout, mayPlug, withoutLoneSlots } from "./decode-layout.ts";
import type { Running } from "./admission.ts";
import type { DecodeLayout } from "./decode-layout.ts";
import type { PlannedCall, PlannedEntry, ScheduledRequest, SchedulerState, SlotId } from "./types.ts";
import type { TokenId } from "../protocol.ts";

/** The throw-away token, also behind a guess that is too short; which one it is does not matter. */
const PLUG_TOKEN = 0;

/** Numbers of guessed tokens that are weighed against each other; a device pass needs the same in every slot. */
const DRAFT_LENGTHS = [1, 2, 3, 4, 6, 8] as const;

/** Guesses must promise this much more than none: predictions are rough, and draws and cuts cost time too. */
const WORTH_GUESSING = 1.1;

interface DraftPlan {
  readonly layout: DecodeLayout;
  /** Guessed tokens of each slot. */
  readonly drafts: number;
}

/**
 * @param decoding The requests whose slots hold all they know but the last token; at least one.
 * @param running Those and all others that hold a slot, with their lengths in this step.
 */
export function decodeCall(
  state: SchedulerState,
  decoding: readonly Running[],
  running: readonly Running[],
): PlannedCall {
  const lengthOf = new Map(running.map(({ slot, length }) => [slot, length]));
  const length = (slot: SlotId): number => lengthOf.get(slot) ?? state.slots[slot]?.length ?? 0;
  const { layout, drafts } = planDrafts(state, decoding, length);
  const entries = decoding.map((r) => decodeEntry(r, drafts));
  const plug = new Uint32Array(1 + drafts).fill(PLUG_TOKEN);
  for (const slot of layout.plugs)
    entries.push({ slot, request: undefined, position: length(slot), tokens: plug, sample: false });
  if (layout.plugs.length > 0) entries.sort((a, b) => a.slot - b.slot);
  const predictedMs = decodeCallMs(state.cost, layout.passWidths, drafts);
  return {
    kind: "decode",
    entries,
    tokens: entries.length * (1 + drafts),
    drafts,
    passes: layout.passWidths.length,
    predictedMs,
    unscaledMs: predictedMs / (drafts > 0 ? state.cost.draftScale : state.cost.decodeScale),
  };
}

function decodeEntry({ request, slot, length }: Running, drafts: number): PlannedEntry {
  const tokens = new Uint32Array(1 + drafts).fill(PLUG_TOKEN);
  tokens[0] = knownToken(request, length);
  const entry = { slot, request: request.id, position: length, tokens, sample: isLastKnown(request, length) };
  if (drafts === 0) return entry;
  const guesses = request.drafts?.propose(drafts) ?? [];
  tokens.set(guesses, 1);
  return { ...entry, everyLogit: true, guesses: guesses.length };
}

/** What follows a token that a resumed request feeds again is known. */
function isLastKnown({ prompt, output }: ScheduledRequest, position: number): boolean {
  return position === prompt.length + output.length - 1;
}

function knownToken({ prompt, output }: ScheduledRequest, position: number): TokenId {
  return (position < prompt.length ? prompt[position] : output[position - prompt.length]) ?? 0;
}

/** The number of guesses that promises most tokens for the time. */
function planDrafts(
  state: SchedulerState,
  decoding: readonly Running[],
  length: (slot: SlotId) => number,
): DraftPlan {
  const { config, cost } = state;
  let best: DraftPlan = { layout: layoutOf(state, decoding, length, 0), drafts: 0 };
  if (!config.speculate || !config.canRewind || config.deterministic) return best;
  if (config.speculateAdapted === false && decoding[0]?.request.adapters !== undefined) return best;
  if (decoding.some((r) => !isLastKnown(r.request, r.length))) return best;
  if (!decoding.some(({ request }) => request.drafts?.guesses === true)) return best;
  const longest = Math.max(...decoding.map((r) => r.length));
  const alone = decoding.length === 1 && best.layout.plugs.length === 0;
  if (alone && longest > config.speculateAloneTokens) return best;
  const hitRates = decoding.map(({ request }) => request.drafts?.hitRate ?? 0);
  const rate = ({ layout, drafts }: DraftPlan, tokens: number): number =>
    tokens / decodeCallMs(cost, layout.passWidths, drafts);
  let bestRate = rate(best, decoding.length) * WORTH_GUESSING;
  for (const drafts of DRAFT_LENGTHS) {
    if (longest + 1 + drafts > config.contextTokens) break;
    const layout = layoutOf(state, decoding, length, drafts);
    if ((decoding.length + layout.plugs.length) * (1 + drafts) > config.batchTokens) break;
    let tokens = decoding.length;
    decoding.forEach(({ request }, i) => {
      const wanted = Math.min(drafts, request.maxNew - request.output.length - 1);
      if (wanted > 0 && request.drafts?.guesses === true) tokens += expectedHits(hitRates[i] ?? 0, wanted);
    });
    const plan = { layout, drafts };
    if (rate(plan, tokens) > bestRate) {
      best = plan;
      bestRate = rate(plan, tokens);
    }
  }
  return best;
}

/** Each guess counts only when all before it were right. */
function expectedHits(hitRate: number, drafts: number): number {
  let chance = 1;
  let hits = 0;
  for (let i = 0; i < drafts; i++) hits += chance *= hitRate;
  return hits;
}

function layoutOf(
  state: SchedulerState,
  decoding: readonly Running[],
  length: (slot: SlotId) => number,
  drafts: number,
): DecodeLayout {
  const { config, cost } = state;
  // A pass reads as many cells of each slot as its longest one has: a longer slot would slow the others down.
  const longest = Math.max(...decoding.map((r) => r.length));
  const slots = decoding.map((r) => r.slot);
  const canPlug = (slot: SlotId): boolean => mayPlug(config) && length(slot) <= longest;
  const cheapest = decodeLayout(slots, canPlug, (width) => decodePassMs(cost, width, drafts));
  if (!config.deterministic) return cheapest;
  const mayHold = (slot: SlotId): boolean =>
    config.canRewind &&
    slot >= 0 &&
    slot < config.slots &&
    !slots.includes(slot) &&
    length(slot) < config.contextTokens;
  return withoutLoneSlots(slots, cheapest, mayHold);
}
