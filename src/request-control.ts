/** What can still be changed of a choice while it is generated: paused, resumed, put in another class, stopped. */
import type { EngineClient } from "../engine/client.ts";
import type { RequestId } from "../engine/protocol.ts";
import { PriorityClass } from "../engine/sharing.ts";
import type { RequestChange } from "../engine/sharing.ts";

export class RequestControl {
  readonly #engine: EngineClient;
  /** What the engine calls the request now. */
  #engineId: RequestId;
  #priority: PriorityClass;
  #paused = false;
  #held = false;
  #stopped = false;
  #ended = false;
  readonly #onEnd: (() => void)[] = [];

  constructor(engine: EngineClient, engineId: RequestId, priority: PriorityClass = PriorityClass.normal) {
    this.#engine = engine;
    this.#engineId = engineId;
    this.#priority = priority;
  }

  get priority(): PriorityClass {
    return this.#priority;
  }

  /** Because somebody has asked for it, or because its client reads nothing. */
  get paused(): boolean {
    return this.#paused || this.#held;
  }

  /** Whether somebody has ended it who is not its client. */
  get stopped(): boolean {
    return this.#stopped;
  }

  change(change: RequestChange): void {
    this.#priority = change.priority ?? this.#priority;
    this.#paused = change.paused ?? this.#paused;
    if (this.#ended) return;
    const paused = change.paused === undefined ? {} : { paused: this.paused };
    this.#engine.control(this.#engineId, { ...change, ...paused });
  }

  /** Pauses a choice whose client is behind, whoever else has paused it. @returns Whether that is new. */
  hold(held: boolean): boolean {
    if (this.#ended || held === this.#held) return false;
    const before = this.paused;
    this.#held = held;
    if (this.paused !== before) this.#engine.control(this.#engineId, { paused: this.paused });
    return true;
  }

  /** The choice goes on as another request of the engine. @returns What has been changed of it. */
  continueAs(engineId: RequestId): Required<RequestChange> & { readonly id: RequestId } {
    this.#engineId = engineId;
    return { id: engineId, priority: this.#priority, paused: this.paused };
  }

  /** Frees the slot; does nothing to a choice that has ended. */
  cancel(): void {
    if (!this.#ended) this.#engine.cancel(this.#engineId);
  }

  /** Cancels it for its client to hear of. */
  stop(): void {
    this.#stopped = true;
    this.cancel();
  }

  /** Runs `callback` once, when the choice has ended; at once if it has. */
  onEnd(callback: () => void): void {
    if (this.#ended) callback();
    else this.#onEnd.push(callback);
  }

  end(): void {
    if (this.#ended) return;
    this.#ended = true;
    for (const callback of this.#onEnd) callback();
  }
}
