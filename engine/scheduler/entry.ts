/**
 * Whether a request is let in at all: refused at once, with the time after which another try is worth it, rather
 * than kept waiting for what cannot be had.
 */
import { EngineError } from "../errors.ts";
import type { EngineErrorCode } from "../errors.ts";
import type { Allowance } from "../sharing.ts";
import { dropLapsed, expectedOf, expectedOfOwner, makeAppointment, placesAhead } from "./appointments.ts";
import type { Visitor } from "./appointments.ts";
import { undisturbed } from "./cost-model.ts";
import { UNSHARED, withRecentShare } from "./device-share.ts";
import {
  promptBesideMs,
  predictedRoomMs,
  predictedTtftMs,
  predictedWaitMs,
  ttftOfReturnMs,
} from "./forecast.ts";
import type { Newcomer } from "./forecast.ts";
import { LEAST_MARGIN, noteTooLate } from "./forecast-margin.ts";
import { firstOwnEndMs, ownTurns } from "./own-turns.ts";
import { fairnessOf, policyOf } from "./owners.ts";
import { pinKey } from "./pins.ts";
import { reusableOf } from "./prefix-reuse.ts";
import { isLong, longPlaces, slotsFor } from "./reserve.ts";
import { reusableOfSlots } from "./slot-prefixes.ts";
import { residenceMs } from "./slot-times.ts";
import type { AdapterSet } from "../adapters.ts";
import type { Checkpoint, ScheduledRequest, SchedulerState, SpilledPrefix } from "./types.ts";

/** What is said of later times is a guess. */
const LATEST_TURN_MS = 600_000;
/** Turns far away come a little later than predicted. */
const LATER = 1.1;
/** Where in the time in which it would be let in a refused request is asked back. */
const MIDDLE = 0.5;

/** One of which nothing is known yet. */
const ANY_REQUEST = { computedTokens: 1, maxNew: Infinity };

/**
 * Of the queue and of the owner's part of it, before a prompt is worth tokenizing. Those who were refused before and are
 * due now are among those who wait.
 * @param who With its prompt's length where that is known: where slots are kept for short ones it tells which it may have.
 * @returns How many would wait for a slot if one more request came.
 * @throws {EngineError} `queue_full`, `owner_queue_full`; details: `retryAfterMs`, and the limit.
 */
export function checkRoom(
  state: SchedulerState,
  { promptTokens = 0, ...who }: Visitor & { readonly promptTokens?: number },
  nowMs: number,
): number {
  const { config, queue } = state;
  const { tenant } = who;
  const free = slotsFor(state, promptTokens);
  // What a free slot will take at the next step does not wait.
  const waiting = Math.max(0, queue.size + 1 - free);
  dropLapsed(state, nowMs);
  const room = config.maxQueued + free - queue.size - 1;
  if (room < 0 || room < dueNow(state, who, room, nowMs)) {
    const message = `${config.maxQueued} requests are waiting already.`;
    const newcomer = { ...who, ...ANY_REQUEST };
    const inMs = predictedRoomMs(state, newcomer, Math.max(1, waiting - config.maxQueued), nowMs);
    throw refusal(state, "queue_full", message, { who, nowMs, inMs, queued: queue.size });
  }
  const owner = state.owners.get(tenant);
  const { maxQueued, maxRunning } = policyOf(state, tenant);
  const ownFree = Math.max(0, Math.min(free, maxRunning - (owner?.running ?? 0)));
  if ((owner?.waiting ?? 0) + 1 - ownFree > maxQueued) {
    const message = `${maxQueued} requests of "${tenant}" are waiting already.`;
    throw refusal(state, "owner_queue_full", message, {
      who,
      nowMs,
      inMs: turnBehindOwnMs(state, who, nowMs),
      limit: maxQueued,
      ...allowanceOf(state, tenant, nowMs),
    });
  }
  return waiting;
}

/**
 * Of choices that are submitted together: a time to come back would be of no use. Once more with the prompt's length, once
 * that is known: where slots are kept for short ones, fewer long ones can be open.
 * @throws {EngineError} `too_many_choices`; details: `choices`, `most`.
 */
export function checkChoices(
  state: SchedulerState,
  { tenant, promptTokens = 0 }: { readonly tenant: string; readonly promptTokens?: number },
  choices: number,
): void {
  const most = mostOpen(state, tenant, promptTokens);
  if (choices <= most) return;
  const message = `Of "${tenant}" ${most} requests may be open at a time, not ${choices}.`;
  throw new EngineError("too_many_choices", message, { choices, most });
}

function mostOpen(state: SchedulerState, tenant: string, promptTokens: number): number {
  const { config } = state;
  const { maxQueued, maxRunning } = policyOf(state, tenant);
  const places = isLong(config, promptTokens) ? longPlaces(config) : config.slots;
  return Math.min(maxQueued, config.maxQueued) + Math.min(maxRunning, places);
}

/** Places before it that are due and expected to be taken; 0 where there is room for all there are. */
function dueNow(state: SchedulerState, who: Visitor, room: number, nowMs: number): number {
  if (state.appointments.count <= room) return 0;
  return expectedOf(placesAhead(state, who, nowMs).all.filter(({ dueMs }) => dueMs === 0));
}

/**
 * Of what the prompt asks for.
 * @param newcomer The request, with what of its prompt has to be computed.
 * @returns When its first token is predicted, in ms from now; undefined where nobody asks for a time.
 * @throws {EngineError} `owner_tokens_exceeded`, `first_token_too_late`; details: `retryAfterMs`, and the limit or what is
 * predicted and what would have been enough (`predictedMs`, `enoughMs`).
 */
export function checkWorth(
  state: SchedulerState,
  newcomer: Newcomer & { readonly countedTokens: number },
  askedMs: number,
  nowMs: number,
): number | undefined {
  const { tenant, countedTokens } = newcomer;
  const { maxQueuedTokens } = policyOf(state, tenant);
  const waitingTokens = state.owners.get(tenant)?.waitingTokens ?? 0;
  // One prompt that is larger than all may be has to be let in alone, or it never could, and so have its other choices.
  if (waitingTokens > 0 && countedTokens > 0 && waitingTokens + countedTokens > maxQueuedTokens) {
    const message = `${waitingTokens} prompt tokens of "${tenant}" are waiting already.`;
    const inMs = turnBehindOwnMs(state, newcomer, nowMs);
    const allowance = allowanceOf(state, tenant, nowMs);
    throw refusal(state, "owner_tokens_exceeded", message, {
      who: newcomer,
      nowMs,
      inMs,
      limit: maxQueuedTokens,
      ...allowance,
    });
  }
  const { ttftLimitMs } = fairnessOf(state.config);
  if (Math.min(askedMs, ttftLimitMs) === Infinity) return undefined;
  // Nobody is there to hold it up; what has held up others once is tried again.
  const view =
    state.requests.size === 0
      ? { ...state, cost: undisturbed(state.cost), margin: LEAST_MARGIN, deviceShare: UNSHARED }
      : withRecentShare(state, nowMs);
  const { margin } = view;
  const predictedMs = predictedTtftMs(view, newcomer, nowMs);
  const message = `The first token would come after ${Math.round(predictedMs)} ms.`;
  // A request that is let in and then late has cost the others time for nothing.
  if (predictedMs * margin > askedMs) {
    noteTooLate(state, predictedMs, askedMs, nowMs);
    // In the middle of the time in which it would be let in: a little sooner or later is as well then.
    const leastMs = promptBesideMs(state, newcomer);
    const latestMs = askedMs / margin;
    const inMs =
      (ttftOfReturnMs(view, newcomer, nowMs) - latestMs) * LATER + Math.max(0, latestMs - leastMs) * MIDDLE;
    const allowance = allowanceOf(state, tenant, nowMs);
    throw refusal(state, "first_token_too_late", message, {
      who: newcomer,
      nowMs,
      inMs,
      predictedMs,
      enoughMs: predictedMs * margin,
      ...allowance,
    });
  }
  if (predictedMs <= ttftLimitMs) return predictedMs;
  // What a prompt takes by itself it takes whenever it comes back: it would be refused for ever.
  const limitMs = Math.max(ttftLimitMs, LATER * promptBesideMs(view, newcomer));
  const nobody = state.requests.size + state.appointments.count === 0;
  if (nobody || predictedMs <= limitMs) return predictedMs;
  throw refusal(state, "queue_full", message, {
    who: newcomer,
    nowMs,
    inMs: ttftOfReturnMs(view, newcomer, nowMs) - limitMs,
    predictedMs,
  });
}

/** Prompt tokens that have to be computed, since they are in no slot and in no file. */
export function tokensToCompute(
  state: SchedulerState,
  request: Pick<ScheduledRequest, "prompt" | "cacheKey" | "reusePrefix"> & {
    readonly adapters?: AdapterSet | undefined;
  },
): number {
  const { slots, spill, checkpoints, config } = state;
  if (!request.reusePrefix) return request.prompt.length;
  let reuse = Math.max(...slots.map(reusableOfSlots(request, state)));
  const note = (holder: SpilledPrefix | Checkpoint, common: number): void => {
    reuse = Math.max(reuse, reusableOf(request, holder, common, config));
  };
  for (const order of [spill?.order, checkpoints?.order])
    order?.eachCommon(request.cacheKey, request.prompt, request.prompt.length - 1, note);
  spill?.pinOrder.eachCommon(pinKey(request.adapters), request.prompt, request.prompt.length - 1, note);
  return request.prompt.length - reuse;
}

export function allowanceOf(state: SchedulerState, tenant: string, nowMs: number): Allowance {
  const { config, queue, slots } = state;
  const policy = policyOf(state, tenant);
  const owner = state.owners.get(tenant);
  const [running, waiting, waitingTokens] = [
    owner?.running ?? 0,
    owner?.waiting ?? 0,
    owner?.waitingTokens ?? 0,
  ];
  const maxRunning = Math.min(policy.maxRunning, slots.length);
  const busy = slots.filter((slot) => slot.owner !== undefined).length;
  const requests = Math.min(policy.maxQueued, config.maxQueued) + maxRunning;
  const room = config.maxQueued + slots.length - busy - queue.size;
  const requestsLeft = Math.max(0, Math.min(requests - running - waiting, room));
  const last: Newcomer = { tenant, priority: 0, ...ANY_REQUEST };
  const waitMs = waiting === 0 ? 0 : predictedWaitMs(state, { ...last, priority: 1 }, nowMs);
  const turns = ownTurns(state, tenant, waitMs, nowMs);
  const allowance = {
    requests,
    requestsLeft,
    requestsResetMs: Math.ceil(turns.endMs),
  };
  if (policy.maxQueuedTokens === Infinity) return allowance;
  return {
    ...allowance,
    tokens: policy.maxQueuedTokens,
    tokensLeft: Math.max(0, policy.maxQueuedTokens - waitingTokens),
    tokensResetMs: Math.ceil(turns.startMs),
  };
}

/** Until one of the owner's own requests gets a slot: it has as many as run, and its share at least. */
function ownTurnMs(state: SchedulerState, tenant: string, nowMs: number): number {
  // While nothing has been measured, what its own requests say of themselves.
  const firstMs = firstOwnEndMs(state, tenant, nowMs);
  if (firstMs !== undefined) return firstMs;
  const running = Math.max(1, state.owners.get(tenant)?.running ?? 0);
  return residenceMs(state, { computedTokens: 1, maxNew: Infinity }) / running;
}

/** The same behind those of its own who were refused before it. */
function turnBehindOwnMs(state: SchedulerState, who: Visitor, nowMs: number): number {
  const { own } = placesAhead(state, who, nowMs);
  return ownTurnMs(state, who.tenant, nowMs) * (1 + expectedOfOwner(state, who.tenant, own));
}

interface Refused {
  readonly who: Visitor;
  readonly nowMs: number;
  readonly inMs: number;
  readonly [detail: string]: number | Visitor;
}

/** Says when to come back, and keeps the place until then. */
function refusal(
  state: SchedulerState,
  code: EngineErrorCode,
  message: string,
  refused: Refused,
): EngineError {
  const { who, nowMs, inMs: turnMs, ...details } = refused;
  const inMs = Math.min(LATEST_TURN_MS, Math.max(1, Math.ceil(turnMs)));
  const retryAfterMs = Math.min(who.returnsWithinMs ?? Infinity, inMs);
  const ofOwner = code === "owner_queue_full" || code === "owner_tokens_exceeded";
  makeAppointment(state, who, { nowMs, inMs, retryAfterMs, ofOwner });
  return new EngineError(code, message, { ...details, retryAfterMs });
}
