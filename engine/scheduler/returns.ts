/**
 * Who has been answered often asks on at once: the next turn of a chat, or the next call of an agent. Its slot is kept for
 * as long as that takes, beside others that compute: an idle slot for a step or two costs little.
 *
 * For one of two reasons: its cells, which would be computed again, or its owner, who has had less than those who wait
 * and would have to wait for a slot of theirs. How often each owner asks on, and after how long, is learnt.
 */
import { prefillTokensMs } from "./cost-model.ts";
import { prefixHashes } from "./prefix-hashes.ts";
import { reusableTokens } from "./prefix-reuse.ts";
import type { OwnerState, PlannedCall, ScheduledRequest, SchedulerState, Slot } from "./types.ts";

/** What is known of an owner. */
export interface Returns {
  /** Its last answers, until they are asked on behind or it is too late for that. */
  readonly ended: EndedAnswer[];
  /** Part of its answers behind which it asks again at once, smoothed; 0-1. */
  askedShare: number;
  /** Part of those behind which it asks on, with a prompt that begins with the one before; 0-1. */
  continuedShare: number;
  /** After how long it asks again, smoothed, in ms. */
  gapMs: number;
}

interface EndedAnswer {
  readonly atMs: number;
  readonly promptTokens: number;
  readonly hash: number;
}

/** Weight of the newest answer. */
const NEWEST = 0.1;
/** Who asks less often than that does not have a slot kept for whatever it may ask. */
const LIKELY = 0.3;
/** Nobody is waited for for longer, in ms, nor counts as one who asks on at once. */
export const LONGEST_KEPT_MS = 250;
/** So many of the usual gaps are waited. */
const GAPS = 2;
/** Answers of an owner, and requests that go on with one slot's cells, that are remembered. */
const MOST_ENDED = 8;
const MOST_FOLLOWERS = 8;

export function noReturns(): Returns {
  return { ended: [], askedShare: 0.5, continuedShare: 0.05, gapMs: 25 };
}

/** Of a request that has come to its end, whose slot is idle now. */
export function noteEnded(state: SchedulerState, request: ScheduledRequest, slot: Slot, nowMs: number): void {
  const { tenant, prompt } = request;
  const returns = state.owners.get(tenant)?.returns;
  if (returns === undefined) return;
  forgetOld(returns, nowMs);
  if (returns.ended.length < MOST_ENDED)
    returns.ended.push({
      atMs: nowMs,
      promptTokens: prompt.length,
      hash: hashes(prompt, [prompt.length])[0] ?? 0,
    });
  slot.ended = { tenant, atMs: nowMs };
}

/** Of a request that has come: whether its owner asks on, and whether it goes on with the cells of an idle slot. */
export function noteAsked(state: SchedulerState, request: ScheduledRequest, nowMs: number): void {
  const { prompt } = request;
  const returns = state.owners.get(request.tenant)?.returns;
  if (returns === undefined) return;
  forgetOld(returns, nowMs);
  const [oldest] = returns.ended;
  if (oldest !== undefined) {
    const found = hashes(
      prompt,
      returns.ended.map(({ promptTokens }) => promptTokens),
    );
    const index = returns.ended.findIndex(({ hash }, i) => hash === found[i]);
    const answer = returns.ended.splice(Math.max(0, index), 1)[0] ?? oldest;
    returns.askedShare = smoothed(returns.askedShare, 1);
    returns.continuedShare = smoothed(returns.continuedShare, index < 0 ? 0 : 1);
    returns.gapMs = smoothed(returns.gapMs, nowMs - answer.atMs);
  }
  if (!request.reusePrefix) return;
  const followed = state.slots.find((slot) => slot.owner === undefined && continues(request, slot, state));
  // What saves less than a cell is no reason to go before others.
  if (followed === undefined || followed.length < state.config.prefillChunk) return;
  if (followed.followers.length < MOST_FOLLOWERS) followed.followers.push(request.id);
}

/** Nobody has asked on in time. */
function forgetOld(returns: Returns, nowMs: number): void {
  while ((returns.ended[0]?.atMs ?? Infinity) + LONGEST_KEPT_MS < nowMs) {
    returns.ended.shift();
    returns.askedShare = smoothed(returns.askedShare, 0);
    returns.continuedShare = smoothed(returns.continuedShare, 0);
  }
}

/** Of the first so many tokens; NaN where there are fewer. */
function hashes(tokens: Uint32Array, lengths: readonly number[]): number[] {
  const found = lengths.map(() => Number.NaN);
  const ascending = [...found.keys()].sort((a, b) => (lengths[a] ?? 0) - (lengths[b] ?? 0));
  const sorted = ascending.map((at) => lengths[at] ?? 0);
  for (const [i, hash] of prefixHashes(tokens, sorted).entries()) found[ascending[i] ?? 0] = hash;
  return found;
}

/** Of a slot that is given away. */
export function noteTaken(slot: Slot): void {
  slot.ended = undefined;
  slot.followers.length = 0;
}

function smoothed(before: number, newest: number): number {
  return before + NEWEST * (newest - before);
}

/** Waiting requests that go on with the slot's cells, in the order in which they came. */
export function followersOf(state: SchedulerState, slot: Slot): ScheduledRequest[] {
  return slot.followers.flatMap((id) => {
    const request = state.queue.get(id);
    return request !== undefined && !request.paused && continues(request, slot, state) ? [request] : [];
  });
}

/** Whether most of the slot's cells, and most of the prompt, are the same. */
export function continues(request: ScheduledRequest, slot: Slot, { config }: SchedulerState): boolean {
  const { length } = request.prompt;
  if (2 * length < slot.length || 2 * slot.length < length) return false;
  return 2 * reusableTokens(request, slot, config) >= Math.max(slot.length, length);
}

/**
 * For whom a slot is kept: of its last owner for whoever goes on with its cells, or for any request. Others may have the
 * former: who has had less does not wait for the cells of those who have had more.
 */
export type KeptFor = "cells" | "owner";

/** Whether a request may have a slot that is kept. */
export function mayHave(
  request: ScheduledRequest,
  slot: Slot,
  kept: KeptFor | undefined,
  state: SchedulerState,
): boolean {
  if (kept === undefined) return true;
  const isOwners = slot.ended?.tenant === request.tenant;
  return kept === "owner" ? isOwners : !isOwners || continues(request, slot, state);
}

/** @param next The owner of who waits for the slot. */
export function keptFor(
  state: SchedulerState,
  slot: Slot,
  next: Pick<OwnerState, "name" | "served" | "running" | "policy">,
  nowMs: number,
): KeptFor | undefined {
  if (slot.owner !== undefined || slot.ended === undefined) return undefined;
  const last = state.owners.get(slot.ended.tenant);
  if (last === undefined) return undefined;
  const { askedShare, continuedShare, gapMs } = last.returns;
  const keptMs = Math.min(LONGEST_KEPT_MS, GAPS * gapMs);
  if (nowMs - slot.ended.atMs >= keptMs) return undefined;
  const hasLess = (last.running + 1) / last.policy.weight < next.running / next.policy.weight;
  const wouldGo = last.name !== next.name && last.waiting === 0 && last.served <= next.served;
  if (wouldGo && hasLess && askedShare > LIKELY) return "owner";
  const worthMs = continuedShare * prefillTokensMs(state.cost, state.config.prefillChunk, slot.length, 0);
  return worthMs > keptMs / state.slots.length ? "cells" : undefined;
}

/**
 * Whether a planned cell gives way to an owner whose request has ended since it was planned, who has had less, and who
 * will ask again in a moment. The next plan decodes without it.
 */
export function givesWay(state: SchedulerState, call: PlannedCall, nowMs: number): boolean {
  if (call.kind !== "prefill" || state.queue.size === 0) return false;
  const owner = state.owners.get(state.requests.get(call.entries[0]?.request ?? "")?.tenant ?? "");
  if (owner === undefined) return false;
  return state.slots.some((slot) => keptFor(state, slot, owner, nowMs) === "owner");
}
