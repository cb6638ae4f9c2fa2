/** The order of waiting requests, against one that looks at all of them, and what looking costs when many wait. */
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { admissionCost, DEFAULT_FAIRNESS } from "../../../engine/scheduler/owners.ts";
import { OrderedHeap } from "../../../engine/scheduler/ordered-heap.ts";
import { setPaused, setPriority } from "../../../engine/scheduler/request-control.ts";
import { cancel } from "../../../engine/scheduler/transitions.ts";
import { WaitingOrder } from "../../../engine/scheduler/waiting-order.ts";
import type { FairnessConfig } from "../../../engine/sharing.ts";
import type { ScheduledRequest, SchedulerState } from "../../../engine/scheduler/types.ts";
import { addRequest, planMs, runStep, schedulerState } from "../../support/scheduler.ts";

const { others } = DEFAULT_FAIRNESS;
const fairness: FairnessConfig = {
  ...DEFAULT_FAIRNESS,
  agingQuantumMs: 300,
  owners: new Map([
    ["o1", { ...others, maxRunning: 1 }],
    ["o2", { ...others, weight: 3 }],
  ]),
};

/** All that would be taken, one after the other, from a look at every waiting request each time. */
function plainOrder(state: SchedulerState, nowMs: number): string[] {
  const accounts = new Map(
    [...state.owners.values()].map((owner) => [
      owner.name,
      { owner, served: owner.served, running: owner.running },
    ]),
  );
  const left = new Set([...state.queue.values()].filter(({ paused }) => !paused));
  const order: string[] = [];
  for (;;) {
    const heads = [...left].filter((request) =>
      [...left].every(
        (other) =>
          other.tenant !== request.tenant ||
          other.priority !== request.priority ||
          other.arrival >= request.arrival,
      ),
    );
    const ranked = heads.flatMap((request) => {
      const account = accounts.get(request.tenant);
      if (account === undefined || account.running >= account.owner.policy.maxRunning) return [];
      const ofClass = heads.filter(({ priority }) => priority === request.priority);
      const waitedMs = nowMs - Math.min(...ofClass.map(({ waitingSinceMs }) => waitingSinceMs));
      const effective = Math.max(0, request.priority - Math.floor(waitedMs / fairness.agingQuantumMs));
      const slots = account.running / account.owner.policy.weight;
      return [{ request, account, key: [account.served, slots, request.arrival], effective }];
    });
    // Of each class only the first competes with those of other classes.
    const firsts = [0, 1, 2, 3].flatMap((priority) => {
      const ofClass = ranked.filter(({ request }) => request.priority === priority);
      return ofClass.sort((a, b) => compare(a.key, b.key)).slice(0, 1);
    });
    const [best] = firsts.sort((a, b) => a.effective - b.effective || compare(a.key, b.key));
    if (best === undefined) return order;
    order.push(best.request.id);
    left.delete(best.request);
    best.account.running += 1;
    best.account.served += admissionCost(best.request, 1, best.account.owner);
  }
}

function compare(a: readonly number[], b: readonly number[]): number {
  const at = a.findIndex((value, i) => value !== b[i]);
  return at === -1 ? 0 : (a[at] ?? 0) - (b[at] ?? 0);
}

function orderOf(state: SchedulerState, nowMs: number): string[] {
  const order = new WaitingOrder(state, nowMs);
  const ids: string[] = [];
  for (let next = order.next(); next !== undefined; next = order.next()) {
    ids.push(next.id);
    order.take(next, 1);
  }
  return ids;
}

const which = fc.nat(30);
const command = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({ type: fc.constant("submit" as const), owner: fc.nat(5), priority: fc.nat(3) }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      type: fc.constantFrom("cancel" as const, "pause" as const, "resume" as const),
      which,
    }),
  },
  { weight: 1, arbitrary: fc.record({ type: fc.constant("class" as const), which, priority: fc.nat(3) }) },
  { weight: 3, arbitrary: fc.record({ type: fc.constant("step" as const) }) },
);

test("the order is that of a look at every waiting request", () => {
  fc.assert(
    fc.property(fc.array(command, { maxLength: 60 }), (commands) => {
      const state = schedulerState({ slots: 2, fairness });
      let nowMs = 0;
      commands.forEach((given, serial) => {
        const at = "which" in given ? ([...state.requests.keys()][given.which] ?? "") : "";
        if (given.type === "submit") {
          const { owner, priority } = given;
          addRequest(state, `r${serial}`, { tenant: `o${owner}`, priority, maxTokens: 3 }, nowMs);
        } else if (given.type === "cancel") cancel(state, at, nowMs);
        else if (given.type === "class") setPriority(state, at, given.priority);
        else if (given.type === "step") nowMs += planMs(runStep(state, nowMs)) + 7;
        else setPaused(state, at, given.type === "pause", nowMs);
        expect(orderOf(state, nowMs)).toEqual(plainOrder(state, nowMs));
      });
    }),
    { numRuns: 60 },
  );
});

test("an ordered heap gives back what a sort would, whatever was moved and removed", () => {
  const change = fc.record({ item: fc.nat(12), key: fc.option(fc.nat(5)) });
  fc.assert(
    fc.property(fc.array(change, { maxLength: 60 }), (changes) => {
      const keys = new Map<number, number>();
      const keyOf = (item: number): number => (keys.get(item) ?? 0) * 100 + item;
      const heap = new OrderedHeap<number>((a, b) => keyOf(a) < keyOf(b));
      for (const { item, key } of changes) {
        if (key === null) {
          heap.remove(item);
          keys.delete(item);
        } else {
          keys.set(item, key);
          heap.place(item);
        }
        expect(heap.isOrdered()).toBe(true);
        expect([...heap.inOrder()]).toEqual([...keys.keys()].sort((a, b) => keyOf(a) - keyOf(b)));
      }
    }),
  );
});

describe("what steps look at", () => {
  /** Counts the looks at requests, owners and all of them that a while of serving takes beside so many waiting ones. */
  function looks(waiting: number, owners: number): number {
    const state = schedulerState({
      slots: 16,
      contextTokens: 64,
      maxQueued: Infinity,
      fairness: { ...DEFAULT_FAIRNESS, others: { ...others, maxRunning: 4 } },
    });
    let count = 0;
    let serial = 0;
    const seen = new Set<object>();
    const watch = <T extends object>(thing: T, field: keyof T): void => {
      if (seen.has(thing)) return;
      seen.add(thing);
      let value = thing[field];
      Object.defineProperty(thing, field, {
        get: () => {
          count += 1;
          return value;
        },
        set: (next: T[keyof T]) => {
          value = next;
        },
      });
    };
    const add = (): ScheduledRequest | undefined => {
      const id = `r${serial++}`;
      const tenant = `o${serial % owners}`;
      addRequest(state, id, { tenant, priority: serial % 3, maxTokens: 1 + (serial % 5) }, serial);
      const owner = state.owners.get(tenant);
      const request = state.requests.get(id);
      if (owner !== undefined) watch(owner, "served");
      if (request !== undefined) watch(request, "arrival");
      return request;
    };
    for (let i = 0; i < waiting; i++) add();
    for (const map of [state.requests, state.queue, state.owners]) {
      const values = map.values.bind(map);
      Object.assign(map, { values: () => ((count += map.size), values()) });
    }
    count = 0;
    let nowMs = waiting;
    for (let step = 0; step < 60; step++) {
      nowMs += planMs(runStep(state, nowMs, false));
      add();
      const unwanted = add();
      if (unwanted !== undefined) cancel(state, unwanted.id, nowMs);
    }
    return count;
  }

  test("row 80: is the same for four thousand waiting requests of four owners as for four hundred", () => {
    expect(looks(4000, 4)).toBeLessThan(1.5 * looks(400, 4));
  });

  test("grows with the depth of a heap where every waiting request has an owner of its own", () => {
    expect(looks(4000, 4000)).toBeLessThan(2.5 * looks(400, 400));
  });
});
