/**
 * How long requests hold their slots: as long as others did lately, or as long as it takes to say as much of what they
 * may as others did, whichever has told more. The first covers prompts and outputs of any kind without knowing them; the
 * second is nearer where clients mean what they ask for.
 */
import { companies } from "./company.ts";
import { decodeCallMs, prefillCallMs } from "./cost-model.ts";
import { isExpired } from "./deadlines.ts";
import { ASSUMED_OUTPUT, saysHowMuch } from "./owners.ts";
import { isLong, longRoom } from "./reserve.ts";
import type { ScheduledRequest, SchedulerState } from "./types.ts";
import type { Prompts } from "./waiting-order.ts";

/** Weight of the newest request in the time that slots are held. */
const NEWEST = 0.1;
/** The same where slots are free: less company makes requests faster, and those who have to wait will have all of it. */
const NEWEST_BESIDE_FREE = 0.02;
/** A request that has held its slot for longer than most is expected to hold it for this share of that time still. */
const LEAST_LEFT = 0.1;

/** What of a request matters to how long it will hold a slot. */
interface Asking {
  /** Prompt tokens that have to be computed. */
  readonly computedTokens: number;
  readonly maxNew: number;
}

/** Learns from a request that has held a slot to its end; one that was cut short says nothing of the others. */
export function noteResidence(state: SchedulerState, request: ScheduledRequest, nowMs: number): void {
  const { admittedMs, output, cancelled } = request;
  if (admittedMs === undefined || cancelled || isExpired(request, nowMs)) return;
  const { prompt, cachedTokens } = request;
  const long = isLong(state.config, prompt.length);
  // Of those that it could not have had it says nothing whether slots are free.
  const free = state.slots.some(({ owner }) => owner === undefined) && (!long || longRoom(state) > 0);
  const weight = free ? NEWEST_BESIDE_FREE : NEWEST;
  const smoothed = (before: number | undefined, newest: number): number =>
    before === undefined ? newest : before + weight * (newest - before);
  state.computedShare = smoothed(state.computedShare, (prompt.length - cachedTokens) / prompt.length);
  const heldMs = Math.max(0, nowMs - admittedMs - restedMs(state, request));
  if (state.residenceMs !== undefined)
    state.residenceMiss = smoothed(state.residenceMiss, missOf(state.residenceMs, heldMs));
  state.residenceMs = smoothed(state.residenceMs, heldMs);
  if (state.config.reserve !== undefined) {
    const { residenceOf } = state;
    const kind = long ? "long" : "short";
    residenceOf[kind] = smoothed(residenceOf[kind], heldMs);
  }
  if (output.length > 0) state.tokenMs = smoothed(state.tokenMs, heldMs / output.length);
  if (output.length < 2 || !saysHowMuch(request, state.config)) return;
  const share = output.length / request.maxNew;
  if (state.outputShare !== undefined)
    state.outputMiss = smoothed(state.outputMiss, missOf(state.outputShare, share));
  state.outputShare = smoothed(state.outputShare, share);
  const { firstTokenMs, evictions } = request;
  // What the engine rests for the prefill worker, or it is paused or waits again, is no time between tokens of every day.
  if (firstTokenMs !== undefined && evictions === 0 && restedMs(state, request) === 0)
    state.itlMs = smoothed(state.itlMs, (nowMs - firstTokenMs) / (output.length - 1));
}

/** How far it was off, relative to what was expected. */
function missOf(expected: number, real: number): number {
  return expected > 0 ? Math.abs(real - expected) / expected : 0;
}

/**
 * How long a slot is held on average, in ms; above 0. While nothing has been measured, as if all requests were like
 * this one: then each takes its own prompt's time and its part of the decode calls from every slot.
 * @param prompts By whom; of long or short ones alone something is known where slots are kept for these.
 */
export function residenceMs(
  state: SchedulerState,
  { computedTokens, maxNew }: Asking,
  prompts: Prompts = "all",
): number {
  const { config, cost, slots, residenceOf } = state;
  const measured = (prompts === "all" ? undefined : residenceOf[prompts]) ?? state.residenceMs;
  if (measured !== undefined) return Math.max(1, measured);
  const decodeMs =
    Math.min(maxNew, ASSUMED_OUTPUT) * decodeCallMs(cost, [slots.length], 0, slots.length * computedTokens);
  const cells = Math.ceil(computedTokens / config.prefillChunk);
  const cellMs = prefillCallMs(cost, computedTokens / Math.max(1, cells), computedTokens / 2);
  return Math.max(1, slots.length * cells * cellMs + decodeMs);
}

/** How long a request will need a slot from now on, in ms, with so many of its cells there. */
type LeftMs = (request: ScheduledRequest, cells: number) => number;

/** As long as slots were held lately, or as it says itself, whichever has told more lately. */
export function expectedLeftMs(state: SchedulerState, nowMs: number): LeftMs {
  const tokenMs = state.tokenMs ?? companies(state)(state.slots.length).decodeMs;
  return (request, cells) => {
    const { maxNew, output, prompt, cachedTokens } = request;
    const saidMs = leftAsSaidMs(state, request);
    if (saidMs !== undefined) return saidMs + promptLeftMs(state, request, cells);
    const mostMs = (maxNew - output.length) * tokenMs + promptLeftMs(state, request, cells);
    // While nothing has been measured it says more of itself than the newcomer does.
    const kind = isLong(state.config, prompt.length) ? "long" : "short";
    const ownMs = residenceMs(state, { ...request, computedTokens: prompt.length - cachedTokens }, kind);
    const ageMs = nowMs - (request.admittedMs ?? nowMs) - restedMs(state, request);
    return Math.min(mostMs, Math.max(ownMs - ageMs, LEAST_LEFT * ownMs));
  };
}

/** Until it has said as much of what it may as others have, where that has told more than how long those had their slots. */
function leftAsSaidMs(
  { config, outputShare, outputMiss, residenceMiss, itlMs }: SchedulerState,
  request: ScheduledRequest,
): number | undefined {
  if (itlMs === undefined || outputShare === undefined || !saysHowMuch(request, config)) return undefined;
  if (!(outputMiss < residenceMiss)) return undefined;
  const { maxNew, output } = request;
  const all = outputShare * maxNew;
  return itlMs * Math.min(maxNew - output.length, Math.max(all - output.length, LEAST_LEFT * all));
}

/**
 * As long as it takes to say all that it asks for, whatever most say: an owner who asks for much waits for its own.
 * Where it does not say how much it wants, only its slot bounds it, and it is taken to be like most.
 */
export function mostLeftMs(state: SchedulerState, nowMs: number): LeftMs {
  const expectedMs = expectedLeftMs(state, nowMs);
  const tellMs = tellingLeftMs(state);
  return (request, cells) => {
    const { maxNew, output, prompt } = request;
    if (saysHowMuch(request, state.config))
      return tellMs(maxNew - output.length, prompt.length - cells, cells);
    return expectedMs(request, cells);
  };
}

/** As long as it takes to say so much behind so many prompt tokens, which have so many cells before them, beside those who run. */
export function tellingLeftMs(
  state: SchedulerState,
): (outputTokens: number, promptTokens: number, cells?: number) => number {
  const { cost, slots } = state;
  const busy = slots.filter(({ owner }) => owner !== undefined).length;
  const company = companies(state)(busy);
  const together = Math.max(1, busy);
  return (outputTokens, promptTokens, cells = 0) => {
    const tokenMs = decodeCallMs(cost, [together], 0, company.cells + (together * outputTokens) / 2);
    return outputTokens * tokenMs + prefillCallMs(cost, Math.max(0, promptTokens), cells);
  };
}

function promptLeftMs({ cost }: SchedulerState, { prompt }: ScheduledRequest, cells: number): number {
  return prefillCallMs(cost, Math.max(0, prompt.length - cells), cells);
}

/** Of the time that it has had its slot, what the engine has rested for the prefill worker, and it was paused: as long as others have it to themselves. */
function restedMs({ offload }: SchedulerState, { restedBeforeMs, pausedMs }: ScheduledRequest): number {
  return offload.restedMs - restedBeforeMs + pausedMs;
}
