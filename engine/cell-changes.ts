/**
 * Carries out what a plan changes of cells between native calls: slots are cut, copied and brought back to checkpoints, and
 * prefixes are written to files and read back.
 *
 * A file that cannot be written is given up, and so is a checkpoint that cannot be taken; one that cannot be read, or is not
 * what was written, leaves its slot empty and its request with the whole prompt to compute. Neither fails a request.
 */
import { performance } from "node:perf_hooks";
import {
  forgetCheckpoints,
  noteCameBack,
  noteComeBackFailed,
  noteTakeFailed,
  noteTaken,
} from "./scheduler/checkpoint-transitions.ts";
import {
  forgetSpilled,
  noteRestoreFailed,
  noteRestored,
  noteSaveFailed,
  noteSaved,
} from "./scheduler/spill-transitions.ts";
import { truncateSlot } from "./scheduler/transitions.ts";
import { warn } from "./warn.ts";
import type { Backend, SlotCheckpoint } from "./backend.ts";
import type {
  BoundaryOperation,
  Checkpoint,
  CheckpointId,
  PlannedCall,
  SchedulerState,
  SlotId,
  SpilledPrefix,
} from "./scheduler/types.ts";
import type { FlightRecorder } from "./flight-recorder.ts";
import type { SpillStore } from "./spill-store.ts";
import type { StepRecord } from "./step-record.ts";

interface Parts {
  readonly state: SchedulerState;
  readonly backend: Backend;
  readonly store: SpillStore | undefined;
  readonly record: StepRecord;
  readonly recorder: FlightRecorder;
}

export class CellChanges {
  readonly #state: SchedulerState;
  readonly #backend: Backend;
  readonly #store: SpillStore | undefined;
  readonly #record: StepRecord;
  readonly #recorder: FlightRecorder;
  /** Those of the state, and those that it has let go since the last change of cells. */
  readonly #checkpoints = new Map<CheckpointId, SlotCheckpoint>();

  constructor({ state, backend, store, record, recorder }: Parts) {
    this.#state = state;
    this.#backend = backend;
    this.#store = store;
    this.#record = record;
    this.#recorder = recorder;
  }

  /**
   * Between native calls, for a plan that has been begun.
   * @returns Whether all cells are there that the plan's calls go on from, and the time that files and checkpoints took, in
   * ms.
   */
  async change(operations: readonly BoundaryOperation[]): Promise<{ intact: boolean; keepingMs: number }> {
    let intact = true;
    let spillMs = 0;
    let checkpointMs = 0;
    for (const operation of operations) {
      const startMs = performance.now();
      switch (operation.type) {
        case "copy":
          await this.#backend.copy(operation.from, operation.to);
          continue;
        case "truncate":
          this.#backend.truncate(operation.slot, operation.length);
          continue;
        case "forget":
          // At once, since another one is about to be taken in its place.
          this.#dispose(operation.checkpoint);
          this.#record.checkpoints.dropped += 1;
          continue;
        case "drop":
          this.#store?.drop(operation.spill);
          this.#record.spill.dropped += 1;
          spillMs += performance.now() - startMs;
          continue;
        case "checkpoint":
        case "rewind":
          intact = (await this.#transfer(operation, startMs)) && intact;
          checkpointMs += performance.now() - startMs;
          continue;
        case "save":
        case "restore":
          intact = (await this.#transfer(operation, startMs)) && intact;
          spillMs += performance.now() - startMs;
      }
    }
    this.#record.spill.ms += spillMs;
    this.#record.checkpoints.ms += checkpointMs;
    // Not before: what has just gone may be what a slot has come back to.
    this.#dropForgotten();
    return { intact, keepingMs: spillMs + checkpointMs };
  }

  /** @returns Whether all cells are there that the plan goes on from. */
  async #transfer(operation: Transfer, startMs: number): Promise<boolean> {
    const { type: kind, slot } = operation;
    const done = await this.#carryOut(operation);
    const tokens = tokensOf(operation);
    const ms = performance.now() - startMs;
    this.#recorder.transferred({ kind, slot, tokens, startMs, ms, ...(done ? {} : { failed: true }) });
    return done || kind === "save" || kind === "checkpoint";
  }

  #carryOut(operation: Transfer): Promise<boolean> {
    switch (operation.type) {
      case "checkpoint":
        return this.#take(operation.slot, operation.checkpoint);
      case "rewind":
        return this.#comeBack(operation);
      case "save":
        return this.#save(operation.slot, operation.prefix);
      case "restore":
        return this.#restore(operation.slot, operation.prefix);
    }
  }

  /** Behind a native call: which cells its slots have lost to a window, or to a state in place of them. */
  noteFirst({ entries }: PlannedCall): void {
    if (this.#backend.canRewind) return;
    for (const { slot: id } of entries) {
      const slot = this.#state.slots[id];
      if (slot !== undefined) slot.firstCell = this.#backend.firstCell(id);
    }
  }

  /** Frees all checkpoints. */
  close(): void {
    forgetCheckpoints(this.#state);
    this.#dropForgotten();
  }

  /** Takes every slot from its owner, and drops all cells, checkpoints and files. */
  drop(): void {
    for (const slot of this.#state.slots) {
      slot.owner = undefined;
      slot.holder = undefined;
      truncateSlot(slot, 0);
      this.#backend.truncate(slot.id, 0);
    }
    for (const { id } of forgetSpilled(this.#state)) this.#store?.drop(id);
    this.close();
  }

  #dropForgotten(): void {
    const kept = this.#state.checkpoints?.kept;
    for (const id of this.#checkpoints.keys()) if (kept?.has(id) !== true) this.#dispose(id);
  }

  #dispose(id: CheckpointId): void {
    this.#checkpoints.get(id)?.dispose();
    this.#checkpoints.delete(id);
  }

  async #take(slot: SlotId, checkpoint: Checkpoint): Promise<boolean> {
    const startMs = performance.now();
    try {
      const taken = await this.#backend.takeCheckpoint(slot);
      this.#checkpoints.set(checkpoint.id, taken);
      this.#record.checkpoints.taken += 1;
      const observed = { bytes: taken.bytes, ms: performance.now() - startMs };
      if (!noteTaken(this.#state, slot, checkpoint, observed)) this.#record.checkpoints.dropped += 1;
      return true;
    } catch (error) {
      this.#record.checkpoints.failures += 1;
      noteTakeFailed(this.#state);
      warn(`No checkpoint of ${checkpoint.length} tokens could be taken`, error);
      return false;
    }
  }

  async #comeBack({ slot, checkpoint, length }: Comeback): Promise<boolean> {
    const startMs = performance.now();
    try {
      const taken = this.#checkpoints.get(checkpoint.id);
      if (taken === undefined) throw new Error("it is gone");
      await this.#backend.restoreCheckpoint(slot, taken, length);
      noteCameBack(this.#state, checkpoint, performance.now() - startMs);
      this.#record.checkpoints.restored += 1;
      this.#record.checkpoints.restoredTokens += length;
      return true;
    } catch (error) {
      this.#record.checkpoints.failures += 1;
      warn(`A slot could not come back to ${length} tokens`, error);
      this.#backend.truncate(slot, 0);
      noteComeBackFailed(this.#state, checkpoint, slot);
      return false;
    }
  }

  /** @returns Whether it is kept. */
  async #save(slot: SlotId, prefix: SpilledPrefix): Promise<boolean> {
    const startMs = performance.now();
    try {
      const file = this.#store?.create(prefix.id);
      if (file === undefined) return false;
      const written = await this.#backend.saveCells(slot, file, prefix.tokens);
      const bytes = this.#store?.seal(prefix.id) ?? 0;
      // Native code does not see when the last of it finds no room.
      if (bytes !== written) throw new Error(`${bytes} of ${written} bytes were written`);
      this.#record.spill.saved += 1;
      if (noteSaved(this.#state, prefix, bytes, performance.now() - startMs)) return true;
      this.#record.spill.dropped += 1;
    } catch (error) {
      this.#record.spill.saveFailures += 1;
      noteSaveFailed(this.#state);
      warn(`A prefix of ${prefix.length} tokens could not be saved`, error);
    }
    this.#store?.drop(prefix.id);
    return false;
  }

  async #restore(slot: SlotId, prefix: SpilledPrefix): Promise<boolean> {
    const startMs = performance.now();
    this.#backend.truncate(slot, 0);
    try {
      const file = this.#store?.verified(prefix.id);
      if (file === undefined) throw new Error("its file is not what was written");
      await this.#backend.loadCells(slot, file, prefix.tokens);
      noteRestored(this.#state, prefix, performance.now() - startMs);
      this.#record.spill.restored += 1;
      const { slots, requests } = this.#state;
      this.#record.spill.restoredTokens += requests.get(slots[slot]?.owner ?? "")?.cachedTokens ?? 0;
      return true;
    } catch (error) {
      this.#record.spill.restoreFailures += 1;
      warn(`A prefix of ${prefix.length} tokens could not be restored`, error);
      this.#backend.truncate(slot, 0);
      this.#store?.drop(prefix.id);
      noteRestoreFailed(this.#state, prefix, slot);
      return false;
    }
  }
}

type Comeback = Extract<BoundaryOperation, { type: "rewind" }>;
type Transfer = Extract<BoundaryOperation, { type: "save" | "restore" | "checkpoint" | "rewind" }>;

function tokensOf(operation: Transfer): number {
  if (operation.type === "rewind") return operation.length;
  return operation.type === "checkpoint" ? operation.checkpoint.length : operation.prefix.length;
}
