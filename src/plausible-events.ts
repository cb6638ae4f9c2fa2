/** Whether what an engine says may be believed: its form, and that it speaks of what it was given. */
import { answersCall, EventChecker } from "../engine/check-event.ts";
import type { EngineCommand, EngineEvent, ModelFacts, RequestId } from "../engine/protocol.ts";

/** Names of requests taken out of an engine, which may still speak of them for a step or two. */
const MOST_WITHDRAWN = 10_000;

/** What the engine has been given and not answered. */
export interface Entrusted {
  /** By their names in the engine. */
  readonly requests: ReadonlyMap<RequestId, { readonly tokens: readonly number[] }>;
  readonly calls: ReadonlyMap<number, { readonly command: EngineCommand; readonly sent: boolean }>;
}

/** For one engine after the other. */
export class PlausibleEvents {
  readonly #entrusted: Entrusted;
  readonly #withdrawn = new Set<RequestId>();
  #checker = new EventChecker();
  #contextTokens = 0;
  #loaded = false;

  constructor(entrusted: Entrusted) {
    this.#entrusted = entrusted;
  }

  /** Another engine speaks, of the same model or not loaded yet. */
  begin(): void {
    this.#withdrawn.clear();
    this.#loaded = false;
  }

  load({ vocabSize, contextTokens }: ModelFacts): void {
    this.#checker = new EventChecker(vocabSize);
    this.#contextTokens = contextTokens;
    this.#loaded = true;
  }

  /** The engine is told to leave a request. */
  withdraw(id: RequestId): void {
    this.#withdrawn.add(id);
    if (this.#withdrawn.size <= MOST_WITHDRAWN) return;
    const [oldest] = this.#withdrawn;
    if (oldest !== undefined) this.#withdrawn.delete(oldest);
  }

  has(event: EngineEvent): boolean {
    if (!this.#checker.accepts(event)) return false;
    if ("call" in event) {
      const held = this.#entrusted.calls.get(event.call);
      return held === undefined || (held.sent && answersCall(event, held.command));
    }
    switch (event.type) {
      case "accepted":
      case "failed":
        return this.#knows(event.id);
      case "step":
        return (
          event.outputs.every(({ id, tokens }) => this.#knows(id) && this.#hasRoom(id, tokens.length)) &&
          (event.moves ?? []).every(({ id }) => this.#knows(id))
        );
      case "load_progress":
      case "companion":
      case "device_wanted":
      case "device_freed":
      case "load_failed":
        return true;
      case "loaded":
        return !this.#loaded;
    }
  }

  #knows(id: RequestId): boolean {
    return this.#entrusted.requests.has(id) || this.#withdrawn.has(id);
  }

  #hasRoom(id: RequestId, tokens: number): boolean {
    const known = this.#entrusted.requests.get(id)?.tokens.length ?? 0;
    return known + tokens <= this.#contextTokens;
  }
}
