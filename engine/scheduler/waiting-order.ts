/**
 * In which order waiting requests get slots: by class, in a class by the service that owners have had, and of one
 * owner by arrival.
 *
 * A class whose oldest request has waited for a quantum competes with the class above it, so that none starves;
 * within a class, age alone gives no owner an advantage over another one. Looks at the state and never changes it:
 * what a plan has given away so far is counted here.
 */
import type { OrderedHeap } from "./ordered-heap.ts";
import { admissionCost, fairnessOf, goesBefore } from "./owners.ts";
import type { Standing } from "./owners.ts";
import { waitingByArrival } from "./waiting-heap.ts";
import { CLASSES } from "./types.ts";
import type { OwnerState, ScheduledRequest, SchedulerState } from "./types.ts";

/** An owner as it will be when the plan is carried out. */
export interface OwnerAccount {
  readonly owner: OwnerState;
  served: number;
  running: number;
}

/** The waiting requests of one owner and class that have not been taken. */
interface Line {
  readonly account: OwnerAccount;
  readonly rest: Iterator<ScheduledRequest, void>;
  head: ScheduledRequest;
  /** Those behind the head that have been looked at. */
  readonly behind: ScheduledRequest[];
}

/** Goes through the owners with a line in order and leaves those out that this plan has to do with. */
interface Others {
  readonly rest: Iterator<OwnerState, void>;
  first: OwnerState | undefined;
}

/** The lines of one class: those of owners that the plan has changed, and the others as the state has them. */
interface PlannedLines {
  readonly changed: Line[];
  readonly byTurn: Others;
  readonly byAge: Others;
}

export class WaitingOrder {
  readonly #state: SchedulerState;
  readonly #accounts = new Map<string, OwnerAccount>();
  readonly #classes: readonly PlannedLines[];
  readonly #nowMs: number;
  readonly #quantumMs: number;
  readonly #taken = new Set<ScheduledRequest>();

  constructor(state: SchedulerState, nowMs: number) {
    this.#state = state;
    this.#nowMs = nowMs;
    this.#quantumMs = fairnessOf(state.config).agingQuantumMs;
    this.#classes = state.lines.map(({ byTurn, byAge }): PlannedLines => ({
      changed: [],
      byTurn: others(byTurn),
      byAge: others(byAge),
    }));
  }

  /** Undefined for an owner without requests. */
  account(name: string): OwnerAccount | undefined {
    const known = this.#accounts.get(name);
    const owner = this.#state.owners.get(name);
    if (known !== undefined || owner === undefined || (owner.running === 0 && owner.waiting === 0))
      return known;
    return { owner, served: owner.served, running: owner.running };
  }

  /** Who is next; undefined when nobody waits who may run. Taking it is a call of its own. */
  next(): ScheduledRequest | undefined {
    let best: { readonly candidate: Candidate; readonly effective: number } | undefined;
    for (let priority = 0; priority < CLASSES; priority++) {
      const candidate = this.#nextCandidate(priority);
      if (candidate === undefined) continue;
      const effective = Math.max(0, priority - Math.floor(this.#oldestWaitMs(priority) / this.#quantumMs));
      const first = best === undefined || effective < best.effective;
      const tied = best !== undefined && effective === best.effective && isBefore(candidate, best.candidate);
      if (first || tied) best = { candidate, effective };
    }
    return best?.candidate.head;
  }

  /** Who is next of one class. */
  nextOf(priority: number): ScheduledRequest | undefined {
    return this.#nextCandidate(priority)?.head;
  }

  /** The first of an owner in a class above this one, whether or not it may have another slot. */
  firstOf(owner: OwnerState, below: number): ScheduledRequest | undefined {
    const isChanged = this.#accounts.has(owner.name);
    for (let priority = 0; priority < below; priority++) {
      const line = this.#classes[priority]?.changed.find(({ account }) => account.owner === owner);
      const first = isChanged ? line?.head : owner.heaps[priority]?.[0];
      if (first !== undefined) return first;
    }
    return undefined;
  }

  /** This request, which is next of its class, and up to so many behind it in its line, by arrival. */
  lineOf(request: ScheduledRequest, most: number): ScheduledRequest[] {
    this.#change(request.tenant);
    const line = this.#classes[request.priority]?.changed.find(({ head }) => head === request);
    if (line === undefined) return [request];
    while (line.behind.length < most) {
      const next = this.#restOf(line);
      if (next === undefined) break;
      line.behind.push(next);
    }
    return [request, ...line.behind.slice(0, most)];
  }

  hasTaken(request: ScheduledRequest): boolean {
    return this.#taken.has(request);
  }

  /** Counts a slot for this request, which may be anywhere in its line, with so many tokens of its prompt found computed. */
  take(request: ScheduledRequest, reuse: number): void {
    const account = this.#change(request.tenant);
    const lines = this.#classes[request.priority]?.changed ?? [];
    const index = lines.findIndex(({ account: { owner } }) => owner.name === request.tenant);
    const line = lines[index];
    if (account === undefined || line === undefined) return;
    this.#taken.add(request);
    account.running += 1;
    account.served += admissionCost(request, reuse, account.owner);
    if (line.head !== request) {
      if (line.behind.includes(request)) line.behind.splice(line.behind.indexOf(request), 1);
      return;
    }
    const next = line.behind.shift() ?? this.#restOf(line);
    if (next === undefined) lines.splice(index, 1);
    else line.head = next;
  }

  #restOf({ rest }: Line): ScheduledRequest | undefined {
    for (let next = rest.next(); next.done !== true; next = rest.next())
      if (!this.#taken.has(next.value)) return next.value;
    return undefined;
  }

  /** Counts a slot less for the owner of a request that is evicted. */
  evict({ tenant }: ScheduledRequest): void {
    const account = this.#change(tenant);
    if (account !== undefined) account.running -= 1;
  }

  /** From now on the owner is looked at as the plan leaves it. */
  #change(name: string): OwnerAccount | undefined {
    const known = this.#accounts.get(name);
    const account = known ?? this.account(name);
    if (account === undefined || known !== undefined) return account;
    this.#accounts.set(name, account);
    account.owner.heaps.forEach((heap, priority) => {
      const rest = waitingByArrival(heap);
      const first = rest.next();
      if (first.done !== true)
        this.#classes[priority]?.changed.push({ account, rest, head: first.value, behind: [] });
    });
    return account;
  }

  #nextCandidate(priority: number): Candidate | undefined {
    const lines = this.#classes[priority];
    if (lines === undefined) return undefined;
    let best: Candidate | undefined;
    const other = this.#first(lines.byTurn, ({ running, policy }) => running < policy.maxRunning);
    const head = other?.heaps[priority]?.[0];
    if (other !== undefined && head !== undefined)
      best = { account: { owner: other, served: other.served, running: other.running }, head };
    for (const line of lines.changed) {
      const { running, owner } = line.account;
      if (running < owner.policy.maxRunning && (best === undefined || isBefore(line, best))) best = line;
    }
    return best;
  }

  #oldestWaitMs(priority: number): number {
    const lines = this.#classes[priority];
    if (lines === undefined) return 0;
    const other = this.#first(lines.byAge, () => true);
    let oldestMs = Math.min(this.#nowMs, other?.heaps[priority]?.[0]?.waitingSinceMs ?? Infinity);
    for (const { head } of lines.changed) oldestMs = Math.min(oldestMs, head.waitingSinceMs);
    return this.#nowMs - oldestMs;
  }

  /** The first of the others that may go; what may not now may not in this plan. */
  #first(lines: Others, may: (owner: OwnerState) => boolean): OwnerState | undefined {
    while (lines.first !== undefined && (this.#accounts.has(lines.first.name) || !may(lines.first)))
      lines.first = lines.rest.next().value ?? undefined;
    return lines.first;
  }
}

type Candidate = Pick<Line, "account" | "head">;

const NOBODY: Iterator<OwnerState, void> = { next: () => ({ done: true, value: undefined }) };

function others(owners: OrderedHeap<OwnerState>): Others {
  const rest = owners.size === 0 ? NOBODY : owners.inOrder();
  return { rest, first: rest.next().value ?? undefined };
}

function isBefore(a: Candidate, b: Candidate): boolean {
  return goesBefore(standingOf(a), standingOf(b));
}

function standingOf({ account: { owner, served, running }, head: { arrival } }: Candidate): Standing {
  return { served, running, weight: owner.policy.weight, arrival };
}
