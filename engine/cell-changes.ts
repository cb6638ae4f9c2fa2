/**
 * Carries out what a plan changes of cells between native calls: slots are cut and copied, and prefixes are written to
 * files and read back.
 *
 * A file that cannot be written is given up; one that cannot be read, or is not what was written, leaves its slot empty and
 * its request with the whole prompt to compute. Neither fails a request.
 */
import { performance } from "node:perf_hooks";
import {
  forgetSpilled,
  noteRestoreFailed,
  noteRestored,
  noteSaveFailed,
  noteSaved,
} from "./scheduler/spill-transitions.ts";
import { truncateSlot } from "./scheduler/transitions.ts";
import type { Backend } from "./backend.ts";
import type {
  BoundaryOperation,
  PlannedCall,
  SchedulerState,
  SlotId,
  SpilledPrefix,
} from "./scheduler/types.ts";
import type { SpillStore } from "./spill-store.ts";
import type { StepRecord } from "./step-record.ts";

interface Parts {
  readonly state: SchedulerState;
  readonly backend: Backend;
  readonly store: SpillStore | undefined;
  readonly record: StepRecord;
}

export class CellChanges {
  readonly #state: SchedulerState;
  readonly #backend: Backend;
  readonly #store: SpillStore | undefined;
  readonly #record: StepRecord;

  constructor({ state, backend, store, record }: Parts) {
    this.#state = state;
    this.#backend = backend;
    this.#store = store;
    this.#record = record;
  }

  /**
   * Between native calls, for a plan that has been begun.
   * @returns Whether all cells are there that the plan's calls go on from, and the time that files took, in ms.
   */
  async change(operations: readonly BoundaryOperation[]): Promise<{ intact: boolean; spillMs: number }> {
    let intact = true;
    let spillMs = 0;
    for (const operation of operations) {
      const startMs = performance.now();
      switch (operation.type) {
        case "copy":
          await this.#backend.copy(operation.from, operation.to);
          continue;
        case "truncate":
          this.#backend.truncate(operation.slot, operation.length);
          continue;
        case "save":
          await this.#save(operation.slot, operation.prefix);
          break;
        case "restore":
          intact = (await this.#restore(operation.slot, operation.prefix)) && intact;
          break;
        case "drop":
          this.#store?.drop(operation.spill);
          this.#record.spill.dropped += 1;
      }
      spillMs += performance.now() - startMs;
    }
    this.#record.spill.ms += spillMs;
    return { intact, spillMs };
  }

  /** Behind a native call: which cells its slots have lost to a window, or to a state in place of them. */
  noteFirst({ entries }: PlannedCall): void {
    if (this.#backend.canRewind) return;
    for (const { slot: id } of entries) {
      const slot = this.#state.slots[id];
      if (slot !== undefined) slot.firstCell = this.#backend.firstCell(id);
    }
  }

  /** Takes every slot from its owner, and drops all cells and files. */
  drop(): void {
    for (const slot of this.#state.slots) {
      slot.owner = undefined;
      truncateSlot(slot, 0);
      this.#backend.truncate(slot.id, 0);
    }
    for (const { id } of forgetSpilled(this.#state)) this.#store?.drop(id);
  }

  async #save(slot: SlotId, prefix: SpilledPrefix): Promise<void> {
    const { spill } = this.#record;
    const startMs = performance.now();
    try {
      const file = this.#store?.create(prefix.id);
      if (file === undefined) return;
      const written = await this.#backend.saveCells(slot, file, prefix.tokens);
      const bytes = this.#store?.seal(prefix.id) ?? 0;
      // Native code does not see when the last of it finds no room.
      if (bytes !== written) throw new Error(`${bytes} of ${written} bytes were written`);
      spill.saved += 1;
      if (noteSaved(this.#state, prefix, bytes, performance.now() - startMs)) return;
      spill.dropped += 1;
    } catch (error) {
      spill.saveFailures += 1;
      noteSaveFailed(this.#state);
      report(`A prefix of ${prefix.length} tokens could not be saved`, error);
    }
    this.#store?.drop(prefix.id);
  }

  async #restore(slot: SlotId, prefix: SpilledPrefix): Promise<boolean> {
    const { spill } = this.#record;
    const startMs = performance.now();
    this.#backend.truncate(slot, 0);
    try {
      const file = this.#store?.verified(prefix.id);
      if (file === undefined) throw new Error("its file is not what was written");
      await this.#backend.loadCells(slot, file, prefix.tokens);
      noteRestored(this.#state, prefix, performance.now() - startMs);
      spill.restored += 1;
      const { slots, requests } = this.#state;
      spill.restoredTokens += requests.get(slots[slot]?.owner ?? "")?.cachedTokens ?? 0;
      return true;
    } catch (error) {
      spill.restoreFailures += 1;
      report(`A prefix of ${prefix.length} tokens could not be restored`, error);
      this.#backend.truncate(slot, 0);
      this.#store?.drop(prefix.id);
      noteRestoreFailed(this.#state, prefix, slot);
      return false;
    }
  }
}

/** For the log of the server, which reads the standard error of its engines. */
function report(what: string, error: unknown): void {
  process.stderr.write(`warn: ${what}: ${error instanceof Error ? error.message : String(error)}\n`);
}
