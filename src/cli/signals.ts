/** What SIGTERM, SIGINT and a crash ask of a server that runs. */
import type { Clock } from "../deps.ts";

/** npm hands on a Ctrl-C that the terminal has sent to the server, too: so close together they are one. */
const ONE_CTRL_C_MS = 300;

/** The first signal asks for a drain, the second for a quick end. A crash asks for a drain, too. */
export class Signals {
  readonly first: Promise<"signal">;
  readonly #hurry = new AbortController();
  #drain: () => void = () => undefined;
  #asked = 0;
  #crashed = false;
  #interruptedMs = -Infinity;

  constructor(clock: Pick<Clock, "nowMs">) {
    this.first = new Promise((resolve) => (this.#drain = () => resolve("signal")));
    process.on("SIGTERM", () => this.#ask());
    process.on("SIGINT", () => this.#interrupt(clock.nowMs()));
  }

  crash(): void {
    this.#crashed = true;
    if (this.#asked === 0) this.#ask();
  }

  #interrupt(nowMs: number): void {
    const isEcho = nowMs - this.#interruptedMs < ONE_CTRL_C_MS;
    this.#interruptedMs = nowMs;
    if (!isEcho) this.#ask();
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
