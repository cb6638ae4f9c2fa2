/**
 * When an owner's requests have their turns, as far as it waits for its own: those that wait take the places of those
 * that run, as many at a time as it may have.
 *
 * What waits is counted and not looked at one by one, so that a refusal costs as much behind a long line as behind a
 * short one.
 */
import { inLongLine, policyOf } from "./owners.ts";
import { isLong, longPlaces } from "./reserve.ts";
import { expectedLeftMs, mostLeftMs, residenceMs, tellingLeftMs } from "./slot-times.ts";
import { CLASSES } from "./types.ts";
import type { OwnerState, SchedulerState } from "./types.ts";

/** Halvings that leave nothing of any span of times. */
const HALVINGS = 60;

/** In ms from now; 0 where it has nothing that waits, or nothing at all. */
export interface OwnTurns {
  /** Until the last of its waiting requests has a slot. */
  readonly startMs: number;
  /** Until all of its requests have come to their end. */
  readonly endMs: number;
}

/**
 * Until the first of an owner's running requests has said what it may at most, in ms; undefined where none runs, and
 * as soon as something has been measured, which tells more.
 */
export function firstOwnEndMs(state: SchedulerState, tenant: string, nowMs: number): number | undefined {
  if (state.residenceMs !== undefined) return undefined;
  const ends = runningEndsMs(state, tenant, nowMs);
  return ends.length === 0 ? undefined : Math.min(...ends);
}

/** @param waitMs Until one more of its requests would get a slot, whoever has them now. */
export function ownTurns(state: SchedulerState, tenant: string, waitMs: number, nowMs: number): OwnTurns {
  const ends = runningEndsMs(state, tenant, nowMs);
  const runningMs = Math.max(0, ...ends);
  const owner = state.owners.get(tenant);
  if (owner === undefined || owner.waiting === 0) return { startMs: 0, endMs: runningMs };
  const places = Math.min(policyOf(state, tenant).maxRunning, state.slots.length);
  while (ends.length < places) ends.push(0);
  const eachMs = eachWaitingMs(state, owner);
  const allMs = nthTurnMs(ends, eachMs, owner.waiting);
  const startMs = Math.max(waitMs, allMs, longTurnMs(state, owner, eachMs, nowMs));
  return { startMs, endMs: Math.max(runningMs, startMs + eachMs) };
}

/** Until the last of its long prompts has one of the places that these may have; 0 where it has none, or no slots are kept for others. */
function longTurnMs(state: SchedulerState, owner: OwnerState, eachMs: number, nowMs: number): number {
  const { config } = state;
  let waiting = 0;
  for (let priority = 0; priority < CLASSES; priority++) waiting += inLongLine(owner, priority);
  if (waiting === 0) return 0;
  const ends = runningEndsMs(state, owner.name, nowMs, true);
  const places = Math.min(owner.policy.maxRunning, longPlaces(config));
  while (ends.length < places) ends.push(0);
  return nthTurnMs(ends, state.residenceOf.long ?? eachMs, waiting);
}

/** While nothing has been measured, what they say of themselves. */
function runningEndsMs(
  state: SchedulerState,
  tenant: string,
  nowMs: number,
  longOnly: boolean = false,
): number[] {
  const leftMs = state.residenceMs === undefined ? mostLeftMs(state, nowMs) : expectedLeftMs(state, nowMs);
  const ends: number[] = [];
  for (const { holder, length } of state.slots) {
    if (holder?.tenant !== tenant) continue;
    if (!longOnly || isLong(state.config, holder.prompt.length)) ends.push(leftMs(holder, length));
  }
  return ends;
}

/** How long each of its waiting requests will have a slot, on average. */
function eachWaitingMs(state: SchedulerState, { waiting, waitingTokens, waitingOutput }: OwnerState): number {
  if (state.residenceMs === undefined)
    return Math.max(1, tellingLeftMs(state)(waitingOutput / waiting, waitingTokens / waiting));
  return residenceMs(state, { computedTokens: 1, maxNew: Infinity });
}

/**
 * When the nth turn begins, counted from 1, where each takes as long, and places come free at these times.
 * @param freeMs At least one.
 */
export function nthTurnMs(freeMs: readonly number[], eachMs: number, n: number): number {
  const turnsUntil = (ms: number): number => {
    let turns = 0;
    for (const fromMs of freeMs) if (fromMs <= ms) turns += Math.floor((ms - fromMs) / eachMs) + 1;
    return turns;
  };
  let [least, most] = [0, Math.max(...freeMs) + Math.ceil(n / freeMs.length) * eachMs];
  for (let i = 0; i < HALVINGS; i++) {
    const middle = (least + most) / 2;
    if (turnsUntil(middle) < n) least = middle;
    else most = middle;
  }
  // The last one by then, and not a rounding error behind it.
  let lastMs = 0;
  for (const fromMs of freeMs)
    if (fromMs <= most) lastMs = Math.max(lastMs, fromMs + Math.floor((most - fromMs) / eachMs) * eachMs);
  return lastMs;
}
