/** How the requests of several owners share one engine: classes, limits and what is left of them, as plain data. */

/** Who goes first; the lower number does. A running request gives way to a higher class only. */
export const PriorityClass = { high: 0, normal: 1, low: 2, background: 3 } as const;
export type PriorityClass = (typeof PriorityClass)[keyof typeof PriorityClass];

/** Of an owner nothing is said of. */
export const DEFAULT_POLICY: OwnerPolicy = {
  weight: 1,
  maxRunning: Infinity,
  maxQueued: Infinity,
  maxQueuedTokens: Infinity,
};

/** Prompts with fewer tokens may have the slots that are kept for short ones, where nobody says otherwise. */
export const SHORT_PROMPT_TOKENS = 512;

/** What may change of a request that is open; what is absent stays. */
export interface RequestChange {
  readonly priority?: PriorityClass;
  /** A paused request gets no tokens. It keeps its slot while nobody else needs it, and in any case its output. */
  readonly paused?: boolean;
}

export interface FairnessConfig {
  /** By name; everybody else has the policy `others`. */
  readonly owners: ReadonlyMap<string, OwnerPolicy>;
  readonly others: OwnerPolicy;
  /** Wait after which a class competes with the one above it, in ms. */
  readonly agingQuantumMs: number;
  /** Whether a running request may lose its slot to a higher class or to an owner that has less than its share. */
  readonly evict: boolean;
  /** Predicted time to the first token from which on the queue counts as full, in ms; Infinity: never. */
  readonly ttftLimitMs: number;
}

/** What an owner may have. Infinity is no limit. */
export interface OwnerPolicy {
  /** Its share of the service relative to the others'; above 0. */
  readonly weight: number;
  /** Most slots at a time; further requests wait. */
  readonly maxRunning: number;
  /** Most requests that wait, and prompt tokens of all of those. */
  readonly maxQueued: number;
  readonly maxQueuedTokens: number;
}

/** What an owner may have open at a time, what it has left, and after how many ms all of it is back. */
export interface Allowance {
  readonly requests: number;
  readonly requestsLeft: number;
  readonly requestsResetMs: number;
  /** Prompt tokens that may wait; absent without such a limit. */
  readonly tokens?: number;
  readonly tokensLeft?: number;
  readonly tokensResetMs?: number;
}
