/** Lets so many through at a time, the others in the order in which they came. */
export class Gate {
  readonly #waiting: (() => void)[] = [];
  #free: number;
  #held = 0;

  /** @param width At least 1. */
  constructor(width: number) {
    this.#free = width;
  }

  /** How many had to wait so far. */
  get held(): number {
    return this.#held;
  }

  async pass<T>(inside: () => Promise<T>): Promise<T> {
    if (this.#free > 0) this.#free -= 1;
    else {
      this.#held += 1;
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
    try {
      return await inside();
    } finally {
      const next = this.#waiting.shift();
      if (next === undefined) this.#free += 1;
      else next();
    }
  }
}
