/** When V8 is made to collect what it cannot see. */
import { expect, test } from "vitest";
import { NativeGarbage } from "../../../engine/llama/native-garbage.ts";

test("collects once for every 32 MiB that gathered", () => {
  let collected = 0;
  const garbage = new NativeGarbage(() => (collected += 1));
  const counts = Array.from({ length: 8 }, () => {
    garbage.add(8 << 20);
    return collected;
  });
  expect(counts).toEqual([0, 0, 0, 1, 1, 1, 1, 2]);
  garbage.add(100 << 20);
  expect(collected).toBe(3);
});

test("its own collector frees what only weak references hold", async () => {
  const weak = ((): WeakRef<object> => new WeakRef({ big: Array.from({ length: 1000 }) }))();
  new NativeGarbage().add(32 << 20);
  // A weak reference lives to the end of the task that made it.
  await new Promise((resolve) => setImmediate(resolve));
  new NativeGarbage().add(32 << 20);
  expect(weak.deref()).toBeUndefined();
});
