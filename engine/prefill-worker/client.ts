/**
 * An engine's prefill worker: a process of its own that computes long prompts while the engine's streams go on.
 *
 * llama.cpp's threads wait for each other busily, and two processes that compute at the same time on the same cores lose
 * most of it. So the engine lets the worker stand still (SIGSTOP) while it computes itself, which takes a fraction of a
 * millisecond and needs nothing of the worker.
 */
import { fork } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { extname } from "node:path";
import { EngineError } from "../errors.ts";
import type { LoadOptions, ModelFacts } from "../protocol.ts";
import type { JobId, WorkerCommand, WorkerEvent } from "./messages.ts";

/** What computes prompts elsewhere. One at a time. */
export interface PrefillComputer {
  /**
   * Computes the tokens and writes their cells into a file that is there.
   * @param onProgress Called when so many, but not all, are computed.
   * @returns The bytes of the file.
   * @throws {EngineError} `decode_failed` when there will be none; so it is, a little later, after `cancel`.
   */
  compute(tokens: Uint32Array, file: string, onProgress: (computed: number) => void): Promise<number>;
  /** What is computed is not wanted any more. */
  cancel(): void;
  /** It stands still until `go`. */
  hold(): void;
  go(): void;
  /** Idempotent. */
  close(): void;
}

/** What becomes of a worker. */
export interface WorkerWatcher {
  /** It has loaded the model and can be given prompts. */
  readonly onReady: () => void;
  /** It is gone, for the reason; what it computed has failed. */
  readonly onGone: (reason: string) => void;
  /** Its process has begun, or ended: `undefined`. */
  readonly onProcess: (pid: number | undefined) => void;
}

export type WorkerStarter = (
  options: LoadOptions,
  facts: Omit<ModelFacts, "loadMs">,
  watcher: WorkerWatcher,
) => PrefillComputer;

export const startPrefillWorker: WorkerStarter = (options, facts, watcher) => {
  const entry = new URL(`./main${extname(import.meta.url)}`, import.meta.url);
  const child = fork(entry, [], {
    serialization: "advanced",
    // What the runtime says goes where the engine's own words go.
    stdio: ["ignore", "ignore", "inherit", "ipc"],
    execArgv: process.execArgv.filter((argument) => !argument.startsWith("--inspect")),
  });
  return new PrefillWorker(
    child,
    { type: "load", options: workerOptions(options, facts), slots: facts.slots },
    watcher,
  );
};

/** One slot like those of the engine, cut alike. */
function workerOptions(options: LoadOptions, facts: Omit<ModelFacts, "loadMs">): LoadOptions {
  return {
    modelPath: options.modelPath,
    contextTokens: facts.contextTokens,
    slots: 1,
    batchTokens: undefined,
    threads: facts.threads,
    gpu: "off",
    gpuLayers: 0,
    flashAttention: facts.flashAttention ? "on" : "off",
    kvCacheType: options.kvCacheType,
    swaFull: options.swaFull ?? false,
    prefillChunk: facts.prefillChunk,
    itlTargetMs: facts.itlTargetMs,
    maxQueued: 1,
    deterministic: options.deterministic,
    speculate: false,
  };
}

interface Job {
  readonly id: JobId;
  readonly onProgress: (computed: number) => void;
  readonly resolve: (bytes: number) => void;
  readonly reject: (error: EngineError) => void;
}

class PrefillWorker implements PrefillComputer {
  readonly #child: ChildProcess;
  readonly #watcher: WorkerWatcher;
  #job: Job | undefined;
  #nextJob = 1;
  #held = false;
  #gone = false;

  constructor(child: ChildProcess, load: WorkerCommand, watcher: WorkerWatcher) {
    this.#child = child;
    this.#watcher = watcher;
    child.on("message", (event) => this.#receive(event as WorkerEvent));
    child.on("error", ({ message }) => {
      if (child.pid === undefined) this.#end(`could not start: ${message}`);
    });
    child.once("exit", (code, signal) =>
      this.#end(signal === null ? `exit code ${code}` : `signal ${signal}`),
    );
    watcher.onProcess(child.pid);
    this.#send(load);
  }

  compute(tokens: Uint32Array, file: string, onProgress: (computed: number) => void): Promise<number> {
    if (this.#gone || this.#job !== undefined)
      return Promise.reject(new EngineError("internal", "The prefill worker cannot be given a prompt now."));
    const id = this.#nextJob++;
    return new Promise((resolve, reject) => {
      this.#job = { id, onProgress, resolve, reject };
      this.#send({ type: "prefill", job: id, tokens, file });
    });
  }

  cancel(): void {
    if (this.#job !== undefined) this.#send({ type: "cancel", job: this.#job.id });
  }

  hold(): void {
    if (this.#held || this.#gone) return;
    this.#held = this.#child.kill("SIGSTOP");
  }

  go(): void {
    if (!this.#held) return;
    this.#held = false;
    this.#child.kill("SIGCONT");
  }

  close(): void {
    this.#gone = true;
    this.#job = undefined;
    this.#child.kill("SIGKILL");
  }

  #send(command: WorkerCommand): void {
    // With a callback a closed channel is reported there instead of thrown; `exit` tells the rest.
    this.#child.send(command, () => undefined);
  }

  #receive(event: WorkerEvent): void {
    switch (event.type) {
      case "ready":
        return this.#watcher.onReady();
      case "unfit":
        this.#end(event.reason);
        this.#child.kill("SIGKILL");
        return undefined;
      case "progress":
        if (this.#job?.id === event.job) this.#job.onProgress(event.tokens);
        return undefined;
      case "computed":
        return this.#settle(event.job)?.resolve(event.bytes);
      case "failed":
        return this.#settle(event.job)?.reject(new EngineError("decode_failed", event.reason));
    }
  }

  #settle(id: JobId): Job | undefined {
    const job = this.#job;
    if (job?.id !== id) return undefined;
    this.#job = undefined;
    return job;
  }

  #end(reason: string): void {
    this.#watcher.onProcess(undefined);
    if (this.#gone) return;
    this.#gone = true;
    this.#job?.reject(new EngineError("decode_failed", `The prefill worker is gone: ${reason}`));
    this.#job = undefined;
    this.#watcher.onGone(reason);
  }
}
