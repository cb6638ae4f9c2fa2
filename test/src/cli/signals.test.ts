/** Which signals are one, and what they ask for. */
import { afterEach, expect, test } from "vitest";
import { Signals } from "../../../src/cli/signals.ts";

const before = { SIGINT: process.listeners("SIGINT"), SIGTERM: process.listeners("SIGTERM") };
afterEach(() => {
  for (const name of ["SIGINT", "SIGTERM"] as const)
    for (const listener of process.listeners(name))
      if (!before[name].includes(listener)) process.off(name, listener);
});

function start() {
  let now = 1000;
  const signals = new Signals({ nowMs: () => now });
  const send = (name: NodeJS.Signals, atMs: number): boolean => {
    now = atMs;
    process.emit(name);
    return signals.hurry.aborted;
  };
  return { signals, send };
}

test.each(["SIGINT", "SIGTERM"] as const)(
  "a %s that npm hands on, too, is one, and a later hurries",
  async (name) => {
    const { signals, send } = start();
    expect([send(name, 1000), send(name, 1040)]).toEqual([false, false]);
    await signals.first;
    expect(send(name, 1900)).toBe(true);
  },
);

test.each([
  ["SIGTERM", "SIGINT"],
  ["SIGINT", "SIGTERM"],
] as const)("a %s is no echo of a %s: at once behind it, it hurries", async (later, earlier) => {
  const { signals, send } = start();
  expect(send(earlier, 1000)).toBe(false);
  await signals.first;
  expect(send(later, 1001)).toBe(true);
});

test("a crash asks for a drain, and the signal behind it for a quick end", async () => {
  const { signals, send } = start();
  signals.crash();
  await signals.first;
  expect([signals.crashed, send("SIGTERM", 1000)]).toEqual([true, true]);
});
