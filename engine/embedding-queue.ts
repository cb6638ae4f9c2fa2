/**
 * Works off embeddings and rankings beside the generating requests, a bounded piece whenever it is given a turn.
 *
 * Jobs take turns at the end of each input, so that a small one does not wait for a large one.
 */
import { EngineError } from "./errors.ts";
import { checkInputs, jobOf } from "./embedding-jobs.ts";
import type { Backend } from "./backend.ts";
import type { Job } from "./embedding-jobs.ts";
import type { EmbedCommand, EngineEvent, RankCommand } from "./protocol.ts";

/** Of all waiting inputs together. */
const MOST_QUEUED_CHARS = 1 << 25;

interface Queued {
  readonly job: Job;
  readonly chars: number;
}

export class EmbeddingQueue {
  readonly #backend: Backend;
  readonly #maxQueued: number;
  readonly #emit: (event: EngineEvent) => void;
  /** By call, in the order of their turns. */
  readonly #jobs = new Map<number, Queued>();
  #chars = 0;
  #idleWaiters: (() => void)[] = [];

  constructor(backend: Backend, maxQueued: number, emit: (event: EngineEvent) => void) {
    this.#backend = backend;
    this.#maxQueued = maxQueued;
    this.#emit = emit;
  }

  /** @throws {EngineError} `queue_full`; `invalid_request` for too many inputs, or a model without them. */
  add(command: EmbedCommand | RankCommand): void {
    const chars = checkInputs(command);
    if (command.type === "embed" && this.#backend.facts.embeddings === undefined)
      throw new EngineError("invalid_request", "This model gives no vectors.");
    const full = this.#jobs.size > this.#maxQueued || this.#chars + chars > MOST_QUEUED_CHARS;
    // Alone a call always fits.
    if (full && this.pending)
      throw new EngineError("queue_full", `${this.#jobs.size} calls are waiting already.`);
    this.#jobs.set(command.call, { job: jobOf(command, this.#backend), chars });
    this.#chars += chars;
  }

  /** Forgets the call, also while a piece of it is computed. */
  cancel(call: number): void {
    this.#remove(call);
    this.#notifyIdle();
  }

  get pending(): boolean {
    return this.#jobs.size > 0;
  }

  /** Computes one piece. Between native calls of others only. Never rejects. */
  async runPiece(): Promise<void> {
    const [next] = this.#jobs;
    if (next === undefined) return;
    const [call, queued] = next;
    try {
      const piece = await queued.job.next();
      if (!this.#jobs.has(call)) return;
      if (piece.done === true) this.#end(call, piece.value);
      else if (piece.value === "yields") {
        this.#jobs.delete(call);
        this.#jobs.set(call, queued);
      }
    } catch (error) {
      if (!this.#jobs.has(call)) return;
      const code = error instanceof EngineError ? error.code : "internal";
      const message = error instanceof Error ? error.message : String(error);
      const details = error instanceof EngineError ? error.details : undefined;
      this.#end(call, { type: "call_failed", call, code, message, details });
    }
  }

  /** Resolves when nothing is left to do. */
  idle(): Promise<void> {
    if (!this.pending) return Promise.resolve();
    return new Promise((resolve) => this.#idleWaiters.push(resolve));
  }

  #end(call: number, event: EngineEvent): void {
    this.#remove(call);
    this.#emit(event);
    this.#notifyIdle();
  }

  #remove(call: number): void {
    this.#chars -= this.#jobs.get(call)?.chars ?? 0;
    this.#jobs.delete(call);
  }

  #notifyIdle(): void {
    if (this.pending) return;
    const waiters = this.#idleWaiters;
    this.#idleWaiters = [];
    for (const resolve of waiters) resolve();
  }
}
