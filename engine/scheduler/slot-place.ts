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
const ROUNDED = 1 - 1e-9;

export class Places {
  readonly #busy: readonly SlotId[];
  readonly #cost: CostModel;
  readonly #mayPlug: boolean;
  readonly #steps: number;
  /** A pass over the busy slots and one more, if they lay together. */
  readonly #togetherMs: number;
  readonly #busyMs: number;
  readonly #runs: readonly { readonly first: SlotId; readonly last: SlotId }[];

  /** @param busy Ascending. */
  constructor({ config, cost }: SchedulerState, busy: readonly SlotId[], { maxNew }: ScheduledRequest) {
    this.#busy = busy;
    this.#cost = cost;
    this.#mayPlug = mayPlug(config);
    this.#steps = Math.min(maxNew, MOST_STEPS);
    // They look at the same cells in whatever passes.
    this.#togetherMs = decodeCallMs(cost, [busy.length + 1], 0, 0);
    this.#runs = adjacentRuns(busy);
    this.#busyMs = this.#layoutMs(busy);
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
    const ms = this.#busyMs + this.#cost.decodeScale * this.#beyondMs(slot);
    return ROUNDED * Math.max(0, ms - this.#togetherMs) * this.#steps;
  }

  /** What a slot on either side of all the busy ones adds to their passes at least: it has its own, or makes the outermost wider. */
  #beyondMs(slot: SlotId): number {
    const first = this.#busy[0] ?? 0;
    const last = this.#busy.at(-1) ?? 0;
    if (slot >= first && slot <= last) return 0;
    let leastMs = this.#passMs(1);
    for (const run of this.#runs)
      leastMs = Math.min(
        leastMs,
        slot > last
          ? this.#passMs(slot - run.first + 1) - this.#passMs(last - run.first + 1)
          : this.#passMs(run.last - slot + 1) - this.#passMs(run.last - first + 1),
      );
    return leastMs;
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
