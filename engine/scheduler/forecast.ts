/**
 * How long a request will wait and when its first token will come, from the measured rate at which slots come free
 * and from what calls cost.
 *
 * A slot is expected to be held for as long as slots were held lately. That covers prompts and outputs of any kind
 * without knowing them; where the request that holds one cannot take that long, its own bound counts.
 */
import { decodeCallMs, prefillCallMs } from "./cost-model.ts";
import { isExpired } from "./deadlines.ts";
import { prefillEnd } from "./prefill-cells.ts";
import type { OwnerState, ScheduledRequest, SchedulerState } from "./types.ts";

/** Weight of the newest request in the time that slots are held. */
const NEWEST = 0.1;
/** Tokens that a request is taken to generate while nothing has been measured. */
const ASSUMED_OUTPUT = 128;
/** A request that has held its slot for longer than most is expected to hold it for this share of that time still. */
const LEAST_LEFT = 0.1;

/** What of a request matters to its wait. */
export interface Newcomer {
  readonly tenant: string;
  readonly priority: number;
  /** Prompt tokens that have to be computed. */
  readonly computedTokens: number;
  readonly maxNew: number;
}

/** Learns from a request that has held a slot to its end; one that was cut short says nothing of the others. */
export function noteResidence(state: SchedulerState, request: ScheduledRequest, nowMs: number): void {
  const { admittedMs, output, cancelled } = request;
  if (admittedMs === undefined || cancelled || isExpired(request, nowMs)) return;
  const heldMs = Math.max(0, nowMs - admittedMs);
  state.residenceMs = smoothed(state.residenceMs, heldMs);
  if (output.length > 0) state.tokenMs = smoothed(state.tokenMs, heldMs / output.length);
}

function smoothed(before: number | undefined, newest: number): number {
  return before === undefined ? newest : before + NEWEST * (newest - before);
}

/**
 * How long a slot is held on average, in ms; above 0. While nothing has been measured, as if all requests were like
 * this one: then each takes its own prompt's time and its part of the decode calls from every slot.
 */
export function residenceMs(state: SchedulerState, { computedTokens, maxNew }: Newcomer): number {
  const { config, cost, slots, residenceMs: measured } = state;
  if (measured !== undefined) return Math.max(1, measured);
  const decodeMs = Math.min(maxNew, ASSUMED_OUTPUT) * decodeCallMs(cost, [slots.length], 0);
  const cells = Math.ceil(computedTokens / config.prefillChunk);
  const cellMs = prefillCallMs(cost, computedTokens / Math.max(1, cells));
  return Math.max(1, slots.length * cells * cellMs + decodeMs);
}

/** Until it gets a slot, in ms. */
export function predictedWaitMs(state: SchedulerState, newcomer: Newcomer, nowMs: number): number {
  const ahead = aheadOf(state, newcomer);
  const free = state.slots.filter(({ owner }) => owner === undefined).length;
  if (ahead < free) return 0;
  const heldMs = residenceMs(state, newcomer);
  const releases = releasesMs(state, heldMs, nowMs);
  const index = ahead % releases.length;
  return (releases[index] ?? 0) + Math.floor(ahead / releases.length) * heldMs;
}

/** Until its first token, in ms. */
export function predictedTtftMs(state: SchedulerState, newcomer: Newcomer, nowMs: number): number {
  const waitMs = predictedWaitMs(state, newcomer, nowMs);
  const { decoding, prefillTokens } = loadOf(state);
  // Who waits for a slot finds the others as busy as ever.
  const beside = waitMs > 0 ? state.slots.length - 1 : decoding;
  return waitMs + promptMs(state, newcomer.computedTokens + prefillTokens, beside);
}

/** From slot to first token at best, in ms, while every other slot decodes. */
export function leastPromptMs(state: SchedulerState, computedTokens: number): number {
  return promptMs(state, computedTokens, state.slots.length - 1);
}

/** So many prompt tokens and the first token behind them, beside so many slots that decode. */
function promptMs(state: SchedulerState, tokens: number, decoding: number): number {
  const { config, cost, slots } = state;
  const cells = Math.ceil(tokens / config.prefillChunk);
  const decodeMs = decodeCallMs(cost, [Math.min(slots.length, decoding + 1)], 0);
  return cells * cellIntervalMs(state, decoding, tokens / Math.max(1, cells)) + decodeMs;
}

/** From one cell of a prompt to the next while so many others decode, in ms. */
function cellIntervalMs({ config, cost }: SchedulerState, decoding: number, tokens: number): number {
  const cellMs = prefillCallMs(cost, tokens);
  if (decoding === 0) return cellMs;
  const decodeMs = decodeCallMs(cost, [decoding], 0);
  const roomMs = config.itlTargetMs - decodeMs;
  if (cellMs <= roomMs) return cellMs + decodeMs / Math.floor(roomMs / cellMs);
  const creditMs = Math.max(config.minPrefillShare * decodeMs, roomMs);
  return cellMs + decodeMs * Math.ceil(cellMs / creditMs);
}

/**
 * Waiting requests that get a slot before this one would: those of higher classes, its owner's own, and as many of
 * each other owner as have their turn meanwhile.
 */
function aheadOf(state: SchedulerState, { tenant, priority }: Newcomer): number {
  const own = state.owners.get(tenant);
  const ownWaiting = inLine(own, priority);
  const turns = (ownWaiting + 1) / (own?.policy.weight ?? 1);
  let ahead = ownWaiting;
  for (let higher = 0; higher < priority; higher++) ahead += state.lines[higher]?.waiting ?? 0;
  for (const owner of state.lines[priority]?.byTurn.all ?? [])
    if (owner !== own) ahead += Math.min(inLine(owner, priority), Math.ceil(turns * owner.policy.weight));
  return ahead;
}

function inLine(owner: OwnerState | undefined, priority: number): number {
  return owner?.heaps[priority]?.length ?? 0;
}

/** When each slot is expected to come free, ascending; a paused request does not keep its slot from others. */
function releasesMs(state: SchedulerState, heldMs: number, nowMs: number): number[] {
  const tokenMs = state.tokenMs ?? decodeCallMs(state.cost, [state.slots.length], 0);
  const times = state.slots.map(({ owner, length }) => {
    const request = owner === undefined ? undefined : state.requests.get(owner);
    if (request === undefined || request.paused || request.cancelled) return 0;
    const { maxNew, output, prompt } = request;
    const left = prefillCallMs(state.cost, Math.max(0, prompt.length - length));
    const mostMs = (maxNew - output.length) * tokenMs + left;
    const ageMs = nowMs - (request.admittedMs ?? nowMs);
    return Math.min(mostMs, Math.max(heldMs - ageMs, LEAST_LEFT * heldMs));
  });
  return times.sort((a, b) => a - b);
}

/** Slots that decode, and prompt tokens of the others that are still to be computed. */
function loadOf(state: SchedulerState): { readonly decoding: number; readonly prefillTokens: number } {
  let decoding = 0;
  let prefillTokens = 0;
  for (const { owner, length } of state.slots) {
    const request = owner === undefined ? undefined : state.requests.get(owner);
    if (request === undefined || request.paused || request.cancelled) continue;
    const left = prefillEnd(request, state.config.prefillChunk) - length;
    if (left <= 0) decoding += 1;
    else prefillTokens += left;
  }
  return { decoding, prefillTokens };
}
