/** What the flight recorder tells of the last steps: numbers and names of requests, never a token or a text. */
import type { RequestId } from "./protocol.ts";
import type { CostModel, EvictionKind, SchedulerConfig } from "./scheduler/types.ts";

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

/** A request that lost its slot when the step began. */
export interface RecordedEviction {
  readonly request: number;
  readonly slot: number;
  /** Who got a slot for it. */
  readonly waiter: number;
  readonly kind: EvictionKind;
}

/** A slot's cells that were written to a file or read from one, or of which a checkpoint was taken or come back to. */
export interface RecordedTransfer {
  readonly kind: "save" | "restore" | "checkpoint" | "rewind";
  readonly slot: number;
  readonly tokens: number;
  readonly startMs: number;
  readonly ms: number;
  /** Absent is no. */
  readonly failed?: true;
}

/** A prompt that the prefill worker computed, in no call, while its request kept the slot. */
export interface RecordedOffload {
  readonly request: number;
  readonly slot: number;
  readonly tokens: number;
  readonly startMs: number;
  /** When its cells were in the slot, or nobody waited for them any more; undefined while it is computed. */
  readonly endMs: number | undefined;
  /** How much of that the worker has had the device. */
  readonly deviceMs: number;
  /** `failed`: the engine computes it after all; `left`: the request has gone, or lost its slot. */
  readonly end: OffloadEnd | undefined;
}

export type OffloadEnd = "landed" | "failed" | "left";

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
  /** Absent is none, of these and the next. */
  readonly evicted?: readonly RecordedEviction[];
  /** In the order in which they were made, before the first call; `planMs` has their time in it. */
  readonly transfers?: readonly RecordedTransfer[];
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
  /** Class that it came with, 0 is the highest. */
  readonly priority: number;
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
  /** What the prefill worker has had since the first of the steps; oldest first. */
  readonly offloads: readonly RecordedOffload[];
  /** Those of the steps, and all that wait; in order of arrival. */
  readonly requests: readonly RecordedRequest[];
}
