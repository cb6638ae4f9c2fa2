/** Finds clients that have stopped reading, so that what waits for them does not wait for ever. */

/** What a socket says of its sending. */
export interface SendProgress {
  /** Bytes given to the socket so far. */
  readonly bytesWritten: number;
  /** Bytes of them that the system has not taken yet. */
  readonly writableLength: number;
}

interface Sending {
  readonly taken: number;
  readonly stalledMs: number;
}

export class StalledWrites<S extends SendProgress & object> {
  readonly #limitMs: number;
  readonly #sendings = new WeakMap<S, Sending>();

  /** @param limitMs Time without progress, while something waits to be sent, that is not allowed. */
  constructor(limitMs: number) {
    this.#limitMs = limitMs;
  }

  /**
   * Call it every `passedMs`.
   * @returns The sockets that have stalled for longer than the limit.
   */
  tick(sockets: Iterable<S>, passedMs: number): S[] {
    const stalled: S[] = [];
    for (const socket of sockets) {
      const taken = socket.bytesWritten - socket.writableLength;
      const before = this.#sendings.get(socket);
      const moved = socket.writableLength === 0 || before?.taken !== taken;
      const stalledMs = moved ? 0 : before.stalledMs + passedMs;
      this.#sendings.set(socket, { taken, stalledMs });
      if (stalledMs > this.#limitMs) stalled.push(socket);
    }
    return stalled;
  }
}
