/**
 * Works off embeddings and rankings beside the generating requests, a bounded piece whenever it is given a turn.
 *
 * Owners and their jobs take turns at the end of each input, so that a small one does not wait for a large one.
 */
import { performance } from "node:perf_hooks";
import { EmbeddingTurns } from "./embedding-turns.ts";
import { EngineError } from "./errors.ts";
import { checkInputs, jobOf } from "./embedding-jobs.ts";
import type { Backend } from "./backend.ts";
import type { Job } from "./embedding-jobs.ts";
import type { Turn } from "./embedding-turns.ts";
import type { EmbedCommand, EngineEvent, RankCommand } from "./protocol.ts";
import { PriorityClass } from "./sharing.ts";
import type { FairnessConfig } from "./sharing.ts";

/** Of all waiting inputs together. */
const MOST_QUEUED_CHARS = 1 << 25;

interface Queued {
  readonly call: number;
  readonly job: Job;
  readonly chars: number;
  readonly turn: Turn;
}

export class EmbeddingQueue {
  readonly #backend: Backend;
  readonly #maxQueued: number;
  readonly #emit: (event: EngineEvent) => void;
  readonly #turns: EmbeddingTurns;
  /** By call, in the order of their last turns. */
  readonly #jobs = new Map<number, Queued>();
  /** Whose input is computed in part. */
  #kept: Queued | undefined;
  #chars = 0;
  #idleWaiters: (() => void)[] = [];

  constructor(
    backend: Backend,
    { maxQueued, fairness }: { readonly maxQueued: number; readonly fairness?: FairnessConfig | undefined },
    emit: (event: EngineEvent) => void,
  ) {
    this.#backend = backend;
    this.#maxQueued = maxQueued;
    this.#turns = new EmbeddingTurns(fairness, maxQueued);
    this.#emit = emit;
  }

  /**
   * @throws {EngineError} `queue_full`, `owner_queue_full`, both with `retryAfterMs`; `invalid_request` for too many inputs, or
   * a model without them.
   */
  add(command: EmbedCommand | RankCommand): void {
    const chars = checkInputs(command);
    if (command.type === "embed" && this.#backend.facts.embeddings === undefined)
      throw new EngineError("invalid_request", "This model gives no vectors.");
    const full = this.#jobs.size > this.#maxQueued || this.#chars + chars > MOST_QUEUED_CHARS;
    // Alone a call always fits.
    if (full && this.pending) {
      const details = { retryAfterMs: this.#turns.retryAfterMs(1, performance.now()) };
      throw new EngineError("queue_full", `${this.#jobs.size} calls are waiting already.`, details);
    }
    const { call, owner = "", priority = PriorityClass.normal } = command;
    const turn = this.#turns.add(owner, priority, performance.now());
    const job = jobOf(command, this.#backend, (tokens) => this.#turns.count(turn, tokens, performance.now()));
    this.#jobs.set(call, { call, job, chars, turn });
    this.#chars += chars;
  }

  /** Forgets the call, also while a piece of it is computed. */
  cancel(call: number): void {
    this.#remove(call, false);
    this.#notifyIdle();
  }

  get pending(): boolean {
    return this.#jobs.size > 0;
  }

  /** Computes one piece. Between native calls of others only. Never rejects. */
  async runPiece(): Promise<void> {
    const startMs = performance.now();
    const queued = this.#kept ?? this.#turns.next(this.#jobs.values(), startMs);
    if (queued === undefined) return;
    const { call, job, turn } = queued;
    this.#kept = undefined;
    try {
      const piece = await job.next().finally(() => this.#turns.charge(turn, performance.now() - startMs));
      if (!this.#jobs.has(call)) return;
      if (piece.done === true) this.#end(queued, piece.value, true);
      else if (piece.value === "yields") {
        turn.sinceMs = performance.now();
        this.#jobs.delete(call);
        this.#jobs.set(call, queued);
      } else this.#kept = queued;
    } catch (error) {
      if (!this.#jobs.has(call)) return;
      const code = error instanceof EngineError ? error.code : "internal";
      const message = error instanceof Error ? error.message : String(error);
      const details = error instanceof EngineError ? error.details : undefined;
      // What is refused for its owner's sake has had no place that now comes free.
      const had = code !== "owner_tokens_exceeded";
      this.#end(queued, { type: "call_failed", call, code, message, details }, had);
    }
  }

  /** Resolves when nothing is left to do. */
  idle(): Promise<void> {
    if (!this.pending) return Promise.resolve();
    return new Promise((resolve) => this.#idleWaiters.push(resolve));
  }

  #end({ call, turn }: Queued, event: EngineEvent, finished: boolean): void {
    this.#remove(call, finished);
    const { type } = event;
    // What its owner may ask for now, without this one.
    const allowance = this.#turns.allowanceOf(turn.owner.name, performance.now());
    this.#emit(type === "embedded" || type === "ranked" ? { ...event, allowance } : event);
    this.#notifyIdle();
  }

  #remove(call: number, finished: boolean): void {
    const queued = this.#jobs.get(call);
    if (queued === undefined) return;
    this.#jobs.delete(call);
    this.#chars -= queued.chars;
    this.#turns.remove(queued.turn, finished, performance.now());
    if (this.#kept === queued) this.#kept = undefined;
  }

  #notifyIdle(): void {
    if (this.pending) return;
    const waiters = this.#idleWaiters;
    this.#idleWaiters = [];
    for (const resolve of waiters) resolve();
  }
}
