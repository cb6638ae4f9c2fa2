/** What the flight recorder tells of the last steps: numbers and names of requests, never a token or a text. */
import type { RequestId } from "./protocol.ts";
import type { CostModel, SchedulerConfig } from "./scheduler/types.ts";

/** Numbers of one entry in `RecordedCall.entries`: slot, request (-1 for a plug), position, tokens. */
export const ENTRY_NUMBERS = 4;
/** Numbers of one admission in `RecordedStep.admitted`: request, slot, reused tokens, slot copied from (-1 for none). */
export const ADMISSION_NUMBERS = 4;

/** Times in ms since the engine process began, as in all of a timeline. */
export interface RecordedCall {
  readonly kind: "decode" | "prefill";
  readonly startMs: number;
  /** Undefined when the call failed, or is still under way. */
  readonly ms: number | undefined;
  /** Drawing tokens, or reading log probabilities of a prompt, behind the call. */
  readonly sampleMs: number;
  readonly predictedMs: number;
  /** Device passes, from the pass model. */
  readonly passes: number;
  /** Guessed tokens behind the known one of each slot. */
  readonly drafts: number;
  /** What the draft model took to guess them, before the call; absent is nothing. */
  readonly draftMs?: number;
  /** Flat, `ENTRY_NUMBERS` each. */
  readonly entries: readonly number[];
}

export interface RecordedStep {
  /** Counted from 1 since the model was loaded. */
  readonly step: number;
  readonly startMs: number;
  /** Planning, and changing cells before the first call. */
  readonly planMs: number;
  /** Native work outside of slots behind the calls: a piece of an embedding or a ranking. */
  readonly sideMs: number;
  readonly running: number;
  readonly queued: number;
  /** Device time owed to prefill after this step. */
  readonly creditMs: number;
  /** Flat, `ADMISSION_NUMBERS` each. */
  readonly admitted: readonly number[];
  readonly calls: readonly RecordedCall[];
  /** The planner's reasons. */
  readonly why: readonly string[];
}

export interface RecordedRequest {
  /** Its number, in order of arrival; entries and admissions name it so. */
  readonly request: number;
  readonly id: RequestId;
  /** Label of who asked. */
  readonly owner: string;
  readonly promptTokens: number;
  /** Output that an earlier engine had made. */
  readonly resumedTokens: number;
  readonly maxNewTokens: number;
  readonly arrivalMs: number;
  /** Those resumed included. */
  readonly outputTokens: number;
  /** Both undefined while it waits or runs. */
  readonly endMs: number | undefined;
  readonly end: RequestEnd | undefined;
}

export type RequestEnd = "stop" | "length" | "cancelled" | "failed";

export interface Timeline {
  /** Wall clock of the moment from which times are counted, in ms since 1970. */
  readonly originEpochMs: number;
  /** Steps that are kept at most. */
  readonly capacity: number;
  /** Without who may have how much: that is not for everybody who may look. */
  readonly config: Omit<SchedulerConfig, "fairness">;
  /** As refined by now. */
  readonly cost: CostModel;
  /** Oldest first, without gaps. */
  readonly steps: readonly RecordedStep[];
  /** Those of the steps, and all that wait; in order of arrival. */
  readonly requests: readonly RecordedRequest[];
}
