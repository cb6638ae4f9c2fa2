/** Who computes next on a shared device: literal turns, and for any engines their shares and that nobody is left out. */
import * as fc from "fast-check";
import { expect, test } from "vitest";
import { DeviceArbiter } from "../../../src/device-arbiter.ts";
import type { Seat } from "../../../src/device-arbiter.ts";

/** Seats that note what they are told, in one list. */
function seatsOf(arbiter: DeviceArbiter, weights: Readonly<Record<string, number>>) {
  const told: string[] = [];
  const names = new Map<Seat, string>();
  const seats: Record<string, Seat> = {};
  for (const [name, weight] of Object.entries(weights)) {
    const seat = {
      weight,
      grant: (ms: number) => void told.push(`${name} for ${ms}`),
      recall: (ms: number) => void told.push(`${name} back in ${ms}`),
    };
    seats[name] = seat;
    names.set(seat, name);
  }
  const seat = (name: string): Seat => seats[name] ?? expect.fail(name);
  return {
    told,
    holder: () => names.get(arbiter.holder as Seat),
    want: (name: string, nowMs: number) => arbiter.want(seat(name), nowMs),
    free: (name: string, nowMs: number, again = false) => arbiter.free(seat(name), again, nowMs),
    leave: (name: string, nowMs: number) => arbiter.leave(seat(name), nowMs),
  };
}

test("who is alone keeps the device until another one wants it, and owes nothing for that time", () => {
  const { told, want, free } = seatsOf(new DeviceArbiter(), { a: 1, b: 1 });
  want("a", 0);
  want("b", 5000);
  free("a", 5020, true);
  free("b", 5050, true);
  free("a", 5060, true);
  // The 20 ms that b has waited, and the rest of b's 30, at least 10 each.
  expect(told).toEqual(["a for Infinity", "a back in 0", "b for 20", "a for 10", "b for 10"]);
});

test("who has had a long turn waits until the others have had as much, in one turn if they like", () => {
  const { told, want, free } = seatsOf(new DeviceArbiter(), { a: 1, b: 1, c: 1 });
  want("a", 0);
  want("b", 0);
  want("c", 0);
  free("a", 600, true);
  free("b", 640, true);
  free("c", 680, true);
  free("b", 1240, true);
  free("c", 1800, true);
  expect(told.slice(2)).toEqual(["b for 10", "c for 40", "b for 10", "c for 560", "a for 10"]);
});

test("a weight of two is twice the time", () => {
  const { told, want, free } = seatsOf(new DeviceArbiter(), { a: 2, b: 1 });
  want("a", 0);
  want("b", 0);
  free("a", 100, true);
  free("b", 150, true);
  free("a", 250, true);
  expect(told).toEqual(["a for Infinity", "a back in 0", "b for 50", "a for 10", "b for 50"]);
});

test("who comes back has saved nothing up, and keeps what it owes", () => {
  const { told, want, free } = seatsOf(new DeviceArbiter(), { a: 1, b: 1 });
  want("a", 0);
  want("b", 0);
  free("a", 100);
  // Alone from now on, for nothing; a owes its 100 ms.
  want("a", 10_000);
  free("b", 10_050, true);
  free("b", 10_060, true);
  expect(told).toEqual([
    "a for Infinity",
    "a back in 0",
    "b for Infinity",
    "b back in 100",
    "b for 50",
    "b for 40",
  ]);
});

test("the device of one that is gone is free, and it is asked no more", () => {
  const { told, holder, want, free, leave } = seatsOf(new DeviceArbiter(), { a: 1, b: 1, c: 1 });
  want("a", 0);
  want("b", 0);
  want("c", 0);
  leave("b", 10);
  leave("a", 20);
  expect(holder()).toBe("c");
  // What it was about to say.
  free("a", 30, true);
  leave("c", 40);
  expect(told).toEqual(["a for Infinity", "a back in 0", "c for Infinity"]);
});

test("where all who waited are gone the device is nobody's but the holder's again, and charged up to then", () => {
  const { told, want, free, leave } = seatsOf(new DeviceArbiter(), { a: 1, b: 1, c: 1 });
  want("a", 0);
  want("b", 0);
  want("c", 0);
  leave("b", 10);
  expect(told).toEqual(["a for Infinity", "a back in 0"]);
  leave("c", 30);
  want("b", 1000);
  free("a", 1010, true);
  // 30 ms with the others and 10 with this one.
  free("b", 1020, true);
  free("b", 1060, true);
  expect(told.slice(2)).toEqual(["a back in Infinity", "a back in 0", "b for 40", "b for 30", "a for 10"]);
});

const NAMES = ["a", "b", "c", "d"] as const;
type Event = { readonly who: (typeof NAMES)[number]; readonly does: "want" | "free" | "again" | "leave" };
const event: fc.Arbitrary<Event> = fc.record({
  who: fc.constantFrom(...NAMES),
  does: fc.constantFrom("want", "want", "free", "again", "again", "leave"),
});

test("whatever happens, one has the device wherever anybody wants it, and it is one who was told so", () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(event, fc.integer({ min: 0, max: 50 })), { maxLength: 60 }), (events) => {
      const arbiter = new DeviceArbiter();
      const { told, holder, want, free, leave } = seatsOf(arbiter, { a: 1, b: 1, c: 2, d: 0.5 });
      const wanting = new Set<string>();
      let nowMs = 0;
      for (const [{ who, does }, ms] of events) {
        nowMs += ms;
        if (does === "want") {
          wanting.add(who);
          want(who, nowMs);
        } else if (does === "leave") {
          wanting.delete(who);
          leave(who, nowMs);
        } else {
          if (does === "free" && holder() === who) wanting.delete(who);
          free(who, nowMs, does === "again");
        }
        expect(holder() === undefined).toBe(wanting.size === 0);
        if (holder() === undefined) continue;
        expect(wanting).toContain(holder());
        expect(told.filter((line) => line.includes(" for ")).at(-1)).toMatch(new RegExp(`^${holder()} for`));
      }
    }),
  );
});

test("engines that always want the device have it by their weights, and wait for one turn of each other one at most", () => {
  const engine = fc.record({
    weight: fc.constantFrom(0.5, 1, 2, 3),
    /** Of its native calls, one after the other and from the beginning. */
    callsMs: fc.array(fc.integer({ min: 1, max: 300 }), { minLength: 1, maxLength: 5 }),
  });
  fc.assert(
    fc.property(fc.array(engine, { minLength: 2, maxLength: 5 }), (engines) => {
      const arbiter = new DeviceArbiter();
      let nowMs = 0;
      let turn: { readonly index: number; forMs: number } | undefined;
      const usedMs = engines.map(() => 0);
      const calls = engines.map(() => 0);
      let longestMs = 0;
      const seats = engines.map(({ weight }, index): Seat => ({
        weight,
        grant: (forMs) => (turn = { index, forMs }),
        recall: (afterMs) => {
          if (turn !== undefined) turn.forMs = afterMs;
        },
      }));
      for (const seat of seats) arbiter.want(seat, nowMs);
      for (let turns = 0; turns < 200; turns++) {
        const { index, forMs } = turn ?? expect.fail("nobody has it");
        const { weight, callsMs } = engines[index] ?? expect.fail();
        let ms = 0;
        do ms += callsMs[(calls[index] = (calls[index] ?? 0) + 1) % callsMs.length] ?? 0;
        while (ms < forMs);
        nowMs += ms;
        usedMs[index] = (usedMs[index] ?? 0) + ms;
        // No longer than one call behind what it was given, which is as much as the others have had, or 10 ms.
        expect(ms).toBeLessThan(Math.max(10, forMs) + Math.max(...callsMs));
        longestMs = Math.max(longestMs, Math.max(10, ...callsMs) / weight);
        arbiter.free(seats[index] ?? expect.fail(), true, nowMs);
        const counters = usedMs.map((used, i) => used / (engines[i]?.weight ?? 1));
        expect(Math.max(...counters) - Math.min(...counters)).toBeLessThanOrEqual(longestMs + 10);
      }
    }),
  );
});
