/** Waiting for a loop, and its own: between rounds until a time, or until something has changed, also since the round began. */
export class LoopSleep {
  #changed = false;
  #wake: (() => void) | undefined;
  /** Ends a firm sleep. */
  #rouse: (() => void) | undefined;
  #idleWaiters: (() => void)[] = [];

  /** A round begins: it sees all that has changed until now. */
  beginRound(): void {
    this.#changed = false;
  }

  /** Something has changed. */
  wake(): void {
    this.#changed = true;
    this.#wake?.();
  }

  /** The same, and no sleep goes on, however firm. */
  rouse(): void {
    this.#rouse?.();
    this.wake();
  }

  /**
   * @param ms `Infinity`: until something changes.
   * @param firm Whether it goes on for all of that time, whatever changes, unless it is roused; absent is no.
   */
  sleep(ms: number, firm = false): Promise<void> {
    if (firm) return this.#sleepFirmly(ms);
    if (this.#changed) return Promise.resolve();
    return new Promise((resolve) => {
      const timer = ms < Infinity ? setTimeout(() => this.#wake?.(), Math.max(1, ms)) : undefined;
      this.#wake = () => {
        clearTimeout(timer);
        this.#wake = undefined;
        resolve();
      };
    });
  }

  #sleepFirmly(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(() => this.#rouse?.(), Math.max(1, ms));
      this.#rouse = () => {
        clearTimeout(timer);
        this.#rouse = undefined;
        resolve();
      };
    });
  }

  /** Resolves with the next `notifyIdle`. */
  untilIdle(): Promise<void> {
    return new Promise((resolve) => this.#idleWaiters.push(resolve));
  }

  /** The loop has nothing left to do. */
  notifyIdle(): void {
    const waiters = this.#idleWaiters;
    this.#idleWaiters = [];
    for (const resolve of waiters) resolve();
  }
}
