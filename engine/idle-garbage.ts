/**
 * Gives the memory of a burst back once there is nothing to do.
 *
 * V8 collects when somebody asks for memory, so that an idle process would keep the garbage of its busiest minute
 * until the next one comes.
 */
import { getHeapStatistics } from "node:v8";
import { garbageCollector } from "./collect-garbage.ts";

const TICK_MS = 250;
/** So many ticks without a request are no gap between two of them. */
const IDLE_TICKS = 2;
/** The first collection finds the garbage, and only the next one gives its pages back. */
const COLLECTIONS = 2;
/**
 * A collection stops this process for 20 to 40 ms; for less it is not worth a request's wait. It is also what an idle
 * process may keep of a burst, so it must be small beside the whole: 2 % of an engine with a small model.
 */
const WORTHWHILE_BYTES = 4 << 20;

export class IdleGarbage {
  readonly #isIdle: () => boolean;
  readonly #heapBytes: () => number;
  readonly #collect: () => void;
  #idleTicks = 0;
  #collections = 0;
  /** Of the heap when there was nothing more to collect. */
  #leastBytes: number;

  constructor(
    isIdle: () => boolean,
    // Not `process.memoryUsage`, which opens a file and throws where no more can be opened.
    heapBytes: () => number = () => getHeapStatistics().total_heap_size,
    collect: () => void = garbageCollector(),
  ) {
    this.#isIdle = isIdle;
    this.#heapBytes = heapBytes;
    this.#collect = collect;
    this.#leastBytes = heapBytes();
  }

  /** Until the process ends, which it does not hold up. */
  start(): void {
    setInterval(() => this.tick(), TICK_MS).unref();
  }

  /** For a timer to call. */
  tick(): void {
    if (!this.#isIdle()) {
      this.#idleTicks = 0;
      this.#collections = 0;
      return;
    }
    this.#idleTicks += 1;
    if (this.#idleTicks < IDLE_TICKS || this.#collections === COLLECTIONS) return;
    if (this.#collections === 0 && this.#heapBytes() < this.#leastBytes + WORTHWHILE_BYTES) return;
    this.#collect();
    this.#collections += 1;
    if (this.#collections === COLLECTIONS) this.#leastBytes = this.#heapBytes();
  }
}
