/** What supervisors see of engines on one device: who waits for another one is not stuck, and who does not come to an end is. */
import { expect, test } from "vitest";
import { FakeBackend } from "../../../engine/fake/backend.ts";
import type { EngineCommand, EngineEvent, EngineExit, EnginePort } from "../../../engine/protocol.ts";
import { SharedDevice } from "../../../src/shared-device.ts";
import { Supervisor } from "../../../src/supervisor.ts";
import { submitCommand } from "../../support/engine.ts";
import { CRASH } from "../../support/mortal-engines.ts";

/** Says what a test has it say. */
class ToldPort implements EnginePort {
  readonly exited: Promise<EngineExit>;
  readonly told: EngineCommand[] = [];
  killed = false;
  #exit: (exit: EngineExit) => void = () => undefined;
  #receiver: (event: EngineEvent) => void = () => undefined;

  constructor() {
    this.exited = new Promise((resolve) => (this.#exit = resolve));
  }

  send(command: EngineCommand): void {
    this.told.push(command);
  }
  onEvent(receiver: (event: EngineEvent) => void): void {
    this.#receiver = receiver;
  }
  kill(): void {
    this.killed = true;
  }
  say(event: EngineEvent): void {
    this.#receiver(event);
  }
  die(): void {
    this.#exit({ unexpected: true, detail: CRASH });
  }
}

function deviceOf(...names: string[]) {
  let nowMs = 0;
  const waited: [string, number][] = [];
  const held: [string, number][] = [];
  const device = new SharedDevice({
    nowMs: () => nowMs,
    onWaited: (...told) => waited.push(told),
    onHeld: (...told) => held.push(told),
  });
  const engines = names.map((name) => {
    const port = new ToldPort();
    const shared = device.share(port, name, 1);
    const stuck: number[] = [];
    const supervisor = new Supervisor(30_000, {
      onReplay: () => undefined,
      onConviction: () => undefined,
      onStuck: (ms) => stuck.push(ms),
      onGarbled: () => expect.fail("garbled"),
    });
    supervisor.connect(shared);
    return { port, shared, supervisor, stuck };
  });
  return { engines, waited, held, pass: (ms: number) => (nowMs += ms) };
}

const WANTED: EngineEvent = { type: "device_wanted" };
const FREED: EngineEvent = { type: "device_freed", again: false };

test("turns are dealt out between what engines say and what they are told, and counted", () => {
  const { engines, waited, held, pass } = deviceOf("a", "b");
  const [a, b] = engines;
  a?.port.say(WANTED);
  pass(1000);
  b?.port.say(WANTED);
  pass(25);
  a?.port.say({ type: "device_freed", again: true });
  pass(30);
  b?.port.say(FREED);
  pass(5);
  a?.port.say(FREED);
  expect(a?.port.told).toEqual([
    { type: "device_granted", forMs: Infinity },
    { type: "device_recalled", afterMs: 0 },
    { type: "device_granted", forMs: Infinity },
  ]);
  expect(b?.port.told).toEqual([{ type: "device_granted", forMs: 25 }]);
  expect(waited).toEqual([
    ["a", 0],
    ["b", 25],
    ["a", 30],
  ]);
  expect(held).toEqual([
    ["a", 1025],
    ["b", 30],
    ["a", 5],
  ]);
});

test("an engine that waits for another one's turn is not stuck; that one is, whatever it owes else", async () => {
  const { engines } = deviceOf("a", "b", "c");
  const [a, b, c] = engines;
  a?.port.say(WANTED);
  const tick = (seconds: number): void => {
    for (let i = 0; i < seconds; i++) for (const { supervisor } of engines) supervisor.tick(1000);
  };
  // Nobody is kept from anything.
  tick(100);
  b?.port.say({ type: "loaded", facts: { ...new FakeBackend().facts, loadMs: 1 } });
  b?.supervisor.send(submitCommand("r", [1, 2, 3]));
  b?.port.say(WANTED);
  expect([a, b, c].map((engine) => engine?.shared.deviceTurn)).toEqual(["owed", "awaited", undefined]);
  // One that loads has a minute for a call.
  tick(60);
  expect(a?.port.killed).toBe(false);
  tick(1);
  expect([a, b, c].map((engine) => engine?.port.killed)).toEqual([true, false, false]);
  expect(a?.stuck).toHaveLength(1);
  a?.port.die();
  // Its own silence counts from now.
  await a?.shared.exited;
  b?.supervisor.tick(30_000);
  expect(b?.port.killed).toBe(false);
  b?.supervisor.tick(1000);
  expect(b?.port.killed).toBe(true);
});

test("turns that end show that an engine lives", () => {
  const { engines } = deviceOf("a", "b");
  const [a, b] = engines;
  for (let round = 0; round < 20; round++) {
    a?.port.say(WANTED);
    b?.port.say(WANTED);
    for (let i = 0; i < 50; i++) for (const { supervisor } of engines) supervisor.tick(1000);
    a?.port.say(FREED);
    b?.port.say(FREED);
  }
  expect([a?.port.killed, b?.port.killed]).toEqual([false, false]);
});

test("the device of an engine that has died is free, and its last words take it no more", async () => {
  const { engines, held, pass } = deviceOf("a", "b");
  const [a, b] = engines;
  a?.port.say(WANTED);
  b?.port.say(WANTED);
  pass(7);
  a?.port.die();
  await a?.shared.exited;
  expect(b?.port.told).toEqual([{ type: "device_granted", forMs: Infinity }]);
  expect(held).toEqual([["a", 7]]);
  a?.port.say(FREED);
  a?.port.say(WANTED);
  b?.port.say(FREED);
  b?.port.say(WANTED);
  expect(b?.port.told).toHaveLength(2);
});

test("an engine that frees what it has not, or asks twice, changes nothing", () => {
  const { engines, waited } = deviceOf("a", "b");
  const [a, b] = engines;
  a?.port.say(WANTED);
  b?.port.say({ type: "device_freed", again: true });
  a?.port.say(WANTED);
  expect(b?.shared.deviceTurn).toBe(undefined);
  expect(waited).toEqual([["a", 0]]);
  b?.port.say(WANTED);
  expect(a?.port.told.at(-1)).toEqual({ type: "device_recalled", afterMs: 0 });
});

/** An engine that is loaded, has the device and is waited for by another one. */
function owing() {
  const { engines } = deviceOf("a", "b");
  const [a = expect.fail(), b = expect.fail()] = engines;
  a.port.say({ type: "loaded", facts: { ...new FakeBackend().facts, loadMs: 1 } });
  a.port.say(WANTED);
  b.port.say(WANTED);
  const tick = (seconds: number): void => {
    for (let i = 0; i < seconds; i++) for (const { supervisor } of engines) supervisor.tick(1000);
  };
  return { a, b, tick };
}

const embed = (call: number): EngineCommand => ({ type: "embed", call, inputs: [[{ tokens: [1] }]] });
const vectors = (call: number, ms: number): EngineEvent => ({
  type: "embedded",
  call,
  vectors: [Float32Array.of(1)],
  tokenCounts: [1],
  work: { calls: 9, ms },
});

test("who computes vectors while others wait has a minute for a call, and ten times what calls have taken", () => {
  const { a, b, tick } = owing();
  a.supervisor.send(embed(1));
  tick(50);
  a.port.say(vectors(1, 50_000));
  a.supervisor.send(embed(2));
  tick(400);
  // What is computed of it may go on.
  a.supervisor.send({ type: "cancel_call", call: 2 });
  tick(100);
  expect(a.port.killed).toBe(false);
  tick(1);
  expect(a.port.killed).toBe(true);
  expect(a.stuck).toEqual([500_000]);
  expect(b.port.killed).toBe(false);
});

test("one that has streams beside is stuck as soon as without other models", () => {
  const { a, tick } = owing();
  a.supervisor.send(embed(1));
  a.supervisor.send(submitCommand("r", [1, 2, 3]));
  tick(30);
  expect(a.port.killed).toBe(false);
  tick(1);
  expect(a.stuck).toEqual([30_000]);
});

test("one whose turn nobody waits for any more may take as long as it needs", async () => {
  const { a, b, tick } = owing();
  expect(a.shared.deviceTurn).toBe("owed");
  b.port.die();
  await b.shared.exited;
  expect(a.port.told.at(-1)).toEqual({ type: "device_recalled", afterMs: Infinity });
  expect(a.shared.deviceTurn).toBe(undefined);
  tick(1000);
  expect(a.port.killed).toBe(false);
});
