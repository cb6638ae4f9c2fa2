/**
 * Makes V8 collect native memory that it cannot see.
 *
 * The addon frees some objects only when the garbage collector finds them, and does not tell it how large they
 * are: to V8 a grammar of megabytes is a few bytes, and hundreds of them could wait for a collection.
 */
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

/** Collecting costs about 5 ms of the JavaScript thread, so much is let gather first. */
const MOST_GARBAGE_BYTES = 32 << 20;

export class NativeGarbage {
  #bytes = 0;
  readonly #collect: () => void;

  constructor(collect: () => void = collector()) {
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

function collector(): () => void {
  setFlagsFromString("--expose-gc");
  const collect: unknown = runInNewContext("gc");
  return typeof collect === "function" ? () => void collect() : () => undefined;
}
