/** What an engine tells of its steps for those who watch over it: what they cost, and what became of cells. */
import type { OffloadReport } from "./prefill-worker/messages.ts";
import type { LostPrefixes } from "./scheduler/step-effects.ts";
import type { CostModel, EvictionKind } from "./scheduler/types.ts";

/** What a step cost, for metrics. Times in ms. */
export interface StepReport {
  readonly planMs: number;
  readonly decodeMs: number;
  readonly sampleMs: number;
  readonly prefillMs: number;
  readonly decodeSequences: number;
  readonly prefillTokens: number;
  /** Device passes of all calls, from the pass model. */
  readonly passes: number;
  readonly running: number;
  readonly queued: number;
  /** Cells in use over all slots, resident prefixes included. */
  readonly usedCells: number;
  /** Throw-away tokens that closed gaps between decoding slots; absent is none. */
  readonly plugs?: number;
  /** What its calls took over what was expected of them; absent where none ran as it was planned. */
  readonly decodeRatio?: number;
  readonly prefillRatio?: number;
  /** Guessed tokens that turned out right, and wrong; absent is none. */
  readonly guessesRight?: number;
  readonly guessesWrong?: number;
  /** Those of them that were the draft model's, and the time it took; absent is none. */
  readonly modelGuessesRight?: number;
  readonly modelGuessesWrong?: number;
  readonly draftMs?: number;
  /** Requests that lost their slot to others, by why; absent is none. */
  readonly evictions?: Readonly<Partial<Record<EvictionKind, number>>>;
  /** The whole step that has ended; absent: none has. */
  readonly stepMs?: number;
  /** From the end of a call to the beginning of the next one; absent where the engine has rested between them. */
  readonly gapMs?: number;
  /** Slots whose cells were copied to others; absent is none. */
  readonly copies?: number;
  /** Slots that lost the prefix they held, by what came in its place; absent is none. */
  readonly lost?: LostPrefixes;
  /** Tokens that their requests have had computed before; absent is none. */
  readonly recomputed?: number;
  /** Of each request that was cancelled in its slot, from then until the slot was free; absent is none. */
  readonly freedMs?: readonly number[];
  /** Absent where nothing was done. */
  readonly spill?: SpillReport;
  /** Absent where nothing was done. */
  readonly checkpoints?: CheckpointReport;
  /** Absent when it has brought nothing. */
  readonly offload?: OffloadReport;
  /** What calls cost, as refined by now: in one message of many, for the engine that comes after this one. */
  readonly cost?: CostModel;
}

/** Of one message. */
export interface StepReports {
  /** Of earlier steps, whose tokens have waited for those of the last one; absent is none. */
  readonly before?: readonly StepReport[];
  readonly report: StepReport;
}

/** What became of checkpoints. */
export interface CheckpointReport {
  readonly taken: number;
  readonly restored: number;
  /** Prompt tokens that needed not be computed for it. */
  readonly restoredTokens: number;
  /** Those that went for others; not those that went with the cells before them. */
  readonly dropped: number;
  /** Those that could not be taken, or restored. */
  readonly failures: number;
  /** Time that no call could run for it. */
  readonly ms: number;
}

/** What became of prefixes in files. */
export interface SpillReport {
  readonly saved: number;
  readonly restored: number;
  /** Prompt tokens that needed not be computed for it. */
  readonly restoredTokens: number;
  /** Files that went: for others, or because a slot has what was in them. */
  readonly dropped: number;
  /** Files that could not be written; and those that could not be read, or were not what was written. */
  readonly saveFailures: number;
  readonly restoreFailures: number;
  /** Time that no call could run for it. */
  readonly ms: number;
}
