/**
 * How often what slots have lost is asked for again: as often as that, saving it pays.
 *
 * Lost is what a slot held of a request that has left, when it is given to another one that does not go on with it; whether it
 * was saved makes no difference, so that returns are seen where nothing is saved any more. Asked for again is all that its
 * request has asked for: what many begin with, such as a system prompt, is in other slots as well, and tells nothing of the
 * rest. Of each only its length and a hash are remembered.
 */
import { basisOf, prefixHashes } from "./prefix-hashes.ts";
import { UNUSED_WANTED } from "./prefix-value.ts";
import { MOST_PREFIXES } from "./types.ts";
import type {
  LostPrefix,
  LostPrefixes,
  ScheduledRequest,
  SchedulerState,
  Slot,
  SpillState,
  StepPlan,
} from "./types.ts";

/** What is thought before anything is seen counts as much as so many prefixes. */
const PRIOR = 16;
/** So many prefixes count, the older ones for less. */
const MEMORY = 128;
/** Times as many as there are slots are lost after one before it counts as one that nobody has come back to: others wait, too. */
const PATIENCE = 4;
/** What a template opens an answer with is not always what it shows of it in the next turn. */
const OPENING_TOKENS = 16;

export function noLosses(slots: number): LostPrefixes {
  return {
    kept: new Set(),
    open: new Set(),
    lengths: [],
    byLength: new Map(),
    patience: Math.min(PATIENCE * slots, MOST_PREFIXES / 2),
    losses: 0,
    seen: 0,
    wanted: 0,
  };
}

/** Chance that a prefix is wanted again that a slot loses and nobody has come back to yet, 0-1. */
export function returnChance({ seen, wanted }: LostPrefixes): number {
  return (wanted + UNUSED_WANTED * PRIOR) / (seen + PRIOR);
}

/**
 * Of a request that leaves its slot: so many tokens of it are what asking on behind it, or the same once more, begins with;
 * 0 where it found them computed, as another choice of the same prompt does, so that others may begin with them, too.
 */
export function askedTokens({ prompt, cachedTokens }: ScheduledRequest, { length }: Slot): number {
  const own = prompt.length - cachedTokens;
  if (own <= 1) return 0;
  const behind = (tokens: number): number => prompt.length - Math.min(OPENING_TOKENS, Math.floor(tokens / 4));
  // The same for all choices, whatever each found of the others', unless that leaves nothing of its own.
  const most = behind(prompt.length) > cachedTokens ? behind(prompt.length) : behind(own);
  return Math.min(length, most) > cachedTokens ? Math.min(length, most) : 0;
}

/** Of the slots that a plan gives away, as they are before it begins, and of the requests that get them. */
export function noteGiven(state: SchedulerState, plan: StepPlan): void {
  if (state.spill === undefined) return;
  noteLosses(state, state.spill, plan);
  for (const { request: id } of plan.assignments) {
    const request = state.requests.get(id);
    if (request?.evictions === 0 && request.reusePrefix) noteAskedFor(state.spill, request);
  }
}

function noteLosses(
  { slots, config }: SchedulerState,
  { lost }: SpillState,
  { assignments }: StepPlan,
): void {
  for (const { slot: id, reuse, copyFrom, restore, checkpoint } of assignments) {
    const slot = slots[id];
    if (slot === undefined) continue;
    const { askedTokens: asked } = slot;
    slot.askedTokens = 0;
    if (asked > slot.length) continue;
    const isBack = checkpoint === undefined || slot.checkpoints.some((own) => own.id === checkpoint);
    const stays = copyFrom === undefined && restore === undefined && isBack ? reuse : 0;
    // What is less than a cell is not saved in any case.
    if (asked > stays && slot.length - stays >= config.prefillChunk) noteLost(lost, slot, asked);
  }
}

function noteLost(lost: LostPrefixes, { tokens, cacheKey }: Slot, length: number): void {
  const [hash = 0] = prefixHashes(tokens, [length], basisOf(cacheKey));
  // Another choice of the same request.
  if (lost.byLength.get(length)?.has(hash) === true) return;
  lost.losses += 1;
  for (const prefix of lost.open) {
    if (prefix.dueAt > lost.losses) break;
    count(lost, prefix);
  }
  const [oldest] = lost.kept;
  if (oldest !== undefined && lost.kept.size === MOST_PREFIXES) forget(lost, oldest);
  const prefix = { length, hash, dueAt: lost.losses + lost.patience };
  lost.kept.add(prefix);
  lost.open.add(prefix);
  const others = lost.byLength.get(length);
  if (others !== undefined) others.set(hash, prefix);
  else {
    lost.byLength.set(length, new Map([[hash, prefix]]));
    const at = lost.lengths.findIndex((other) => other > length);
    lost.lengths.splice(at < 0 ? lost.lengths.length : at, 0, length);
  }
}

/** Of a request that gets its first slot: whether it asks for what a slot has lost. */
function noteAskedFor({ lost }: SpillState, { prompt, cacheKey }: ScheduledRequest): void {
  if (lost.kept.size === 0) return;
  const hashes = prefixHashes(prompt, lost.lengths, basisOf(cacheKey));
  const found = hashes.flatMap((hash, i) => lost.byLength.get(lost.lengths[i] ?? 0)?.get(hash) ?? []);
  for (const prefix of found) {
    count(lost, prefix);
    forget(lost, prefix);
    lost.wanted = Math.min(lost.seen, lost.wanted + 1);
  }
}

/** Once, when it is asked for or nobody has for long. */
function count(lost: LostPrefixes, prefix: LostPrefix): void {
  if (!lost.open.delete(prefix)) return;
  const kept = 1 - 1 / MEMORY;
  lost.seen = kept * lost.seen + 1;
  lost.wanted *= kept;
}

function forget(lost: LostPrefixes, prefix: LostPrefix): void {
  const { length, hash } = prefix;
  lost.kept.delete(prefix);
  const others = lost.byLength.get(length);
  others?.delete(hash);
  if (others?.size !== 0) return;
  lost.byLength.delete(length);
  lost.lengths.splice(lost.lengths.indexOf(length), 1);
}

/** Whether what is kept of them agrees, which takes long. */
export function isSound({ kept, open, lengths, byLength, seen, wanted }: LostPrefixes): boolean {
  const found = [...byLength.values()].flatMap((those) => [...those.values()]);
  return (
    kept.size <= MOST_PREFIXES &&
    found.length === kept.size &&
    found.every((prefix) => kept.has(prefix)) &&
    [...open].every((prefix) => kept.has(prefix)) &&
    lengths.length === byLength.size &&
    lengths.every((length, i) => byLength.has(length) && length > (lengths[i - 1] ?? 0)) &&
    wanted >= 0 &&
    wanted <= seen
  );
}
