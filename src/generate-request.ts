/** What is to be generated for one choice, with everything that its prompt and its output are held to. */
import type { ChoiceOf, PromptPart, TokenId } from "../engine/protocol.ts";
import type { CallOptions, ReasoningMarkers } from "../models/text/text-pipeline.ts";
import type { PromptField } from "./openai/api-error.ts";
import type { GenerationSettings } from "./openai/generation-fields.ts";
import type { Scheduling } from "./scheduling.ts";
import type { OutputVerifier } from "./verify-output.ts";

export interface GenerateRequest {
  /** Unique among the requests the engine knows. */
  readonly id: string;
  readonly prompt: readonly PromptPart[];
  readonly addBos: boolean;
  /** What errors call the prompt. */
  readonly promptField: PromptField;
  readonly settings: GenerationSettings;
  /** Tells thinking from answer; undefined leaves everything in the answer. */
  readonly reasoning: (ReasoningMarkers & { readonly opened: boolean }) | undefined;
  /** Ends thinking that takes too long; undefined lets it take what it takes. */
  readonly thinking: ThinkingLimit | undefined;
  /** Makes what finds the tool calls in an answer; undefined leaves them in it as text. */
  readonly calls: (() => CallReading) | undefined;
  readonly constraint: GenerationConstraint | undefined;
  /** Looks at a finished answer; what it finds is logged and counted, because it is no fault of the client. */
  readonly verify: OutputVerifier | undefined;
  readonly owner: string;
  /** Absent: as soon as others of the usual class, without deadlines. */
  readonly scheduling?: Scheduling | undefined;
  /** The answer that this is a choice of; absent: it is the answer. */
  readonly answerId?: string;
  /** Of an answer of several, and the field that asks for so many. */
  readonly choice?: ChoiceOf & { readonly askedBy: string };
  /** As in `SubmitCommand`. */
  readonly promptLogprobs?: number | undefined;
  /** Whether events tell how far the prompt is; absent is no. */
  readonly reportsPrefill?: boolean;
  /** What the client expects as the answer; a hint that makes it come faster. */
  readonly predicted?: string | undefined;
}

/** A grammar for the whole output. */
export interface GenerationConstraint {
  /** GBNF, checked. */
  readonly grammar: string;
  /** The request field that asks for it. */
  readonly param: string;
}

export interface ThinkingLimit {
  /** Most tokens of thinking before it is ended. */
  readonly tokens: number;
  /** What is written into the output to end it. */
  readonly closing: readonly TokenId[];
}

export interface CallReading extends CallOptions {
  /** A new id for each call, such as `call_…`. */
  readonly nextId: () => string;
}
