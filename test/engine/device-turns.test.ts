/** Engines that share a device: only one computes at a time, each gets what it would get alone, and whoever ends or is told nothing holds it up. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { EngineClient } from "../../engine/client.ts";
import { DeviceLease } from "../../engine/device-lease.ts";
import { DeviceTurns } from "../../engine/device-turns.ts";
import { createEngine } from "../../engine/engine.ts";
import { FakeBackend, fakeOutput } from "../../engine/fake/backend.ts";
import type { FakeOptions } from "../../engine/fake/backend.ts";
import { LoopSleep } from "../../engine/loop-sleep.ts";
import type { PrefillComputer, WorkerStarter } from "../../engine/prefill-worker/client.ts";
import { hostEngine } from "../../engine/process/in-process.ts";
import type { EngineCommand, EngineEvent, LoadOptions } from "../../engine/protocol.ts";
import { StepCounts } from "../../engine/step-counts.ts";
import { SharedDevice } from "../../src/shared-device.ts";
import { GREEDY, LOAD_OPTIONS, fakeEngine, submitCommand } from "../support/engine.ts";
import { schedulerState } from "../support/scheduler.ts";
import { MortalEngine } from "../support/mortal-engines.ts";

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** Native calls take some turns of the event loop, in which others would begin theirs. */
async function call(): Promise<void> {
  for (let i = 0; i < 3; i++) await turn();
}

/** A device that notes who computes on it, and that nobody did beside another one. */
class WatchedDevice {
  readonly turns: string[] = [];
  readonly waitedMs: [model: string, ms: number][] = [];
  collisions = 0;
  #busy = 0;
  readonly shared = new SharedDevice({
    nowMs: () => performance.now(),
    onWaited: (...waited) => this.waitedMs.push(waited),
    onHeld: () => undefined,
  });

  async compute(name: string, work: () => Promise<void> = call): Promise<void> {
    if (this.#busy > 0) this.collisions += 1;
    this.#busy += 1;
    this.turns.push(name);
    await work();
    this.#busy -= 1;
  }

  async engine(name: string, sizes: FakeOptions = {}, more: Partial<LoadOptions> = {}) {
    const backend = new FakeBackend({
      onRun: () => this.compute(name),
      onEmbed: () => this.compute(`${name} embeds`),
      ...sizes,
    });
    const engine = new MortalEngine(hostEngine((emit) => createEngine(async () => backend, emit)));
    const client = new EngineClient(this.shared.share(engine, name, 1));
    await client.load({ ...LOAD_OPTIONS, sharesDevice: true, ...more });
    const ask = async (id: string, prompt: readonly number[], maxTokens: number): Promise<number[]> => {
      const stream = await client.submit({ ...submitCommand(id, prompt), params: { ...GREEDY, maxTokens } });
      const tokens: number[] = [];
      for await (const output of stream) tokens.push(...output.tokens);
      return tokens;
    };
    return { engine, backend, client, ask };
  }
}

const text = (seed: number, length: number): number[] =>
  Array.from({ length }, (_, i) => 97 + ((seed * 7 + i) % 26));

test("engines never compute at the same time, and say what they say alone", async () => {
  const device = new WatchedDevice();
  const [a, b] = [await device.engine("a"), await device.engine("b")];
  const asked = [1, 2, 3, 4, 5, 6].map(async (seed) => {
    const prompt = text(seed, 5 * seed);
    const { ask } = seed % 2 === 0 ? a : b;
    expect(await ask(`r${seed}`, prompt, 30)).toEqual(fakeOutput(prompt, 30));
  });
  const embedded = a.client.embed([[{ tokens: text(9, 20) }], [{ tokens: text(8, 9) }]]);
  await Promise.all([...asked, embedded]);
  expect(device.collisions).toBe(0);
  expect(new Set(device.turns)).toEqual(new Set(["a", "b", "a embeds"]));
  await Promise.all([a.client.stop(), b.client.stop()]);
});

test("one that is busy alone asks once and gives the device back when it is idle", async () => {
  const device = new WatchedDevice();
  const [a, b] = [await device.engine("a"), await device.engine("b")];
  await a.ask("r", text(1, 20), 40);
  await expect.poll(() => device.waitedMs.map(([model]) => model)).toEqual(["a"]);
  const told = a.engine.commands.map(({ type }) => type).filter((type) => type.startsWith("device"));
  expect(told).toEqual(["device_granted"]);
  // It waits for nobody.
  await b.ask("r", text(2, 20), 4);
  expect(device.waitedMs.map(([model]) => model)).toEqual(["a", "b"]);
  await Promise.all([a.client.stop(), b.client.stop()]);
});

test("a device of one's own is nobody's business", async () => {
  const engine = await fakeEngine();
  engine.send(submitCommand("r", text(1, 20)));
  await engine.drained();
  expect(engine.events.filter(({ type }) => type.startsWith("device"))).toEqual([]);
  await engine.stop();
});

test("one that loads beside a stream computes in its turns, and the stream goes on", async () => {
  const device = new WatchedDevice();
  const a = await device.engine("a");
  const stream = a.ask("r", text(1, 9), 100);
  // Without costs that are known it measures.
  const measures = new FakeBackend({ onRun: () => device.compute("b") });
  const b = hostEngine((emit) =>
    createEngine(async () => Object.defineProperty(measures, "cost", { value: undefined }), emit),
  );
  const client = new EngineClient(device.shared.share(b, "b", 1));
  const { measured } = await client.load({ ...LOAD_OPTIONS, sharesDevice: true });
  expect(measured).toHaveLength(1);
  expect(await stream).toEqual(fakeOutput(text(1, 9), 100));
  expect(device.collisions).toBe(0);
  expect(device.turns.indexOf("b")).toBeLessThan(device.turns.lastIndexOf("a"));
  await Promise.all([a.client.stop(), client.stop()]);
});

test("one whose draft model is read from its file leaves others the device, and says that it lives", async () => {
  const device = new WatchedDevice();
  const a = await device.engine("a");
  const unmeasured = (onRun: () => Promise<void>): FakeBackend =>
    Object.defineProperty(new FakeBackend({ onRun }), "cost", { value: undefined });
  let read = (): void => undefined;
  const reads: (() => void)[] = [];
  const b = hostEngine((emit) =>
    createEngine(async ({ modelPath }, onProgress) => {
      if (modelPath === "draft.gguf")
        await new Promise<void>((resolve) => {
          reads.push(() => onProgress(0.5));
          read = resolve;
        });
      return unmeasured(() => device.compute("b"));
    }, emit),
  );
  let told = 0;
  const client = new EngineClient(device.shared.share(b, "b", 1), { onLoadProgress: () => (told += 1) });
  const loaded = client.load({ ...LOAD_OPTIONS, sharesDevice: true, draftModelPath: "draft.gguf" });
  while (reads.length === 0) await turn();
  const before = told;
  reads[0]?.();
  await expect.poll(() => told).toBe(before + 1);
  // While it is read.
  expect(await a.ask("r", text(1, 9), 100)).toEqual(fakeOutput(text(1, 9), 100));
  read();
  expect((await loaded).measured).toHaveLength(2);
  expect(await a.ask("s", text(2, 9), 20)).toEqual(fakeOutput(text(2, 9), 20));
  expect(device.collisions).toBe(0);
  await Promise.all([a.client.stop(), client.stop()]);
});

/** An engine that has a lease and no arbiter: the test is that. */
async function leasedEngine(
  sizes: FakeOptions = {},
  more: Partial<LoadOptions> = {},
  startWorker?: WorkerStarter,
) {
  const engine = await fakeEngine(sizes, { sharesDevice: true, ...more }, undefined, startWorker);
  const said = (): EngineEvent[] => engine.events.filter(({ type }) => type.startsWith("device"));
  const until = async (condition: () => boolean): Promise<void> => {
    while (!condition()) await turn();
  };
  return {
    backend: engine.backend,
    events: engine.events,
    send: (command: EngineCommand) => engine.send(command),
    stats: () => engine.stats(),
    stop: () => engine.stop(),
    outputs: (id: string) => engine.outputs(id),
    tokens: (id: string) => engine.tokens(id),
    said,
    until,
    grant: (forMs: number) => engine.send({ type: "device_granted", forMs } satisfies EngineCommand),
    recall: (afterMs: number) => engine.send({ type: "device_recalled", afterMs } satisfies EngineCommand),
  };
}

test("who waits for the device computes nothing, and hears and answers all the same", async () => {
  const { backend, events, send, said, until, grant, stats, tokens, stop, outputs } = await leasedEngine({
    slowness: 0.01,
  });
  send(submitCommand("r", text(1, 20)));
  send(submitCommand("gone", text(2, 20)));
  const { running, queued } = await stats();
  expect(running + queued).toBe(2);
  send({ type: "cancel", id: "gone" });
  send({ ...submitCommand("late", text(3, 20)), firstTokenWithinMs: 20 });
  await until(() => events.some((event) => event.type === "failed" && event.id === "late"));
  const accepted = events.flatMap((event) => (event.type === "accepted" ? [event.id] : []));
  expect(accepted).toEqual(["r", "gone", "late"]);
  const left = await stats();
  expect(left.running + left.queued).toBe(1);
  expect(backend.calls).toEqual([]);
  expect(said()).toEqual([{ type: "device_wanted" }]);
  grant(Infinity);
  await until(() => outputs("r").at(-1)?.finish !== undefined);
  expect(tokens("r")).toEqual(fakeOutput(text(1, 20), 8));
  await until(() => said().length === 2);
  expect(said()[1]).toEqual({ type: "device_freed", again: false });
  await stop();
});

test("who is told to gives the device up behind the call under way, in the middle of a step too", async () => {
  const runs: (() => void)[] = [];
  const onRun = (): Promise<void> => new Promise((resolve) => void runs.push(resolve));
  const { backend, send, said, until, grant, recall, outputs, stop } = await leasedEngine({ onRun });
  send(submitCommand("stream", text(1, 9)));
  grant(Infinity);
  const next = async (): Promise<void> => {
    await until(() => runs.length > 0);
    runs.shift()?.();
  };
  while (outputs("stream").length === 0) await next();
  // A step of a token and of cells of a prompt beside it.
  send(submitCommand("prompt", text(2, 30)));
  await until(() => runs.length > 0);
  await next();
  await until(() => runs.length > 0);
  const before = backend.calls.length;
  recall(0);
  await turn();
  expect(said().at(-1)).not.toEqual({ type: "device_freed", again: true });
  await next();
  await until(() => said().some((event) => event.type === "device_freed"));
  for (let i = 0; i < 20; i++) await turn();
  expect(backend.calls.length - before).toBeLessThanOrEqual(1);
  expect(runs).toEqual([]);
  // A turn of no length is one call.
  for (let calls = 0; calls < 3; calls++) {
    const freed = said().length;
    grant(0);
    await next();
    await until(() => said().length > freed);
    expect(said().at(-1)).toEqual({ type: "device_freed", again: true });
    expect(runs).toEqual([]);
  }
  grant(Infinity);
  while (outputs("prompt").at(-1)?.finish === undefined) {
    runs.shift()?.();
    await turn();
  }
  expect(outputs("prompt").flatMap((output) => [...output.tokens])).toEqual(fakeOutput(text(2, 30), 8));
  await stop();
});

test("one that is stopped while it waits for the device ends", async () => {
  const { send, said, until, stop } = await leasedEngine();
  send(submitCommand("r", text(1, 20)));
  await until(() => said().length === 1);
  await stop();
  expect(said()).toEqual([{ type: "device_wanted" }]);
});

test("a turn that nobody needs any more is given back", async () => {
  const { backend, send, said, until, grant, stop } = await leasedEngine();
  send(submitCommand("r", text(1, 20)));
  await until(() => said().length === 1);
  send({ type: "cancel", id: "r" });
  grant(Infinity);
  await until(() => said().length === 2);
  expect(said()).toEqual([{ type: "device_wanted" }, { type: "device_freed", again: false }]);
  expect(backend.calls).toEqual([]);
  await stop();
});

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "weft-turns-test-"));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

test("the prefill worker stands still while its engine has not the device", async () => {
  let held = false;
  const worker: PrefillComputer = {
    compute: () => new Promise(() => undefined),
    cancel: () => undefined,
    hold: () => void (held = true),
    go: () => void (held = false),
    close: () => undefined,
  };
  let ready = (): void => undefined;
  let begun = false;
  const start: WorkerStarter = (_options, _facts, { onReady }) => {
    ready = onReady;
    begun = true;
    return { ...worker, compute: () => ((computing = true), new Promise(() => undefined)) };
  };
  let computing = false;
  const { send, said, until, grant, recall, outputs, stop } = await leasedEngine(
    { slots: 2, threads: 2, itlTargetMs: 0.1, contextTokens: 2048, onRun: turn },
    { prefillWorker: true, spill: { directory, bytes: 100_000 } },
    start,
  );
  await until(() => begun);
  ready();
  send(submitCommand("stream", text(1, 9), { maxTokens: 1000 }));
  grant(Infinity);
  await until(() => outputs("stream").length > 0);
  send(submitCommand("long", text(3, 100)));
  await until(() => computing);
  recall(0);
  await until(() => said().some((event) => event.type === "device_freed"));
  for (let i = 0; i < 20; i++) {
    expect(held).toBe(true);
    await turn();
  }
  const tokens = outputs("stream").length;
  grant(Infinity);
  await until(() => outputs("stream").length > tokens);
  await until(() => !held);
  // With nothing to compute itself it keeps the device for its worker, and gives it up as soon as it is told.
  send({ type: "cancel", id: "stream" });
  for (let i = 0; i < 20; i++) await turn();
  const before = said().length;
  expect([held, said().at(-1)]).toEqual([false, { type: "device_freed", again: true }]);
  recall(0);
  await until(() => said().length > before);
  expect([held, said().at(-1)]).toEqual([true, { type: "device_freed", again: true }]);
  await stop();
});

test("what was waited while a model was loaded is no round's wait", async () => {
  const lease = new DeviceLease(() => undefined);
  lease.waitedMs = 20_000;
  const state = schedulerState();
  const links = { lease, sideWork: { pending: false, runPiece: () => Promise.resolve() } };
  const turns = new DeviceTurns({
    state,
    links,
    sleep: new LoopSleep(),
    counts: new StepCounts(state),
    send: () => undefined,
  });
  turns.beginRound();
  await turns.pause(true);
  expect(state.deviceShare.waitedMs).toBe(0);
  turns.close();
});
