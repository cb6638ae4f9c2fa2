/**
 * What the place of a slot beside the busy ones costs over a request's life: nothing next to them, as long as those lie
 * together, and more the further they are scattered.
 */
import { decodeCallMs, decodePassMs } from "./cost-model.ts";
import { decodeLayout, mayPlug } from "./decode-layout.ts";
import { adjacentRuns } from "./passes.ts";
import type { CostModel, ScheduledRequest, SchedulerState, SlotId } from "./types.ts";

/** Steps over which a place is paid for, when the request's own length says less. */
const MOST_STEPS = 128;

/** What a place costs at least is worked out from other sums than what it costs. */
export const ROUNDED = 1 - 1e-9;

export class Places {
  readonly #busy: readonly SlotId[];
  readonly #cost: CostModel;
  readonly #mayPlug: boolean;
  readonly #steps: number;
  /** A pass over the busy slots and one more, if they lay together. */
  readonly #togetherMs: number;
  readonly #runs: readonly { readonly first: SlotId; readonly last: SlotId }[];
  /** The cheapest passes over the first so many runs, over those from so many on, and over all with the gap behind each closed. */
  readonly #before: number[] = [0];
  readonly #from: number[] = [];
  readonly #closed: number[] = [];

  /** @param busy Ascending. */
  constructor({ config, cost }: SchedulerState, busy: readonly SlotId[], { maxNew }: ScheduledRequest) {
    this.#busy = busy;
    this.#cost = cost;
    this.#mayPlug = mayPlug(config);
    this.#steps = Math.min(maxNew, MOST_STEPS);
    // They look at the same cells in whatever passes.
    this.#togetherMs = decodeCallMs(cost, [busy.length + 1], 0, 0);
    this.#runs = adjacentRuns(busy);
    if (this.#mayPlug) this.#coverRuns();
  }

  #coverRuns(): void {
    const { length } = this.#runs;
    for (let to = 0; to < length; to++) {
      let leastMs = Infinity;
      for (let from = 0; from <= to; from++)
        leastMs = Math.min(leastMs, (this.#before[from] ?? 0) + this.#spanMs(from, to));
      this.#before.push(leastMs);
    }
    this.#from[length] = 0;
    for (let from = length - 1; from >= 0; from--) {
      let leastMs = Infinity;
      for (let to = from; to < length; to++)
        leastMs = Math.min(leastMs, this.#spanMs(from, to) + (this.#from[to + 1] ?? 0));
      this.#from[from] = leastMs;
    }
    for (let from = 0; from < length; from++) {
      let leastMs = Infinity;
      for (let to = length - 1; to > from; to--) {
        const ms = (this.#before[from] ?? 0) + this.#spanMs(from, to) + (this.#from[to + 1] ?? 0);
        leastMs = Math.min(leastMs, ms);
        this.#closed[to - 1] = Math.min(this.#closed[to - 1] ?? Infinity, leastMs);
      }
    }
  }

  /** One pass over the runs from one to another. */
  #spanMs(from: number, to: number): number {
    return this.#passMs((this.#runs[to]?.last ?? 0) - (this.#runs[from]?.first ?? 0) + 1);
  }

  /** Of a slot that is not busy: decoding with it beside them, against decoding all of them in a single pass. Negative never. */
  ms(slot: SlotId): number {
    const ms = this.#layoutMs(this.#busy.toSpliced(placeOf(slot, this.#busy), 0, slot));
    return Math.max(0, ms - this.#togetherMs) * this.#steps;
  }

  /** The same is no less than that, which is found sooner. */
  leastMs(slot: SlotId): number {
    // Where gaps are left open, a slot in one of them makes one pass of two.
    if (!this.#mayPlug) return 0;
    const ms = this.#cost.decodeScale * this.#coveredMs(slot);
    return ROUNDED * Math.max(0, ms - this.#togetherMs) * this.#steps;
  }

  /** Of all passes over the busy slots and this one: it closes a gap, is at the end of a pass, or has its own. */
  #coveredMs(slot: SlotId): number {
    const behind = this.#runsBefore(slot);
    const [beforeMs, afterMs] = [this.#before[behind] ?? 0, this.#from[behind] ?? 0];
    // Next to a busy slot it is in the same pass.
    const joinsBefore = this.#runs[behind - 1]?.last === slot - 1;
    const joinsAfter = this.#runs[behind]?.first === slot + 1;
    let leastMs = this.#closed[behind - 1] ?? Infinity;
    if (!joinsBefore && !joinsAfter) leastMs = Math.min(leastMs, beforeMs + this.#passMs(1) + afterMs);
    const [first, end] = [joinsAfter ? behind : 0, joinsBefore ? behind : this.#runs.length];
    for (let run = first; run < behind; run++) {
      const width = slot - (this.#runs[run]?.first ?? 0) + 1;
      leastMs = Math.min(leastMs, (this.#before[run] ?? 0) + this.#passMs(width) + afterMs);
    }
    for (let run = behind; run < end; run++) {
      const width = (this.#runs[run]?.last ?? 0) - slot + 1;
      leastMs = Math.min(leastMs, beforeMs + this.#passMs(width) + (this.#from[run + 1] ?? 0));
    }
    return leastMs;
  }

  #runsBefore(slot: SlotId): number {
    let [from, to] = [0, this.#runs.length];
    while (from < to) {
      const middle = (from + to) >> 1;
      if ((this.#runs[middle]?.last ?? 0) < slot) from = middle + 1;
      else to = middle;
    }
    return from;
  }

  #layoutMs(slots: readonly SlotId[]): number {
    const { passWidths } = decodeLayout(
      slots,
      () => this.#mayPlug,
      (width) => this.#passMs(width),
    );
    return decodeCallMs(this.#cost, passWidths, 0, 0);
  }

  #passMs(width: number): number {
    return decodePassMs(this.#cost, width, 0);
  }
}

/** Where a slot belongs among others, which are ascending. */
export function placeOf(slot: SlotId, ascending: readonly SlotId[]): number {
  let [from, to] = [0, ascending.length];
  while (from < to) {
    const middle = (from + to) >> 1;
    if ((ascending[middle] ?? 0) < slot) from = middle + 1;
    else to = middle;
  }
  return from;
}
