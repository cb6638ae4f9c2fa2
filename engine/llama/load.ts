/** Loads a model and its context through node-llama-cpp's public API, and reads what must be known of them. */
import { stat } from "node:fs/promises";
import { totalmem } from "node:os";
import { basename } from "node:path";
import { InsufficientMemoryError, LlamaLogLevel, NoBinaryFoundError, getLlama } from "node-llama-cpp";
import { EngineError } from "../errors.ts";
import { loadAdapters } from "./adapters.ts";
import { addonBindingsOf, addonContextOf, addonModelOf } from "./addon.ts";
import { LlamaBackend } from "./backend.ts";
import {
  DEFAULT_CONTEXT_TOKENS,
  defaultBatchTokens,
  defaultItlTargetMs,
  EVEN_CPU_CHUNK,
  defaultPrefillChunk,
  defaultThreads,
  joinsCells,
} from "./defaults.ts";
import { LlamaEmbedder, generatesText, isEmbeddingModel } from "./embedder.ts";
import { fingerprint } from "./fingerprint.ts";
import { GrammarCache } from "./grammar.ts";
import { refuseHopeless } from "./memory-need.ts";
import type { CellShape, KvType } from "./memory-need.ts";
import { checkpointNeedsOf, keepsState, windowOf } from "./memory-kind.ts";
import { positionsOf } from "./positions.ts";
import { DRAWS_IN_ORDER, SharedSamplers } from "./shared-samplers.ts";
import { readVocabulary } from "./vocabulary.ts";
import type { Llama, LlamaContext, LlamaModel } from "node-llama-cpp";
import type { Backend, BackendLoader } from "../backend.ts";
import type { FillInMiddleTokens, LoadOptions, ModelFacts } from "../protocol.ts";
import type { AddonBindings } from "./addon.ts";

/** A context below this is of no use to anybody. */
const LEAST_CONTEXT_TOKENS = 256;

export const loadLlamaBackend: BackendLoader = async (asked, onProgress) => {
  await checkFile(asked.modelPath);
  const llama = await openRuntime(asked.gpu);
  const model = await openModel(llama, asked, onProgress);
  const options = withinPositions(asked, model);
  const bindings = addonBindingsOf(llama);
  const addonModel = addonModelOf(model);
  const gpu = llama.gpu !== false && model.gpuLayers > 0;
  const parameters = addonModel.getTotalParameters();
  const threads = options.threads ?? defaultThreads(parameters, llama.cpuMathCores);
  const evenSteps = options.evenSteps === true && !gpu;
  const chunk =
    options.prefillChunk ?? (evenSteps ? EVEN_CPU_CHUNK : defaultPrefillChunk(parameters, threads, gpu));
  const flashAttention = usesFlashAttention(options, evenSteps);
  const state = keepsState(bindings, model);
  const window = windowOf(model);
  const hasGpu = await hasDevice(llama);
  const keepsAll = !state && (options.swaFull === true || window === undefined);
  const longest = defaultBatchTokens(chunk, { gpu: hasGpu, flashAttention, canRewind: keepsAll });
  const batchTokens = Math.max(options.batchTokens ?? longest, options.slots);
  const size = {
    slots: options.slots,
    tokens: options.contextTokens ?? 0,
    kvType: kvType(options.kvCacheType),
  };
  const swap = await llama.getSwapState();
  refuseHopeless(size, cellShape(bindings, model), memoryBytes() + swap.maxSize);
  const context = await openContext(model, { options, threads, batchTokens, flashAttention });
  const adapters = await loadAdapters(bindings, addonModel, options.adapters ?? []);
  const addonContext = addonContextOf(context);
  const metadata = model.fileInfo.metadata;
  const vocabulary = readVocabulary(addonModel, metadata.tokenizer.ggml.tokens.length);
  const prefillChunk = Math.min(chunk, batchTokens);
  const contextTokens = context.contextSize;
  const embedder = new LlamaEmbedder(model, { contextTokens, chunk: prefillChunk, threads });
  if (isEmbeddingModel(model) && embedder.facts !== undefined) await embedder.open();
  const memory = addonContext.getMemoryBreakdown();
  const facts: Omit<ModelFacts, "loadMs"> = {
    name: metadata.general.name ?? basename(options.modelPath),
    architecture: metadata.general.architecture,
    parameters,
    sizeBytes: model.size,
    embeddingLength: model.embeddingVectorSize,
    trainContextTokens: model.trainContextSize,
    contextTokens,
    slots: options.slots,
    batchTokens,
    prefillChunk,
    itlTargetMs: options.itlTargetMs ?? defaultItlTargetMs(gpu),
    threads,
    device: await deviceName(llama, model, threads),
    gpu: llama.gpu === false ? "off" : llama.gpu,
    gpuLayers: model.gpuLayers,
    flashAttention,
    contextBytes: memory.cpuRam + memory.gpuVram,
    fingerprint: await fingerprint(options.modelPath, [
      options.kvCacheType,
      options.deterministic,
      llama.gpu,
      model.gpuLayers,
      llama.llamaCppRelease.release,
      threads,
      flashAttention,
      prefillChunk,
      contextTokens,
    ]),
    chatTemplate: metadata.tokenizer.chat_template,
    ...vocabulary,
    bosToken: model.tokens.bos ?? undefined,
    eosToken: model.tokens.eos ?? undefined,
    addBos: addonModel.shouldPrependBosToken(),
    fim: fillInMiddleTokens(model),
    generates: generatesText(model),
    embeddings: embedder.facts,
    ranking: model.fileInsights.supportsRanking,
    adapters: adapters.map(({ facts: ofAdapter }) => ofAdapter),
  };
  // A window as long as the slot never drops a cell.
  const canRewind = !state && (options.swaFull === true || (window ?? Infinity) >= contextTokens);
  return new LlamaBackend({
    facts,
    vocabulary,
    canRewind,
    windowTokens: state ? undefined : window,
    checkpointNeeds: canRewind ? undefined : checkpointNeedsOf(bindings, model),
    exactTogether: {
      ...exactTogether(gpu, flashAttention, metadata.general.file_type),
      joinedCells: joinsCells(prefillChunk, { gpu: hasGpu, flashAttention, canRewind }),
    },
    bindings,
    model: addonModel,
    context: addonContext,
    grammars: new GrammarCache({ bindings, model: addonModel, vocabulary }),
    contextTokens,
    sharedSamplers: DRAWS_IN_ORDER
      ? new SharedSamplers(() => new bindings.AddonSampler(addonModel))
      : undefined,
    embedder,
    adapters: adapters.map(({ handle }) => handle),
    dispose: async () => {
      await embedder.dispose();
      await context.dispose();
      await model.dispose();
      await llama.dispose();
    },
  });
};

async function checkFile(path: string): Promise<void> {
  const file = await stat(path).catch(() => undefined);
  if (file === undefined || !file.isFile())
    throw new EngineError("model_not_found", `There is no model file at ${path}.`);
}

async function openRuntime(gpu: LoadOptions["gpu"]): Promise<Llama> {
  try {
    return await getLlama({
      gpu: gpu === "off" ? false : gpu,
      build: "never",
      progressLogs: false,
      // Threads are set on the context; this limit would divide them among its own schedulers.
      maxThreads: 0,
      logLevel: runtimeLogLevel(),
      logger: (level, message) => void process.stderr.write(`${level}: ${message.trimEnd()}\n`),
    });
  } catch (error) {
    if (!(error instanceof NoBinaryFoundError)) throw error;
    throw new EngineError(
      "gpu_unavailable",
      gpu === "auto" || gpu === "off"
        ? `There is no prebuilt llama.cpp for this machine (${process.platform} ${process.arch}).`
        : `There is no usable ${gpu} device or driver here. Use --gpu auto or --gpu off.`,
    );
  }
}

/** `WEFT_RUNTIME_LOG=debug` shows what llama.cpp says of itself, on the engine's standard error. */
function runtimeLogLevel(): LlamaLogLevel {
  return process.env["WEFT_RUNTIME_LOG"] === "debug" ? LlamaLogLevel.debug : LlamaLogLevel.warn;
}

async function openModel(
  llama: Llama,
  options: LoadOptions,
  onProgress: (ratio: number) => void,
): Promise<LlamaModel> {
  try {
    return await llama.loadModel({
      modelPath: options.modelPath,
      onLoadProgress: onProgress,
      ...(options.gpuLayers === undefined ? {} : { gpuLayers: options.gpuLayers }),
    });
  } catch (error) {
    if (error instanceof InsufficientMemoryError)
      throw outOfMemory("model", messageOf(error), "a smaller quantization");
    throw new EngineError(
      "model_invalid",
      `${basename(options.modelPath)} cannot be loaded: ${messageOf(error)}`,
    );
  }
}

/** One context is asked of all models, and those that make vectors often have few positions. */
function withinPositions(options: LoadOptions, model: LlamaModel): LoadOptions {
  const most = positionsOf(model);
  if (options.contextTokens === undefined || options.contextTokens <= most) return options;
  process.stderr.write(`warn: ${basename(options.modelPath)} has ${most} positions, which is its context.\n`);
  return { ...options, contextTokens: most };
}

interface ContextSettings {
  readonly options: LoadOptions;
  readonly threads: number;
  readonly batchTokens: number;
  readonly flashAttention: boolean;
}

async function openContext(model: LlamaModel, settings: ContextSettings): Promise<LlamaContext> {
  const { options, threads, batchTokens, flashAttention } = settings;
  const wanted = options.contextTokens;
  if (!flashAttention && (options.kvCacheType === "q8_0" || options.kvCacheType === "q4_0")) {
    throw new EngineError(
      "invalid_request",
      `--kv-type ${options.kvCacheType} needs flash attention. Drop --flash-attention off.`,
    );
  }
  const most = Math.min(model.trainContextSize, DEFAULT_CONTEXT_TOKENS);
  try {
    return await model.createContext({
      contextSize: wanted ?? { min: Math.min(LEAST_CONTEXT_TOKENS, most), max: most },
      sequences: options.slots,
      batchSize: batchTokens,
      threads: { ideal: threads, min: threads },
      flashAttention,
      swaFullCache: options.swaFull ?? false,
      experimentalKvCacheKeyType: kvType(options.kvCacheType),
      experimentalKvCacheValueType: kvType(options.kvCacheType),
      failedCreationRemedy: false,
    });
  } catch (error) {
    const memory = error instanceof InsufficientMemoryError || messageOf(error).includes("create context");
    if (!memory) throw new EngineError("model_invalid", `No context can be made: ${messageOf(error)}`);
    throw outOfMemory("context", messageOf(error), "fewer --slots, a smaller --context or --kv-type q8_0");
  }
}

function kvType(type: LoadOptions["kvCacheType"]): KvType {
  return ({ f16: "F16", q8_0: "Q8_0", q4_0: "Q4_0", f32: "F32" } as const)[type];
}

/** Of the machine, or what a container is allowed. */
function memoryBytes(): number {
  const allowed = process.constrainedMemory();
  return allowed > 0 ? Math.min(allowed, totalmem()) : totalmem();
}

/**
 * Faster on every device (4 to 13 % in streams of four and more on a CPU), and needed by llama.cpp for a quantized value
 * cache. In a CPU's cells of fewer than 64 tokens it is slower.
 */
function usesFlashAttention({ flashAttention, kvCacheType }: LoadOptions, evenSteps: boolean): boolean {
  if (flashAttention === "auto" && evenSteps) return kvCacheType === "q8_0" || kvCacheType === "q4_0";
  return flashAttention !== "off";
}

/** What the cells hold, where they are in this machine's memory and there is one for each token. */
function cellShape(bindings: AddonBindings, model: LlamaModel): CellShape | undefined {
  if (model.gpuLayers > 0 || keepsState(bindings, model) || windowOf(model) !== undefined) return undefined;
  const shape: CellShape = model.fileInfo.architectureMetadata;
  // Latent attention keeps something smaller.
  return "kv_lora_rank" in (shape.attention ?? {}) ? undefined : shape;
}

/** `general.file_type` of models with F32, F16 and BF16 weights (llama.h `llama_ftype`). */
const UNQUANTIZED: ReadonlySet<number | undefined> = new Set([0, 1, 32]);

/**
 * On a CPU, F16 weights and those of adapters use another matrix kernel for one row than for several, and so does
 * attention that is not flash, whose keys are F16; in flash attention a lone row with more than 256 cells of context is
 * split between threads. GPUs do not promise the same bits for any two batches.
 */
function exactTogether(
  gpu: boolean,
  flashAttention: boolean,
  fileType: number | undefined,
): Omit<Backend["exactTogether"], "joinedCells"> {
  if (gpu) return { anywhere: true, aloneTokens: Infinity, withAdapters: true, cells: true };
  const anywhere = flashAttention && !UNQUANTIZED.has(fileType);
  return { anywhere, aloneTokens: 256, withAdapters: false, cells: flashAttention };
}

/** A runtime for GPUs, as `auto` takes where it finds a driver, may have no device to use. */
async function hasDevice(llama: Llama): Promise<boolean> {
  return llama.gpu !== false && (await llama.getGpuDeviceNames()).length > 0;
}

async function deviceName(llama: Llama, model: LlamaModel, threads: number): Promise<string> {
  if (llama.gpu === false || model.gpuLayers === 0)
    return `CPU, ${threads} ${threads === 1 ? "thread" : "threads"}`;
  const names = await llama.getGpuDeviceNames();
  return `${llama.gpu}: ${names.join(", ")} (${model.gpuLayers}/${model.fileInsights.totalLayers} layers)`;
}

function fillInMiddleTokens(model: LlamaModel): FillInMiddleTokens | undefined {
  const { prefix, suffix, middle } = model.tokens.infill;
  return prefix === null || suffix === null || middle === null ? undefined : { prefix, suffix, middle };
}

function outOfMemory(what: string, reason: string, remedy: string): EngineError {
  return new EngineError("out_of_memory", `Not enough memory for the ${what}: ${reason}. Try ${remedy}.`);
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message.replace(/\.$/, "") : String(error);
}
