/**
 * Whose embeddings and rankings are computed next: by class, in a class those of the owner who has had least of the device
 * for its weight, and of one owner in turns.
 *
 * As for slots, a class whose call has waited for a quantum competes with the one above it.
 */
import { EngineError } from "./errors.ts";
import { DEFAULT_FAIRNESS } from "./scheduler/owners.ts";
import type { Allowance, FairnessConfig, OwnerPolicy, PriorityClass } from "./sharing.ts";

/** Weight of the newest time between two ends. */
const NEWEST = 0.2;
/** Told while nothing has come to its end yet. */
const UNKNOWN_MS = 1000;
/** Later ones are not told, as of slots. */
const LATEST_MS = 600_000;

/** An open call. */
export interface Turn {
  readonly owner: TurnOwner;
  readonly priority: PriorityClass;
  /** When it came, or had its last turn, in ms. */
  sinceMs: number;
  /** Of its inputs; 0 until they are counted. */
  tokens: number;
  isOpen: boolean;
}

interface TurnOwner {
  readonly name: string;
  readonly policy: OwnerPolicy;
  /** Device time over the weight, in ms. */
  servedMs: number;
  calls: number;
  tokens: number;
}

export class EmbeddingTurns {
  readonly #fairness: FairnessConfig;
  readonly #maxQueued: number;
  /** Those with open calls. */
  readonly #owners = new Map<string, TurnOwner>();
  #endMs: number | undefined;
  /** Between two ends while there is work, smoothed, in ms. */
  #gapMs: number | undefined;

  /** @param maxQueued Calls that may wait, of all owners. */
  constructor(fairness: FairnessConfig = DEFAULT_FAIRNESS, maxQueued = Infinity) {
    this.#fairness = fairness;
    this.#maxQueued = maxQueued;
  }

  /** What an owner may have open, and what it has left of that. */
  allowanceOf(name: string, nowMs: number): Allowance {
    return this.#allowance(this.#owners.get(name) ?? this.#newOwner(name), nowMs);
  }

  /** When a place comes free: after so many ends, in ms, and no sooner than the running call has shown that it takes. */
  retryAfterMs(ends: number, nowMs: number): number {
    const sinceEndMs = this.#owners.size === 0 ? 0 : nowMs - (this.#endMs ?? nowMs);
    const inMs = Math.max(1, ends * (this.#gapMs ?? UNKNOWN_MS), sinceEndMs);
    return Math.ceil(Math.min(LATEST_MS, inMs));
  }

  /** @throws {EngineError} `owner_queue_full`: its owner has as many calls open as it may. */
  add(name: string, priority: PriorityClass, nowMs: number): Turn {
    const owner = this.#owners.get(name) ?? this.#newOwner(name);
    // One is computed at a time.
    const most = owner.policy.maxQueued + 1;
    if (owner.calls >= most) throw this.#refusal("owner_queue_full", owner, nowMs);
    this.#endMs = this.#owners.size === 0 ? nowMs : this.#endMs;
    this.#owners.set(name, owner);
    owner.calls += 1;
    return { owner, priority, sinceMs: nowMs, tokens: 0, isOpen: true };
  }

  /**
   * Notes how many tokens a call has; one that is larger than all may be is let in alone.
   * @throws {EngineError} `owner_tokens_exceeded`.
   */
  count(turn: Turn, tokens: number, nowMs: number): void {
    const { owner } = turn;
    // It may have been taken back while they were counted.
    if (!turn.isOpen) return;
    if (owner.tokens > 0 && owner.tokens + tokens > owner.policy.maxQueuedTokens) {
      // It is one of its owner's calls until it is taken back, which it is for this.
      const others = { ...owner, calls: owner.calls - 1 };
      throw this.#refusal("owner_tokens_exceeded", others, nowMs);
    }
    owner.tokens += tokens;
    turn.tokens = tokens;
  }

  /** Whose turn it is of these, given in the order of their last turns; undefined of none. */
  next<T extends { readonly turn: Turn }>(open: Iterable<T>, nowMs: number): T | undefined {
    let best: T | undefined;
    let bestClass = 0;
    for (const one of open) {
      const { turn } = one;
      const quanta = Math.floor((nowMs - turn.sinceMs) / this.#fairness.agingQuantumMs);
      const ofClass = Math.max(0, turn.priority - quanta);
      const sooner = ofClass < bestClass || (ofClass === bestClass && hasLess(turn, best));
      if (best !== undefined && !sooner) continue;
      best = one;
      bestClass = ofClass;
    }
    return best;
  }

  /** It has had the device for so long. */
  charge({ owner }: Turn, ms: number): void {
    owner.servedMs += ms / owner.policy.weight;
  }

  /** @param finished Whether it has come to its end by itself. */
  remove(turn: Turn, finished: boolean, nowMs: number): void {
    const { owner, tokens } = turn;
    turn.isOpen = false;
    owner.calls -= 1;
    owner.tokens -= tokens;
    if (owner.calls === 0) this.#owners.delete(owner.name);
    if (!finished) return;
    const gapMs = nowMs - (this.#endMs ?? nowMs);
    this.#gapMs = this.#gapMs === undefined ? gapMs : this.#gapMs + NEWEST * (gapMs - this.#gapMs);
    this.#endMs = nowMs;
  }

  /** Starts where the least served of the others is. */
  #newOwner(name: string): TurnOwner {
    const { owners, others } = this.#fairness;
    let servedMs = Infinity;
    for (const other of this.#owners.values()) servedMs = Math.min(servedMs, other.servedMs);
    const policy = owners.get(name) ?? others;
    return { name, policy, servedMs: servedMs === Infinity ? 0 : servedMs, calls: 0, tokens: 0 };
  }

  #refusal(code: "owner_queue_full" | "owner_tokens_exceeded", owner: TurnOwner, nowMs: number): EngineError {
    const { policy, calls, tokens } = owner;
    const limit = code === "owner_queue_full" ? policy.maxQueued : policy.maxQueuedTokens;
    // Owners take turns.
    const retryAfterMs = this.retryAfterMs(this.#owners.size, nowMs);
    const message = `${code === "owner_queue_full" ? `${calls} calls` : `${tokens} tokens`} are waiting already.`;
    return new EngineError(code, message, { limit, retryAfterMs, ...this.#allowance(owner, nowMs) });
  }

  #allowance({ name, policy, calls, tokens }: TurnOwner, nowMs: number): Allowance {
    const requests = Math.min(policy.maxQueued, this.#maxQueued) + 1;
    let room = this.#maxQueued + 1;
    for (const owner of this.#owners.values()) room -= owner.name === name ? calls : owner.calls;
    const requestsResetMs = calls === 0 ? 0 : this.retryAfterMs(calls * this.#owners.size, nowMs);
    const allowance = {
      requests,
      requestsLeft: Math.max(0, Math.min(requests - calls, room)),
      requestsResetMs,
    };
    const { maxQueuedTokens } = policy;
    if (maxQueuedTokens === Infinity) return allowance;
    return {
      ...allowance,
      tokens: maxQueuedTokens,
      tokensLeft: Math.max(0, maxQueuedTokens - tokens),
      tokensResetMs: tokens === 0 ? 0 : requestsResetMs,
    };
  }
}

function hasLess({ owner }: Turn, best: { readonly turn: Turn } | undefined): boolean {
  return best !== undefined && owner.servedMs < best.turn.owner.servedMs;
}
