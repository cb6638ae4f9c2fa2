/** What a choice says while it is generated: deltas, tool calls, then one finish. */
import type { PromptLogprobs, TokenId } from "../engine/protocol.ts";
import type { DeltaToken, TextDelta } from "../models/text/text-pipeline.ts";

/** Token counts so far. */
export interface GenerationUsage {
  readonly promptTokens: number;
  readonly cachedTokens: number;
  /** Every sampled token, also those whose text was cut or that have none. */
  readonly completionTokens: number;
  /** Tokens that were guessed and checked in the step of another one: right ones came with it. */
  readonly guessesRight: number;
  readonly guessesWrong: number;
  /** Of these, what the client itself predicted. */
  readonly predictionsRight: number;
  readonly predictionsWrong: number;
  readonly reasoningTokens: number;
}

/** Times so far, in ms. */
export interface GenerationTimings {
  /** Computing the prompt, up to the first token. */
  readonly prefillMs: number;
  /** From the first token to the last. */
  readonly decodeMs: number;
  /** Waiting for a slot; like the next, absent before the first token. */
  readonly queueMs?: number | undefined;
  /** From being handed to the engine to the first token. */
  readonly ttftMs?: number | undefined;
}

/** What every event tells. */
export interface GenerationProgress {
  /** With a choice's first event, when asked for. */
  readonly promptLogprobs: PromptLogprobs | undefined;
  /** Tokens sampled since the event before. */
  readonly tokenIds: readonly TokenId[];
  readonly usage: GenerationUsage;
  readonly timings: GenerationTimings;
}

export interface DeltaEvent extends GenerationProgress {
  readonly kind: TextDelta["kind"];
  readonly text: string;
  /** The tokens whose text this is. */
  readonly tokens: readonly DeltaToken[];
}

/** A tool call begins; its arguments follow in events of their own, before the next call begins. */
export interface ToolCallEvent extends GenerationProgress {
  readonly kind: "tool_call";
  /** 0, 1, 2, … within the answer. */
  readonly index: number;
  readonly id: string;
  readonly name: string;
}

/** A further stretch of a call's arguments, which together are JSON text unless a limit cut them off. */
export interface ToolArgumentsEvent extends GenerationProgress {
  readonly kind: "tool_arguments";
  readonly index: number;
  readonly text: string;
}

/** `tool_calls` when the answer has calls and none of them was cut off. */
export type FinishReason = "stop" | "length" | "tool_calls";

export interface FinishEvent extends GenerationProgress {
  readonly kind: "finish";
  readonly reason: FinishReason;
  /** The stop string or stop token that ended it; undefined for the model's own end and for a limit. */
  readonly stopReason: string | TokenId | undefined;
  /** The token that ended it, where that is no part of the text. */
  readonly endToken: DeltaToken | undefined;
}

/** The prompt is being computed; only for those who ask for it, before anything else. */
export interface PrefillEvent extends GenerationProgress {
  readonly kind: "prefill";
  /** Prompt tokens that are there, those that were cached among them. */
  readonly computedTokens: number;
  /** Since the first of them was computed. */
  readonly ms: number;
}

export type GenerationEvent = PrefillEvent | DeltaEvent | ToolCallEvent | ToolArgumentsEvent | FinishEvent;

/** How an answer has been served so far, for the log; times in ms, of the slowest choice. */
export interface Served {
  /** Prompt tokens that were reused. */
  readonly cachedTokens?: number;
  readonly queueMs?: number;
  readonly ttftMs?: number;
  /** How its choices ended, each way once. */
  readonly finish?: string;
}

/** @param last What each choice said last. */
export function servedOf(last: readonly GenerationEvent[], cachedTokens: number): Served {
  const ends = new Set(last.flatMap((event) => (event.kind === "finish" ? [event.reason] : [])));
  const begun = last.filter(({ timings }) => timings.ttftMs !== undefined);
  const slowest = (key: "queueMs" | "ttftMs"): number =>
    Math.round(Math.max(...begun.map(({ timings }) => timings[key] ?? 0)));
  return {
    ...(begun.length > 0 ? { cachedTokens, queueMs: slowest("queueMs"), ttftMs: slowest("ttftMs") } : {}),
    ...(ends.size > 0 ? { finish: [...ends].join(",") } : {}),
  };
}

export function isTextEvent(event: GenerationEvent): event is DeltaEvent {
  return event.kind === "content" || event.kind === "reasoning";
}

/** Who passes the events of a choice on; must not throw. */
export interface GenerationListener {
  onEvent(event: GenerationEvent): void;
  /** Once, after the last event. @param error An `ApiError` when the engine failed the choice. */
  onEnd(error: Error | undefined): void;
}
