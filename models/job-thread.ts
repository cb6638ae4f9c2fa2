/** A worker thread that does one job at a time: a bounded queue, a deadline per job, a new thread after a hang. */
import type { Worker } from "node:worker_threads";
import { startThread } from "./start-thread.ts";

export interface JobThreadOptions {
  /** Time a job may run, in ms, its turn in the queue not counted. */
  readonly deadlineMs: number;
  /** Jobs that may wait. */
  readonly maxQueued: number;
}

export type JobErrorCode =
  /** Did not finish within its deadline. */
  | "timeout"
  | "out_of_memory"
  /** Too many jobs wait. */
  | "busy"
  /** The thread is no longer there for anybody. */
  | "closed"
  /** The job could not be sent, or the thread ended. */
  | "failed";

export class JobError extends Error {
  override readonly name = "JobError";
  readonly code: JobErrorCode;

  constructor(code: JobErrorCode, message: string) {
    super(message);
    this.code = code;
  }
}

/** What a thread sends: this once, when it can take its first job, then one answer to each. */
export interface ThreadReady {
  readonly type: "ready";
}

interface Waiting<Job, Reply> {
  readonly job: Job;
  readonly resolve: (reply: Reply) => void;
  readonly reject: (error: JobError) => void;
}

/** `Reply` is what the thread answers; none of its types is "ready". */
export class JobThread<Job, Reply extends { readonly type: string }> {
  readonly #module: string;
  readonly #options: JobThreadOptions;
  #worker: Worker | undefined;
  #ready = false;
  #queue: Waiting<Job, Reply>[] = [];
  #running: Waiting<Job, Reply> | undefined;
  #deadline: NodeJS.Timeout | undefined;
  #closed = false;

  /** @param module See `startThread`. */
  constructor(module: string, options: JobThreadOptions) {
    this.#module = module;
    this.#options = options;
  }

  /** @throws {JobError} Any code. */
  run(job: Job): Promise<Reply> {
    return new Promise((resolve, reject) => {
      if (this.#closed) return reject(shuttingDown());
      if (this.#queue.length >= this.#options.maxQueued)
        return reject(new JobError("busy", "Too many jobs are waiting."));
      this.#queue.push({ job, resolve, reject });
      this.#next();
    });
  }

  /** Fails what waits and ends the thread. */
  async close(): Promise<void> {
    this.#closed = true;
    const open = this.#running === undefined ? this.#queue : [this.#running, ...this.#queue];
    this.#queue = [];
    this.#running = undefined;
    clearTimeout(this.#deadline);
    for (const waiting of open) waiting.reject(shuttingDown());
    const worker = this.#worker;
    this.#worker = undefined;
    await worker?.terminate();
  }

  #next(): void {
    if (this.#running !== undefined || this.#closed) return;
    if (this.#queue.length === 0) {
      // An idle thread does not keep the process alive.
      this.#worker?.unref();
      return;
    }
    this.#worker ??= this.#start();
    this.#worker.ref();
    if (!this.#ready) return;
    const waiting = this.#queue.shift();
    if (waiting === undefined) return;
    this.#running = waiting;
    this.#deadline = setTimeout(() => {
      // An answer may lie in the port when this loop was late itself; the poll phase before the next turn reads it.
      setImmediate(() => this.#expire(waiting));
    }, this.#options.deadlineMs);
    try {
      this.#worker.postMessage(waiting.job, []);
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      this.#settle()?.reject(new JobError("failed", `The job cannot be sent: ${message}`));
      this.#next();
    }
  }

  #start(): Worker {
    const worker = startThread(this.#module);
    this.#ready = false;
    worker.on("message", (message: Reply | ThreadReady) => {
      if (worker === this.#worker) this.#receive(message);
    });
    worker.on("error", (error: NodeJS.ErrnoException) => this.#died(worker, error));
    worker.on("exit", () => this.#died(worker, undefined));
    return worker;
  }

  #receive(message: Reply | ThreadReady): void {
    if (isReady(message)) this.#ready = true;
    else this.#settle()?.resolve(message);
    this.#next();
  }

  #expire(waiting: Waiting<Job, Reply>): void {
    if (this.#running !== waiting) return;
    this.#settle();
    waiting.reject(new JobError("timeout", `It did not finish within ${this.#options.deadlineMs} ms.`));
    const worker = this.#worker;
    this.#worker = undefined;
    void worker?.terminate();
    this.#next();
  }

  /** A thread that ended by itself takes along the job it ran, or the one it was started for. */
  #died(worker: Worker, error: NodeJS.ErrnoException | undefined): void {
    if (worker !== this.#worker) return;
    this.#worker = undefined;
    const waiting = this.#settle() ?? this.#queue.shift();
    waiting?.reject(
      error?.code === "ERR_WORKER_OUT_OF_MEMORY"
        ? new JobError("out_of_memory", "It took too much memory.")
        : new JobError("failed", `The thread ended: ${error?.message ?? "no reason"}.`),
    );
    this.#next();
  }

  #settle(): Waiting<Job, Reply> | undefined {
    clearTimeout(this.#deadline);
    const waiting = this.#running;
    this.#running = undefined;
    return waiting;
  }
}

function isReady(message: { readonly type: string }): message is ThreadReady {
  return message.type === "ready";
}

function shuttingDown(): JobError {
  return new JobError("closed", "The server is shutting down.");
}
