/** What will happen, earliest first; of two at the same time the one that was added first. */

interface Entry<T> {
  readonly atMs: number;
  readonly order: number;
  readonly event: T;
}

export class EventHeap<T> {
  readonly #entries: Entry<T>[] = [];
  #added = 0;

  get nextMs(): number | undefined {
    return this.#entries[0]?.atMs;
  }

  push(atMs: number, event: T): void {
    const entry = { atMs, order: this.#added++, event };
    let at = this.#entries.length;
    for (;;) {
      const parent = (at - 1) >> 1;
      const above = this.#entries[parent];
      if (above === undefined || !before(entry, above)) break;
      this.#entries[at] = above;
      at = parent;
    }
    this.#entries[at] = entry;
  }

  /** The earliest event if it happens at `nowMs` or before. */
  popUntil(nowMs: number): T | undefined {
    const first = this.#entries[0];
    if (first === undefined || first.atMs > nowMs) return undefined;
    const last = this.#entries.pop();
    if (last !== undefined && this.#entries.length > 0) this.#sink(last);
    return first.event;
  }

  #sink(entry: Entry<T>): void {
    let at = 0;
    for (;;) {
      const [left, right] = [this.#entries[2 * at + 1], this.#entries[2 * at + 2]];
      if (left === undefined) break;
      const rightFirst = right !== undefined && before(right, left);
      const child = rightFirst ? right : left;
      if (!before(child, entry)) break;
      this.#entries[at] = child;
      at = 2 * at + (rightFirst ? 2 : 1);
    }
    this.#entries[at] = entry;
  }
}

function before<T>(a: Entry<T>, b: Entry<T>): boolean {
  return a.atMs < b.atMs || (a.atMs === b.atMs && a.order < b.order);
}
