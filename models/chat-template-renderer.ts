/** Owns the thread that renders chat templates: a bounded queue, a deadline per render, a new thread after a hang. */
import type { Worker } from "node:worker_threads";
import { TemplateError } from "./chat-template-error.ts";
import { startTemplateThread, TEMPLATE_HEAP_MB } from "./chat-template-thread.ts";
import type { RenderJob, RenderReply } from "./chat-template-worker.ts";

export interface TemplateRendererOptions {
  /** Time a render may run, in ms, its turn in the queue not counted. */
  readonly deadlineMs?: number;
  /** Renders that may wait. */
  readonly maxQueued?: number;
}

/** A long conversation renders in a few ms; this is for templates that never end. */
const DEADLINE_MS = 1000;

/** As many as requests may wait for a slot. */
const MAX_QUEUED = 256;

interface Waiting {
  readonly job: RenderJob;
  readonly resolve: (text: string) => void;
  readonly reject: (error: TemplateError) => void;
}

export class TemplateRenderer {
  readonly #deadlineMs: number;
  readonly #maxQueued: number;
  #worker: Worker | undefined;
  #ready = false;
  #queue: Waiting[] = [];
  #running: Waiting | undefined;
  #deadline: NodeJS.Timeout | undefined;
  #closed = false;

  constructor(options: TemplateRendererOptions = {}) {
    this.#deadlineMs = options.deadlineMs ?? DEADLINE_MS;
    this.#maxQueued = options.maxQueued ?? MAX_QUEUED;
  }

  /** @throws {TemplateError} Any code. */
  render(job: RenderJob): Promise<string> {
    return new Promise((resolve, reject) => {
      if (this.#closed) return reject(new TemplateError("template_failed", "The server is shutting down."));
      if (this.#queue.length >= this.#maxQueued) {
        return reject(new TemplateError("template_busy", "Too many prompts are waiting to be rendered."));
      }
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
    for (const waiting of open) {
      waiting.reject(new TemplateError("template_failed", "The server is shutting down."));
    }
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
    }, this.#deadlineMs);
    try {
      this.#worker.postMessage(waiting.job, []);
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      this.#settle()?.reject(new TemplateError("template_failed", `The messages cannot be sent: ${message}`));
      this.#next();
    }
  }

  #start(): Worker {
    const worker = startTemplateThread();
    this.#ready = false;
    worker.on("message", (reply: RenderReply) => {
      if (worker === this.#worker) this.#receive(reply);
    });
    worker.on("error", (error: NodeJS.ErrnoException) => this.#died(worker, error));
    worker.on("exit", () => this.#died(worker, undefined));
    return worker;
  }

  #receive(reply: RenderReply): void {
    if (reply.type === "ready") this.#ready = true;
    else {
      const waiting = this.#settle();
      if (reply.type === "rendered") waiting?.resolve(reply.text);
      else waiting?.reject(errorOf(reply));
    }
    this.#next();
  }

  #expire(waiting: Waiting): void {
    if (this.#running !== waiting) return;
    this.#settle();
    waiting.reject(
      new TemplateError(
        "template_timeout",
        `The model's chat template did not finish within ${this.#deadlineMs} ms.`,
      ),
    );
    const worker = this.#worker;
    this.#worker = undefined;
    void worker?.terminate();
    this.#next();
  }

  /** A thread that ended by itself takes along the render it ran, or the one it was started for. */
  #died(worker: Worker, error: NodeJS.ErrnoException | undefined): void {
    if (worker !== this.#worker) return;
    this.#worker = undefined;
    const waiting = this.#settle() ?? this.#queue.shift();
    waiting?.reject(
      error?.code === "ERR_WORKER_OUT_OF_MEMORY"
        ? new TemplateError(
            "template_too_large",
            `The model's chat template used more than ${TEMPLATE_HEAP_MB} MB.`,
          )
        : new TemplateError(
            "template_failed",
            `The template thread ended: ${error?.message ?? "no reason"}.`,
          ),
    );
    this.#next();
  }

  #settle(): Waiting | undefined {
    clearTimeout(this.#deadline);
    const waiting = this.#running;
    this.#running = undefined;
    return waiting;
  }
}

function errorOf(reply: Exclude<RenderReply, { type: "ready" | "rendered" }>): TemplateError {
  switch (reply.type) {
    case "rejected":
      return new TemplateError("template_rejected", reply.message);
    case "too_large":
      return new TemplateError(
        "template_too_large",
        `The model's chat template wrote more than ${reply.limit} characters.`,
      );
    case "failed":
      return new TemplateError("template_failed", `The model's chat template failed: ${reply.message}`);
  }
}
