/**
 * Things in an order that changes: a binary heap in which everything knows its place, so that whatever moves, leaves
 * or is looked at costs its depth and not the number of things.
 */
export class OrderedHeap<T> {
  readonly #items: T[] = [];
  readonly #places = new Map<T, number>();
  readonly #goesBefore: (a: T, b: T) => boolean;

  /** @param goesBefore A strict order; what it looks at changes only together with a call of `place`. */
  constructor(goesBefore: (a: T, b: T) => boolean) {
    this.#goesBefore = goesBefore;
  }

  get size(): number {
    return this.#items.length;
  }

  get first(): T | undefined {
    return this.#items[0];
  }

  /** Takes it in, or moves it to where it belongs now. */
  place(item: T): void {
    // Most servers have one owner, who is placed anew with each of its tokens.
    if (this.#items.length === 1 && this.#items[0] === item) return;
    let index = this.#places.get(item);
    if (index === undefined) {
      index = this.#items.length;
      this.#put(index, item);
    }
    this.#siftDown(this.#siftUp(index));
  }

  /** Does nothing for what is not in it. */
  remove(item: T): void {
    const index = this.#places.get(item);
    if (index === undefined) return;
    this.#places.delete(item);
    const last = this.#items.pop();
    if (last === undefined || last === item) return;
    this.#put(index, last);
    this.#siftDown(this.#siftUp(index));
  }

  /** In order, while nothing changes: the first k cost k^2 comparisons at most, however many there are. */
  *inOrder(): Generator<T, void> {
    const frontier = this.#items.length > 0 ? [0] : [];
    while (frontier.length > 0) {
      let best = 0;
      for (let i = 1; i < frontier.length; i++)
        if (this.#before(frontier[i] ?? 0, frontier[best] ?? 0)) best = i;
      const [index = 0] = frontier.splice(best, 1);
      for (const child of [2 * index + 1, 2 * index + 2])
        if (child < this.#items.length) frontier.push(child);
      const item = this.#items[index];
      if (item !== undefined) yield item;
    }
  }

  /** Whether everything is where it belongs: looks at all of it. */
  isOrdered(): boolean {
    return this.#items.every((item, i) => {
      return this.#places.get(item) === i && (i === 0 || !this.#before(i, (i - 1) >> 1));
    });
  }

  #before(a: number, b: number): boolean {
    const [x, y] = [this.#items[a], this.#items[b]];
    return x !== undefined && y !== undefined && this.#goesBefore(x, y);
  }

  /** @returns Where it has come to. */
  #siftUp(from: number): number {
    let index = from;
    while (index > 0 && this.#before(index, (index - 1) >> 1)) index = this.#swap(index, (index - 1) >> 1);
    return index;
  }

  #siftDown(from: number): void {
    for (let index = from; ;) {
      const left = 2 * index + 1;
      const child = this.#before(left + 1, left) ? left + 1 : left;
      if (!this.#before(child, index)) return;
      index = this.#swap(index, child);
    }
  }

  #swap(a: number, b: number): number {
    const [x, y] = [this.#items[a], this.#items[b]];
    if (x !== undefined && y !== undefined) {
      this.#put(a, y);
      this.#put(b, x);
    }
    return b;
  }

  #put(index: number, item: T): void {
    this.#items[index] = item;
    this.#places.set(item, index);
  }
}
