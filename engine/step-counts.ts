/** Counts of steps what their calls and outputs do not tell: the device's waits, cells that are lost or computed again, slots that come free. */
import type { RequestId } from "./protocol.ts";
import type { StepReport } from "./step-report.ts";
import { lostPrefixes, tokensAgain } from "./scheduler/step-effects.ts";
import type { LostPrefixes } from "./scheduler/step-effects.ts";
import type { PlannedCall, SchedulerState, StepPlan } from "./scheduler/types.ts";

type Counted = Pick<StepReport, "stepMs" | "gapMs" | "copies" | "lost" | "recomputed" | "freedMs">;

export class StepCounts {
  readonly #state: SchedulerState;
  /** Requests that wait for a prefix in the making, as of the last plan. */
  held: readonly RequestId[] = [];
  /** Since the last message. */
  #now: { -readonly [Field in keyof Counted]: Counted[Field] } = {};
  #lastCallMs: number | undefined;
  /** When those were cancelled that still hold a slot. */
  readonly #cancelledMs = new Map<RequestId, number>();

  constructor(state: SchedulerState) {
    this.#state = state;
  }

  /** Also of a plan that has nothing to compute, and is not begun. */
  planned(plan: StepPlan, nowMs: number): void {
    const { requests } = this.#state;
    this.held = plan.held;
    for (const id of plan.held) {
      const request = requests.get(id);
      if (request !== undefined) request.heldSinceMs ??= nowMs;
    }
  }

  /** The plan is about to begin. */
  begins(plan: StepPlan): void {
    if (plan.assignments.length === 0) return;
    const lost = lostPrefixes(this.#state, plan);
    if (lost !== undefined) this.#now.lost = added(this.#now.lost, lost);
    const copies = plan.boundary.filter(({ type }) => type === "copy").length;
    if (copies > 0) this.#now.copies = (this.#now.copies ?? 0) + copies;
  }

  callBegins(call: PlannedCall, startMs: number): void {
    if (this.#lastCallMs !== undefined) this.#now.gapMs = startMs - this.#lastCallMs;
    const again = tokensAgain(this.#state, call);
    if (again > 0) this.#now.recomputed = (this.#now.recomputed ?? 0) + again;
  }

  callEnded(endMs: number): void {
    this.#lastCallMs = endMs;
  }

  stepEnded(ms: number): void {
    this.#now.stepMs = ms;
  }

  /** The engine sleeps, leaves the device to somebody else, or has lost a call. */
  rests(): void {
    this.#lastCallMs = undefined;
  }

  cancelled(id: RequestId, nowMs: number): void {
    if (!this.#cancelledMs.has(id)) this.#cancelledMs.set(id, nowMs);
  }

  /** The request has left. */
  gone(id: RequestId, nowMs: number): void {
    const cancelledMs = this.#cancelledMs.get(id);
    if (cancelledMs === undefined) return;
    this.#cancelledMs.delete(id);
    this.#now.freedMs = [...(this.#now.freedMs ?? []), nowMs - cancelledMs];
  }

  take(): Counted {
    const counted = this.#now;
    this.#now = {};
    return counted;
  }
}

function added(first: LostPrefixes | undefined, second: LostPrefixes): LostPrefixes {
  const sum: Record<string, number> = { ...first };
  for (const [by, count] of Object.entries(second)) sum[by] = (sum[by] ?? 0) + count;
  return sum;
}
