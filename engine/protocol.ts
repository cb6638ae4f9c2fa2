/**
 * The messages between a server and an engine: everything either side may say to the other.
 *
 * They are plain data for the structured clone algorithm, so the same engine can sit in this process or in a
 * child process. Text becomes tokens only inside the engine; tokens become text only outside it.
 */
import type { EngineStats } from "./engine-stats.ts";
import type { AdapterFacts, AdapterUse } from "./adapters.ts";
import type { EngineErrorCode } from "./errors.ts";
import type { CostModel } from "./scheduler/types.ts";
import type { Allowance, FairnessConfig, PriorityClass, RequestChange } from "./sharing.ts";
import type { StepReports } from "./step-report.ts";
import type { Timeline } from "./timeline.ts";

/** Vocabulary index, `0 <= id < vocabSize`. */
export type TokenId = number;

/** Chosen by the server; unique among the requests an engine knows at one time. */
export type RequestId = string;

/**
 * A stretch of the prompt. Only a part with `special: true` may become control tokens: what a user typed is
 * sent with `special: false` and stays text.
 */
export type PromptPart =
  | { readonly text: string; readonly special: boolean }
  | { readonly tokens: readonly TokenId[] };

/** DRY: tokens that go on with a repetition lose more the longer it is. Prompt and output count alike. */
export interface DryParams {
  /** Above 0: a token loses `multiplier * base ** (repeated tokens - allowedLength)` of its logit. */
  readonly multiplier: number;
  /** At least 1. */
  readonly base: number;
  /** Repetitions of fewer tokens cost nothing. */
  readonly allowedLength: number;
  /** How many of the last tokens are looked at; 0 is all of them. */
  readonly lastTokens: number;
  /** Texts across which nothing counts as repeated. */
  readonly breakers: readonly string[];
}

/** How the next token is drawn. Every field is set; the neutral value is named with each. */
export interface SamplingParams {
  /** 0 picks the most likely token. */
  readonly temperature: number;
  /** 0-1; 1 is off. */
  readonly topP: number;
  /** 0 is off. */
  readonly topK: number;
  /** 0-1; 0 is off. */
  readonly minP: number;
  /** OpenAI's penalties count the generated tokens only; 0 is off. */
  readonly frequencyPenalty: number;
  readonly presencePenalty: number;
  /** Divides positive and multiplies negative logits of tokens already generated; 1 is off. */
  readonly repeatPenalty: number;
  /** How many generated tokens the penalties look back on; 0 is all of them. */
  readonly repeatLastTokens: number;
  /**
   * Chance, 0-1, with which a draw leaves out the most likely tokens: of those that are at least `xtcThreshold`
   * likely, all but the least likely one. 0 is off, and so is a threshold above 0.5.
   */
  readonly xtcProbability: number;
  readonly xtcThreshold: number;
  /** Undefined is off. */
  readonly dry: DryParams | undefined;
  /** Added to the logits before anything else; -100 or less bans, 100 or more forces. */
  readonly logitBias: readonly (readonly [token: TokenId, bias: number])[];
  /** None but these may be drawn; absent is all. */
  readonly allowedTokens?: readonly TokenId[] | undefined;
  /** The last token of each is banned where the output ends with those before it; absent is none. */
  readonly badSequences?: readonly (readonly TokenId[])[] | undefined;
  /** Unsigned 32-bit. Each position draws with a seed derived from this one and the position alone. */
  readonly seed: number;
}

export interface GenerationParams {
  readonly sampling: SamplingParams;
  /**
   * Most tokens to generate; undefined runs to the end of the slot's context. With 0 the prompt alone is computed:
   * the request ends with `length` and one output without tokens.
   */
  readonly maxTokens: number | undefined;
  /** End-of-generation and stop tokens are banned until this many tokens exist. */
  readonly minTokens: number;
  /** Bans every end-of-generation token, so that the output runs to its limit. */
  readonly ignoreEos: boolean;
  readonly stopTokenIds: readonly TokenId[];
  /**
   * GBNF text with the entry rule `root` that the whole output follows, from its first token on; undefined is
   * off. End-of-generation tokens can be drawn exactly where it is complete. Its size and depth are the
   * caller's to limit: native code is given it as it is.
   */
  readonly grammar: string | undefined;
  /** Number of alternatives to report with each token; 0 reports the token alone, undefined nothing. */
  readonly topLogprobs: number | undefined;
  /** Whether they are of the chances that draws gave, behind all options, and not of the model's; absent is no. */
  readonly logprobsOfDraws?: boolean;
  /** Whether cells of an earlier request may be reused. */
  readonly reusePrefix: boolean;
  /** How long its computed prompt is to be kept before others that are as dear, in ms; absent: like any. */
  readonly keepMs?: number;
}

export interface ChoiceOf {
  /** All choices of the answer. */
  readonly of: number;
  /** Whether its prompt is that of a choice before it, beside which it counts for nothing in what an owner may have waiting. */
  readonly repeatsPrompt: boolean;
}

export interface SubmitCommand {
  readonly type: "submit";
  readonly id: RequestId;
  readonly prompt: readonly PromptPart[];
  /** Puts the model's begin token first if the model wants one and the prompt lacks it. */
  readonly addBos: boolean;
  readonly params: GenerationParams;
  /**
   * Reports the log probabilities of the prompt's own tokens in `StartInfo`, with so many alternatives each, 0 to
   * 20; undefined reports nothing. Such a prompt is computed as a whole, whatever is cached, and each of its
   * tokens costs about as much as one that is drawn. A resumed request has had them.
   */
  readonly promptLogprobs: number | undefined;
  /** Whether it is told how far its prompt has been computed, call by call; absent is no. */
  readonly reportsPrefill?: boolean;
  /** What the client expects as the output; absent is nothing. A hint for guessing, which never changes what comes. */
  readonly predicted?: readonly PromptPart[];
  /**
   * Tokens this request has generated already, in order; none for a new one. The engine continues behind them as
   * if it had never stopped: positions, seeds, penalties and limits count them. They are not sent again.
   */
  readonly resume: readonly TokenId[];
  /** Cells are shared with requests of the same scope alone; absent is one scope of its own. */
  readonly cacheScope?: string | undefined;
  /** LoRA adapters that prompt and output are computed with; absent or empty is the model alone. */
  readonly adapters?: readonly AdapterUse[];
  /** Label of who asked (an API key's name), shown in slot listings; never a secret. Owners share the slots. */
  readonly owner: string;
  /** Which of the choices of an answer it is, which are submitted together; absent: the only one. */
  readonly choice?: ChoiceOf | undefined;
  /** Absent is `PriorityClass.normal`. */
  readonly priority?: PriorityClass;
  /** Whether it waits until a `control` resumes it; absent is no. */
  readonly paused?: boolean;
  /** Whether an engine has let it in before: it is not refused for want of room then; absent is no. */
  readonly accepted?: boolean;
  /** Fails, or is refused, when its first token does not come within so many ms; absent is no limit. */
  readonly firstTokenWithinMs?: number | undefined;
  /** Ends with `length` and the tokens it has after so many ms, or fails when it has none; absent is no limit. */
  readonly endWithinMs?: number | undefined;
  /** The longest told time, in ms, after which its client asks again when it is refused; absent is any. */
  readonly returnsWithinMs?: number;
}

export interface LoadOptions {
  readonly modelPath: string;
  /** Files of LoRA adapters that requests may ask for; absent is none. */
  readonly adapters?: readonly string[];
  /** Tokens each slot can hold; undefined lets the engine choose from the model and the memory. */
  readonly contextTokens: number | undefined;
  readonly slots: number;
  /** Most tokens of one native call; undefined lets the engine choose. */
  readonly batchTokens: number | undefined;
  /** Compute threads; undefined uses the cores that do mathematics. */
  readonly threads: number | undefined;
  readonly gpu: "auto" | "cuda" | "vulkan" | "metal" | "off";
  /** Layers on the GPU; undefined lets the runtime fit as many as it can. */
  readonly gpuLayers: number | undefined;
  readonly flashAttention: "auto" | "on" | "off";
  readonly kvCacheType: "f16" | "q8_0" | "q4_0" | "f32";
  /** Whether sliding-window layers keep the cells of all tokens, as other layers do; absent is no. */
  readonly swaFull?: boolean;
  /** Grid on which prompts are cut, in tokens; undefined lets the engine choose from model and device. */
  readonly prefillChunk: number | undefined;
  /** Whether a CPU is given shorter cells and the attention that is fast in them, where nobody says; absent is no. */
  readonly evenSteps?: boolean;
  /** Longest wanted time between two tokens of a stream, in ms; undefined: 100 on a GPU, 400 on a CPU. */
  readonly itlTargetMs: number | undefined;
  /** Most requests that may wait for a slot. */
  readonly maxQueued: number;
  /** Longest prompt that is taken, whatever a slot can hold; undefined is no further bound. */
  readonly maxPromptTokens?: number | undefined;
  /** Exact reuse only, so that outputs never depend on what was cached. */
  readonly deterministic: boolean;
  /**
   * Guesses tokens from what a request has said before and checks several at a time, where that saves time;
   * undefined: where a token's result does not depend on how many are computed together.
   */
  readonly speculate: boolean | undefined;
  /** A smaller model of the same vocabulary that guesses where a text does not repeat itself; absent is none. */
  readonly draftModelPath?: string | undefined;
  /** Device time that prefill gets at least beside decode, relative to decode's, 0-1; absent: 0.3. */
  readonly minPrefillShare?: number;
  /** Whether a gap between decoding slots may be closed with a throw-away token; absent is yes. */
  readonly plugGaps?: boolean;
  /** As in `SchedulerConfig`; absent is yes. */
  readonly prefixFirst?: boolean;
  readonly keepSlots?: boolean;
  /** As in `SchedulerConfig`; absent is `shortest`. */
  readonly prefillOrder?: "arrival" | "shortest";
  /** So many slots, fewer than all, are kept for prompts of fewer than so many tokens; absent: none is. */
  readonly reserve?: { readonly slots: number; readonly promptTokens: number };
  /** How owners share the slots; absent: equally, without limits. */
  readonly fairness?: FairnessConfig;
  /** Where prefixes are kept whose slot is needed for others; absent: nowhere. */
  readonly spill?: SpillOptions;
  /** Where the model needs such, checkpoints are taken; absent: none are. */
  readonly checkpoints?: CheckpointOptions;
  /** Whether long prompts are computed beside running streams by a process of their own, where that can be; absent is no. */
  readonly prefillWorker?: boolean;
  /** Whether other engines use the device, so that this one asks for a turn before it computes; absent is no. */
  readonly sharesDevice?: boolean;
  /** Tokens of a stream that come faster are sent together, in so many ms at most; absent: each step's at once. */
  readonly gatherMs?: number | undefined;
  /** Steps that the flight recorder keeps; 0 records nothing, absent lets the engine choose. */
  readonly timelineSteps?: number;
  /** `ModelFacts.pins` of an earlier engine: what is of the same model is pinned before the engine is loaded; absent is nothing. */
  readonly pins?: readonly PinnedPrompt[];
  /** `ModelFacts.measured` of an earlier engine: what is of the same model is not measured again; absent: all is. */
  readonly measured?: readonly MeasuredCost[];
}

/** A prompt to be pinned. */
export interface PinPrompt {
  /** What the operator calls it. */
  readonly name: string;
  /** Whole prompts that begin with it and go on in different ways: pinned is what all of them begin with. */
  readonly prompts: readonly (readonly PromptPart[])[];
  /** Absent or empty is the model alone. */
  readonly adapters?: readonly AdapterUse[];
}

/** A prompt that is pinned, in a form that another engine goes on with. */
export interface PinnedPrompt {
  readonly name: string;
  /** Of the model, its settings and its adapters. */
  readonly of: string;
  /** The part that is kept computed. */
  readonly tokens: readonly TokenId[];
  readonly adapters: readonly AdapterUse[];
  /**
   * Where its cells are; an engine that takes the place of a dead one takes the file, if it is what was written. Absent where
   * they could not be written so far.
   */
  readonly file?: SealedFile;
}

export interface SealedFile {
  readonly path: string;
  readonly bytes: number;
  /** SHA-256 in hex digits. */
  readonly digest: string;
}

/** What calls of one model cost on this device. */
export interface MeasuredCost {
  /** Of the model, its settings and its adapters. */
  readonly of: string;
  readonly cost: CostModel;
}

export interface CheckpointOptions {
  /** Most bytes of all of them, their tokens included; undefined: a share of the memory that is free. */
  readonly bytes: number | undefined;
}

export interface SpillOptions {
  /**
   * Folder for the files; undefined: in memory where there is a file system for it, else with other temporary files if
   * there are `bytes`, and nowhere if not.
   */
  readonly directory: string | undefined;
  /** Most bytes of all files; undefined: a part of the free memory. */
  readonly bytes: number | undefined;
  /** Which of its server's models it is: files that an engine has left wait for the next one of the same; absent is another one. */
  readonly model?: string;
}

/** Most inputs of one `embed`, or documents of one `rank`; and most tokens of all of them together. */
export const MOST_INPUTS = 2048;
export const MOST_INPUT_TOKENS = 300_000;

/**
 * Texts to be turned into vectors. They are computed beside the generating requests, a bounded piece between two
 * steps, in a context of their own. Each input has at most `EmbeddingFacts.contextTokens` tokens, the begin and
 * end tokens that the model wants included.
 */
/** Whose inputs they are, and how soon they are wanted; absent: somebody without a name, as soon as those of others. */
export interface InputOwner {
  readonly owner?: string | undefined;
  readonly priority?: PriorityClass | undefined;
}

export interface EmbedCommand extends InputOwner {
  readonly type: "embed";
  readonly call: number;
  readonly inputs: readonly (readonly PromptPart[])[];
  /**
   * So many of each input's last tokens are read, begin and end tokens not counted; -1: as many as fit together
   * with them. Absent: all.
   */
  readonly keep?: number | undefined;
}

/** What the native side did for an `embed` or a `rank`. */
export interface InputWork {
  readonly calls: number;
  /** Time of all of them. */
  readonly ms: number;
}

/** Documents to be scored against a query, one after the other; needs `ModelFacts.ranking`. */
export interface RankCommand extends InputOwner {
  readonly type: "rank";
  readonly call: number;
  readonly query: readonly PromptPart[];
  readonly documents: readonly (readonly PromptPart[])[];
}

/**
 * What a test lets go wrong: in the native call that is the `call`-th after this message, each time a request
 * with this seed is to draw its `draw`-th token, for a slowness of so many ms in every call, or in the `step`-th
 * message about steps that is sent after this one.
 */
export type Fault =
  | { readonly does: "die" | "hang" | "fail" | "hoard"; readonly call: number }
  | { readonly does: "die" | "hang" | "fail"; readonly seed: number; readonly draw: number }
  | { readonly does: "slow"; readonly ms: number }
  | { readonly does: "garble"; readonly step: number; readonly how: Garbling };

/** No message at all, one of an unknown type or form, about an unknown request, or with a token that cannot be. */
export type Garbling = "nothing" | "type" | "shape" | "id" | "token";

export type EngineCommand =
  | { readonly type: "load"; readonly options: LoadOptions }
  | SubmitCommand
  | { readonly type: "cancel"; readonly id: RequestId }
  /** Of a request that has ended it changes nothing. */
  | { readonly type: "control"; readonly id: RequestId; readonly change: RequestChange }
  | {
      readonly type: "tokenize";
      readonly call: number;
      /** Each tokenized by itself. */
      readonly texts: readonly (readonly PromptPart[])[];
      readonly addBos: boolean;
    }
  | EmbedCommand
  | RankCommand
  /**
   * Computes these prompts as soon as no request is open, and keeps them for as long as the model is served, in place of those
   * pinned before.
   */
  | { readonly type: "pin"; readonly call: number; readonly prompts: readonly PinPrompt[] }
  /** Takes back an `embed` or `rank`: it gets no answer. Others are answered before it comes. */
  | { readonly type: "cancel_call"; readonly call: number }
  | { readonly type: "stats"; readonly call: number }
  /** What the flight recorder kept of so many of the last steps. */
  | { readonly type: "timeline"; readonly call: number; readonly steps: number }
  /**
   * Answered with `drained` when nothing runs or waits any more; submits after it fail with `draining`, and what is
   * paused goes on.
   */
  | { readonly type: "drain"; readonly call: number }
  /** The engine has the device, for so many ms once others wait for it; `Infinity`: nobody does. */
  | { readonly type: "device_granted"; readonly forMs: number }
  /** Others wait for the device: they are to have it in so many ms; `Infinity`: they are gone. */
  | { readonly type: "device_recalled"; readonly afterMs: number }
  /** Ignored by every engine whose process was not started for tests. */
  | { readonly type: "fault"; readonly fault: Fault }
  | { readonly type: "stop" };

/** What is known of a loaded model. Sent once; the token tables are the server's only tokenizer data. */
export interface ModelFacts {
  /** `general.name` of the file, or its file name. */
  readonly name: string;
  readonly architecture: string;
  readonly parameters: number;
  /** Bytes of all tensors. */
  readonly sizeBytes: number;
  readonly embeddingLength: number;
  readonly trainContextTokens: number;
  /** Tokens one slot can hold: prompt and output together. */
  readonly contextTokens: number;
  readonly slots: number;
  readonly batchTokens: number;
  readonly prefillChunk: number;
  readonly itlTargetMs: number;
  readonly threads: number;
  /** Human-readable, e.g. "CPU, 2 threads" or "cuda: NVIDIA H100 (33/33 layers)". */
  readonly device: string;
  /** What the runtime runs on, whether or not it holds any layer. */
  readonly gpu: "cuda" | "vulkan" | "metal" | "off";
  readonly gpuLayers: number;
  readonly flashAttention: boolean;
  /** Bytes of the KV cache of all slots, as the runtime reports the context's memory. */
  readonly contextBytes: number;
  readonly loadMs: number;
  /** Changes with the model file and every setting that may change an output; 10 hex digits. */
  readonly fingerprint: string;
  readonly chatTemplate: string | undefined;
  readonly vocabSize: number;
  /** Bytes of token `i` are `tokenBytes[tokenOffsets[i] .. tokenOffsets[i + 1])`. */
  readonly tokenBytes: Uint8Array;
  /** Length `vocabSize + 1`. */
  readonly tokenOffsets: Uint32Array;
  /** llama.cpp's attribute bits per token (`TokenAttribute`). */
  readonly tokenAttributes: Uint16Array;
  /** Every token that ends a generation. */
  readonly endTokens: readonly TokenId[];
  readonly bosToken: TokenId | undefined;
  readonly eosToken: TokenId | undefined;
  /** Whether the model wants its begin token in front of a prompt. */
  readonly addBos: boolean;
  /** Undefined when the model was not taught to fill in the middle. */
  readonly fim: FillInMiddleTokens | undefined;
  /** False for models that were made to give vectors or scores: they take no `submit`. */
  readonly generates: boolean;
  /** Undefined when the model gives no vectors. */
  readonly embeddings: EmbeddingFacts | undefined;
  /** Whether the model scores documents against a query. */
  readonly ranking: boolean;
  /** Of `LoadOptions.adapters`, in their order; absent is none. */
  readonly adapters?: readonly AdapterFacts[];
  /** The model that guesses for it; absent is none. */
  readonly draft?: DraftFacts;
  /** Where computed prompts are kept when they lose their slots; absent is nowhere. */
  readonly spill?: SpillFacts;
  /** Most bytes of checkpoints; absent where none are taken. */
  readonly checkpointBytes?: number;
  /** What is pinned, for the engine after this one; absent is nothing. */
  readonly pins?: readonly PinnedPrompt[];
  /** What calls cost, of the draft model too, for the engine after this one; absent where it is known without measuring. */
  readonly measured?: readonly MeasuredCost[];
}

export interface SpillFacts {
  readonly directory: string;
  /** Whether it is a file system in memory. */
  readonly inMemory: boolean;
  /** Most bytes of all files. */
  readonly limitBytes: number;
}

export interface DraftFacts {
  readonly name: string;
  readonly parameters: number;
  /** Bytes of all tensors. */
  readonly sizeBytes: number;
  readonly contextBytes: number;
}

export interface EmbeddingFacts {
  /** Length of the vectors. */
  readonly dimensions: number;
  /** How the tokens' vectors become one; chat models give that of the last token. */
  readonly pooling: "mean" | "cls" | "last";
  /** Most tokens of one input. */
  readonly contextTokens: number;
}

/** What a prompt for filling in the middle is made of: prefix token, text, suffix token, text, middle token. */
export interface FillInMiddleTokens {
  readonly prefix: TokenId;
  readonly suffix: TokenId;
  readonly middle: TokenId;
}

/** Log probabilities of the model's own distribution, before any sampling option, unless a request asks for those behind. */
export interface TokenLogprobs {
  /** Natural logarithm; finite, at least -9999. */
  readonly logprob: number;
  /** Most likely first. */
  readonly top: readonly (readonly [token: TokenId, logprob: number])[];
}

/** Log probabilities of a prompt's tokens: read them with `promptLogprobsAt`. */
export interface PromptLogprobs {
  /** Of token `i` given those before it; the first is meaningless, nothing is before it. */
  readonly logprobs: Float32Array;
  /** Alternatives reported for each token. */
  readonly top: number;
  /** Token ids, most likely first: of token `i` at `[i * top .. (i + 1) * top)`. */
  readonly topTokens: Uint32Array;
  readonly topLogprobs: Float32Array;
}

/** Where the cells of a prompt were that it needs not compute. */
export type PrefixSource = "slot" | "copy" | "file" | "checkpoint";

/** Sent with a request's first token; a resumed request has had its first token. */
export interface StartInfo {
  readonly slot: number;
  /** Prompt tokens whose cells were reused, and where those were; absent: where is not known. */
  readonly cachedTokens: number;
  readonly cachedFrom?: PrefixSource;
  /** As long as it was held back for a prefix that others computed, in `queueMs` as well; absent is not at all. */
  readonly heldMs?: number;
  /** Accepted to slot assigned. */
  readonly queueMs: number;
  /** Slot assigned to first token sampled. */
  readonly prefillMs: number;
  /** When the request asked for them. */
  readonly promptLogprobs: PromptLogprobs | undefined;
}

/** `abort` answers a cancel and reaches nobody but the bookkeeping. */
export type EngineFinishReason = "stop" | "length" | "abort";

export interface Finish {
  readonly reason: EngineFinishReason;
  /** The end-of-generation or stop token that ended the output; it is the last of the tokens. */
  readonly stopToken: TokenId | undefined;
}

/** How far a prompt has been computed. */
export interface PrefillReport {
  /** As in `StartInfo`. */
  readonly cachedTokens: number;
  /** Prompt tokens whose cells are there, the reused ones among them. */
  readonly computedTokens: number;
  /** Since the first call for it began. */
  readonly ms: number;
}

/** Where a request is that has no token yet: it waits for a slot, or has one. */
export type EarlyPhase = "queue" | "prefill";

export interface RequestMove {
  readonly id: RequestId;
  readonly to: EarlyPhase;
}

/** What one step brought one request. */
export interface StepOutput {
  readonly id: RequestId;
  readonly tokens: readonly TokenId[];
  /** One per token, when asked for. */
  readonly logprobs: readonly TokenLogprobs[] | undefined;
  readonly start: StartInfo | undefined;
  readonly finish: Finish | undefined;
  /** Of a request that asked for it and has no token yet, in an output without tokens; absent is nothing new. */
  readonly prefill?: PrefillReport;
  /**
   * Tokens that were guessed for this request and checked; absent is none. All of `tokens` but the last were
   * guessed right.
   */
  readonly guessed?: number;
  /** Whether they were what the client predicted; absent is no. */
  readonly ofPrediction?: boolean;
}

export type EngineEvent =
  | { readonly type: "load_progress"; readonly ratio: number }
  | { readonly type: "loaded"; readonly facts: ModelFacts }
  /** A process of this engine's own, which ends with it; without `pid` it is gone. */
  | { readonly type: "companion"; readonly pid: number | undefined }
  /** Asks for a turn on a device that it shares; never taken back. */
  | { readonly type: "device_wanted" }
  /** Gives its turn back; `again`: and asks for the next one. */
  | { readonly type: "device_freed"; readonly again: boolean }
  | { readonly type: "load_failed"; readonly code: EngineErrorCode; readonly message: string }
  | {
      readonly type: "accepted";
      readonly id: RequestId;
      readonly promptTokens: readonly TokenId[];
      /** Requests ahead in the queue; 0 when a slot is free. */
      readonly queuePosition: number;
      /** Absent where nobody counted. */
      readonly allowance?: Allowance;
    }
  | {
      readonly type: "failed";
      readonly id: RequestId;
      readonly code: EngineErrorCode;
      readonly message: string;
      /** Numbers the message speaks of, such as `promptTokens` and `contextTokens`. */
      readonly details: Readonly<Record<string, number>> | undefined;
    }
  | ({
      readonly type: "step";
      readonly outputs: readonly StepOutput[];
      /** Requests without a token that got a slot or lost theirs, in that order; absent is none. */
      readonly moves?: readonly RequestMove[];
    } & StepReports)
  /** Of each text. */
  | { readonly type: "tokenized"; readonly call: number; readonly tokens: readonly (readonly TokenId[])[] }
  | {
      readonly type: "embedded";
      readonly call: number;
      /** Of length 1 each, in the order of the inputs. */
      readonly vectors: readonly Float32Array[];
      readonly tokenCounts: readonly number[];
      readonly work: InputWork;
      /** What its owner has left of such calls behind this one; absent where nobody counts. */
      readonly allowance?: Allowance;
    }
  | {
      readonly type: "ranked";
      readonly call: number;
      /** 0 to 1, in the order of the documents. */
      readonly scores: readonly number[];
      /** Of query and document together. */
      readonly tokenCounts: readonly number[];
      readonly work: InputWork;
      readonly allowance?: Allowance;
    }
  | { readonly type: "pinned"; readonly call: number; readonly pins: readonly PinnedPrompt[] }
  | { readonly type: "stats"; readonly call: number; readonly stats: EngineStats }
  | { readonly type: "timeline"; readonly call: number; readonly timeline: Timeline }
  | { readonly type: "drained"; readonly call: number }
  | {
      readonly type: "call_failed";
      readonly call: number;
      readonly code: EngineErrorCode;
      readonly message: string;
      /** Numbers the message speaks of, such as the `index` of an input. */
      readonly details: Readonly<Record<string, number>> | undefined;
    };

/** Why an engine is gone. */
export interface EngineExit {
  /** False after `stop`, true for a death nobody asked for. */
  readonly unexpected: boolean;
  readonly detail: string;
}

/** One end of the line to an engine, whichever process it lives in. */
export interface EnginePort {
  send(command: EngineCommand): void;
  /** Sets the one receiver of events. Set it before the first `send`. */
  onEvent(receiver: (event: EngineEvent) => void): void;
  /** Settles once, when the engine can send no more. Never rejects. */
  readonly exited: Promise<EngineExit>;
  /** Ends the engine without waiting for anything; for one that does not answer. */
  kill(): void;
  /** On a shared device: that the engine waits for its turn, or that others wait for it to end its own; absent is neither. */
  readonly deviceTurn?: "awaited" | "owed" | undefined;
}
