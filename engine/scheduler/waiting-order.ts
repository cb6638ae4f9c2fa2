/**
 * In which order waiting requests get slots: by class, in a class by the service that owners have had, and of one
 * owner by arrival.
 *
 * A class whose oldest request has waited for a quantum competes with the class above it, so that none starves;
 * within a class, age alone gives no owner an advantage over another one. Looks at the state and never changes it:
 * what a plan has given away so far is counted here.
 */
import { admissionCost, fairnessOf } from "./owners.ts";
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
}

export class WaitingOrder {
  readonly #accounts = new Map<string, OwnerAccount>();
  readonly #classes: readonly Line[][];
  readonly #nowMs: number;
  readonly #quantumMs: number;

  constructor(state: SchedulerState, nowMs: number) {
    this.#nowMs = nowMs;
    this.#quantumMs = fairnessOf(state.config).agingQuantumMs;
    this.#classes = Array.from({ length: CLASSES }, () => []);
    for (const owner of state.owners.values()) {
      const account = { owner, served: owner.served, running: owner.running };
      if (owner.running > 0 || owner.waiting > 0) this.#accounts.set(owner.name, account);
      owner.heaps.forEach((heap, priority) => {
        const rest = waitingByArrival(heap);
        const first = rest.next();
        if (first.done !== true) this.#classes[priority]?.push({ account, rest, head: first.value });
      });
    }
  }

  /** Undefined for an owner without requests. */
  account(owner: string): OwnerAccount | undefined {
    return this.#accounts.get(owner);
  }

  /** Who is next; undefined when nobody waits who may run. Taking it is a call of its own. */
  next(): ScheduledRequest | undefined {
    let best: { readonly line: Line; readonly effective: number } | undefined;
    for (let priority = 0; priority < CLASSES; priority++) {
      const line = this.#nextLine(priority);
      if (line === undefined) continue;
      const effective = Math.max(0, priority - Math.floor(this.#oldestWaitMs(priority) / this.#quantumMs));
      const first = best === undefined || effective < best.effective;
      const tied = best !== undefined && effective === best.effective && goesBefore(line, best.line);
      if (first || tied) best = { line, effective };
    }
    return best?.line.head;
  }

  /** Who is next of one class. */
  nextOf(priority: number): ScheduledRequest | undefined {
    return this.#nextLine(priority)?.head;
  }

  /** Counts a slot for this request, with so many tokens of its prompt found computed; it was the next one of its class. */
  take(request: ScheduledRequest, reuse: number): void {
    const lines = this.#classes[request.priority] ?? [];
    const index = lines.findIndex(({ head }) => head === request);
    const line = lines[index];
    if (line === undefined) return;
    line.account.running += 1;
    line.account.served += admissionCost(request, reuse, line.account.owner);
    const next = line.rest.next();
    if (next.done === true) lines.splice(index, 1);
    else line.head = next.value;
  }

  /** Counts a slot less for the owner of a request that is evicted. */
  evict({ tenant }: ScheduledRequest): void {
    const account = this.#accounts.get(tenant);
    if (account !== undefined) account.running -= 1;
  }

  #nextLine(priority: number): Line | undefined {
    let best: Line | undefined;
    for (const line of this.#classes[priority] ?? []) {
      const { running, owner } = line.account;
      if (running < owner.policy.maxRunning && (best === undefined || goesBefore(line, best))) best = line;
    }
    return best;
  }

  #oldestWaitMs(priority: number): number {
    let oldestMs = this.#nowMs;
    for (const { head } of this.#classes[priority] ?? []) oldestMs = Math.min(oldestMs, head.arrivalMs);
    return this.#nowMs - oldestMs;
  }
}

/** Less service first; where that is equal, fewer slots, then arrival. */
function goesBefore(a: Line, b: Line): boolean {
  if (a.account.served !== b.account.served) return a.account.served < b.account.served;
  const [slotsA, slotsB] = [a, b].map(({ account }) => account.running / account.owner.policy.weight);
  if (slotsA !== slotsB) return (slotsA ?? 0) < (slotsB ?? 0);
  return a.head.arrival < b.head.arrival;
}
