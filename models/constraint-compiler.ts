/** Compiles constraints in a thread of their own, and remembers them: agents send the same tools with every request. */
import { createHash } from "node:crypto";
import type { CompileJob, CompileReply } from "./constraint-worker.ts";
import { JobError, JobThread } from "./job-thread.ts";
import type { JobThreadOptions } from "./job-thread.ts";
import { ConstraintError, fieldOf, writeConstraint } from "./output-constraint.ts";
import type { CompiledConstraint, OutputConstraint } from "./output-constraint.ts";

/** Compiled constraints kept for requests that ask for the same; together at most so many characters. */
const MAX_CACHED = 64;
const MAX_CACHED_CHARACTERS = 4_000_000;

/** The largest schemas that are taken compile in half a second on a small machine. */
const DEADLINE_MS = 2000;

/** As many as requests may wait for a slot. */
const MAX_QUEUED = 256;

export class ConstraintCompiler {
  readonly #thread: JobThread<CompileJob, CompileReply>;
  /** The least recently used first. */
  readonly #compiled = new Map<string, CompiledConstraint>();
  /** What is being compiled, for those who ask for the same meanwhile. */
  readonly #pending = new Map<string, Promise<CompiledConstraint>>();
  #characters = 0;

  constructor({ deadlineMs = DEADLINE_MS, maxQueued = MAX_QUEUED }: Partial<JobThreadOptions> = {}) {
    this.#thread = new JobThread("constraint-worker", { deadlineMs, maxQueued });
  }

  /**
   * @throws {ConstraintError} For what cannot be held, and for what takes too long to find out.
   * @throws {JobError} `busy`, `closed`, `failed`.
   */
  async compile(constraint: OutputConstraint): Promise<CompiledConstraint> {
    const text = writeConstraint(constraint);
    const key = createHash("sha256").update(text).digest("base64");
    const known = this.#compiled.get(key);
    if (known !== undefined) {
      this.#keep(key, known);
      return known;
    }
    const pending = this.#pending.get(key) ?? this.#run(key, text, constraint);
    this.#pending.set(key, pending);
    return pending;
  }

  /** Fails what waits and ends the thread. */
  close(): Promise<void> {
    return this.#thread.close();
  }

  async #run(key: string, text: string, constraint: OutputConstraint): Promise<CompiledConstraint> {
    try {
      const reply = await this.#thread.run(text);
      switch (reply.type) {
        case "compiled":
          this.#keep(key, reply.compiled);
          return reply.compiled;
        case "refused":
          throw new ConstraintError(reply.message, reply.param, reply.tool);
        case "failed":
          throw new JobError("failed", reply.message);
      }
    } catch (error) {
      const tooMuch =
        error instanceof JobError && (error.code === "timeout" || error.code === "out_of_memory");
      throw tooMuch ? new ConstraintError("it is too complex.", fieldOf(constraint)) : error;
    } finally {
      this.#pending.delete(key);
    }
  }

  #keep(key: string, compiled: CompiledConstraint): void {
    if (this.#compiled.delete(key)) this.#characters -= sizeOf(compiled);
    this.#compiled.set(key, compiled);
    this.#characters += sizeOf(compiled);
    for (const [oldest, value] of this.#compiled) {
      if (this.#compiled.size <= MAX_CACHED && this.#characters <= MAX_CACHED_CHARACTERS) break;
      this.#compiled.delete(oldest);
      this.#characters -= sizeOf(value);
    }
  }
}

function sizeOf({ grammar, relaxed }: CompiledConstraint): number {
  return relaxed.reduce((sum, path) => sum + path.length, grammar.length);
}
