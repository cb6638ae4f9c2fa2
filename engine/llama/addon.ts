/**
 * The private surface of node-llama-cpp that the engine steps through. The only file that touches it.
 *
 * node-llama-cpp's public `sequence.evaluate()` decides itself what goes into a batch and needs about twice
 * the device passes, so models and contexts are created through the public API and stepped from here. The
 * package version is pinned exactly, and what is used is checked at start.
 */
import { EngineError } from "../errors.ts";
import type { Llama, LlamaContext, LlamaEmbeddingContext, LlamaModel } from "node-llama-cpp";

/** Where the logits of a batch entry lie, as `addToBatch` says. */
export type BatchLogitIndex = number;

/** A checked grammar. */
export interface AddonGrammar {
  isTextCompatible(text: string): boolean;
}

/**
 * Where one output stands in a grammar. Its memory is freed by the garbage collector alone, which does not see
 * how much it is; see native-garbage.ts.
 */
export type AddonGrammarState = object & { readonly __brand: "AddonGrammarState" };

/** A LoRA adapter of a model, which frees it. */
export type AddonAdapter = object & { readonly __brand: "AddonAdapter" };

/** Draws tokens; holds its options between draws. (`AddonSampler` of the native addon.) */
export interface AddonSampler {
  dispose(): void;
  /** Options that are absent are off. */
  applyConfig(config: AddonSamplerConfig): void;
}

export interface AddonSamplerConfig {
  /** 0 or absent is greedy. */
  readonly temperature?: number;
  readonly minP?: number;
  readonly topK?: number;
  readonly topP?: number;
  /** Unsigned 32-bit. */
  readonly seed?: number;
  /** Both or none. Its own draw has the seed's chance; with a probability of 1 it is made whatever the seed. */
  readonly xtcProbability?: number;
  readonly xtcThreshold?: number;
  readonly repeatPenalty?: number;
  readonly repeatPenaltyMaxTokens?: number;
  /** The tokens to be punished, oldest first. */
  readonly repeatPenaltyTokens?: Uint32Array;
  readonly repeatPenaltyPresencePenalty?: number;
  readonly repeatPenaltyFrequencyPenalty?: number;
  readonly tokenBiasKeys?: Uint32Array;
  readonly tokenBiasValues?: Float32Array;
  /** Advanced by each draw, except by end-of-generation tokens. */
  readonly grammarEvaluationState?: AddonGrammarState;
}

/** Which logits `sampleToken` reports: of `tokens`, of the drawn token, and of the `top` most likely. */
export type LogitsFilter = readonly [
  tokens: readonly number[],
  includeMax: boolean,
  includeMin: boolean,
  includeSelected: boolean,
  top: number,
];

export type SampleWithLogits = readonly [
  token: number,
  probabilities: undefined,
  confidence: undefined,
  /** Alternating token and logit. */
  logits: readonly number[] | undefined,
  /** Sum over the vocabulary of `exp(logit - largest logit)`. */
  totalWeight: number | undefined,
];

/** What of a sequence cannot be taken back, as it was at one time: a recurrent state, or the cells of a window. */
export interface AddonCheckpoint {
  /** Takes it of the sequence, a queued copy not included. Resolves when it is there. */
  init(context: AddonContext, sequence: number): Promise<void>;
  /** Bytes. */
  readonly size: number;
  /** Frees them. */
  dispose(): void;
}

/** A llama.cpp context. Cells may change only while no promise of it is pending. */
export interface AddonContext {
  initBatch(tokens: number): void;
  /** Returns the logit index of each position in `logitPositions`. */
  addToBatch(
    sequence: number,
    position: number,
    tokens: Uint32Array,
    logitPositions: Uint32Array,
  ): Uint32Array;
  decodeBatch(): Promise<void>;
  /** -1 when there is nothing to draw from. */
  sampleToken(index: BatchLogitIndex, sampler: AddonSampler): Promise<number>;
  sampleToken(
    index: BatchLogitIndex,
    sampler: AddonSampler,
    probabilities: false,
    confidence: false,
    logits: LogitsFilter,
    totalWeight: true,
  ): Promise<SampleWithLogits>;
  /** Drops all cells of the sequence. */
  disposeSequence(sequence: number): void;
  /** `end` -1 is the end. False when the model cannot drop only a part. */
  removeTokenCellsFromSequence(sequence: number, start: number, end: number): boolean;
  /**
   * Queued with the other native work; the cells themselves are copied when the next batch is decoded, whatever
   * is truncated until then. Resolves when it is queued.
   */
  copySequenceStateFromOtherSequence(target: number, source: number): Promise<number>;
  /**
   * Cells, recurrent states and these tokens; the tokens need not be those of the cells. Of a sequence with a queued
   * copy it writes what was there before. Resolves with the bytes of the file.
   */
  saveSequenceStateToFile(path: string, sequence: number, tokens: Uint32Array): Promise<number>;
  /**
   * Replaces what the sequence has, and is itself replaced by a queued copy. Resolves with the file's tokens; rejects when
   * they are more than `mostTokens`. Ends the process for some files that are not what `saveSequenceStateToFile` wrote.
   */
  loadSequenceStateFromFile(path: string, sequence: number, mostTokens: number): Promise<Uint32Array>;
  /**
   * Puts what was taken in place of what the sequence has, of any sequence, and drops the cells behind `maxPosition`, which may
   * not lie behind where it was taken. Cells before that, where a model has such, have to be there already. Resolves with
   * whether the sequence ends at `maxPosition` then; what it holds is undefined if not.
   */
  restoreCheckpoint(checkpoint: AddonCheckpoint, maxPosition: number, sequence: number): Promise<boolean>;
  /** -1 when the sequence has no cells. Of a recurrent state it is that of its last token. */
  getSequenceKvCacheMinPosition(sequence: number): number;
  /** -1 when the sequence has no cells. */
  getSequenceKvCacheMaxPosition(sequence: number): number;
  getMemoryBreakdown(): { readonly cpuRam: number; readonly gpuVram: number };
  getThreads(): number;
  /** Replaces what is applied, from the next call on; nothing is loaded by it. */
  setLoras(adapters: readonly AddonAdapter[], scales: readonly number[]): void;
}

/** A llama.cpp context that gives vectors, of sequence 0 alone. */
export interface AddonEmbeddingContext extends Pick<
  AddonContext,
  "initBatch" | "addToBatch" | "decodeBatch" | "disposeSequence"
> {
  /** Of the tokens of the last call; pooled if the model pools, else of its last token. Throws without one. */
  getEmbedding(tokens: number): Float64Array;
}

/** A llama.cpp model's vocabulary. Ids out of range abort the process: check before calling. */
export interface AddonModel {
  getTokenString(token: number): string;
  getTokenAttributes(token: number): number;
  isEogToken(token: number): boolean;
  /** llama.h `llama_vocab_type`. */
  getVocabularyType(): number;
  shouldPrependBosToken(): boolean;
  tokenize(text: string, parseSpecial: boolean): Uint32Array;
  detokenize(tokens: Uint32Array, special: boolean): string;
  /** Number of parameters. */
  getTotalParameters(): number;
  /** Rejects for a file that is no adapter of this model; the runtime's log says why. */
  loadLora(adapter: AddonAdapter): Promise<void>;
}

export interface AddonSamplerClass {
  new (model: AddonModel): AddonSampler;
  /** Throws when the grammar does not allow the token; ends the process for an end-of-generation token. */
  acceptGrammarEvaluationStateToken(state: AddonGrammarState, token: number): void;
  canBeNextTokenForGrammarEvaluationState(state: AddonGrammarState, token: number): boolean;
}

export interface AddonGrammarStateClass {
  new (model: AddonModel, grammar: AddonGrammar): AddonGrammarState;
  /** A copy. */
  new (state: AddonGrammarState): AddonGrammarState;
}

export interface AddonBindings {
  readonly AddonSampler: AddonSamplerClass;
  /** Throws for a text that is not a grammar. */
  readonly AddonGrammar: new (
    text: string,
    options: { readonly addonExports: AddonBindings; readonly rootRuleName: string },
  ) => AddonGrammar;
  readonly AddonGrammarEvaluationState: AddonGrammarStateClass;
  /** Reads nothing yet. */
  readonly AddonModelLora: new (model: AddonModel, path: string) => AddonAdapter;
  /** Empty until `init`. */
  readonly AddonContextSequenceCheckpoint: new () => AddonCheckpoint;
  getIsArchRecurrent(architecture: string): boolean | undefined;
  getIsArchHybrid(architecture: string): boolean | undefined;
}

const CONTEXT_METHODS = [
  "initBatch",
  "addToBatch",
  "decodeBatch",
  "sampleToken",
  "disposeSequence",
  "removeTokenCellsFromSequence",
  "copySequenceStateFromOtherSequence",
  "saveSequenceStateToFile",
  "loadSequenceStateFromFile",
  "restoreCheckpoint",
  "getSequenceKvCacheMinPosition",
  "getSequenceKvCacheMaxPosition",
  "getMemoryBreakdown",
  "getThreads",
  "setLoras",
] as const satisfies readonly (keyof AddonContext)[];

const EMBEDDING_METHODS = [
  "initBatch",
  "addToBatch",
  "decodeBatch",
  "disposeSequence",
  "getEmbedding",
] as const satisfies readonly (keyof AddonEmbeddingContext)[];

const MODEL_METHODS = [
  "getTokenString",
  "getTokenAttributes",
  "isEogToken",
  "getVocabularyType",
  "shouldPrependBosToken",
  "tokenize",
  "detokenize",
  "getTotalParameters",
  "loadLora",
] as const satisfies readonly (keyof AddonModel)[];

const SAMPLER_METHODS = [
  "acceptGrammarEvaluationStateToken",
  "canBeNextTokenForGrammarEvaluationState",
] as const satisfies readonly (keyof AddonSamplerClass)[];

const CHECKPOINT_METHODS = ["init", "dispose"] as const satisfies readonly (keyof AddonCheckpoint)[];

const BINDINGS = [
  "AddonSampler",
  "AddonGrammar",
  "AddonGrammarEvaluationState",
  "AddonModelLora",
  "AddonContextSequenceCheckpoint",
  "getIsArchRecurrent",
  "getIsArchHybrid",
] as const satisfies readonly (keyof AddonBindings)[];

/** @throws {EngineError} `runtime_incompatible`, naming what is missing. */
export function addonContextOf(context: LlamaContext): AddonContext {
  return surface<AddonContext>(context, "_ctx", CONTEXT_METHODS);
}

/** @throws {EngineError} `runtime_incompatible`, naming what is missing. */
export function addonEmbeddingContextOf(context: LlamaEmbeddingContext): AddonEmbeddingContext {
  const inner: unknown = Reflect.get(context, "_llamaContext");
  if (typeof inner !== "object" || inner === null)
    throw incompatible(["_llamaContext"], context.constructor.name);
  return surface<AddonEmbeddingContext>(inner, "_ctx", EMBEDDING_METHODS);
}

/** @throws {EngineError} `runtime_incompatible`, naming what is missing. */
export function addonModelOf(model: LlamaModel): AddonModel {
  return surface<AddonModel>(model, "_model", MODEL_METHODS);
}

/** @throws {EngineError} `runtime_incompatible`, naming what is missing. */
export function addonBindingsOf(llama: Llama): AddonBindings {
  const bindings = surface<AddonBindings>(llama, "_bindings", BINDINGS);
  checkMethods(bindings.AddonSampler, "AddonSampler", SAMPLER_METHODS);
  const { AddonContextSequenceCheckpoint: Checkpoint } = bindings;
  checkMethods(new Checkpoint(), "AddonContextSequenceCheckpoint", CHECKPOINT_METHODS);
  return bindings;
}

function surface<T extends object>(owner: object, property: string, methods: readonly (keyof T)[]): T {
  const value: unknown = Reflect.get(owner, property);
  const place = `${owner.constructor.name}.${property}`;
  if (typeof value !== "object" || value === null) throw incompatible([property], place);
  checkMethods(value as T, place, methods);
  return value as T;
}

function checkMethods<T extends object>(value: T, place: string, methods: readonly (keyof T)[]): void {
  const missing = methods.filter((method) => typeof Reflect.get(value, method) !== "function").map(String);
  if (missing.length > 0) throw incompatible(missing, place);
}

function incompatible(missing: readonly string[], place: string): EngineError {
  return new EngineError(
    "runtime_incompatible",
    `The installed node-llama-cpp lacks ${missing.join(", ")} (looked for in ${place}). Weft needs version 3.22.1: run "npm ci".`,
  );
}
