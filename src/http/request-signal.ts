/**
 * One AbortSignal per request, fed by everything that can tell that the client has gone.
 *
 * The request's own signal is not enough: with several requests on one socket it reports only the one whose
 * answer is being written, so the socket's `close` is heard as well.
 */
import { setMaxListeners } from "node:events";
import type { HttpBindings } from "@hono/node-server";
import type { Socket } from "node:net";

const inFlight = new WeakMap<Socket, number>();

export class RequestScope {
  readonly #controller = new AbortController();
  readonly #onGone = (): void => this.abort();
  readonly #onEnd: (() => void)[] = [];
  readonly #source: AbortSignal;
  readonly #socket: Socket | undefined;
  #ended = false;
  #held = false;

  /** @param bindings The node request and response; undefined where the app runs without a socket. */
  constructor(source: AbortSignal, bindings: Partial<HttpBindings> | undefined) {
    this.#source = source;
    // Each choice of an answer listens; how many there are is bounded where they are asked for.
    setMaxListeners(0, this.#controller.signal);
    this.#socket = bindings?.incoming?.socket;
    if (source.aborted || this.#socket?.destroyed === true) this.abort();
    source.addEventListener("abort", this.#onGone, { once: true });
    if (this.#socket !== undefined) {
      // More requests may share the socket than the default of ten listeners; they are counted below.
      this.#socket.setMaxListeners(0);
      this.#socket.once("close", this.#onGone);
      inFlight.set(this.#socket, (inFlight.get(this.#socket) ?? 0) + 1);
    }
  }

  /** Aborts when the client has gone, or `abort` is called; never after `end`. */
  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** Unanswered requests of this socket, this one among them; 0 without a socket. */
  get onSocket(): number {
    return this.#socket === undefined ? 0 : (inFlight.get(this.#socket) ?? 0);
  }

  /** Whether the answer is still being made after its handler has returned. */
  get held(): boolean {
    return this.#held;
  }

  /** Keeps the scope open beyond its handler; whoever holds it must call `end`. */
  hold(): void {
    this.#held = true;
  }

  abort(): void {
    if (!this.#ended) this.#controller.abort();
  }

  /** Runs `callback` once, when the request is over. */
  onEnd(callback: () => void): void {
    this.#onEnd.push(callback);
  }

  /** Lets go of request and socket; further calls do nothing. */
  end(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#source.removeEventListener("abort", this.#onGone);
    if (this.#socket !== undefined) {
      this.#socket.off("close", this.#onGone);
      inFlight.set(this.#socket, (inFlight.get(this.#socket) ?? 1) - 1);
    }
    for (const callback of this.#onEnd) callback();
  }
}
