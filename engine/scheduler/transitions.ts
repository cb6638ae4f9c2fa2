/**
 * Every change of the scheduler's state but pauses and classes: submit, cancel, begin a step, complete a
 * call, release.
 *
 * Deterministic and free of effects outside the state; times and sampled tokens come in as arguments. Each
 * request leaves through `release`, so a slot cannot be leaked or freed twice.
 */
import { EngineError } from "../errors.ts";
import { NO_TURNS, chargeTurn } from "./adapter-turns.ts";
import { endAppointment, noAppointments } from "./appointments.ts";
import {
  beginCheckpoint,
  checkpointState,
  forgetOrphans,
  forgetBeyond,
  shareCheckpoints,
} from "./checkpoint-transitions.ts";
import { refinedByDecode, refinedByPrefill } from "./cost-model.ts";
import { addDeadlines } from "./deadlines.ts";
import { followToken, restDraftModel, takeDraftSlot } from "./draft-model.ts";
import { DraftIndex } from "./draft-index.ts";
import { checkRoom, checkWorth, tokensToCompute } from "./entry.ts";
import { UNSHARED } from "./device-share.ts";
import { leastPromptMs } from "./forecast.ts";
import { askedTokens, noteGiven } from "./lost-prefixes.ts";
import { FIRST_MARGIN, noteNoToken } from "./forecast-margin.ts";
import { notePassed } from "./prefill-order.ts";
import { PrefixMark } from "./prefix-tree.ts";
import { isKept } from "./prefix-value.ts";
import { prefixTree } from "./slot-prefixes.ts";
import { noteResidence } from "./slot-times.ts";
import {
  chargeOutput,
  noOwners,
  ownerOf,
  startRunning,
  startWaiting,
  stopRunning,
  stopWaiting,
} from "./owners.ts";
import { noGuesses } from "./guess-record.ts";
import { adjacentWidths } from "./passes.ts";
import { knownTokens } from "./plan-step.ts";
import { longPlaces } from "./reserve.ts";
import { noteAsked, noteEnded, noteTaken } from "./returns.ts";
import { keptCells, passMarksOn } from "./kept-marks.ts";
import { beginOffload, noOffload } from "./offload.ts";
import { sourceOf } from "./step-effects.ts";
import { beginSpill, spillState } from "./spill-transitions.ts";
import type { AdapterSet } from "../adapters.ts";
import type { DecodeShape } from "./cost-model.ts";
import type { RequestId, TokenId } from "../protocol.ts";
import type {
  CostModel,
  PlannedCall,
  PlannedEntry,
  ScheduledRequest,
  SchedulerConfig,
  SchedulerState,
  Slot,
  SlotId,
  StepPlan,
} from "./types.ts";

/** @throws {RangeError} Where no slot is left for long prompts. */
export function createState(config: SchedulerConfig, cost: CostModel): SchedulerState {
  if (longPlaces(config) < 1)
    throw new RangeError(
      `Of ${config.slots} slots ${config.reserve?.slots} cannot be kept for short prompts: long ones need one.`,
    );
  const slots = Array.from({ length: config.slots }, (_, id): Slot => ({
    id,
    owner: undefined,
    holder: undefined,
    tokens: new Uint32Array(config.contextTokens),
    length: 0,
    firstCell: 0,
    cacheKey: "",
    gridEnd: 0,
    tailEnd: 0,
    lastUseMs: 0,
    hits: 0,
    keepUntilMs: 0,
    askedTokens: 0,
    ended: undefined,
    followers: [],
    checkpoints: [],
    mark: new PrefixMark(),
  }));
  return {
    config,
    texts: undefined,
    draft: undefined,
    guessed: noGuesses(),
    slots,
    prefixes: prefixTree(slots, config),
    requests: new Map(),
    queue: new Map(),
    ...noOwners(config),
    virtualFloor: 0,
    residenceMs: undefined,
    residenceOf: { long: undefined, short: undefined },
    tokenMs: undefined,
    itlMs: undefined,
    outputShare: undefined,
    outputMiss: 0,
    residenceMiss: 0,
    computedShare: 1,
    margin: FIRST_MARGIN,
    marginTaughtMs: 0,
    appointments: noAppointments(),
    deadlines: [],
    spill: spillState(config, cost),
    checkpoints: checkpointState(config, cost),
    offload: noOffload(),
    inCopies: new Set(),
    cost,
    deviceShare: { ...UNSHARED },
    prefillCreditMs: 0,
    turns: NO_TURNS,
    justDecoded: undefined,
    sinceDecodeMs: 0,
    nextArrival: 0,
  };
}

export type NewRequest = Pick<
  ScheduledRequest,
  "id" | "tenant" | "priority" | "prompt" | "cacheKey" | "reusePrefix" | "readsPrompt"
> & {
  /** Absent is 0. */
  readonly keepMs?: number;
  /** Undefined: to the end of the context. Larger values are cut to it. */
  readonly maxTokens: number | undefined;
  /** Output that exists already; empty for a new request. */
  readonly resume: Uint32Array;
  /** What its calls are computed with; absent is the model alone. */
  readonly adapters?: AdapterSet | undefined;
  /** As `ChoiceOf.repeatsPrompt`; absent is no. */
  readonly repeatsPrompt?: boolean;
  /** What the client expects as the output; absent when it has not said. */
  readonly predicted?: Uint32Array;
  /** Whether it is to wait until it is resumed; absent is no. */
  readonly paused?: boolean;
  /** Tells who comes back after a refusal, see appointments.ts; absent is the id. */
  readonly visitor?: () => string;
  /** See `Visitor`. */
  readonly returnsWithinMs?: number | undefined;
  /** Whether it has been let in before and is not refused now; absent is no. */
  readonly accepted?: boolean;
  /** From now on, in ms: when its first token is of no use any more, and when it has to end; absent is never. */
  readonly firstTokenWithinMs?: number | undefined;
  readonly endWithinMs?: number | undefined;
};

/**
 * Puts a request at the end of its owner's line.
 * @returns Requests that are ahead of it in the queue and not about to get a free slot.
 * @throws {EngineError} `invalid_request` for a known id and for a resumed request that has all its tokens, `empty_prompt`, `context_exceeded`; for a new request what `checkRoom` and `checkWorth` throw.
 */
export function submit(state: SchedulerState, request: NewRequest, nowMs: number): number {
  const { config, requests } = state;
  if (requests.has(request.id))
    throw new EngineError("invalid_request", `Request id "${request.id}" is in use.`);
  const promptTokens = request.prompt.length;
  if (promptTokens === 0) throw new EngineError("empty_prompt", "The prompt has no tokens.");
  if (promptTokens >= config.contextTokens) {
    const message = `The prompt has ${promptTokens} tokens, a slot holds ${config.contextTokens}, and at least one is needed for the output.`;
    throw new EngineError("context_exceeded", message, {
      promptTokens,
      contextTokens: config.contextTokens,
    });
  }
  const { id, tenant, priority, maxTokens, resume, firstTokenWithinMs, endWithinMs } = request;
  const { visitor = () => id, returnsWithinMs } = request;
  const who = { tenant, priority, visitor, returnsWithinMs };
  const known = request.accepted === true;
  const ahead = known ? state.queue.size : checkRoom(state, { ...who, promptTokens }, nowMs);
  const room = config.contextTokens - promptTokens;
  const maxNew = Math.min(maxTokens ?? room, room);
  if (resume.length >= maxNew && resume.length > 0)
    throw new EngineError("invalid_request", `Request "${id}" has all its tokens already.`);
  const computedTokens = tokensToCompute(state, request);
  const reusedTokens = promptTokens - computedTokens;
  const countedTokens = request.repeatsPrompt === true ? 0 : promptTokens;
  const newcomer = { ...who, countedTokens, computedTokens, reusedTokens, maxNew };
  const firstTokenMs = Math.min(firstTokenWithinMs ?? Infinity, endWithinMs ?? Infinity);
  const forecastMs =
    known || request.paused === true ? undefined : checkWorth(state, newcomer, firstTokenMs, nowMs);
  if (!known) endAppointment(state, who, nowMs);
  // Field by field: of an object that begins as a copy V8 keeps most fields elsewhere, and every step reads them.
  const scheduled: ScheduledRequest = {
    id,
    tenant,
    owner: ownerOf(state, tenant),
    priority,
    prompt: request.prompt,
    cacheKey: request.cacheKey,
    adapters: request.adapters,
    reusePrefix: request.reusePrefix,
    keepMs: request.keepMs ?? 0,
    readsPrompt: request.readsPrompt,
    countedTokens,
    maxNew,
    arrival: state.nextArrival++,
    arrivalMs: nowMs,
    waitingSinceMs: nowMs,
    output: [...resume],
    predicted: request.predicted ?? new Uint32Array(0),
    drafts: undefined,
    phase: "queued",
    slot: undefined,
    admittedMs: undefined,
    firstTokenMs: undefined,
    restedBeforeMs: 0,
    cachedTokens: 0,
    cachedFrom: "slot",
    heldSinceMs: undefined,
    hold: undefined,
    reachedTokens: resume.length > 0 ? promptTokens + resume.length - 1 : 0,
    cancelled: false,
    paused: request.paused ?? false,
    pausedSinceMs: nowMs,
    pausedMs: 0,
    interrupted: resume.length > 0,
    charged: resume.length > 0,
    skips: 0,
    overtaken: 0,
    evictions: 0,
    evictedMs: -Infinity,
    startByMs: nowMs + firstTokenMs - leastPromptMs(state, newcomer),
    firstTokenByMs: nowMs + firstTokenMs,
    endByMs: nowMs + (endWithinMs ?? Infinity),
    forecastMs,
    branches: [],
    heapIndex: -1,
  };
  requests.set(id, scheduled);
  startWaiting(state, scheduled);
  addDeadlines(state, scheduled);
  noteAsked(state, scheduled, nowMs);
  return Math.max(0, ahead - 1);
}

/** Marks a request as unwanted. A waiting one is gone at once, a running one at the next boundary. */
export function cancel(state: SchedulerState, id: RequestId, nowMs: number): void {
  const request = state.requests.get(id);
  if (request === undefined) return;
  request.cancelled = true;
  if (request.phase === "queued") release(state, request, nowMs);
}

/** Releases what was cancelled while a native call ran. Only between calls. */
export function releaseCancelled(state: SchedulerState, nowMs: number): RequestId[] {
  const released: RequestId[] = [];
  for (const { holder: request } of state.slots) {
    if (request?.cancelled !== true) continue;
    release(state, request, nowMs);
    released.push(request.id);
  }
  return released;
}

/** Takes a request out of the state; its slot keeps its cells as a resident prefix. */
export function release(state: SchedulerState, request: ScheduledRequest, nowMs: number): void {
  if (!state.requests.delete(request.id)) return;
  noteNoToken(state, request, nowMs);
  if (request.phase === "queued") stopWaiting(state, request);
  else {
    stopRunning(state, request);
    noteResidence(state, request, nowMs);
  }
  const slot = request.slot === undefined ? undefined : state.slots[request.slot];
  request.slot = undefined;
  request.drafts = undefined;
  if (slot?.owner !== request.id) return;
  slot.owner = undefined;
  slot.holder = undefined;
  slot.lastUseMs = nowMs;
  slot.askedTokens = askedTokens(request, slot);
  if (!request.cancelled && request.output.length > 0) noteEnded(state, request, slot, nowMs);
}

/** Takes a running request's slot away: it waits again, with its place by arrival and its output kept. */
function evict(state: SchedulerState, request: ScheduledRequest, nowMs: number): void {
  const slot = request.slot === undefined ? undefined : state.slots[request.slot];
  if (slot === undefined || slot.owner !== request.id)
    throw new EngineError("internal", `Request "${request.id}" has no slot to lose.`);
  slot.owner = undefined;
  slot.holder = undefined;
  slot.lastUseMs = nowMs;
  request.slot = undefined;
  request.drafts = undefined;
  request.phase = "queued";
  request.heldSinceMs = undefined;
  request.hold = undefined;
  request.evictions += 1;
  request.evictedMs = nowMs;
  request.waitingSinceMs = nowMs;
  // Waiting first, or its owner would be idle in between.
  startWaiting(state, request);
  stopRunning(state, request);
}

/** Carries out the evictions and assignments of a plan. The caller applies `plan.boundary` to the cells. */
export function beginStep(state: SchedulerState, plan: StepPlan, nowMs: number): void {
  state.prefillCreditMs = plan.prefillCreditMs;
  state.turns = plan.turns;
  for (const { request: id } of plan.evictions) {
    const request = state.requests.get(id);
    if (request !== undefined) evict(state, request, nowMs);
  }
  for (const id of plan.passedOver) {
    const request = state.requests.get(id);
    if (request !== undefined) request.skips += 1;
  }
  for (const hold of plan.holds ?? []) {
    const request = state.requests.get(hold.request);
    if (request !== undefined) request.hold = hold;
  }
  for (const { request: id, position } of plan.branches) state.requests.get(id)?.branches.push(position);
  const kept = keptCells(state, plan, nowMs);
  noteGiven(state, plan);
  for (const operation of plan.boundary) {
    if (operation.type === "copy") copySlot(state, operation.from, operation.to);
    beginSpill(state, operation, nowMs);
    beginCheckpoint(state, operation, nowMs);
  }
  for (const assignment of plan.assignments) {
    const { request: id, slot: slotId, reuse, copyFrom } = assignment;
    const request = state.requests.get(id);
    const slot = state.slots[slotId];
    if (request === undefined || slot === undefined || slot.owner !== undefined)
      throw new EngineError("internal", `Slot ${slotId} cannot be given to request "${id}".`);
    noteTaken(slot);
    startRunning(state, request, reuse);
    stopWaiting(state, request);
    // A template's first tokens kept out of a long conversation say nothing of its worth.
    const reused = reuse > 0 && reuse * 2 >= slot.length;
    const hits = reused ? slot.hits + 1 : 0;
    const source = copyFrom === undefined ? undefined : state.slots[copyFrom];
    const wanted = source !== undefined && isKept(source, request, reuse, nowMs) ? 0 : request.keepMs;
    const keepUntilMs = Math.max(reused ? slot.keepUntilMs : 0, wanted > 0 ? nowMs + wanted : 0);
    truncateSlot(slot, reuse);
    slot.owner = id;
    slot.holder = request;
    slot.cacheKey = request.cacheKey;
    slot.hits = hits;
    slot.keepUntilMs = keepUntilMs;
    slot.lastUseMs = nowMs;
    request.slot = slotId;
    request.admittedMs = nowMs;
    request.restedBeforeMs = state.offload.restedMs;
    request.pausedMs = 0;
    request.cachedTokens = reuse;
    request.cachedFrom = sourceOf(assignment);
    request.reachedTokens = Math.max(request.reachedTokens, reuse);
    if (state.config.speculate)
      request.drafts = new DraftIndex(request.predicted, request.prompt, request.output, state.texts);
    if (state.draft !== undefined) takeDraftSlot(state.draft, slotId, request);
    request.phase = reuse === knownTokens(request) - 1 ? "decode" : "prefill";
  }
  passMarksOn(state, plan, kept);
  forgetOrphans(state);
  beginOffload(state, plan.offload);
}

/** Whether the entry still belongs to a request that wants it. Plugs belong to nobody. */
export function isCurrent(state: SchedulerState, entry: PlannedEntry): boolean {
  const holder = state.slots[entry.slot]?.holder;
  return holder !== undefined && holder.id === entry.request && !holder.cancelled;
}

/** Records that a call has run, so that the slots' tokens say what the cells hold. */
export function completeCall(state: SchedulerState, call: PlannedCall, observedMs: number): void {
  const before = state.cost;
  if (call.kind === "prefill") state.cost = refinedByPrefill(state.cost, call, observedMs);
  else if (call.unscaledMs > 0) state.cost = refinedByDecode(state.cost, shapeOf(call), observedMs);
  chargeTurn(state, call, observedMs);
  state.justDecoded = call.kind === "decode" ? (call.adapters?.key ?? "") : undefined;
  state.sinceDecodeMs = call.kind === "decode" ? 0 : state.sinceDecodeMs + observedMs;
  if (state.draft !== undefined && call.kind === "decode" && !call.entries.some(({ byModel }) => byModel))
    restDraftModel(state.draft, before, state.cost);
  state.inCopies.clear();
  for (const entry of call.entries) {
    if (entry.request === undefined) continue;
    const slot = state.slots[entry.slot];
    if (slot === undefined || slot.length !== entry.position)
      throw new EngineError("internal", `Slot ${entry.slot} does not end at position ${entry.position}.`);
    // Most entries are one token, for which a bulk copy costs more than the token.
    if (entry.tokens.length === 1) slot.tokens[entry.position] = entry.tokens[0] ?? 0;
    else slot.tokens.set(entry.tokens, entry.position);
    slot.length += entry.tokens.length;
    if (call.kind === "prefill") notePrefillShape(slot, entry, state.config.prefillChunk);
    const request = slot.holder;
    // Guesses are not known tokens yet.
    const reached = call.kind === "decode" ? entry.position + 1 : slot.length;
    if (request !== undefined && request.reachedTokens < reached) request.reachedTokens = reached;
    if (request?.phase !== "prefill" || slot.length < knownTokens(request) - 1) continue;
    request.phase = "decode";
    notePassed(state, request);
  }
}

function shapeOf({ entries, drafts, tokenCells, adapters }: PlannedCall): DecodeShape {
  return { passWidths: adjacentWidths(entries), drafts, tokenCells, adapters: adapters?.key };
}

/** Adds a sampled token. The caller decides whether it ends the request. */
export function appendToken(state: SchedulerState, request: ScheduledRequest, token: TokenId): void {
  if (state.draft !== undefined && request.slot !== undefined)
    followToken(state.draft, request.slot, knownTokens(request), token);
  request.interrupted = false;
  request.output.push(token);
  request.drafts?.push(token);
  chargeOutput(state, request);
}

/** The copied cells were computed in the same shapes, and whoever copies a prefix shows that it is wanted. */
function copySlot({ slots, inCopies }: SchedulerState, from: SlotId, to: SlotId): void {
  const source = slots[from];
  const target = slots[to];
  if (source === undefined || target === undefined || target.owner !== undefined)
    throw new EngineError("internal", `The cells of slot ${from} cannot be copied to slot ${to}.`);
  target.tokens.set(source.tokens.subarray(0, source.length));
  target.length = source.length;
  target.firstCell = source.firstCell;
  target.gridEnd = source.gridEnd;
  target.tailEnd = source.tailEnd;
  shareCheckpoints(source, target);
  source.hits += 1;
  target.hits = 0;
  target.keepUntilMs = 0;
  inCopies.add(from).add(to);
}

/** Forgets cells from `length` on, as after a failed call. The caller truncates the cells themselves. */
export function truncateSlot(slot: Slot, length: number): void {
  forgetBeyond(slot, length);
  slot.length = length;
  slot.gridEnd = Math.min(slot.gridEnd, length);
  if (slot.tailEnd > length) slot.tailEnd = slot.gridEnd;
  if (length > 0) return;
  slot.hits = 0;
  slot.keepUntilMs = 0;
  slot.firstCell = 0;
}

/** Remembers which cells any cold prefill would compute in the same shapes. */
function notePrefillShape(slot: Slot, entry: PlannedEntry, grid: number): void {
  const end = entry.position + entry.tokens.length;
  if (entry.position !== slot.gridEnd || entry.position % grid !== 0) return;
  if (entry.tokens.length % grid === 0) slot.gridEnd = end;
  slot.tailEnd = end;
}
