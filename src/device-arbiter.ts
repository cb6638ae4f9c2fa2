/**
 * Which of several engines computes on a device that only one can use at a time: stride scheduling on measured time.
 *
 * Each has a counter of the time that it has had the device while others wanted it, over its weight. The least one goes
 * next, so that whoever waits has its turn before anybody else is further ahead than by one turn. Who is busy alone keeps
 * the device and is charged nothing; who comes back has saved nothing up. No clock: callers say what time it is.
 */

/**
 * A turn is at least so long where there is something to compute: passing the device on takes some milliseconds, which is
 * longer than a step of a very small model, and other streams wait no longer for this than a reader can see.
 */
const LEAST_TURN_MS = 10;

/** One engine's place. */
export interface Seat {
  /** Above 0: a seat has the device for so many times as long as one of weight 1. */
  readonly weight: number;
  /** It may compute: for so many ms, and to the end of the native call that runs then; `Infinity`: until it is recalled. */
  readonly grant: (forMs: number) => void;
  /** The same for who has it; `Infinity`: those who wanted it are gone. */
  readonly recall: (afterMs: number) => void;
}

export class DeviceArbiter {
  /** Time over weight, of each seat that has ever had a turn, in ms. */
  readonly #served = new Map<Seat, number>();
  /** The first one has waited for longest. */
  #waiting: Seat[] = [];
  #holder: Seat | undefined;
  /** Since when the holder's time is charged; undefined while nobody waits. */
  #chargedSinceMs: number | undefined;
  /** Counter of the last one to get the device: who comes starts there at least. */
  #virtualMs = 0;

  get holder(): Seat | undefined {
    return this.#holder;
  }

  isWaiting(seat: Seat): boolean {
    return this.#waiting.includes(seat);
  }

  /** The seat asks for a turn; does nothing where it has asked, or has the device. */
  want(seat: Seat, nowMs: number): void {
    if (this.#holder === seat || this.isWaiting(seat)) return;
    this.#served.set(seat, Math.max(this.#servedMs(seat), this.#virtualMs));
    this.#waiting.push(seat);
    const holder = this.#holder;
    if (holder === undefined) return this.#next(nowMs);
    if (this.#chargedSinceMs !== undefined) return;
    this.#chargedSinceMs = nowMs;
    holder.recall(this.#headStartMs(holder));
  }

  /**
   * The seat's turn has ended; does nothing where it had none.
   * @param again Whether it asks for the next one.
   */
  free(seat: Seat, again: boolean, nowMs: number): void {
    if (this.#holder !== seat) return;
    this.#charge(seat, nowMs);
    this.#holder = undefined;
    if (again) this.#waiting.push(seat);
    this.#next(nowMs);
  }

  /** The seat's engine is gone. */
  leave(seat: Seat, nowMs: number): void {
    this.#waiting = this.#waiting.filter((other) => other !== seat);
    this.free(seat, false, nowMs);
    this.#served.delete(seat);
    const holder = this.#holder;
    if (holder === undefined || this.#chargedSinceMs === undefined || this.#waiting.length > 0) return;
    this.#charge(holder, nowMs);
    holder.recall(Infinity);
  }

  /** Counts what the holder has had the device for while others wanted it. */
  #charge(holder: Seat, nowMs: number): void {
    const chargedMs = nowMs - (this.#chargedSinceMs ?? nowMs);
    this.#served.set(holder, this.#servedMs(holder) + Math.max(0, chargedMs) / holder.weight);
    this.#chargedSinceMs = undefined;
  }

  #servedMs(seat: Seat): number {
    return this.#served.get(seat) ?? 0;
  }

  #leastServed(): Seat | undefined {
    let least: Seat | undefined;
    for (const seat of this.#waiting)
      if (least === undefined || this.#servedMs(seat) < this.#servedMs(least)) least = seat;
    return least;
  }

  /** How long a seat can have the device until it has had as much as the first of those who wait, in ms. */
  #headStartMs(seat: Seat): number {
    const next = this.#leastServed();
    if (next === undefined) return Infinity;
    return Math.max(0, this.#servedMs(next) - this.#servedMs(seat)) * seat.weight;
  }

  #next(nowMs: number): void {
    const next = this.#leastServed();
    if (next === undefined) return;
    this.#waiting.splice(this.#waiting.indexOf(next), 1);
    this.#holder = next;
    this.#virtualMs = Math.max(this.#virtualMs, this.#servedMs(next));
    this.#chargedSinceMs = this.#waiting.length > 0 ? nowMs : undefined;
    next.grant(Math.max(LEAST_TURN_MS, this.#headStartMs(next)));
  }
}
