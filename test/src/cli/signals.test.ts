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

test("a Ctrl-C that comes from the terminal and from npm is one, and pressed again it hurries", async () => {
  const { signals, send } = start();
  expect([send("SIGINT", 1000), send("SIGINT", 1040)]).toEqual([false, false]);
  await signals.first;
  expect(send("SIGINT", 1900)).toBe(true);
});

test.each(["SIGINT", "SIGTERM"] as const)("a SIGTERM at once behind a %s hurries", async (name) => {
  const { signals, send } = start();
  expect(send(name, 1000)).toBe(false);
  await signals.first;
  expect(send("SIGTERM", 1001)).toBe(true);
});

test("a crash asks for a drain, and the signal behind it for a quick end", async () => {
  const { signals, send } = start();
  signals.crash();
  await signals.first;
  expect([signals.crashed, send("SIGTERM", 1000)]).toEqual([true, true]);
});
