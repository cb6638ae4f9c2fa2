/**
 * Vectors and scores from a llama.cpp model, in contexts beside that of the slots.
 *
 * The addon reads the vector of sequence 0 alone, so inputs are computed one at a time. A causal model's last
 * token has seen the whole input: that is cut like a prompt. Models that pool over all tokens, or look ahead, need
 * it in one call, which is then as long as the longest input.
 */
import { InsufficientMemoryError, LlamaVocabularyType } from "node-llama-cpp";
import { EngineError } from "../errors.ts";
import { addonEmbeddingContextOf } from "./addon.ts";
import type { LlamaModel, LlamaRankingContext, Token } from "node-llama-cpp";
import type { Embedder } from "../backend.ts";
import type { EmbeddingFacts, TokenId } from "../protocol.ts";
import type { AddonEmbeddingContext } from "./addon.ts";

/** llama.h `llama_pooling_type`. */
const POOLING = { none: 0, mean: 1, cls: 2, last: 3, rank: 4 } as const;

export interface EmbedderSettings {
  /** Tokens of a slot; an input has at most as many. */
  readonly contextTokens: number;
  /** Tokens of a piece, where an input can be cut. */
  readonly chunk: number;
  readonly threads: number;
}

export class LlamaEmbedder implements Embedder {
  readonly contextTokens: number;
  /** Undefined when the model gives no vectors. */
  readonly facts: EmbeddingFacts | undefined;
  readonly #model: LlamaModel;
  readonly #threads: number;
  readonly #chunk: number;
  readonly #beginToken: TokenId | undefined;
  readonly #endToken: TokenId | undefined;
  #vectors: Promise<AddonEmbeddingContext> | undefined;
  #scores: Promise<LlamaRankingContext> | undefined;
  readonly #contexts: { dispose(): Promise<void> }[] = [];

  constructor(model: LlamaModel, settings: EmbedderSettings) {
    this.#model = model;
    this.#threads = settings.threads;
    this.contextTokens = Math.min(settings.contextTokens, model.trainContextSize);
    const { hasEncoder, hasDecoder } = model.fileInsights;
    const pooling = poolingOf(model);
    this.facts =
      pooling === undefined || (hasEncoder && hasDecoder)
        ? undefined
        : { dimensions: model.embeddingVectorSize, pooling, contextTokens: this.contextTokens };
    this.#chunk = pooling === "last" && isCausal(model) ? settings.chunk : this.contextTokens;
    this.#beginToken = beginTokenOf(model);
    this.#endToken = endTokenOf(model);
  }

  /** At load, too, for models that are made for nothing else. */
  async open(): Promise<void> {
    await this.#vectorContext();
  }

  prepare(tokens: Uint32Array): Uint32Array {
    const begin = this.#beginToken === undefined || tokens[0] === this.#beginToken ? [] : [this.#beginToken];
    const end = this.#endToken === undefined || tokens.at(-1) === this.#endToken ? [] : [this.#endToken];
    return begin.length + end.length === 0 ? tokens : Uint32Array.from([...begin, ...tokens, ...end]);
  }

  async *embed(tokens: Uint32Array): AsyncGenerator<void, Float32Array, void> {
    const context = await this.#vectorContext();
    try {
      context.disposeSequence(0);
      for (let start = 0; start < tokens.length; start += this.#chunk) {
        if (start > 0) yield;
        const piece = tokens.slice(start, start + this.#chunk);
        context.initBatch(piece.length);
        context.addToBatch(0, start, piece, Uint32Array.of(piece.length - 1));
        await context.decodeBatch();
      }
      return Float32Array.from(context.getEmbedding(tokens.length));
    } catch (error) {
      throw new EngineError("decode_failed", `The runtime could not compute a vector: ${messageOf(error)}.`);
    }
  }

  async rankedTokens(query: Uint32Array, document: Uint32Array): Promise<number> {
    const context = await this.#scoreContext();
    return context.calculateInputLength(asTokens(query), asTokens(document));
  }

  async rank(query: Uint32Array, document: Uint32Array): Promise<number> {
    const context = await this.#scoreContext();
    try {
      return await context.rank(asTokens(query), asTokens(document));
    } catch (error) {
      throw new EngineError("decode_failed", `The runtime could not compute a score: ${messageOf(error)}.`);
    }
  }

  async dispose(): Promise<void> {
    for (const context of this.#contexts.splice(0)) await context.dispose();
  }

  async #vectorContext(): Promise<AddonEmbeddingContext> {
    const options = {
      contextSize: this.contextTokens,
      batchSize: this.#chunk,
      threads: this.#threads,
    };
    this.#vectors ??= this.#made(() => this.#model.createEmbeddingContext(options)).then((context) =>
      addonEmbeddingContextOf(context),
    );
    // A failure is not kept: there may be memory next time.
    return await this.#vectors.catch((error: unknown) => {
      this.#vectors = undefined;
      throw error;
    });
  }

  async #scoreContext(): Promise<LlamaRankingContext> {
    if (!this.#model.fileInsights.supportsRanking)
      throw new EngineError("invalid_request", "This model has no ranking head.");
    const options = {
      // It refuses an input that fills it.
      contextSize: this.contextTokens + 1,
      batchSize: this.contextTokens,
      threads: this.#threads,
    };
    this.#scores ??= this.#made(() => this.#model.createRankingContext(options));
    return await this.#scores.catch((error: unknown) => {
      this.#scores = undefined;
      throw error;
    });
  }

  async #made<T extends { dispose(): Promise<void> }>(make: () => Promise<T>): Promise<T> {
    try {
      const context = await make();
      this.#contexts.push(context);
      return context;
    } catch (error) {
      const memory = error instanceof InsufficientMemoryError || messageOf(error).includes("create context");
      if (!memory)
        throw new EngineError("internal", `No context for vectors can be made: ${messageOf(error)}.`);
      throw new EngineError("out_of_memory", "Not enough memory for a context that computes vectors.");
    }
  }
}

/** Whether the model was made to give vectors and nothing else. */
export function isEmbeddingModel(model: LlamaModel): boolean {
  return poolingType(model) > POOLING.none;
}

export function generatesText(model: LlamaModel): boolean {
  return !isEmbeddingModel(model) && isCausal(model);
}

/** Undefined for models that score instead. */
function poolingOf(model: LlamaModel): EmbeddingFacts["pooling"] | undefined {
  const pooling = poolingType(model);
  if (pooling === POOLING.rank) return undefined;
  if (pooling === POOLING.mean) return "mean";
  return pooling === POOLING.cls ? "cls" : "last";
}

function poolingType(model: LlamaModel): number {
  return model.fileInfo.architectureMetadata.pooling_type ?? POOLING.none;
}

function isCausal(model: LlamaModel): boolean {
  return model.fileInfo.architectureMetadata.attention?.causal ?? !model.fileInsights.hasEncoder;
}

/** As llama.cpp's tokenizer puts them around a text. */
function beginTokenOf({ tokens, vocabularyType }: LlamaModel): TokenId | undefined {
  const { rwkv, ugm, wpm } = LlamaVocabularyType;
  if (vocabularyType === rwkv || vocabularyType === ugm) return undefined;
  return vocabularyType === wpm || tokens.shouldPrependBosToken ? (tokens.bos ?? undefined) : undefined;
}

function endTokenOf({ tokens, vocabularyType }: LlamaModel): TokenId | undefined {
  const { rwkv, ugm, wpm } = LlamaVocabularyType;
  if (vocabularyType === rwkv) return undefined;
  if (vocabularyType === wpm) return tokens.sep ?? undefined;
  return vocabularyType === ugm || tokens.shouldAppendEosToken ? (tokens.eos ?? undefined) : undefined;
}

function asTokens(tokens: Uint32Array): Token[] {
  return [...tokens] as Token[];
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message.replace(/\.$/, "") : String(error);
}
