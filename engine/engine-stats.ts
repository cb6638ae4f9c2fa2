/** What an engine answers when it is asked for its state: slots, queue and totals, for listings and metrics. */
import type { RequestId } from "./protocol.ts";

export type SlotState = "empty" | "resident" | "prefill" | "decode" | "paused";

export interface SlotStats {
  readonly id: number;
  readonly state: SlotState;
  /** Cells in use. */
  readonly tokens: number;
  readonly requestId: RequestId | undefined;
  readonly owner: string | undefined;
  readonly promptTokens: number;
  readonly cachedTokens: number;
  readonly outputTokens: number;
}

/** Numbers of requests, each list by `PriorityClass`. */
export interface RequestsByClass {
  /** May be given a slot. */
  readonly waiting: readonly number[];
  /** Those of them that wait for a prefix which another request computes. */
  readonly held: readonly number[];
  /** Have a slot that has not all of their prompt, or of what they had before they lost another one. */
  readonly prefilling: readonly number[];
  readonly decoding: readonly number[];
  /** With a slot or without. */
  readonly paused: readonly number[];
}

export interface EngineStats {
  readonly slots: readonly SlotStats[];
  readonly queued: number;
  /** All requests by what they do and their class; absent where nobody counted. */
  readonly byClass?: RequestsByClass;
  readonly running: number;
  readonly contextTokens: number;
  readonly steps: number;
  readonly passes: number;
  readonly promptTokens: number;
  readonly reusedTokens: number;
  readonly outputTokens: number;
  /** Prompt tokens of those that wait; absent where nobody counted. */
  readonly queuedTokens?: number;
  /** By how much the owners who wait differ in the service they have had, in tokens over weight; absent where nobody counted. */
  readonly serviceGap?: number;
  /** Whether a draft model guesses; false too where it has failed, absent where there is none. */
  readonly drafting?: boolean;
  /** Prefixes in files; absent where none are kept. */
  readonly spill?: SpillStats;
  /** What is pinned and there; absent where nothing can be. */
  readonly pins?: readonly PinStats[];
  /** Absent where none are taken. */
  readonly checkpoints?: CheckpointStats;
  /** Absent where there is none, or none any more, or not yet. */
  readonly prefillWorker?: "idle" | "busy";
}

export interface PinStats {
  readonly name: string;
  readonly tokens: number;
  /** Of its file. */
  readonly bytes: number;
  /** Times it was read by this engine. */
  readonly hits: number;
}

export interface CheckpointStats {
  readonly count: number;
  readonly bytes: number;
  readonly limitBytes: number;
}

export interface SpillStats {
  readonly prefixes: number;
  /** Cells in them. */
  readonly tokens: number;
  readonly bytes: number;
  readonly limitBytes: number;
  /** How likely what a slot loses is asked for again that nobody has come back to, as lately seen; 0-1. */
  readonly returnChance: number;
}
