/** The engine's backend over a llama.cpp context: batches, cells, samplers. */
import { EngineError } from "../errors.ts";
import { LlamaLogprobReader } from "./logprobs.ts";
import { LlamaSampler } from "./sampler.ts";
import { promptTokens } from "./prompt-tokens.ts";
import { DRAWS_IN_ORDER } from "./shared-samplers.ts";
import type {
  Backend,
  BatchEntry,
  BatchRun,
  Embedder,
  LogitsHandle,
  LogprobReader,
  Sampler,
  SlotCheckpoint,
} from "../backend.ts";
import type { AdapterSet } from "../adapters.ts";
import type { CheckpointNeeds } from "../scheduler/types.ts";
import type { GenerationParams, ModelFacts, PromptPart } from "../protocol.ts";
import type { AddonAdapter, AddonCheckpoint } from "./addon.ts";
import type { SamplerHost } from "./sampler.ts";

const LAST_POSITION = Uint32Array.of(0);
const NO_LOGITS = new Uint32Array(0);

export interface LlamaBackendParts extends SamplerHost {
  readonly exactTogether: Backend["exactTogether"];
  readonly facts: Omit<ModelFacts, "loadMs">;
  readonly canRewind: boolean;
  readonly windowTokens: number | undefined;
  readonly checkpointNeeds: CheckpointNeeds | undefined;
  readonly embedder: Embedder;
  /** In the order of `facts.adapters`. */
  readonly adapters: readonly AddonAdapter[];
  /** Frees context and model. */
  readonly dispose: () => Promise<void>;
}

export class LlamaBackend implements Backend {
  readonly facts: Omit<ModelFacts, "loadMs">;
  readonly canRewind: boolean;
  readonly windowTokens: number | undefined;
  readonly checkpointNeeds: CheckpointNeeds | undefined;
  readonly exactTogether: Backend["exactTogether"];
  readonly cost = undefined;
  readonly drawsInOrder = DRAWS_IN_ORDER;
  readonly #parts: LlamaBackendParts;
  readonly embedder: Embedder;
  /** A native call in flight: cells must not change until it is over. */
  #running = false;
  /** Slots of copies, from and to them, that no call has followed: the runtime copies cells with the next one. */
  readonly #inCopies = new Set<number>();
  /** Key of the adapters that are applied. */
  #applied = "";

  constructor(parts: LlamaBackendParts) {
    this.#parts = parts;
    this.facts = parts.facts;
    this.embedder = parts.embedder;
    this.canRewind = parts.canRewind;
    this.windowTokens = parts.windowTokens;
    this.checkpointNeeds = parts.checkpointNeeds;
    this.exactTogether = parts.exactTogether;
  }

  tokenize(parts: readonly PromptPart[], addBos: boolean): Uint32Array {
    const bosToken = addBos && this.facts.addBos ? this.facts.bosToken : undefined;
    return promptTokens(parts, bosToken, this.#parts.model, this.#parts.vocabulary);
  }

  run(entries: readonly BatchEntry[], adapters?: AdapterSet): BatchRun {
    this.#check(entries);
    this.#apply(adapters);
    const { context } = this.#parts;
    const logits: LogitsHandle[] = [];
    context.initBatch(entries.reduce((tokens, entry) => tokens + entry.tokens.length, 0));
    for (const entry of entries) {
      const { slot, position, tokens } = entry;
      for (const index of context.addToBatch(slot, position, tokens, logitPositions(entry)))
        if (entry.spareLogit !== true) logits.push(index as LogitsHandle);
    }
    return { logits, done: this.#decode() };
  }

  /** Anything else than before makes llama.cpp build its graphs anew. */
  #apply(adapters: AdapterSet | undefined): void {
    const { key = "", uses = [] } = adapters ?? {};
    if (key === this.#applied) return;
    const applied = uses.map(({ adapter }) => {
      const loaded = this.#parts.adapters[adapter];
      if (loaded === undefined) throw new EngineError("internal", `There is no adapter ${adapter}.`);
      return loaded;
    });
    this.#parts.context.setLoras(
      applied,
      uses.map(({ scale }) => scale),
    );
    this.#applied = key;
  }

  async #decode(): Promise<void> {
    this.#running = true;
    try {
      await this.#parts.context.decodeBatch();
      // Not before: a batch that is refused copies nothing.
      this.#inCopies.clear();
    } catch (error) {
      throw new EngineError("decode_failed", `The runtime could not compute a batch: ${messageOf(error)}.`);
    } finally {
      this.#running = false;
    }
  }

  createSampler(params: GenerationParams, prompt?: Uint32Array): Sampler {
    const { vocabSize } = this.facts;
    const { logitBias, allowedTokens = [], badSequences = [] } = params.sampling;
    const biased = logitBias.map(([token]) => token);
    const ids = [...params.stopTokenIds, ...biased, ...allowedTokens, ...badSequences.flat()];
    for (const id of ids) {
      if (!Number.isInteger(id) || id < 0 || id >= vocabSize)
        throw new EngineError("invalid_request", `Token id ${id} is not in 0 to ${vocabSize - 1}.`);
    }
    return new LlamaSampler(this.#parts, params, prompt);
  }

  createLogprobReader(top: number): LogprobReader {
    return new LlamaLogprobReader(this.#parts, top);
  }

  truncate(slot: number, length: number): void {
    this.#checkIdle();
    const { context } = this.#parts;
    if (length === 0) context.disposeSequence(slot);
    else if (!context.removeTokenCellsFromSequence(slot, length, -1))
      throw new EngineError("internal", `The runtime cannot cut slot ${slot} to ${length} tokens.`);
  }

  async copy(from: number, to: number): Promise<void> {
    this.#checkIdle();
    this.#inCopies.add(from).add(to);
    await this.#parts.context.copySequenceStateFromOtherSequence(to, from);
  }

  async saveCells(slot: number, file: string, tokens: Uint32Array): Promise<number> {
    this.#checkIdle();
    this.#checkCopied(slot);
    try {
      return await this.#parts.context.saveSequenceStateToFile(file, slot, tokens);
    } catch (error) {
      throw new EngineError("decode_failed", `Slot ${slot} could not be saved: ${messageOf(error)}.`);
    }
  }

  async loadCells(slot: number, file: string, tokens: Uint32Array): Promise<void> {
    this.#checkIdle();
    this.#checkCopied(slot);
    try {
      const read = await this.#parts.context.loadSequenceStateFromFile(file, slot, tokens.length);
      if (read.length === tokens.length && this.cellCount(slot) === tokens.length) return;
    } catch (error) {
      throw new EngineError("decode_failed", `Slot ${slot} could not be restored: ${messageOf(error)}.`);
    }
    throw new EngineError("decode_failed", `Slot ${slot} was restored with another number of cells.`);
  }

  async takeCheckpoint(slot: number): Promise<SlotCheckpoint> {
    this.#checkIdle();
    this.#checkCopied(slot);
    const { AddonContextSequenceCheckpoint: Checkpoint } = this.#parts.bindings;
    const native = new Checkpoint();
    try {
      await native.init(this.#parts.context, slot);
      return new LlamaCheckpoint(native);
    } catch (error) {
      native.dispose();
      throw new EngineError("decode_failed", `Slot ${slot} gave no checkpoint: ${messageOf(error)}.`);
    }
  }

  async restoreCheckpoint(slot: number, checkpoint: SlotCheckpoint, length: number): Promise<void> {
    this.#checkIdle();
    // Where it brings back cells, not only a state.
    if (this.checkpointNeeds === "own-cells") this.#checkCopied(slot);
    if (!(checkpoint instanceof LlamaCheckpoint) || length < 1)
      throw new EngineError("internal", "No such checkpoint.");
    try {
      if (await this.#parts.context.restoreCheckpoint(checkpoint.native, length - 1, slot)) return;
    } catch (error) {
      throw new EngineError("decode_failed", `Slot ${slot} took no checkpoint: ${messageOf(error)}.`);
    }
    throw new EngineError("decode_failed", `Slot ${slot} did not come back to ${length} tokens.`);
  }

  firstCell(slot: number): number {
    return Math.max(0, this.#parts.context.getSequenceKvCacheMinPosition(slot));
  }

  cellCount(slot: number): number {
    return this.#parts.context.getSequenceKvCacheMaxPosition(slot) + 1;
  }

  close(): Promise<void> {
    return this.#parts.dispose();
  }

  #checkIdle(): void {
    if (this.#running) throw new EngineError("internal", "Cells must not change while a call runs.");
  }

  /** What is saved now would be what the slot had before, and what is read would be overwritten. Further copies run in order. */
  #checkCopied(slot: number): void {
    if (this.#inCopies.has(slot)) throw new EngineError("internal", `Slot ${slot} has a queued copy.`);
  }

  /** What would end the process or spoil a whole batch inside native code is refused here. */
  #check(entries: readonly BatchEntry[]): void {
    const { slots, vocabSize, contextTokens, batchTokens } = this.facts;
    if (this.#running) throw new EngineError("internal", "One native call at a time.");
    let total = 0;
    let lastSlot = -1;
    for (const { slot, position, tokens } of entries) {
      total += tokens.length;
      const fits = slot > lastSlot && slot < slots && tokens.length > 0 && position >= 0;
      if (!fits || position + tokens.length > contextTokens || total > batchTokens)
        throw new EngineError("internal", `Bad batch entry: slot ${slot}, position ${position}.`);
      for (const token of tokens)
        if (token >= vocabSize) throw new EngineError("internal", `Bad token ${token} in a batch.`);
      lastSlot = slot;
    }
    if (total === 0) throw new EngineError("internal", "An empty batch.");
  }
}

class LlamaCheckpoint implements SlotCheckpoint {
  readonly native: AddonCheckpoint;

  constructor(native: AddonCheckpoint) {
    this.native = native;
  }

  get bytes(): number {
    return this.native.size;
  }

  dispose(): void {
    this.native.dispose();
  }
}

function logitPositions({ tokens, sample, everyLogit, spareLogit }: BatchEntry): Uint32Array {
  if (everyLogit === true) return Uint32Array.from(tokens.keys());
  if (!sample && spareLogit !== true) return NO_LOGITS;
  return tokens.length === 1 ? LAST_POSITION : Uint32Array.of(tokens.length - 1);
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
