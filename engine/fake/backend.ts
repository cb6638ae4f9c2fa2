/**
 * A deterministic model for tests and the simulator: the next token is a hash of the sequence so far.
 *
 * It keeps the cells of every slot and refuses what a real context would refuse or die of: a call during a
 * call, entries out of order, positions that leave a gap, changes of cells while a call runs.
 */
import { readFile, writeFile } from "node:fs/promises";
import { EngineError } from "../errors.ts";
import type { AdapterFacts, AdapterSet } from "../adapters.ts";
import { drawSeed } from "../sampling-seed.ts";
import { FakeCheckpoint } from "./checkpoint.ts";
import { fakeCost } from "./cost.ts";
import {
  EXACT,
  CONTROL_NAMES,
  FAKE_BYTES,
  FAKE_DIMENSIONS,
  FAKE_END,
  FAKE_START,
  fakeFacts,
} from "./facts.ts";
import type {
  Backend,
  BatchEntry,
  BatchRun,
  Embedder,
  LogitsHandle,
  LogprobReader,
  Sampled,
  Sampler,
  SlotCheckpoint,
} from "../backend.ts";
import type { CheckpointNeeds, CostModel } from "../scheduler/types.ts";
import type { GenerationParams, ModelFacts, PromptPart, TokenId, TokenLogprobs } from "../protocol.ts";

export interface FakeOptions {
  readonly slots?: number;
  readonly contextTokens?: number;
  readonly batchTokens?: number;
  readonly prefillChunk?: number;
  readonly itlTargetMs?: number;
  readonly threads?: number;
  readonly canRewind?: boolean;
  /** Where it cannot: how far back a token looks, in cells of which some more are kept. Default: a state of all tokens. */
  readonly windowTokens?: number;
  /** What a slot has to hold to come back to a checkpoint. Default: `none` with a state of all tokens, else `own-cells`. */
  readonly checkpointNeeds?: CheckpointNeeds;
  /** Throws where a checkpoint is to fail. */
  readonly onCheckpoint?: (kind: "take" | "restore") => void;
  readonly drawsInOrder?: boolean;
  /** Whether cells of a prompt that follow each other may be computed in one call. Default: no. */
  readonly joinedCells?: boolean;
  /** Adapters that requests may ask for. */
  readonly adapters?: readonly AdapterFacts[];
  /** How many tokens the next one depends on; a short memory makes outputs that repeat themselves. Default: all. */
  readonly memory?: number;
  /** Share of greedy draws, 0-1, that are not what a model without mistakes draws. Default: 0. */
  readonly mistakes?: number;
  /** What its calls cost, as a multiple of what they cost by default. */
  readonly slowness?: number;
  /** The model ends its output with this probability per token, 0-1. */
  readonly endChance?: number;
  /**
   * What a grammar allows after an output; undefined: everything. Asked once with no output when the request
   * comes, and may throw then.
   */
  readonly allowedTokens?: (grammar: string, output: readonly TokenId[]) => readonly TokenId[] | undefined;
  /** Called before each piece of a vector or a score; what it returns is awaited, what it throws fails it. */
  readonly onEmbed?: () => Promise<void> | void;
  /** Called before each call computes; what it returns is awaited, what it throws fails the call. */
  readonly onRun?: (entries: readonly BatchEntry[]) => Promise<void> | void;
}

export class FakeBackend implements Backend {
  readonly facts: Omit<ModelFacts, "loadMs">;
  readonly canRewind: boolean;
  readonly windowTokens: number | undefined;
  readonly checkpointNeeds: CheckpointNeeds | undefined;
  readonly exactTogether: Backend["exactTogether"];
  /** A pass costs 10 ms and 1 ms a slot, a prompt token 2 ms, a copy 5 ms, a guess a quarter of a millisecond, a file next to nothing. */
  readonly cost: CostModel;
  readonly drawsInOrder: boolean;
  /** Every call's entries, in order, as slot and number of tokens. */
  readonly calls: { readonly slot: number; readonly tokens: number }[][] = [];
  closed = false;
  readonly #cells: TokenId[][];
  /** The first cell of each slot that is not gone, where there is a window. */
  readonly #first: number[] = [];
  readonly #keptTokens: number;
  readonly #onCheckpoint: FakeOptions["onCheckpoint"];
  /** Slots of copies that no call has followed: a real runtime copies with the next call. */
  readonly #inCopies = new Set<number>();
  readonly #endChance: number;
  readonly #mistakes: number;
  readonly #memory: number;
  readonly #onRun: FakeOptions["onRun"];
  readonly #allowedTokens: FakeOptions["allowedTokens"];
  #running = false;
  #inFlight: Promise<void> = Promise.resolve();
  /** Sequences as they were when their logits were computed. */
  #logits: number[] = [];
  openSamplers = 0;
  /** Pieces of vectors and scores that were computed. */
  embedPieces = 0;
  /** The input that its context for vectors holds. */
  #embedding: Uint32Array | undefined;
  readonly #onEmbed: FakeOptions["onEmbed"];

  constructor(options: FakeOptions = {}) {
    const { slots = 4, contextTokens = 128, prefillChunk = 8, batchTokens = 32, slowness = 1 } = options;
    this.canRewind = options.canRewind ?? true;
    this.exactTogether = { ...EXACT, joinedCells: options.joinedCells ?? false };
    this.windowTokens = options.windowTokens;
    const { checkpointNeeds = this.windowTokens === undefined ? "none" : "own-cells" } = options;
    this.checkpointNeeds = this.canRewind ? undefined : checkpointNeeds;
    this.#onCheckpoint = options.onCheckpoint;
    this.cost = fakeCost(slots, slowness);
    this.drawsInOrder = options.drawsInOrder ?? true;
    this.#endChance = options.endChance ?? 0;
    this.#mistakes = options.mistakes ?? 0;
    this.#memory = options.memory ?? Infinity;
    this.#onRun = options.onRun;
    this.#onEmbed = options.onEmbed;
    this.#allowedTokens = options.allowedTokens;
    this.#cells = Array.from({ length: slots }, () => []);
    // Room for the tokens of a call, as in a real cache.
    this.#keptTokens = (options.windowTokens ?? Infinity) + batchTokens;
    this.facts = fakeFacts({
      slots,
      contextTokens,
      prefillChunk,
      batchTokens,
      itlTargetMs: options.itlTargetMs ?? 1000,
      adapters: options.adapters ?? [],
      threads: options.threads ?? 1,
    });
  }

  tokenize(parts: readonly PromptPart[]): Uint32Array {
    return Uint32Array.from(parts.flatMap((part) => tokenizePart(part)));
  }

  run(entries: readonly BatchEntry[], adapters?: AdapterSet): BatchRun {
    if (this.#running) throw new EngineError("internal", "A call during a call.");
    const logits = entries.flatMap((entry) => {
      if (entry.everyLogit === true) return [...entry.tokens];
      return entry.sample ? [0] : [];
    });
    this.#inFlight = this.#compute(entries, adapters);
    return { logits: logits.map((_, i) => i as LogitsHandle), done: this.#inFlight };
  }

  async #compute(entries: readonly BatchEntry[], adapters: AdapterSet | undefined): Promise<void> {
    this.#running = true;
    try {
      this.#check(entries);
      await this.#attempt(entries);
      this.calls.push(entries.map(({ slot, tokens }) => ({ slot, tokens: tokens.length })));
      this.#logits = [];
      this.#inCopies.clear();
      for (const { slot, tokens, sample, everyLogit } of entries) {
        const cells = this.#cells[slot] ?? [];
        cells.push(...Array.from(tokens, (token) => fakeCell(token, adapters?.key)));
        this.#first[slot] = Math.max(this.#first[slot] ?? 0, cells.length - this.#keptTokens);
        if (everyLogit === true)
          for (let end = cells.length - tokens.length + 1; end <= cells.length; end++)
            this.#logits.push(hashOf(remembered(cells.slice(0, end), this.#memory)));
        else if (sample) this.#logits.push(hashOf(remembered(cells, this.#memory)));
      }
    } finally {
      this.#running = false;
    }
  }

  createSampler(params: GenerationParams): Sampler {
    if (this.#allowedAfter([], params)?.length === 0)
      throw new EngineError("no_token_allowed", "Nothing is left to draw.");
    this.openSamplers += 1;
    let open = true;
    return {
      sample: async (logits, position, output) => {
        if (this.#running && !this.drawsInOrder) throw new EngineError("internal", "A draw during a call.");
        await this.#inFlight;
        return this.#sample(logits, position, params, this.#allowedAfter(output, params));
      },
      dispose: () => {
        if (open) this.openSamplers -= 1;
        open = false;
      },
    };
  }

  createLogprobReader(top: number): LogprobReader {
    this.openSamplers += 1;
    let open = true;
    return {
      read: (logits, token) => {
        const state = this.#logits[logits];
        if (this.#running || state === undefined)
          return Promise.reject(new EngineError("internal", "These logits are not there to be read."));
        return Promise.resolve(logprobsOf(state, token, top));
      },
      dispose: () => {
        if (open) this.openSamplers -= 1;
        open = false;
      },
    };
  }

  /** Computed in pieces of the grid, as a real model computes a prompt. */
  get embedder(): Embedder {
    const { contextTokens, prefillChunk } = this.facts;
    const work = async (tokens?: Uint32Array, start = 0): Promise<void> => {
      if (this.#running) throw new EngineError("internal", "A vector during a call.");
      if (start > 0 && this.#embedding !== tokens)
        throw new EngineError("internal", "Another input is there.");
      this.#embedding = tokens;
      this.#running = true;
      try {
        await this.#onEmbed?.();
        this.embedPieces += 1;
      } finally {
        this.#running = false;
      }
    };
    let opened = false;
    return {
      contextTokens,
      prepare: (tokens) => tokens,
      open: () => {
        opened = true;
        return Promise.resolve();
      },
      embed: async function* (tokens) {
        if (!opened) throw new EngineError("internal", "A context would be made within what is measured.");
        for (let start = 0; start < tokens.length; start += prefillChunk) {
          if (start > 0) yield;
          await work(tokens, start);
        }
        return fakeVector(tokens);
      },
      rankedTokens: (query, document) => Promise.resolve(query.length + document.length),
      rank: async (query, document) => {
        await work();
        return fakeScore(query, document);
      },
    };
  }

  truncate(slot: number, length: number): void {
    const cells = this.#cells[slot];
    if (this.#running || cells === undefined) throw new EngineError("internal", "Cells are in use.");
    const first = this.firstCell(slot);
    const most = length - (this.windowTokens ?? Infinity);
    if (length > 0 && length < cells.length && first > 0 && first > most)
      throw new EngineError("internal", "What it would go on from is gone.");
    cells.length = Math.min(cells.length, length);
    if (cells.length === 0) this.#first[slot] = 0;
  }

  firstCell(slot: number): number {
    if (this.canRewind) return 0;
    if (this.windowTokens === undefined) return Math.max(0, this.cellCount(slot) - 1);
    return this.#first[slot] ?? 0;
  }

  copy(from: number, to: number): Promise<void> {
    const source = this.#cells[from];
    if (this.#running || source === undefined || this.#cells[to] === undefined)
      return Promise.reject(new EngineError("internal", "Cells are in use."));
    this.#cells[to] = [...source];
    this.#first[to] = this.#first[from] ?? 0;
    this.#inCopies.add(from).add(to);
    return Promise.resolve();
  }

  /** The cells as text. */
  async saveCells(slot: number, file: string, tokens: Uint32Array): Promise<number> {
    const cells = this.#cells[slot] ?? [];
    if (this.#running || this.#inCopies.has(slot)) throw new EngineError("internal", "Cells are in use.");
    if (cells.length !== tokens.length)
      throw new EngineError("internal", `Slot ${slot} does not hold what is said of it.`);
    const text = cells.join(" ");
    await writeFile(file, text);
    return text.length;
  }

  async loadCells(slot: number, file: string, tokens: Uint32Array): Promise<void> {
    if (this.#running || this.#inCopies.has(slot) || this.cellCount(slot) > 0)
      throw new EngineError("internal", "Cells are in use.");
    const text = await readFile(file, "utf8");
    const cells = text === "" ? [] : text.split(" ").map(Number);
    if (cells.length !== tokens.length)
      throw new EngineError("decode_failed", `Slot ${slot} was restored with another number of cells.`);
    this.#cells[slot] = cells;
    this.#first[slot] = Math.max(0, cells.length - (this.windowTokens ?? 0));
  }

  async takeCheckpoint(slot: number): Promise<SlotCheckpoint> {
    const cells = this.#cells[slot] ?? [];
    if (this.#running || this.#inCopies.has(slot) || cells.length === 0)
      throw new EngineError("internal", "Cells are in use.");
    this.#onCheckpoint?.("take");
    return new FakeCheckpoint([...cells], this.#first[slot] ?? 0);
  }

  async restoreCheckpoint(slot: number, checkpoint: SlotCheckpoint, length: number): Promise<void> {
    const cells = this.#cells[slot] ?? [];
    if (this.#running || !(checkpoint instanceof FakeCheckpoint) || checkpoint.disposed)
      throw new EngineError("internal", "There is no such checkpoint.");
    if (this.checkpointNeeds === "own-cells" && this.#inCopies.has(slot))
      throw new EngineError("internal", "A queued copy would overwrite it.");
    this.#onCheckpoint?.("restore");
    const { cells: kept, first } = checkpoint;
    if (this.checkpointNeeds !== "none" && kept.some((cell, i) => cell !== cells[i]))
      throw new EngineError("internal", "The cells of the tokens before it are not there.");
    this.#cells[slot] = [...kept];
    this.#first[slot] = first;
    this.truncate(slot, length);
  }

  cellCount(slot: number): number {
    return this.#cells[slot]?.length ?? 0;
  }

  close(): Promise<void> {
    this.closed = true;
    return Promise.resolve();
  }

  /** A failed call leaves cells behind, as a real one may. */
  async #attempt(entries: readonly BatchEntry[]): Promise<void> {
    try {
      await this.#onRun?.(entries);
    } catch (error) {
      for (const { slot, tokens } of entries) this.#cells[slot]?.push(...tokens);
      throw error;
    }
  }

  #allowedAfter(output: readonly TokenId[], { grammar }: GenerationParams): readonly TokenId[] | undefined {
    return grammar === undefined ? undefined : this.#allowedTokens?.(grammar, output);
  }

  #sample(
    logits: LogitsHandle,
    position: number,
    params: GenerationParams,
    allowed: readonly TokenId[] | undefined,
  ): Sampled {
    const state = this.#logits[logits];
    if (state === undefined) throw new EngineError("decode_failed", "No such logits.");
    const { temperature, seed } = params.sampling;
    const draw = temperature > 0 ? drawSeed(seed, position) : 0;
    const value = drawSeed(state, draw);
    const ends = !params.ignoreEos && (value >>> 8) % 1000 < this.#endChance * 1000;
    const wrong = temperature === 0 && (value >>> 4) % 1000 < this.#mistakes * 1000;
    const free = ends ? FAKE_END : 97 + ((value + (wrong ? 1 : 0)) % 26);
    const token = allowed === undefined ? free : allowed[value % allowed.length];
    if (token === undefined) throw new EngineError("no_token_allowed", "Nothing is left to draw.");
    const logprobs =
      params.topLogprobs === undefined
        ? undefined
        : { logprob: -0.5, top: [[token, -0.5] as const].slice(0, params.topLogprobs) };
    return { token, logprobs };
  }

  #check(entries: readonly BatchEntry[]): void {
    let last = -1;
    let total = 0;
    for (const { slot, position, tokens } of entries) {
      const cells = this.#cells[slot];
      if (cells === undefined || slot <= last)
        throw new EngineError("internal", `Slot ${slot} out of order.`);
      if (position !== cells.length) throw new EngineError("decode_failed", `Gap in slot ${slot}.`);
      if (position + tokens.length > this.facts.contextTokens)
        throw new EngineError("decode_failed", `Slot ${slot} is full.`);
      last = slot;
      total += tokens.length;
    }
    if (total === 0 || total > this.facts.batchTokens) throw new EngineError("internal", "Bad batch size.");
  }
}

/** Before it is brought to length 1: the truth for tests. */
export function fakeVector(tokens: ArrayLike<TokenId>): Float32Array {
  const hash = hashOf(Array.from(tokens));
  return Float32Array.from({ length: FAKE_DIMENSIONS }, (_, i) => (drawSeed(hash, i) % 2001) - 1000);
}

export function fakeScore(query: ArrayLike<TokenId>, document: ArrayLike<TokenId>): number {
  return (hashOf([...Array.from(query), FAKE_END, ...Array.from(document)]) % 1000) / 1000;
}

/**
 * Log probabilities of a prompt's tokens but the first, computed without slots and cells: the truth for tests.
 * @param adapters Key of the set they are computed with.
 */
export function fakePromptLogprobs(
  prompt: readonly TokenId[],
  top: number,
  memory = Infinity,
  adapters?: string,
): TokenLogprobs[] {
  const cells = prompt.map((token) => fakeCell(token, adapters));
  const stateAfter = (end: number): number => hashOf(remembered(cells.slice(0, end), memory));
  return prompt.slice(1).map((token, i) => logprobsOf(stateAfter(i + 1), token, top));
}

/** Multiples of 1/64, which single precision holds as they are. */
function logprobsOf(state: number, token: TokenId, top: number): TokenLogprobs {
  const logprobFor = (id: TokenId): number => -(drawSeed(state, id) % 1024) / 64;
  const ids = Array.from({ length: top }, (_, rank) => (state + rank) % FAKE_BYTES);
  return { logprob: logprobFor(token), top: ids.map((id) => [id, logprobFor(id)] as const) };
}

/** What a prompt's output is, computed without slots, batches or a scheduler: the truth for tests. */
export function fakeOutput(
  prompt: readonly TokenId[],
  count: number,
  seed?: number,
  memory = Infinity,
): TokenId[] {
  return fakeContinuation(prompt, count, { seed, memory });
}

/** The same with adapters, by the key of their set. */
export function fakeContinuation(
  prompt: readonly TokenId[],
  count: number,
  { seed, memory = Infinity, adapters }: FakeContinuation,
): TokenId[] {
  const sequence = [...prompt];
  for (let i = 0; i < count; i++) {
    const draw = seed === undefined ? 0 : drawSeed(seed, sequence.length);
    const cells = sequence.map((token) => fakeCell(token, adapters));
    sequence.push(97 + (drawSeed(hashOf(remembered(cells, memory)), draw) % 26));
  }
  return sequence.slice(prompt.length);
}

interface FakeContinuation {
  readonly seed?: number | undefined;
  readonly memory?: number;
  readonly adapters?: string | undefined;
}

/** A cell shows what it was computed with, so that one that was computed with something else changes the output. */
function fakeCell(token: TokenId, adapters: string | undefined): number {
  if (adapters === undefined) return token;
  return token ^ hashOf(Array.from(adapters, (character) => character.charCodeAt(0)));
}

function remembered(tokens: readonly TokenId[], memory: number): readonly TokenId[] {
  return memory < tokens.length ? tokens.slice(-memory) : tokens;
}

function hashOf(tokens: readonly TokenId[]): number {
  let hash = 0x811c9dc5;
  for (const token of tokens) hash = Math.imul(hash ^ token, 0x01000193) >>> 0;
  return hash;
}

function tokenizePart(part: PromptPart): TokenId[] {
  if ("tokens" in part) {
    for (const token of part.tokens) {
      if (!Number.isInteger(token) || token < 0 || token > FAKE_END)
        throw new EngineError("invalid_request", `Token id ${token} is not in 0 to ${FAKE_END}.`);
    }
    return [...part.tokens];
  }
  const control = part.special ? CONTROL_NAMES.indexOf(part.text) : -1;
  return control >= 0 ? [FAKE_START + control] : [...new TextEncoder().encode(part.text)];
}
