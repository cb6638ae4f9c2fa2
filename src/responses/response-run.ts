/** A response that is being made: takes in its generation to the end and lets any number of readers follow. */
import type { Backlog } from "../backlog.ts";
import type { Allowance } from "../../engine/sharing.ts";
import type { Generation } from "../generate.ts";
import { servedOf } from "../generation-events.ts";
import type { GenerationEvent, Served } from "../generation-events.ts";
import { ApiError, internalError } from "../openai/api-error.ts";
import type { Item } from "../openai/responses/items.ts";
import type { EndEvent, OutputEvent, OutputReader } from "../openai/responses/output-events.ts";
import type { ResponseHead } from "../openai/responses/response-object.ts";
import type { ResponseRecord } from "./record.ts";

export interface RunOptions {
  readonly owner: string;
  readonly head: ResponseHead;
  readonly context: readonly Item[];
  readonly reader: OutputReader;
  /** Paths of schema keywords that the answer is not held to. */
  readonly relaxed: readonly string[];
  /** Whether somebody follows the stream, so that every piece is worth keeping by itself. */
  readonly streamed: boolean;
  readonly epochSeconds: () => number;
  /** Counts what waits for the first one who follows; undefined for a run that nobody may hold back. */
  readonly backlog: Backlog | undefined;
  /** What is left to whoever asked; absent where nobody counted. */
  readonly allowance?: Allowance | undefined;
  /** Ends the generation. */
  readonly abort: () => void;
  /** Before readers learn of the end: what they ask for next must find the response. */
  readonly onEnd: (end: EndEvent, error: unknown) => void;
}

/** What is kept for its readers is bounded by what a slot can hold. */
export class ResponseRun implements ResponseRecord {
  readonly owner: string;
  readonly head: ResponseHead;
  readonly context: readonly Item[];
  /** Resolves with the last event, after `onEnd`. */
  readonly ended: Promise<EndEvent>;
  readonly #options: RunOptions;
  readonly #log: OutputEvent[] = [];
  /** What was generated last. */
  #last: GenerationEvent | undefined;
  #end: EndEvent | undefined;
  #resolveEnd: (end: EndEvent) => void = () => {};
  #error: unknown;
  #changed: Promise<void>;
  #notify: () => void = () => {};
  #followed = false;

  constructor(generation: Pick<Generation, "listen" | "cancel">, options: RunOptions) {
    this.owner = options.owner;
    this.head = options.head;
    this.context = options.context;
    this.#options = options;
    this.ended = new Promise((resolve) => (this.#resolveEnd = resolve));
    this.#changed = this.#nextChange();
    // Not at once: whoever hears of the end needs the run that is being made here.
    queueMicrotask(() => this.#listen(generation));
  }

  get allowance(): Allowance | undefined {
    return this.#options.allowance;
  }

  get served(): Served {
    return this.#last === undefined ? {} : servedOf([this.#last], this.#last.usage.cachedTokens);
  }

  get relaxed(): readonly string[] {
    return this.#options.relaxed;
  }

  get log(): readonly OutputEvent[] {
    return this.#log;
  }

  /** What stopped it; undefined unless it failed. */
  get error(): unknown {
    return this.#error;
  }

  get running(): boolean {
    return this.#end === undefined;
  }

  /** Ends it at once as cancelled; does nothing to one that has ended. */
  cancel(): void {
    if (!this.running) return;
    this.#finish({ kind: "cancelled", at: this.#options.epochSeconds() });
    this.#options.abort();
  }

  /** Everything from the first event on, then what comes, to the end. */
  async *follow(): AsyncGenerator<OutputEvent, void, void> {
    const backlog = this.#followed ? undefined : this.#options.backlog;
    this.#followed = true;
    for (let next = 0; ; next++) {
      while (this.#log[next] === undefined) await this.#changed;
      const event = this.#log[next];
      if (event === undefined) return;
      backlog?.take();
      yield event;
      if (event === this.#end) return;
    }
  }

  #listen(generation: Pick<Generation, "listen" | "cancel">): void {
    generation.listen({
      onEvent: (event) => {
        if (!this.running) return generation.cancel();
        this.#last = event;
        try {
          for (const output of this.#options.reader.read(event)) this.#take(output);
        } catch (error) {
          this.#fail(error);
          generation.cancel();
        }
      },
      onEnd: (error) => {
        if (error !== undefined) this.#fail(error);
        // A generation that was aborted ends without a finish.
        else if (this.running) this.#finish({ kind: "cancelled", at: this.#options.epochSeconds() });
      },
    });
  }

  #fail(error: unknown): void {
    if (!this.running) return;
    // Nobody who is connected has to be told; whoever looks sees what has become of it.
    if (this.head.background && error instanceof ApiError && error.code === "request_cancelled")
      return this.#finish({ kind: "cancelled", at: this.#options.epochSeconds() });
    this.#error = error;
    const shown = error instanceof ApiError ? error : internalError();
    const { type, code, message, param } = shown.body.error;
    this.#finish({
      kind: "failed",
      error: { type, code, message, param },
      at: this.#options.epochSeconds(),
    });
  }

  #take(event: OutputEvent): void {
    if (event.kind === "end" || event.kind === "failed" || event.kind === "cancelled") {
      this.#finish(event);
      return;
    }
    const joined = this.#options.streamed ? undefined : joinedEvents(this.#log.at(-1), event);
    if (joined === undefined) this.#keep(event);
    else this.#log[this.#log.length - 1] = joined;
    this.#wake();
  }

  #finish(end: EndEvent): void {
    this.#end = end;
    this.#keep(end);
    this.#options.onEnd(end, this.#error);
    this.#resolveEnd(end);
    this.#wake();
  }

  #keep(event: OutputEvent): void {
    this.#log.push(event);
    this.#options.backlog?.add();
  }

  #wake(): void {
    const notify = this.#notify;
    this.#changed = this.#nextChange();
    notify();
  }

  #nextChange(): Promise<void> {
    return new Promise((resolve) => (this.#notify = resolve));
  }
}

/** Two pieces of the same kind as one; undefined for pieces that stay apart. */
function joinedEvents(last: OutputEvent | undefined, event: OutputEvent): OutputEvent | undefined {
  if (last?.kind === "text" && event.kind === "text") {
    const logprobs =
      last.logprobs === undefined ? {} : { logprobs: [...last.logprobs, ...(event.logprobs ?? [])] };
    return { kind: "text", text: last.text + event.text, ...logprobs };
  }
  if (last?.kind === "reasoning" && event.kind === "reasoning") {
    return { kind: "reasoning", text: last.text + event.text };
  }
  if (last?.kind === "arguments" && event.kind === "arguments") {
    return { kind: "arguments", text: last.text + event.text };
  }
  return undefined;
}
