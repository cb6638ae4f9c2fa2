/**
 * Token prefixes in the order of their tokens, each with how much it has in common with the one before it: what a text has
 * in common with every one of them is found in one pass over the text and over them.
 */
import { commonPrefixLength } from "./prefix-reuse.ts";

interface Prefix {
  /** At least `length`. */
  readonly tokens: Uint32Array;
  readonly length: number;
  /** Those of different keys have nothing in common. */
  readonly cacheKey: string;
}

interface Line<P> {
  readonly prefixes: P[];
  /** Tokens that each has in common with the one before it; 0 for the first. */
  readonly shared: number[];
}

export class PrefixOrder<P extends Prefix> {
  readonly #lines = new Map<string, Line<P>>();
  #size = 0;

  get size(): number {
    return this.#size;
  }

  add(prefix: P): void {
    const { cacheKey, tokens, length } = prefix;
    const line = this.#lines.get(cacheKey) ?? { prefixes: [], shared: [] };
    this.#lines.set(cacheKey, line);
    let at = 0;
    let before = 0;
    let after = 0;
    for (const [i, other] of line.prefixes.entries()) {
      // As in `eachCommon`, as far as that goes.
      const shared = line.shared[i] ?? 0;
      let common = Math.min(before, shared);
      const end = shared === before ? Math.min(length, other.length) : 0;
      while (common < end && tokens[common] === other.tokens[common]) common++;
      const isAfter = common === other.length || (tokens[common] ?? 0) > (other.tokens[common] ?? 0);
      if (common === length || !isAfter) {
        after = common;
        break;
      }
      before = common;
      at += 1;
    }
    line.prefixes.splice(at, 0, prefix);
    line.shared.splice(at, 0, before);
    if (at + 1 < line.shared.length) line.shared[at + 1] = after;
    this.#size += 1;
  }

  /** @returns Whether it was there. */
  remove(prefix: P): boolean {
    const line = this.#lines.get(prefix.cacheKey);
    const at = line?.prefixes.indexOf(prefix) ?? -1;
    if (line === undefined || at < 0) return false;
    const shared = line.shared[at] ?? 0;
    line.prefixes.splice(at, 1);
    line.shared.splice(at, 1);
    if (at < line.shared.length) line.shared[at] = Math.min(shared, line.shared[at] ?? 0);
    if (line.prefixes.length === 0) this.#lines.delete(prefix.cacheKey);
    this.#size -= 1;
    return true;
  }

  clear(): void {
    this.#lines.clear();
    this.#size = 0;
  }

  /**
   * Visits each prefix of the key that begins like the text, and tells how many tokens they have in common, of the text's
   * first `most`.
   */
  eachCommon(
    cacheKey: string,
    tokens: Uint32Array,
    most: number,
    visit: (prefix: P, common: number) => void,
  ): void {
    const line = this.#lines.get(cacheKey);
    if (line === undefined) return;
    let common = 0;
    for (let i = 0; i < line.prefixes.length; i++) {
      const prefix = line.prefixes[i];
      const shared = line.shared[i] ?? 0;
      if (prefix === undefined) return;
      // What has more in common with one that goes another way goes that way, too.
      if (shared <= common) {
        common = shared;
        const end = Math.min(most, prefix.length);
        while (common < end && tokens[common] === prefix.tokens[common]) common++;
      }
      if (common > 0) visit(prefix, common);
    }
  }

  /** Each prefix of any key, and the length of the longest other one that it goes on from; 0 where there is none. */
  *nested(): Generator<readonly [P, number]> {
    for (const { prefixes, shared } of this.#lines.values()) {
      /** Those that the last one begins with, it included, of different lengths. */
      const open: P[] = [];
      for (const [i, prefix] of prefixes.entries()) {
        while ((open.at(-1)?.length ?? 0) > (shared[i] ?? 0)) open.pop();
        // The same once more.
        if (open.at(-1)?.length === prefix.length) open.pop();
        yield [prefix, open.at(-1)?.length ?? 0];
        open.push(prefix);
      }
    }
  }

  /** Whether all is where it belongs, which takes long. */
  isOrdered(): boolean {
    let count = 0;
    for (const { prefixes, shared } of this.#lines.values()) {
      count += prefixes.length;
      for (const [i, { tokens, length }] of prefixes.entries()) {
        const before = prefixes[i - 1];
        const most = Math.min(length, before?.length ?? 0);
        const common = before === undefined ? 0 : commonPrefixLength(before.tokens, tokens, most);
        if (shared[i] !== common) return false;
        if (common < most && (before?.tokens[common] ?? 0) > (tokens[common] ?? 0)) return false;
        if (common === most && (before?.length ?? 0) > length) return false;
      }
    }
    return count === this.#size;
  }
}
