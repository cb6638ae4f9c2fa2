/** The prefill worker's end of the line: computes prompts into files, one at a time, until its engine is gone. */
import { statSync } from "node:fs";
import { asEngineError } from "../errors.ts";
import { watchParent } from "../process/parent-watch.ts";
import type { Backend, BackendLoader } from "../backend.ts";
import type { JobId, WorkerCommand, WorkerEvent } from "./messages.ts";

/** What a terminal or a service manager sends to the whole process group; the engine decides when its worker ends. */
const GROUP_SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

/** Makes a file of one sequence one that a context of more can read. Returns its bytes. */
export type SpreadFile = (path: string, tokens: number, sequences: number) => number;

type Prefill = Extract<WorkerCommand, { type: "prefill" }>;

/** @throws {Error} When this process was not forked. */
export function servePrefill(load: BackendLoader, spread: SpreadFile): void {
  if (process.send === undefined) throw new Error("The prefill worker is started by an engine, not by hand.");
  for (const signal of GROUP_SIGNALS) process.on(signal, () => undefined);
  // An orderly exit would wait for the call under way.
  process.on("disconnect", () => process.kill(process.pid, "SIGKILL"));
  watchParent();
  const worker = new Worker(
    load,
    spread,
    (event) => void process.send?.(event, undefined, {}, () => undefined),
  );
  process.on("message", (command) => worker.receive(command as WorkerCommand));
}

class Worker {
  readonly #load: BackendLoader;
  readonly #spread: SpreadFile;
  readonly #emit: (event: WorkerEvent) => void;
  #backend: Backend | undefined;
  #slots = 1;
  #wanted: JobId | undefined;

  constructor(load: BackendLoader, spread: SpreadFile, emit: (event: WorkerEvent) => void) {
    this.#load = load;
    this.#spread = spread;
    this.#emit = emit;
  }

  receive(command: WorkerCommand): void {
    switch (command.type) {
      case "load":
        this.#slots = command.slots;
        void this.#open(command);
        return;
      case "prefill":
        this.#wanted = command.job;
        void this.#answer(command);
        return;
      case "cancel":
        if (this.#wanted === command.job) this.#wanted = undefined;
    }
  }

  async #open({ options }: Extract<WorkerCommand, { type: "load" }>): Promise<void> {
    try {
      this.#backend = await this.#load(options, () => undefined);
      this.#emit({ type: "ready" });
    } catch (error) {
      this.#emit({ type: "unfit", reason: asEngineError(error).message });
    }
  }

  async #answer(command: Prefill): Promise<void> {
    const { job } = command;
    try {
      this.#emit({ type: "computed", job, bytes: await this.#compute(command) });
    } catch (error) {
      this.#emit({ type: "failed", job, reason: asEngineError(error).message });
    }
  }

  /** In the calls that the engine would make with the device for itself. */
  async #compute({ job, tokens, file }: Prefill): Promise<number> {
    const backend = this.#backend;
    if (backend === undefined) throw new Error("no model is loaded");
    try {
      const { prefillChunk: grid, batchTokens } = backend.facts;
      const longest = backend.exactTogether.joinedCells ? Math.floor(batchTokens / grid) * grid : grid;
      for (let position = 0; position < tokens.length;) {
        if (this.#wanted !== job) throw new Error("nobody wants it any more");
        const left = tokens.length - position;
        const whole = Math.min(longest, Math.floor(left / grid) * grid);
        const end = position + (whole > 0 ? whole : left);
        await backend.run([{ slot: 0, position, tokens: tokens.subarray(position, end), sample: false }])
          .done;
        position = end;
        if (end < tokens.length) this.#emit({ type: "progress", job, tokens: end });
      }
      const bytes = await backend.saveCells(0, file, tokens);
      // Native code does not see when the last of it finds no room, and ends the process that reads such a file.
      if (statSync(file).size !== bytes) throw new Error("there is no room for its cells");
      return this.#spread(file, tokens.length, this.#slots);
    } finally {
      backend.truncate(0, 0);
    }
  }
}
