/**
 * Makes V8 collect native memory that it cannot see.
 *
 * The addon frees some objects only when the garbage collector finds them, and does not tell it how large they
 * are: to V8 a grammar of megabytes is a few bytes, and hundreds of them could wait for a collection.
 */
import { garbageCollector } from "../collect-garbage.ts";

/** Collecting costs about 5 ms of the JavaScript thread, so much is let gather first. */
const MOST_GARBAGE_BYTES = 32 << 20;

export class NativeGarbage {
  #bytes = 0;
  readonly #collect: () => void;

  constructor(collect: () => void = garbageCollector()) {
    this.#collect = collect;
  }

  /** Tells that an object of about this size is no longer used by anybody. */
  add(bytes: number): void {
    this.#bytes += bytes;
    if (this.#bytes < MOST_GARBAGE_BYTES) return;
    this.#bytes = 0;
    this.#collect();
  }
}
