/** When an idle process collects its garbage: after a burst, twice, and not between two requests. */
import { expect, test } from "vitest";
import { IdleGarbage } from "../../engine/idle-garbage.ts";

const MIB = 1 << 20;

/** How often it has collected after each tick; heap in MiB, `busy` with a request. */
function collectionsOf(...ticks: readonly (readonly [state: "busy" | "idle", heap: number])[]): number[] {
  let [busy, heap, collections] = [false, 30, 0];
  const garbage = new IdleGarbage(
    () => !busy,
    () => heap * MIB,
    () => (collections += 1),
  );
  return ticks.map(([state, size]) => {
    [busy, heap] = [state === "busy", size];
    garbage.tick();
    return collections;
  });
}

test("the garbage of a burst is collected twice once there is nothing to do, and then no more", () => {
  expect(
    collectionsOf(["busy", 90], ["idle", 90], ["idle", 90], ["idle", 70], ["idle", 50], ["idle", 90]),
  ).toEqual([0, 0, 1, 2, 2, 2]);
});

test("gaps between requests are let pass, and so is a little garbage", () => {
  expect(collectionsOf(["idle", 90], ["busy", 90], ["idle", 90], ["busy", 90])).toEqual([0, 0, 0, 0]);
  expect(collectionsOf(["busy", 33], ["idle", 33], ["idle", 33], ["idle", 34])).toEqual([0, 0, 0, 1]);
});

test("what is left after it is what the next burst is compared with", () => {
  const burst = [
    ["busy", 90],
    ["idle", 90],
    ["idle", 90],
    ["idle", 60],
  ] as const;
  expect(collectionsOf(...burst, ["busy", 63], ["idle", 63], ["idle", 63])).toEqual([0, 0, 1, 2, 2, 2, 2]);
  expect(collectionsOf(...burst, ["busy", 64], ["idle", 64], ["idle", 64])).toEqual([0, 0, 1, 2, 2, 2, 3]);
});
