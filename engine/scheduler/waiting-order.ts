/**
 * In which order waiting requests get slots: by class, in a class by the service that owners have had, and of one
 * owner by arrival.
 *
 * A class one of whose requests has waited for a quantum competes with the class above it, so that none starves;
 * within a class, age alone gives no owner an advantage over another one. Where slots are kept for short prompts, long ones
 * are in lines of their own, which have no turn while all the slots that they may have are taken. Looks at the state and never changes it:
 * what a plan has given away so far is counted here.
 */
import type { OrderedHeap } from "./ordered-heap.ts";
import { admissionCost, fairnessOf, goesBefore } from "./owners.ts";
import type { Standing } from "./owners.ts";
import { isLong, lineOf, longLineOf, longRoom } from "./reserve.ts";
import { hasComeBack, waitedSinceMs, waitingByArrival } from "./waiting-heap.ts";
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

/** Whose prompts count: those that are not long, long ones, or both; all are short where no slots are kept for them. */
export type Prompts = "short" | "long" | "all";

/** The heads of one line: those of owners that the plan has changed, and the others as the state has them. */
interface PlannedLines {
  readonly changed: Line[];
  readonly byTurn: Others;
  readonly byAge: Others;
}

export class WaitingOrder {
  readonly #state: SchedulerState;
  readonly #accounts = new Map<string, OwnerAccount>();
  readonly #lines: readonly PlannedLines[];
  readonly #nowMs: number;
  readonly #quantumMs: number;
  readonly #taken = new Set<ScheduledRequest>();
  #longRoom: number;

  constructor(state: SchedulerState, nowMs: number) {
    this.#state = state;
    this.#nowMs = nowMs;
    this.#quantumMs = fairnessOf(state.config).agingQuantumMs;
    this.#longRoom = longRoom(state);
    this.#lines = state.lines.map(({ byTurn, byAge }): PlannedLines => ({
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

  /** Whose turn it can be: long prompts have none while all the slots that they may have are taken. */
  get able(): Prompts {
    return this.#longRoom > 0 ? "all" : "short";
  }

  /** Whether this request could have a slot if one is free, whatever its owner has. */
  isAble({ prompt }: ScheduledRequest): boolean {
    return this.#longRoom > 0 || !isLong(this.#state.config, prompt.length);
  }

  /** Whose turn it could be if this request had no slot. */
  ableWithout({ prompt }: ScheduledRequest): Prompts {
    return isLong(this.#state.config, prompt.length) ? "all" : this.able;
  }

  /** Who is next; undefined when nobody waits who may run. Taking it is a call of its own. */
  next(prompts: Prompts = this.able): ScheduledRequest | undefined {
    let best: { readonly candidate: Candidate; readonly effective: number } | undefined;
    for (let priority = 0; priority < CLASSES; priority++) {
      const candidate = this.#nextCandidate(priority, prompts);
      if (candidate === undefined) continue;
      const waitMs = this.#oldestWaitMs(priority, prompts);
      const effective = Math.max(0, priority - Math.floor(waitMs / this.#quantumMs));
      const first = best === undefined || effective < best.effective;
      const tied = best !== undefined && effective === best.effective && isBefore(candidate, best.candidate);
      if (first || tied) best = { candidate, effective };
    }
    return best?.candidate.head;
  }

  /** Who is next of one class. */
  nextOf(priority: number, prompts: Prompts = this.able): ScheduledRequest | undefined {
    return this.#nextCandidate(priority, prompts)?.head;
  }

  /** The first of an owner in a class above this one, whether or not it may have another slot. */
  firstOf(owner: OwnerState, below: number, prompts: Prompts): ScheduledRequest | undefined {
    const isChanged = this.#accounts.has(owner.name);
    for (let priority = 0; priority < below; priority++) {
      let first: ScheduledRequest | undefined;
      for (const line of linesOf(priority, prompts)) {
        const changed = this.#lines[line]?.changed.find(({ account }) => account.owner === owner);
        const head = isChanged ? changed?.head : owner.heaps[line]?.[0];
        if (head !== undefined && (first === undefined || head.arrival < first.arrival)) first = head;
      }
      if (first !== undefined) return first;
    }
    return undefined;
  }

  /** This request, which is next of its class, and up to so many behind it of its owner and class, by arrival. */
  lineOf(request: ScheduledRequest, most: number): ScheduledRequest[] {
    this.#change(request.tenant);
    const ahead: ScheduledRequest[] = [];
    for (const index of linesOf(request.priority, this.able)) {
      const line = this.#lines[index]?.changed.find(({ account }) => account.owner === request.owner);
      if (line === undefined) continue;
      while (line.behind.length < most) {
        const next = this.#restOf(line);
        if (next === undefined) break;
        line.behind.push(next);
      }
      ahead.push(line.head, ...line.behind);
    }
    if (!ahead.includes(request)) return [request];
    return ahead.sort((a, b) => a.arrival - b.arrival).slice(0, most + 1);
  }

  hasTaken(request: ScheduledRequest): boolean {
    return this.#taken.has(request);
  }

  /** Counts a slot for this request, which may be anywhere in its line, with so many tokens of its prompt found computed. */
  take(request: ScheduledRequest, reuse: number): void {
    const account = this.#change(request.tenant);
    const lines = this.#lines[lineOf(this.#state.config, request)]?.changed ?? [];
    const index = lines.findIndex(({ account: { owner } }) => owner.name === request.tenant);
    const line = lines[index];
    if (account === undefined || line === undefined) return;
    this.#taken.add(request);
    if (isLong(this.#state.config, request.prompt.length)) this.#longRoom -= 1;
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
  evict({ tenant, prompt }: ScheduledRequest): void {
    const account = this.#change(tenant);
    if (account !== undefined) account.running -= 1;
    if (isLong(this.#state.config, prompt.length)) this.#longRoom += 1;
  }

  /** From now on the owner is looked at as the plan leaves it. */
  #change(name: string): OwnerAccount | undefined {
    const known = this.#accounts.get(name);
    const account = known ?? this.account(name);
    if (account === undefined || known !== undefined) return account;
    this.#accounts.set(name, account);
    account.owner.heaps.forEach((heap, line) => {
      const rest = waitingByArrival(heap);
      const first = rest.next();
      if (first.done !== true)
        this.#lines[line]?.changed.push({ account, rest, head: first.value, behind: [] });
    });
    return account;
  }

  #nextCandidate(priority: number, prompts: Prompts): Candidate | undefined {
    let best: Candidate | undefined;
    for (const index of linesOf(priority, prompts)) {
      const lines = this.#lines[index];
      if (lines === undefined) continue;
      const other = this.#first(lines.byTurn, ({ running, policy }) => running < policy.maxRunning);
      const head = other?.heaps[index]?.[0];
      if (other !== undefined && head !== undefined) {
        const account = { owner: other, served: other.served, running: other.running };
        if (best === undefined || isBefore({ account, head }, best)) best = { account, head };
      }
      for (const line of lines.changed) {
        const { running, owner } = line.account;
        if (running < owner.policy.maxRunning && (best === undefined || isBefore(line, best))) best = line;
      }
    }
    return best;
  }

  #oldestWaitMs(priority: number, prompts: Prompts): number {
    let oldestMs = this.#nowMs;
    for (const index of linesOf(priority, prompts)) {
      const lines = this.#lines[index];
      if (lines === undefined) continue;
      const other = this.#first(lines.byAge, () => true);
      oldestMs = Math.min(oldestMs, other?.waitedSinceMs[index] ?? Infinity);
      for (const { account, head } of lines.changed) {
        const heap = account.owner.heaps[index] ?? [];
        const sinceMs = hasComeBack(head) ? waitedSinceMs(heap, this.#taken) : head.waitingSinceMs;
        oldestMs = Math.min(oldestMs, sinceMs);
      }
    }
    return this.#nowMs - oldestMs;
  }

  /** The first of the others that may go; what may not now may not in this plan. */
  #first(lines: Others, may: (owner: OwnerState) => boolean): OwnerState | undefined {
    while (lines.first !== undefined && (this.#accounts.has(lines.first.name) || !may(lines.first)))
      lines.first = lines.rest.next().value ?? undefined;
    return lines.first;
  }
}

/** Of each class, by whose prompts count. */
const LINES: Readonly<Record<Prompts, readonly (readonly number[])[]>> = {
  short: Array.from({ length: CLASSES }, (_, priority) => [priority]),
  long: Array.from({ length: CLASSES }, (_, priority) => [longLineOf(priority)]),
  all: Array.from({ length: CLASSES }, (_, priority) => [priority, longLineOf(priority)]),
};

function linesOf(priority: number, prompts: Prompts): readonly number[] {
  return LINES[prompts][priority] ?? [];
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
