/**
 * What slots have in common with a text: of few slots by comparing it with each one's tokens, of many by a tree of them. Both
 * tell the same.
 */
import { commonPrefixLength, reusableOf } from "./prefix-reuse.ts";
import { PrefixTree } from "./prefix-tree.ts";
import type { ScheduledRequest, SchedulerConfig, SchedulerState, Slot } from "./types.ts";

/**
 * Slots from which on the tree is used. Where they share a prompt of 1,000 tokens plans take half the time with it, from 32
 * slots to 256; where they have little in common, a few percent longer at most.
 */
const TREE_SLOTS = 32;

/** Undefined where slots are so few that their tokens are compared. */
export function prefixTree(
  slots: readonly Slot[],
  { prefixTreeSlots = TREE_SLOTS }: SchedulerConfig,
): PrefixTree | undefined {
  return slots.length >= prefixTreeSlots ? new PrefixTree(slots) : undefined;
}

interface Text {
  readonly tokens: Uint32Array;
  /** Of its tokens that count. */
  readonly length: number;
  readonly cacheKey: string;
}

/** For each slot, how many of the text's tokens it has; none where it is of another key. Valid while slots keep what they have. */
export function commonWithSlots(
  { prefixes }: Pick<SchedulerState, "prefixes">,
  { tokens, length, cacheKey }: Text,
): (slot: Slot) => number {
  if (prefixes === undefined)
    return (slot) =>
      slot.cacheKey === cacheKey ? commonPrefixLength(tokens, slot.tokens, Math.min(length, slot.length)) : 0;
  let found: readonly number[] | undefined;
  return (slot) => (found ??= prefixes.commonTokens(cacheKey, tokens, length))[slot.id] ?? 0;
}

/** For each slot, what `reusableTokens` says of it. */
export function reusableOfSlots(
  request: Pick<ScheduledRequest, "prompt" | "cacheKey" | "reusePrefix">,
  state: Pick<SchedulerState, "prefixes" | "config">,
): (slot: Slot) => number {
  if (!request.reusePrefix) return () => 0;
  const { prompt, cacheKey } = request;
  const commonOf = commonWithSlots(state, { tokens: prompt, length: prompt.length - 1, cacheKey });
  return (slot) => {
    const common = commonOf(slot);
    // Nearly always, and every waiting request is compared with every slot.
    return common === 0 ? 0 : reusableOf(request, slot, common, state.config);
  };
}
