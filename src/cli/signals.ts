/** What SIGTERM, SIGINT and a crash ask of a server that runs. */
import type { Clock } from "../deps.ts";

/** npm hands on a signal that the terminal or a supervisor has sent to the server, too: so close together they are one. */
const ONE_SIGNAL_MS = 300;

/** The first signal asks for a drain, the second for a quick end. A crash asks for a drain, too. */
export class Signals {
  readonly first: Promise<"signal">;
  readonly #hurry = new AbortController();
  #drain: () => void = () => undefined;
  #asked = 0;
  #crashed = false;

  constructor(clock: Pick<Clock, "nowMs">) {
    this.first = new Promise((resolve) => (this.#drain = () => resolve("signal")));
    for (const signal of ["SIGTERM", "SIGINT"] as const) {
      let lastMs = -Infinity;
      process.on(signal, () => {
        const nowMs = clock.nowMs();
        const isEcho = nowMs - lastMs < ONE_SIGNAL_MS;
        lastMs = nowMs;
        if (!isEcho) this.#ask();
      });
    }
  }

  crash(): void {
    this.#crashed = true;
    if (this.#asked === 0) this.#ask();
  }

  #ask(): void {
    this.#asked += 1;
    if (this.#asked === 1) this.#drain();
    else this.#hurry.abort();
  }

  get crashed(): boolean {
    return this.#crashed;
  }

  get hurry(): AbortSignal {
    return this.#hurry.signal;
  }
}
