/**
 * Decides one step: who gets a slot, and which native calls run. Pure: the same state gives the same plan.
 *
 * Decode comes first, for every request that can. Prefill gets the time that the inter-token target leaves,
 * in whole cells of a fixed grid, so that no output depends on who else is being served. When decode leaves
 * no room for a cell, prefill saves up the room that there is, or a share of the time, and spends it a cell at a time.
 * After the death of an engine streams stand still until they are computed again, which then goes before the target of
 * those that go on already.
 *
 * A step computes with one set of adapters: of requests with different ones those run whose turn it is.
 */
import { nextTurn } from "./adapter-turns.ts";
import { admit, runningRequests } from "./admission.ts";
import { isBranch, isStop } from "./checkpoint-plan.ts";
import { prefillCallMs } from "./cost-model.ts";
import { decodeCall } from "./decode-call.ts";
import { joined, longestCall } from "./joined-cells.ts";
import { chooseOffload, isAway } from "./offload.ts";
import { prefillCellEnd, prefillEnd } from "./prefill-cells.ts";
import { inPrefillOrder } from "./prefill-order.ts";
import type { RequestId } from "../protocol.ts";
import type { Turn } from "./adapter-turns.ts";
import type { Running } from "./admission.ts";
import type { Branch, PlannedCall, ScheduledRequest, SchedulerState, StepPlan } from "./types.ts";

/** Bounds the calls of one step, whatever the cost model believes. */
const MOST_CELLS_PER_STEP = 64;

/** Time for computing again what an engine has taken with it, relative to decode's beside it. */
export const REPLAY_SHARE = 9;

/** A cell whose logits are all wanted takes about this many times as long, reading included. */
const READING_COST = 2;

/** By this part of the inter-token target a step may be too long where that ends the prompt of an owner without a stream. */
export const LAST_CELL_SHARE = 1 / 8;

export function planStep(state: SchedulerState, nowMs: number): StepPlan {
  const why: string[] = [];
  const running = runningRequests(state);
  const admission = admit(state, running, nowMs, why);
  const { expected, holds, keepingMs } = admission;
  if (admission.assignments.length > 0) running.sort((a, b) => a.slot - b.slot);

  const calls: PlannedCall[] = [];
  // The first is nearly always so and sooner found out; it is no less than the second.
  const decodes = ({ request, length }: Running): boolean =>
    length >= knownTokens(request) - 1 || length >= prefillEnd(request, state.config);
  const turn = nextTurn(
    state,
    running.filter(({ request }) => !request.paused && !isAway(state, request)),
    why,
  );
  const decoding: Running[] = [];
  const prompts: Running[] = [];
  for (const one of turn.running) (decodes(one) ? decoding : prompts).push(one);
  if (decoding.length > 0) calls.push(decodeCall(state, decoding, running));

  // Who is expected in a moment, and has had less, does not wait for a cell that others begin just now.
  const waits = ({ request }: Running): boolean =>
    expected.size > 0 && decoding.length > 0 && !expected.has(request.tenant);
  const computable = prompts.filter((one) => !waits(one));
  const ordered = inPrefillOrder(state, computable, admission.lent, nowMs);
  const offload = chooseOffload(state, ordered, decoding.length > 0);
  if (offload !== undefined) why.push(`the prefill worker computes ${offload.request}`);
  const prefilling = ordered.filter(({ request }) => request.id !== offload?.request);
  const decodeMs = calls[0] && calls[0].predictedMs + turn.switchMs;
  const times = { decodeMs, keepingMs, creditMs: turn.creditMs, branches: admission.branches, decoding };
  const prefill = planPrefill(state, prefilling, times, why);
  const newcomer =
    decodeMs === undefined ? undefined : newOwnersPrompt(state, turn, prefill.calls, keepingMs + decodeMs);
  if (newcomer !== undefined) {
    calls.length = 0;
    why.push(`decode rests once for the prompt of ${newcomer}`);
  }
  calls.push(...joined(state, prefill.calls));
  // Field by field: most steps admit nobody, and copying what is empty takes longer than finding that out.
  const plan: StepPlan = {
    evictions: admission.evictions,
    assignments: admission.assignments,
    held: admission.held,
    kept: admission.kept,
    passedOver: admission.passedOver,
    branches: admission.branches,
    boundary: admission.boundary,
    keepingMs,
    calls: withAdapters(calls, turn),
    turns: turn.turns,
    prefillCreditMs: prefill.creditMs,
    why,
  };
  const begun = holds.length === 0 ? plan : { ...plan, holds };
  return offload === undefined ? begun : { ...begun, offload };
}

/**
 * The prompt of an owner who has no stream, for which streams rest that have just had their tokens: they wait as long for
 * its cells in front of their next tokens as for cells behind them, and it waits for one decode less.
 * @param besideMs What else the step would take.
 */
function newOwnersPrompt(
  state: SchedulerState,
  { running, turns }: Turn,
  cells: readonly PlannedCall[],
  besideMs: number,
): RequestId | undefined {
  if (cells.length === 0 || state.justDecoded !== turns.current) return undefined;
  const next = state.requests.get(cells[0]?.entries[0]?.request ?? "");
  if (next === undefined) return undefined;
  // Who waits for a first token is no better off than the newcomer.
  const mustDecode = running.some(
    ({ request, length }) =>
      length >= prefillEnd(request, state.config) &&
      (request.tenant === next.tenant || request.output.length === 0),
  );
  const cellsMs = cells.reduce((ms, { predictedMs }) => ms + predictedMs, 0);
  return !mustDecode && cellsMs + besideMs <= state.config.itlTargetMs ? next.id : undefined;
}

/** What changing the adapters takes is in the first call; nothing is learnt of such a call. */
function withAdapters(calls: readonly PlannedCall[], { running, switchMs }: Turn): readonly PlannedCall[] {
  const adapters = running[0]?.request.adapters;
  if (adapters === undefined && switchMs === 0) return calls;
  return calls.map((call, i) => {
    const applied = adapters === undefined ? call : { ...call, adapters };
    if (i > 0 || switchMs === 0) return applied;
    return { ...applied, predictedMs: call.predictedMs + switchMs, unscaledMs: 0 };
  });
}

/** Prompt and output tokens so far. */
export function knownTokens(request: ScheduledRequest): number {
  return request.prompt.length + request.output.length;
}

/** What of a step is given before its prefill is planned; times in ms. */
interface Given {
  /** Undefined where nobody waits for a token. */
  readonly decodeMs: number | undefined;
  /** Of prefixes and checkpoints that are written and read. */
  readonly keepingMs: number;
  /** Saved up for a cell. */
  readonly creditMs: number;
  /** Where prompts have to stop from now on. */
  readonly branches: readonly Branch[];
  /** Who has a token in this step. */
  readonly decoding: readonly Running[];
}

/** Whole grid cells, first request first, as many as the inter-token target or the credit allows. */
function planPrefill(
  state: SchedulerState,
  prefilling: readonly Running[],
  { decodeMs, keepingMs, creditMs: savedMs, branches, decoding }: Given,
  why: string[],
): { calls: PlannedCall[]; creditMs: number } {
  if (prefilling.length === 0) return { calls: [], creditMs: 0 };
  const all = gridCells(state, prefilling, branches);
  // Nobody waits for a token: one call, then look again at who has come and gone.
  if (decodeMs === undefined) return { calls: longestCall(state, all), creditMs: 0 };
  const calls: PlannedCall[] = [];
  let creditMs = savedMs;
  let roomMs = state.config.itlTargetMs - keepingMs - decodeMs;
  // Paid for like any cell, with a larger share: what a long cell takes too much is missing afterwards.
  let replayMs = savedMs + Math.max(REPLAY_SHARE * decodeMs, roomMs);
  const mostOverMs = LAST_CELL_SHARE * state.config.itlTargetMs;
  /** Cells up to the end of the first prompt of an owner without a stream. */
  let newcomersCells: number | undefined;
  for (const { cell, interrupted } of all) {
    if (interrupted) {
      if (cell.predictedMs > replayMs || calls.length === MOST_CELLS_PER_STEP) {
        creditMs = Math.max(0, Math.min(replayMs, cell.predictedMs));
        break;
      }
      replayMs -= cell.predictedMs;
      roomMs -= cell.predictedMs;
      calls.push(cell);
      creditMs = 0;
      continue;
    }
    const endsNewcomers = newcomersCells === undefined && endsNewOwnersPrompt(state, cell, decoding);
    const mostMs = endsNewcomers ? roomMs + mostOverMs : roomMs;
    if (cell.predictedMs > mostMs || calls.length === MOST_CELLS_PER_STEP) {
      if (calls.length > 0) break;
      // A cell that is a little too long comes every other step rather than never: steps keep the target on average.
      creditMs += Math.max(state.config.minPrefillShare * decodeMs, roomMs);
      if (creditMs < cell.predictedMs) {
        why.push(
          `prefill waits: ${cell.predictedMs.toFixed(1)} ms do not fit, credit ${creditMs.toFixed(1)}`,
        );
        break;
      }
      why.push("prefill spends its credit");
      return { calls: [cell], creditMs: 0 };
    }
    roomMs -= cell.predictedMs;
    // Behind a cell for somebody else, who is of a higher class, a replay gets no more than what fits.
    replayMs = Math.min(replayMs, roomMs);
    calls.push(cell);
    creditMs = 0;
    if (endsNewcomers) newcomersCells = calls.length;
  }
  // Not where the step before did it for who has a first token now: one newcomer behind the other would keep prompts waiting.
  if (newcomersCells !== undefined && !decoding.some(({ request }) => request.output.length === 0)) {
    const begun = new Set(calls.slice(0, newcomersCells).map(({ entries: [entry] }) => entry?.request));
    const waiting = prefilling.filter(({ request }) => !begun.has(request.id)).length;
    const behindMs = calls.slice(newcomersCells).reduce((ms, { predictedMs }) => ms + predictedMs, 0);
    // Its first token comes with the next decode: what would be computed before that waits for it, if that is cheaper.
    if (behindMs > waiting * decodeMs) calls.length = newcomersCells;
  }
  return { calls, creditMs };
}

/** Whether the cell is the last one of a prompt whose owner has no stream. */
function endsNewOwnersPrompt(
  state: SchedulerState,
  { entries: [entry] }: PlannedCall,
  decoding: readonly Running[],
): boolean {
  const request = state.requests.get(entry?.request ?? "");
  if (request === undefined || entry === undefined) return false;
  return (
    entry.position + entry.tokens.length === prefillEnd(request, state.config) &&
    !decoding.some((one) => one.request.tenant === request.tenant)
  );
}

/** The cells still to compute: cut by `prefillCellEnd`, never by what fits. */
function* gridCells(
  state: SchedulerState,
  prefilling: readonly Running[],
  branches: readonly Branch[],
): Generator<{ readonly cell: PlannedCall; readonly interrupted: boolean }> {
  const grid = state.config.prefillChunk;
  for (const { request, slot, length } of prefilling) {
    const end = prefillEnd(request, state.config);
    let position = length;
    while (position < end) {
      const cellEnd = prefillCellEnd(position, request, state.config);
      const tokens = knownSlice(request, position, cellEnd);
      const everyLogit = request.readsPrompt && position < request.prompt.length - 1;
      const predictedMs =
        prefillCallMs(state.cost, tokens.length, position) * (everyLogit ? READING_COST : 1);
      const entry = { slot, request: request.id, position, tokens, sample: false };
      const cell: PlannedCall = {
        kind: "prefill",
        entries: [everyLogit ? { ...entry, everyLogit } : entry],
        tokens: tokens.length,
        drafts: 0,
        tokenCells: tokens.length * position,
        passes: 1,
        predictedMs,
        unscaledMs: everyLogit ? 0 : predictedMs / state.cost.prefillScale,
      };
      yield { cell, interrupted: request.interrupted };
      position = cellEnd;
      if (state.checkpoints === undefined) continue;
      // A checkpoint is taken when the next step begins.
      if (isStop(request, position, grid) || isBranch(branches, request.id, position)) break;
    }
  }
}

function knownSlice(request: ScheduledRequest, start: number, end: number): Uint32Array {
  const promptLength = request.prompt.length;
  if (end <= promptLength) return request.prompt.subarray(start, end);
  const tokens = new Uint32Array(end - start);
  for (let i = start; i < end; i++)
    tokens[i - start] = (i < promptLength ? request.prompt[i] : request.output[i - promptLength]) ?? 0;
  return tokens;
}
