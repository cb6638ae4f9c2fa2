/**
 * Plans the decode call of a step: a token for every request that can decode, throw-away tokens that close gaps
 * between their slots, and guessed tokens behind them where checking those is cheaper than a step for each.
 */
import { decodeCallMs } from "./cost-model.ts";
import { cellsOf } from "./decode-layout.ts";
import { isLastKnown, knownToken, planDrafts } from "./draft-length.ts";
import { adjacentRuns } from "./passes.ts";
import type { Running } from "./admission.ts";
import type { DraftPlan } from "./draft-length.ts";
import type { PlannedCall, PlannedEntry, SchedulerState, SlotId } from "./types.ts";

/** The throw-away token, also behind a guess that is too short; which one it is does not matter. */
const PLUG_TOKEN = 0;

/**
 * @param decoding The requests whose slots hold all they know but the last token; at least one.
 * @param running Those and all others that hold a slot, with their lengths in this step.
 */
export function decodeCall(
  state: SchedulerState,
  decoding: readonly Running[],
  running: readonly Running[],
): PlannedCall {
  let lengths: number[] | undefined;
  // Only gaps between decoding slots ask.
  const length = (slot: SlotId): number => (lengths ??= slotLengths(state, running))[slot] ?? 0;
  const plan = planDrafts(state, decoding, length);
  const { layout, drafts, drafting, promise } = plan;
  const plugs = plugEntries(plan, length);
  const entries: PlannedEntry[] = [];
  let plugged = 0;
  for (const one of decoding) {
    for (let plug = plugs[plugged]; plug !== undefined && plug.slot < one.slot; plug = plugs[++plugged])
      entries.push(plug);
    entries.push(decodeEntry(one, plan));
  }
  if (plugged < plugs.length) entries.push(...plugs.slice(plugged));
  if (state.config.deterministic) giveLogitsCompany(entries);
  let cells = cellsOf(decoding);
  for (const { position } of plugs) cells += position;
  const callMs = decodeCallMs(state.cost, layout.passWidths, drafts, cells);
  return {
    kind: "decode",
    entries,
    tokens: entries.length * (1 + drafts),
    drafts,
    tokenCells: cells * (1 + drafts),
    ...(drafting === undefined ? {} : { drafting }),
    ...(promise === undefined ? {} : { promise }),
    passes: layout.passWidths.length,
    predictedMs: callMs + (drafting?.predictedMs ?? 0),
    unscaledMs: callMs / (drafts > 0 ? state.cost.draftScale : state.cost.decodeScale),
  };
}

/**
 * What a pass computes behind its last attention it computes for the tokens alone whose logits are wanted, and for a single
 * one in another kernel than for several. So nobody's are the only ones, where there is a neighbour.
 */
function giveLogitsCompany(entries: PlannedEntry[]): void {
  for (const { first, last } of adjacentRuns(entries.map(({ slot }) => slot))) {
    const pass = entries.filter(({ slot }) => slot >= first && slot <= last);
    if (pass.filter(({ sample }) => sample).length !== 1) continue;
    const spare = entries.findIndex(({ slot, sample }) => slot >= first && slot <= last && !sample);
    const entry = entries[spare];
    if (entry !== undefined) entries[spare] = { ...entry, spareLogit: true };
  }
}

function plugEntries(
  { layout: { plugs }, drafts }: DraftPlan,
  length: (slot: SlotId) => number,
): readonly PlannedEntry[] {
  if (plugs.length === 0) return NO_ENTRIES;
  const tokens = new Uint32Array(1 + drafts).fill(PLUG_TOKEN);
  return plugs.map((slot) => ({ slot, request: undefined, position: length(slot), tokens, sample: false }));
}

const NO_ENTRIES: readonly PlannedEntry[] = [];

/** In this step, whoever has the slot. */
function slotLengths({ slots }: SchedulerState, running: readonly Running[]): number[] {
  const lengths = slots.map((slot) => slot.length);
  for (const { slot, length } of running) lengths[slot] = length;
  return lengths;
}

function decodeEntry({ request, slot, length }: Running, { drafts, byModel }: DraftPlan): PlannedEntry {
  const tokens = new Uint32Array(1 + drafts);
  if (drafts > 0) tokens.fill(PLUG_TOKEN);
  tokens[0] = knownToken(request, length);
  const entry = { slot, request: request.id, position: length, tokens, sample: isLastKnown(request, length) };
  if (drafts === 0) return entry;
  if (byModel.has(slot)) return { ...entry, everyLogit: true, guesses: 0, byModel: true };
  const guesses = request.drafts?.propose(drafts) ?? [];
  tokens.set(guesses, 1);
  const ofPrediction = request.drafts?.followsPrediction ?? false;
  return { ...entry, everyLogit: true, guesses: guesses.length, ofPrediction };
}
