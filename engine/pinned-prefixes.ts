/**
 * Keeps what the operator has pinned: each prompt is computed while no request is open, in the cells of a cold run, and its
 * cells are kept in a file that nothing goes before. One whose file is lost is computed again once no request is open, and so
 * is one that could not be computed or written, some time later.
 */
import { performance } from "node:perf_hooks";
import { adapterSet } from "./adapters.ts";
import { modelOf } from "./calibrate.ts";
import { EngineError, asEngineError } from "./errors.ts";
import { spillBytes } from "./scheduler/cost-model.ts";
import { pinKey, pinnedTokens } from "./scheduler/pins.ts";
import { commonPrefixLength } from "./scheduler/prefix-reuse.ts";
import { noteTaken } from "./scheduler/returns.ts";
import { pin, unpin } from "./scheduler/spill-transitions.ts";
import { truncateSlot } from "./scheduler/transitions.ts";
import { warn } from "./warn.ts";
import type { AdapterSet, AdapterUse } from "./adapters.ts";
import type { Backend } from "./backend.ts";
import type { DeviceLease } from "./device-lease.ts";
import type { PinnedPrompt, PinPrompt, SealedFile, TokenId } from "./protocol.ts";
import type { SchedulerState, Slot, SpillId } from "./scheduler/types.ts";
import type { SpillStore } from "./spill-store.ts";
import type { SideWork } from "./step-loop-links.ts";

/** Wait before what has failed is tried again, behind the next request: a full disk may have room by then. It doubles. */
const FIRST_RETRY_MS = 1000;
const MAX_RETRY_MS = 60_000;

interface Parts {
  readonly state: SchedulerState;
  readonly backend: Backend;
  /** Absent where no prefixes are kept in files. */
  readonly store: SpillStore | undefined;
  /** Turns on a device that others use too. */
  readonly lease?: DeviceLease | undefined;
  /** Whether nothing is to be computed any more; absent is never. */
  readonly isStopping?: () => boolean;
  /** Monotonic. */
  readonly nowMs?: () => number;
}

interface Wanted {
  readonly name: string;
  readonly tokens: Uint32Array;
  readonly uses: readonly AdapterUse[];
  readonly adapters: AdapterSet | undefined;
  /** Of its file; undefined before it has been written for the first time. */
  id: SpillId | undefined;
  /** Room that is gone for others, also while its file is lost. */
  takenBytes: number;
  /** Why it cannot be computed; this engine does not try it again. */
  failure: EngineError | undefined;
  /** Times in a row that it could not be computed, and when it is tried again. */
  failures: number;
  retryMs: number;
}

/** Who waits for all that is wanted. */
interface Waiting {
  readonly resolve: (pins: readonly PinnedPrompt[]) => void;
  readonly reject: (error: EngineError) => void;
}

export class PinnedPrefixes implements SideWork {
  readonly #state: SchedulerState;
  readonly #backend: Backend;
  readonly #store: SpillStore | undefined;
  readonly #lease: DeviceLease | undefined;
  readonly #isStopping: () => boolean;
  readonly #nowMs: () => number;
  #wanted: readonly Wanted[] = [];
  #waiting: Waiting | undefined;

  constructor({ state, backend, store, lease, isStopping, nowMs }: Parts) {
    this.#state = state;
    this.#backend = backend;
    this.#store = store;
    this.#lease = lease;
    this.#isStopping = isStopping ?? (() => false);
    this.#nowMs = nowMs ?? (() => performance.now());
  }

  /** Whether something is to be computed, and nobody else has anything to compute. */
  get pending(): boolean {
    return this.#state.requests.size === 0 && this.#missing() !== undefined;
  }

  /** What is pinned, for the next engine, with its files where they are there. */
  get pins(): readonly PinnedPrompt[] {
    const of = modelOf(this.#backend.facts);
    return this.#wanted.map(({ name, tokens, uses, id }): PinnedPrompt => {
      const file = id === undefined ? undefined : this.#store?.sealed(id);
      const prompt = { name, of, tokens: [...tokens], adapters: uses };
      return file === undefined ? prompt : { ...prompt, file };
    });
  }

  /**
   * Before the first step: what an earlier engine had pinned of the same model, with its files where they are what was written.
   * What cannot be kept any more is told and left out, what cannot be kept now is tried again later.
   * @param onCall Told of each native call.
   */
  async take(pins: readonly PinnedPrompt[], onCall: () => void): Promise<void> {
    for (const { of, name, tokens, adapters, file } of pins) {
      if (of !== modelOf(this.#backend.facts)) continue;
      let wanted: Wanted;
      try {
        wanted = this.#wantedOf(name, tokens, adapters);
      } catch (error) {
        warn(`${name} is not pinned any more`, error);
        continue;
      }
      this.#wanted = [...this.#wanted, wanted];
      if (file === undefined || !this.#adopt(wanted, file)) await this.#tryToCompute(wanted, onCall);
    }
    this.#store?.dropInherited();
  }

  /** @returns Whether the file is there and is what was written. Never throws: an engine without pins serves all the same. */
  #adopt(wanted: Wanted, file: SealedFile): boolean {
    const id = this.#nextId;
    try {
      if (this.#state.spill === undefined || this.#store?.adopt(id, file) !== true) return false;
      this.#keep(wanted, id, file.bytes);
      return true;
    } catch (error) {
      warn(`The file of ${wanted.name} is not taken`, error);
      return false;
    }
  }

  /**
   * Pins these prompts in place of those before.
   * @returns When all of them are there.
   * @throws {EngineError} `invalid_request` for what cannot be kept.
   */
  async want(prompts: readonly PinPrompt[]): Promise<readonly PinnedPrompt[]> {
    if (!this.#backend.facts.generates)
      throw new EngineError("invalid_request", "Nothing can be pinned of a model that does not generate.");
    const wanted = prompts.map((prompt) => {
      const tokens = commonTokens(prompt.prompts.map((parts) => this.#backend.tokenize(parts, true)));
      return this.#wantedOf(prompt.name, tokens, prompt.adapters ?? []);
    });
    this.#checkRoom(wanted);
    for (const before of this.#wanted) this.#forget(before);
    this.#waiting?.reject(new EngineError("invalid_request", "Other prompts are pinned by now."));
    this.#wanted = wanted;
    if (wanted.length === 0) return [];
    return new Promise((resolve, reject) => (this.#waiting = { resolve, reject }));
  }

  async runPiece(): Promise<void> {
    const wanted = this.#missing();
    if (wanted === undefined) return;
    await this.#tryToCompute(wanted, () => undefined);
    const failure = this.#wanted.find((one) => one.failure !== undefined)?.failure;
    if (failure !== undefined) this.#waiting?.reject(failure);
    else if (this.#missing() !== undefined) return;
    else this.#waiting?.resolve(this.pins);
    this.#waiting = undefined;
  }

  #missing(): Wanted | undefined {
    const pins = this.#state.spill?.pins;
    const nowMs = this.#nowMs();
    return this.#wanted.find(
      ({ id, failure, retryMs }) =>
        failure === undefined && retryMs <= nowMs && (id === undefined || pins?.has(id) !== true),
    );
  }

  #wantedOf(name: string, tokens: ArrayLike<TokenId>, uses: readonly AdapterUse[]): Wanted {
    const { config } = this.#state;
    const kept = pinnedTokens(tokens.length, config);
    if (kept === 0) {
      const reason = `its ${tokens.length} tokens are computed at once (--prefill-chunk ${config.prefillChunk})`;
      throw new EngineError("invalid_request", `Nothing is won by pinning ${name}: ${reason}.`);
    }
    if (kept >= config.contextTokens - 1)
      throw new EngineError(
        "invalid_request",
        `${name} cannot be pinned: it has ${tokens.length} tokens, and a slot holds ${config.contextTokens} (--context).`,
      );
    const adapters = adapterSet(uses, this.#backend.facts.adapters);
    const known = Uint32Array.from({ length: kept }, (_, i) => tokens[i] ?? 0);
    const nothing = { id: undefined, takenBytes: 0, failure: undefined, failures: 0, retryMs: 0 };
    return { name, tokens: known, uses, adapters, ...nothing };
  }

  /** By what files are predicted to take. */
  #checkRoom(wanted: readonly Wanted[]): void {
    const { spill, cost } = this.#state;
    const [first] = wanted;
    if (first === undefined) return;
    if (spill === undefined || cost.spill === undefined)
      throw new EngineError(
        "invalid_request",
        `${first.name} cannot be pinned where no computed prompts are kept in files: set --spill-size.`,
      );
    let [bytes, room] = [0, spill.limitBytes];
    for (const { takenBytes } of this.#wanted) room += takenBytes;
    for (const { name, tokens } of wanted) {
      bytes += spillBytes(cost.spill, tokens.length);
      if (bytes > room) throw tooLarge(name, bytes, room);
    }
  }

  async #tryToCompute(wanted: Wanted, onCall: () => void): Promise<void> {
    // Cells of a queued copy come with the next call, over whatever is there by then.
    const free = (slot: Slot): boolean => slot.owner === undefined && !this.#state.inCopies.has(slot.id);
    const slot = this.#state.slots.find(free);
    try {
      if (this.#state.spill === undefined)
        throw new EngineError("invalid_request", "There is no room for files.");
      if (slot === undefined) throw new EngineError("internal", "No slot is free.");
      await this.#compute(wanted, slot, onCall);
    } catch (error) {
      const failure = asEngineError(error);
      // Who waits for it is told, and may ask again.
      if (this.#waiting !== undefined || failure.code === "invalid_request") wanted.failure = failure;
      wanted.retryMs = this.#nowMs() + Math.min(MAX_RETRY_MS, FIRST_RETRY_MS * 2 ** wanted.failures);
      wanted.failures += 1;
      warn(`${wanted.name} is not pinned`, error);
    } finally {
      if (slot !== undefined) this.#backend.truncate(slot.id, 0);
    }
  }

  /** In the cells that a prompt of nobody else's would be computed in; given up when a request comes. */
  async #compute(wanted: Wanted, slot: Slot, onCall: () => void): Promise<void> {
    const { config, requests } = this.#state;
    noteTaken(slot);
    truncateSlot(slot, 0);
    this.#backend.truncate(slot.id, 0);
    const { tokens, adapters } = wanted;
    for (let position = 0; position < tokens.length; position += config.prefillChunk) {
      await this.#lease?.turn();
      if (requests.size > 0 || this.#isStopping() || !this.#wanted.includes(wanted)) return;
      const cell = tokens.subarray(position, position + config.prefillChunk);
      await this.#backend.run([{ slot: slot.id, position, tokens: cell, sample: false }], adapters).done;
      onCall();
    }
    await this.#save(wanted, slot);
  }

  async #save(wanted: Wanted, { id: slot }: Slot): Promise<void> {
    const store = this.#store;
    if (store === undefined) throw new EngineError("internal", "There is nowhere to keep what is pinned.");
    const id = this.#nextId;
    try {
      const file = store.create(id);
      const written = await this.#backend.saveCells(slot, file, wanted.tokens);
      const bytes = store.seal(id);
      // Others are wanted by now.
      if (!this.#wanted.includes(wanted)) return store.drop(id);
      if (bytes !== written) throw new Error(`${bytes} of ${written} bytes were written`);
      const room = this.#state.spill?.limitBytes ?? 0;
      if (wanted.id === undefined && bytes > room) throw tooLarge(wanted.name, bytes, room);
      this.#keep(wanted, id, bytes);
    } catch (error) {
      store.drop(id);
      throw error;
    }
  }

  get #nextId(): SpillId {
    return this.#state.spill?.nextId ?? 1;
  }

  #keep(wanted: Wanted, id: SpillId, bytes: number): void {
    const { config } = this.#state;
    const { name, tokens, adapters } = wanted;
    const { length } = tokens;
    const gridEnd = Math.floor(length / config.prefillChunk) * config.prefillChunk;
    // Of a window's layers all cells are there until the window is full, of a state none.
    const { windowTokens = 0 } = config;
    const firstCell = config.canRewind || length <= windowTokens ? 0 : length;
    const marks = { firstCell, gridEnd, tailEnd: length };
    const used = { lastUseMs: 0, hits: 0 };
    const prefix = { id, name, tokens, length, cacheKey: pinKey(adapters), bytes, ...marks, ...used };
    wanted.takenBytes += pin(this.#state, prefix, wanted.id === undefined);
    wanted.id = id;
    wanted.failures = 0;
  }

  #forget({ id, takenBytes }: Wanted): void {
    if (id === undefined) return;
    unpin(this.#state, id, takenBytes);
    this.#store?.drop(id);
  }
}

function tooLarge(name: string, bytes: number, room: number): EngineError {
  const sizes = `${Math.ceil(bytes)} bytes are needed and ${Math.floor(room)} are left (--spill-size)`;
  return new EngineError("invalid_request", `${name} cannot be pinned: ${sizes}.`);
}

/** What all of the texts begin with, but for the last token of the shortest. */
function commonTokens([first = new Uint32Array(0), ...others]: readonly Uint32Array[]): Uint32Array {
  let length = first.length - 1;
  for (const other of others) length = commonPrefixLength(first, other, Math.min(length, other.length - 1));
  return first.slice(0, Math.max(0, length));
}
