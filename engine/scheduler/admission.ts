/**
 * Who of the waiting requests gets a slot in this step, and which cells it starts from.
 *
 * In the order of `WaitingOrder`, with two exceptions: of one owner and class a request whose prefix is there goes first
 * (`prefix-first.ts`), and a request whose prompt begins like one that is being computed
 * right now waits for that prefix and copies it (`holds.ts`). The wait costs it next to nothing, because prompts are computed one
 * at a time, and its slot is kept free for it. Without a free slot, a running request may have to give up its own.
 */
import { CheckpointPlan, isStop } from "./checkpoint-plan.ts";
import { chooseEviction, chooseOwnExchange } from "./eviction.ts";
import type { Exchange, ExchangeView } from "./eviction.ts";
import { Holds } from "./holds.ts";
import { KeepingTime } from "./keeping-time.ts";
import { bestPrefix, mayBePassed, MOST_AHEAD } from "./prefix-first.ts";
import { classOf } from "./reserve.ts";
import { followersOf, keptFor } from "./returns.ts";
import type { KeptFor } from "./returns.ts";
import { chooseSlot } from "./slot-choice.ts";
import type { SlotChoice } from "./slot-choice.ts";
import { placeOf } from "./slot-place.ts";
import { SpillPlan } from "./spill-plan.ts";
import { WaitingOrder } from "./waiting-order.ts";
import type { RequestId } from "../protocol.ts";
import type {
  Assignment,
  BoundaryOperation,
  Eviction,
  Hold,
  OwnerState,
  ScheduledRequest,
  SchedulerState,
  SlotId,
  SpillId,
  StepPlan,
} from "./types.ts";

/** A request that holds a slot in this step, at the length it has when the step begins. */
export interface Running {
  readonly request: ScheduledRequest;
  readonly slot: SlotId;
  readonly length: number;
}

export function runningRequests(state: SchedulerState): Running[] {
  const running: Running[] = [];
  for (const { id, holder: request, length } of state.slots)
    if (request !== undefined && !request.cancelled) running.push({ request, slot: id, length });
  return running;
}

interface Admission extends Pick<
  StepPlan,
  "evictions" | "assignments" | "held" | "kept" | "passedOver" | "branches" | "boundary" | "keepingMs"
> {
  /** Owners for whom a slot is kept, whatever they ask. */
  readonly expected: ReadonlySet<string>;
  readonly holds: readonly Hold[];
  /** With which classes prompts are computed that others wait for. */
  readonly lent: ReadonlyMap<RequestId, number>;
}

const NO_ADMISSION: Admission = {
  evictions: [],
  assignments: [],
  held: [],
  kept: [],
  passedOver: [],
  branches: [],
  boundary: [],
  keepingMs: 0,
  expected: new Set(),
  holds: [],
  lent: new Map(),
};

/** Bounds the work of one plan, since each exchange looks at every slot. */
const MOST_EVICTIONS_PER_STEP = 4;

/**
 * Gives slots to waiting requests; adds them to `running`, and takes those out that lose theirs. Takes checkpoints of those
 * who run already.
 */
export function admit(state: SchedulerState, running: Running[], nowMs: number, why: string[]): Admission {
  if (state.queue.size === 0) return admitNobody(state, running, nowMs, why);
  if (mustWait(state, running)) return NO_ADMISSION;
  const round = new AdmissionRound(state, running, nowMs, why);
  while (round.hasFree && round.admitNext()) continue;
  if (round.needsExchange && mayExchange(state, running))
    while (round.needsExchange && round.evictions.length < MOST_EVICTIONS_PER_STEP && round.exchangeNext())
      continue;
  if (running.some(hasAllItMay))
    while (round.evictions.length < MOST_EVICTIONS_PER_STEP && round.exchangeOwn()) continue;
  // A long prompt that lost its slot to a short one leaves room for another.
  if (state.config.reserve !== undefined && round.evictions.length > 0)
    while (round.hasFree && round.admitNext()) continue;
  return round.result;
}

/** Of an owner whose other requests cannot have a slot, however many are free. */
function hasAllItMay({ request: { owner } }: Running): boolean {
  return owner.running >= owner.policy.maxRunning && owner.waiting > 0;
}

/** Whether no slot is free and none will be, in which case nothing is to be kept either. */
function mustWait(state: SchedulerState, running: readonly Running[]): boolean {
  const isFull = running.length === state.slots.length;
  return isFull && state.checkpoints === undefined && !mayExchange(state, running);
}

/** Whether anybody who runs could lose a slot to who waits, as far as that is seen at once. */
function mayExchange({ lines, busyOwners }: SchedulerState, running: readonly Running[]): boolean {
  if (busyOwners.size > 1) return true;
  let highest = Infinity;
  lines.forEach(({ waiting }, line) => (highest = waiting > 0 ? Math.min(highest, classOf(line)) : highest));
  return running.some(({ request }) => request.paused || request.priority > highest);
}

function admitNobody(
  state: SchedulerState,
  running: readonly Running[],
  nowMs: number,
  why: string[],
): Admission {
  const { prefillChunk } = state.config;
  if (state.checkpoints === undefined) return NO_ADMISSION;
  if (!running.some(({ request, length }) => isStop(request, length, prefillChunk))) return NO_ADMISSION;
  const time = new KeepingTime(state);
  const checkpoints = CheckpointPlan.of(state, nowMs, time);
  if (checkpoints === undefined) return NO_ADMISSION;
  const boundary = takeCheckpoints(checkpoints, running, why);
  return { ...NO_ADMISSION, boundary, keepingMs: time.plannedMs };
}

function takeCheckpoints(
  checkpoints: CheckpointPlan,
  running: readonly Running[],
  why: string[],
): BoundaryOperation[] {
  const taken = checkpoints.take(running);
  for (const operation of taken) {
    if (operation.type !== "checkpoint") continue;
    const { slot, checkpoint } = operation;
    why.push(`checkpoint ${checkpoint.id} of slot ${slot} at ${checkpoint.length}`);
  }
  return taken;
}

class AdmissionRound {
  readonly evictions: Eviction[] = [];
  readonly #state: SchedulerState;
  readonly #running: Running[];
  readonly #nowMs: number;
  readonly #why: string[];
  readonly #order: WaitingOrder;
  readonly #assignments: Assignment[] = [];
  readonly #held: RequestId[] = [];
  readonly #passedOver = new Set<RequestId>();
  readonly #copies: BoundaryOperation[] = [];
  readonly #rewinds: BoundaryOperation[] = [];
  readonly #cuts: BoundaryOperation[] = [];
  readonly #overwritten = new Set<SlotId>();
  readonly #keepingTime: KeepingTime;
  readonly #spill: SpillPlan | undefined;
  readonly #checkpoints: CheckpointPlan | undefined;
  readonly #holds: Holds;
  /** Owners whose own exchange has to wait for a prefix in the making. */
  readonly #stuck = new Set<OwnerState>();
  /** By the file that is read for them. */
  readonly #restored = new Map<SpillId, ScheduledRequest>();
  /** Idle slots, by for whom they are kept. */
  readonly #kept: ReadonlyMap<SlotId, KeptFor>;
  #busy: SlotId[];

  constructor(state: SchedulerState, running: Running[], nowMs: number, why: string[]) {
    this.#state = state;
    this.#running = running;
    this.#nowMs = nowMs;
    this.#why = why;
    this.#order = new WaitingOrder(state, nowMs);
    const simple = state.config.slotChoice === "oldest";
    this.#keepingTime = new KeepingTime(state);
    this.#spill = simple ? undefined : SpillPlan.of(state, nowMs, this.#keepingTime);
    this.#checkpoints = simple ? undefined : CheckpointPlan.of(state, nowMs, this.#keepingTime);
    this.#holds = new Holds(state, nowMs, this.#checkpoints);
    this.#busy = [];
    for (const { id, owner } of state.slots) if (owner !== undefined) this.#busy.push(id);
    this.#kept = this.#keptSlots();
  }

  get hasFree(): boolean {
    return this.#busy.length + this.#held.length < this.#state.slots.length;
  }

  /** Whether somebody who waits can have a slot of another one alone: none is free, or none of those that long prompts may have. */
  get needsExchange(): boolean {
    return !this.hasFree || (this.#order.able === "short" && this.#state.queue.size > 0);
  }

  /** Called last. */
  get result(): Admission {
    const kept = [...this.#kept].filter(([slot]) => !this.#busy.includes(slot));
    const expected = kept.flatMap(([slot, reason]) =>
      reason === "owner" ? (this.#state.slots[slot]?.ended?.tenant ?? []) : [],
    );
    const taken = this.#checkpoints ? takeCheckpoints(this.#checkpoints, this.#running, this.#why) : [];
    return {
      evictions: this.evictions,
      assignments: this.#assignments,
      held: this.#held,
      kept: kept.map(([slot]) => slot),
      expected: new Set(expected),
      holds: this.#holds.begun,
      lent: this.#holds.lent,
      passedOver: [...this.#passedOver],
      branches: this.#checkpoints?.branches ?? [],
      // Copies before cuts: the cells that one of them takes may be cut for another request.
      boundary: [
        ...taken,
        ...(this.#spill?.operations ?? []),
        ...this.#copies,
        ...this.#rewinds,
        ...this.#cuts,
      ],
      keepingMs: this.#keepingTime.plannedMs,
    };
  }

  #keptSlots(): Map<SlotId, KeptFor> {
    const state = this.#state;
    const kept = new Map<SlotId, KeptFor>();
    const next = state.owners.get(this.#order.next()?.tenant ?? "");
    if (next === undefined || state.config.keepSlots === false) return kept;
    // Nothing is gained where nothing else computes, nor where there is room for everybody.
    const computes = this.#running.some(({ request }) => !request.paused);
    if (!computes || state.queue.size < state.slots.length - this.#busy.length) return kept;
    for (const slot of state.slots) {
      const reason = keptFor(state, slot, next, this.#nowMs);
      if (reason !== undefined) kept.set(slot.id, reason);
    }
    return kept;
  }

  /** Gives a free slot to the next request, or keeps one for it. @returns False when nobody is next. */
  admitNext(): boolean {
    const [request, passed] = this.#next();
    const choice = request && this.#choose(request, this.#busy);
    if (request === undefined || choice === undefined) return false;
    if (this.#canWaitForPin(choice)) {
      this.#held.push(request.id);
      this.#order.take(request, request.prompt.length);
      this.#why.push(`hold ${request.id} for a slot that its pinned prefix can be read into`);
      return true;
    }
    // What is read for another request can be copied in the next step.
    const made = this.#holds.prefixFor(request, choice, this.#running);
    const leader = (choice.restore && this.#restored.get(choice.restore.prefix.id)) ?? made?.leader;
    if (leader === undefined) {
      for (const { id } of passed) this.#passedOver.add(id);
      if (passed.length > 0) this.#why.push(`${request.id} before ${passed[0]?.id} for its prefix`);
      this.#assign(request, choice);
    } else {
      this.#held.push(request.id);
      this.#order.take(request, request.prompt.length);
      if (made !== undefined && leader === made.leader) {
        this.#checkpoints?.stopAt(leader, made.tokens);
        this.#holds.hold(request, made, choice.reuse);
      }
      this.#why.push(`hold ${request.id} for the prefix of ${leader.id}`);
    }
    return true;
  }

  /** Who is next, and whom it passes. */
  #next(): [ScheduledRequest | undefined, readonly ScheduledRequest[]] {
    const first = this.#order.next();
    const passedOver = this.#passedOver;
    if (first === undefined || this.#state.config.prefixFirst === false || !mayBePassed(first, passedOver))
      return [first, []];
    const follower = this.#followerOf(first);
    if (follower !== undefined) return [follower, follower === first ? [] : [first]];
    const line = this.#order.lineOf(first, MOST_AHEAD);
    const soFar = { overwritten: this.#overwritten, passedOver, checkpoints: this.#checkpoints };
    const index = bestPrefix(line, this.#state, soFar);
    return [line[index], line.slice(0, index)];
  }

  /** Who goes on with the cells of an idle slot, of the same owner and class; the first that came. */
  #followerOf({ tenant, priority }: ScheduledRequest): ScheduledRequest | undefined {
    let first: ScheduledRequest | undefined;
    for (const slot of this.#state.slots) {
      if (slot.followers.length === 0 || this.#busy.includes(slot.id)) continue;
      for (const request of followersOf(this.#state, slot)) {
        const mayGo = request.tenant === tenant && request.priority === priority;
        if (
          mayGo &&
          this.#order.isAble(request) &&
          !this.#order.hasTaken(request) &&
          (first === undefined || request.arrival < first.arrival)
        )
          first = request;
      }
    }
    return first;
  }

  /** Copies are made with the call that follows, which who is admitted in this step brings about. */
  #canWaitForPin({ isShort = false }: SlotChoice): boolean {
    return isShort && this.#assignments.length > 0;
  }

  /** Gives a running request's slot to one that waits. @returns False when there is no reason to. */
  exchangeNext(): boolean {
    const among = this.hasFree ? "long" : "all";
    return this.#exchange(chooseEviction(this.#view, this.#running, among));
  }

  /** The same between two requests of an owner that has all the slots it may; others do not wait for one whose has to wait. */
  exchangeOwn(): boolean {
    for (;;) {
      const exchange = chooseOwnExchange(this.#view, this.#running, this.#stuck);
      if (exchange === undefined) return false;
      if (this.#exchange(exchange)) return true;
      this.#stuck.add(exchange.waiter.owner);
    }
  }

  get #view(): ExchangeView {
    return { state: this.#state, order: this.#order, nowMs: this.#nowMs };
  }

  #exchange(exchange: Exchange | undefined): boolean {
    if (exchange === undefined) return false;
    const { kind, waiter, victim } = exchange;
    const busy = this.#busy.filter((slot) => slot !== victim.slot);
    const others = this.#running.filter((running) => running !== victim);
    const choice = this.#choose(waiter, busy);
    if (choice === undefined || this.#canWaitForPin(choice)) return false;
    const made = this.#holds.prefixFor(waiter, choice, others);
    if (made !== undefined) {
      this.#holds.hold(waiter, made, choice.reuse);
      return false;
    }
    this.#busy = busy;
    this.#running.splice(this.#running.indexOf(victim), 1);
    this.#order.evict(victim.request);
    this.evictions.push({ kind, request: victim.request.id, slot: victim.slot, waiter: waiter.id });
    this.#why.push(`evict ${victim.request.id} from slot ${victim.slot} for ${waiter.id}`);
    this.#assign(waiter, choice, victim);
    return true;
  }

  #choose(request: ScheduledRequest, busy: readonly SlotId[]): SlotChoice | undefined {
    const taken = { busy, overwritten: this.#overwritten, kept: this.#kept, spill: this.#spill };
    return chooseSlot(request, this.#state, { ...taken, checkpoints: this.#checkpoints }, this.#nowMs);
  }

  /** @param victim Who has held the slot until now. */
  #assign(request: ScheduledRequest, choice: SlotChoice, victim?: Running): void {
    const { slot, reuse, copyFrom, restore, comeback } = choice;
    this.#assignments.push({
      request: request.id,
      slot,
      reuse,
      copyFrom,
      ...(restore === undefined ? {} : { restore: restore.prefix.id }),
      ...(comeback === undefined ? {} : { checkpoint: comeback.checkpoint.id }),
    });
    this.#checkpoints?.give(request, choice);
    const own = this.#state.slots[slot];
    const saved = own && this.#spill?.give(own, choice, victim !== undefined);
    if (saved !== undefined)
      this.#why.push(`save ${saved.length} tokens of slot ${slot} as prefix ${saved.id}`);
    if (copyFrom !== undefined) this.#copies.push({ type: "copy", from: copyFrom, to: slot });
    if (restore !== undefined) this.#restored.set(restore.prefix.id, request);
    if (copyFrom !== undefined || restore !== undefined) this.#overwritten.add(slot);
    const length = restore?.prefix.length ?? this.#state.slots[copyFrom ?? slot]?.length ?? 0;
    if (comeback !== undefined) {
      this.#rewinds.push({ type: "rewind", slot, checkpoint: comeback.checkpoint, length: reuse });
      if (this.#checkpoints?.goesWithCopies === false) this.#overwritten.add(slot);
    } else if (length > reuse) this.#cuts.push({ type: "truncate", slot, length: reuse });
    this.#running.push({ request, slot, length: reuse });
    this.#busy.splice(placeOf(slot, this.#busy), 0, slot);
    this.#order.take(request, reuse);
    const from = restore === undefined ? "" : ` read as prefix ${restore.prefix.id}`;
    const source = copyFrom === undefined ? from : ` copied from slot ${copyFrom}`;
    const back = comeback === undefined ? "" : ` back to checkpoint ${comeback.checkpoint.id}`;
    this.#why.push(`admit ${request.id} to slot ${slot}, reuse ${reuse}${source}${back}`);
  }
}
