/**
 * What the engine needs from a model runtime: tokenize, compute, sample, drop cells.
 *
 * One run at a time. Cells change only between runs: `truncate` must never be called while one is under way.
 */
import type {
  GenerationParams,
  LoadOptions,
  ModelFacts,
  PromptPart,
  TokenId,
  TokenLogprobs,
} from "./protocol.ts";
import type { AdapterSet } from "./adapters.ts";
import type { CheckpointNeeds, CostModel } from "./scheduler/types.ts";

/** Tokens of one sequence in one native call. */
export interface BatchEntry {
  readonly slot: number;
  /** Absolute position of `tokens[0]`: where the slot's cells end. */
  readonly position: number;
  readonly tokens: Uint32Array;
  /** Whether the logits of the last token are wanted. */
  readonly sample: boolean;
  /** Whether the logits of every token are wanted; absent is no. */
  readonly everyLogit?: boolean;
  /** Whether the logits of the last token are computed though nobody reads them; absent is no. */
  readonly spareLogit?: boolean;
}

/** Where the logits of one entry will be; valid until the next `run`. */
export type LogitsHandle = number & { readonly __brand: "LogitsHandle" };

/** A native call under way. */
export interface BatchRun {
  /** Of the entries that asked for them, in order; an entry with `everyLogit` has one for each token. */
  readonly logits: readonly LogitsHandle[];
  /**
   * Resolves when the call is over. Rejects with `EngineError` `decode_failed`; the cells of the entries' slots
   * are then undefined from their positions on and must be truncated.
   */
  readonly done: Promise<void>;
}

export interface Sampled {
  readonly token: TokenId;
  readonly logprobs: TokenLogprobs | undefined;
}

/** Draws the tokens of one request. */
export interface Sampler {
  /**
   * Call it when the run that computes the logits is over, or before that if the backend draws in order.
   *
   * @param position Absolute position of the token to be drawn; with the request's seed it fixes the draw.
   * @param output Tokens generated so far, in order.
   * @throws {EngineError} `decode_failed` when there are no logits, `no_token_allowed` when the request's own
   * grammar, bans and biases leave no token to draw.
   */
  sample(logits: LogitsHandle, position: number, output: readonly TokenId[]): Promise<Sampled>;
  /** Frees native memory. Idempotent. */
  dispose(): void;
}

/** Reads how likely the model found tokens that were given rather than drawn. */
export interface LogprobReader {
  /** Call it when the run that computes the logits is over. */
  read(logits: LogitsHandle, token: TokenId): Promise<TokenLogprobs>;
  /** Frees native memory. Idempotent. */
  dispose(): void;
}

/**
 * Turns tokens into vectors and scores, in contexts of its own that are made when first needed. One call at a
 * time, and none while a run is under way: the device is one.
 */
export interface Embedder {
  /** Most tokens of one input, as `prepare` returns it. */
  readonly contextTokens: number;
  /** The input with the begin and end tokens that the model wants. */
  prepare(tokens: Uint32Array): Uint32Array;
  /**
   * Makes what `embed` computes in, unless it is there: before it, since it may take longer than an input.
   * @throws {EngineError} `out_of_memory`.
   */
  open(): Promise<void>;
  /**
   * Computes the input in bounded pieces and yields between them.
   * @returns The vector as the model gives it.
   * @throws {EngineError} `out_of_memory`, `decode_failed`.
   */
  embed(tokens: Uint32Array): AsyncGenerator<void, Float32Array, void>;
  /**
   * Number of tokens that scoring this pair takes; at most `contextTokens` can be scored.
   * @throws {EngineError} As `rank`.
   */
  rankedTokens(query: Uint32Array, document: Uint32Array): Promise<number>;
  /**
   * @returns 0 to 1.
   * @throws {EngineError} `out_of_memory`, `decode_failed`; `invalid_request` when the model has no ranking head.
   */
  rank(query: Uint32Array, document: Uint32Array): Promise<number>;
}

/** What of a slot cannot be taken back, as it was at one time, in memory. */
export interface SlotCheckpoint {
  readonly bytes: number;
  /** Frees it. */
  dispose(): void;
}

export interface Backend {
  readonly facts: Omit<ModelFacts, "loadMs">;
  /** Whether `truncate` can keep a part of a slot. */
  readonly canRewind: boolean;
  /**
   * Where it cannot at any time: how many cells before its end a slot that is cut needs to go on. Undefined where it
   * needs a state of all that was before.
   */
  readonly windowTokens: number | undefined;
  /** Undefined where no checkpoint is needed. */
  readonly checkpointNeeds: CheckpointNeeds | undefined;
  /** Where checking several tokens at a time gives the same bits as one by one. */
  readonly exactTogether: {
    /** False where no call of several tokens does. */
    readonly anywhere: boolean;
    /** A slot that decodes alone with more cells runs in another kernel. */
    readonly aloneTokens: number;
    /** Whether it does with adapters, too. */
    readonly withAdapters: boolean;
    /** Whether a cell does that is shorter than a tile of attention, for a request that goes on behind its output. */
    readonly cells: boolean;
    /** Whether whole cells of a prompt that follow each other do in one call. */
    readonly joinedCells: boolean;
  };
  /** What calls cost, where that is known without measuring; undefined for a real device. */
  readonly cost: CostModel | undefined;
  /** @throws {EngineError} `invalid_request` for a token outside the vocabulary. */
  tokenize(parts: readonly PromptPart[], addBos: boolean): Uint32Array;
  /**
   * Whether native work runs in the order it was asked for, so that draws may be queued behind the run they
   * need. Saves a round trip through the event loop between decode and sampling.
   */
  readonly drawsInOrder: boolean;
  /**
   * Starts computing the entries in one native call.
   * @param entries In ascending order of slots, at most `batchTokens` tokens.
   * @param adapters What all of them are computed with; absent is the model alone.
   * @throws {EngineError} `internal` for entries that native code must not see.
   */
  run(entries: readonly BatchEntry[], adapters?: AdapterSet): BatchRun;
  /**
   * @param prompt What repetitions are looked for in, beside the output.
   * @throws {EngineError} `invalid_request` for a token outside the vocabulary, `grammar_rejected`,
   * `no_token_allowed` when the request can be seen to leave nothing even for its first draw.
   */
  createSampler(params: GenerationParams, prompt?: Uint32Array): Sampler;
  /** @param top Number of alternatives to read with each token. */
  createLogprobReader(top: number): LogprobReader;
  readonly embedder: Embedder;
  /** Drops every cell of the slot from `length` on. */
  truncate(slot: number, length: number): void;
  /** Replaces the cells of slot `to` by those of slot `from`. Between runs only; `truncate` and further copies may follow. */
  copy(from: number, to: number): Promise<void>;
  /**
   * Writes what the slot holds into a file, which keeps its mode where it is there already. Between runs only, and not
   * while the slot takes part in a copy that no run has followed yet: the copied cells are not there before that.
   * @param tokens What the cells were computed from.
   * @returns The bytes of the file.
   * @throws {EngineError} `decode_failed`; what the file holds is undefined then.
   */
  saveCells(slot: number, file: string, tokens: Uint32Array): Promise<number>;
  /**
   * Fills an empty slot from a file; the same conditions. Native code trusts the file: only ever one that `saveCells` wrote
   * for this model and that nobody has changed.
   * @param tokens What the file was written with.
   * @throws {EngineError} `decode_failed`; what the slot holds is undefined then and must be truncated to nothing.
   */
  loadCells(slot: number, file: string, tokens: Uint32Array): Promise<void>;
  /**
   * Of a slot with cells. Between runs only, and not while the slot takes part in a copy that no run has followed yet.
   * @throws {EngineError} `decode_failed`.
   */
  takeCheckpoint(slot: number): Promise<SlotCheckpoint>;
  /**
   * Brings a slot back to where a checkpoint was taken, or to less tokens than it had then where a window allows it. Between
   * runs only; `checkpointNeeds` says what the slot has to hold.
   * @throws {EngineError} `decode_failed`; what the slot holds is undefined then and must be truncated to nothing.
   */
  restoreCheckpoint(slot: number, checkpoint: SlotCheckpoint, length: number): Promise<void>;
  /** The first token whose cells the runtime says the slot has; 0 for a slot without any. */
  firstCell(slot: number): number;
  /** Number of cells the runtime says the slot has. */
  cellCount(slot: number): number;
  close(): Promise<void>;
}

/**
 * Loads the model of `options` and allocates its context.
 * @throws {EngineError} A load code with a message that says what to do.
 */
export type BackendLoader = (options: LoadOptions, onProgress: (ratio: number) => void) => Promise<Backend>;
