/** An engine whose long prompts another process computes: outputs are those of one without, whatever becomes of that. */
import { mkdtempSync, readdirSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as fc from "fast-check";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { EngineError } from "../../engine/errors.ts";
import { FakeBackend, fakeOutput } from "../../engine/fake/backend.ts";
import { FlightRecorder } from "../../engine/flight-recorder.ts";
import { Offloads } from "../../engine/offloads.ts";
import { PrefillReports } from "../../engine/prefill-reports.ts";
import type { PrefillComputer, WorkerStarter, WorkerWatcher } from "../../engine/prefill-worker/client.ts";
import { PriorityClass } from "../../engine/sharing.ts";
import { openSpillStore } from "../../engine/spill-store.ts";
import { StepRecord } from "../../engine/step-record.ts";
import { traceEvents } from "../../src/routes/trace-events.ts";
import { fakeEngine, submitCommand } from "../support/engine.ts";
import type { FakeEngine } from "../support/engine.ts";
import { schedulerState } from "../support/scheduler.ts";
import { traceFaults } from "../support/trace-form.ts";

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "weft-offload-test-"));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
const text = (seed: number, length: number): number[] =>
  Array.from({ length }, (_, i) => 97 + ((seed * 7 + i) % 26));

type Behaviour = "computes" | "fails" | "writes rubbish" | "is cut short" | "dies";

/** A worker of which tests say what it does, and when it has done it. */
class ToldWorker implements PrefillComputer {
  readonly computed: number[][] = [];
  held = false;
  cancelled = 0;
  closed = false;
  behaviour: Behaviour = "computes";
  tellProgress: (computed: number) => void = () => undefined;
  /** Turns of the event loop that a prompt takes it. */
  turns = 3;
  left = 0;
  watcher: WorkerWatcher | undefined;

  readonly start: WorkerStarter = (_options, _facts, watcher) => {
    this.watcher = watcher;
    setImmediate(() => watcher.onReady());
    return this;
  };

  async compute(tokens: Uint32Array, file: string, onProgress: (computed: number) => void): Promise<number> {
    const { behaviour } = this;
    this.tellProgress = onProgress;
    onProgress(8);
    for (this.left = this.turns; this.left > 0; this.left -= this.held ? 0 : 1) await turn();
    if (behaviour === "dies") this.watcher?.onGone("on purpose");
    if (behaviour === "dies" || behaviour === "fails") throw new EngineError("decode_failed", "On purpose.");
    const cells = behaviour === "computes" || behaviour === "is cut short" ? tokens.join(" ") : "x y";
    writeFileSync(file, cells);
    if (behaviour === "is cut short") truncateSync(file, cells.length - 1);
    this.computed.push([...tokens]);
    return cells.length;
  }

  cancel(): void {
    this.cancelled += 1;
  }
  hold(): void {
    this.held = true;
  }
  go(): void {
    this.held = false;
  }
  close(): void {
    this.closed = true;
  }
}

/**
 * Calls here take next to no time, as the engine learns; a prompt of some cells has to be long all the same. Each call takes
 * a turn of the event loop, so that others have theirs.
 */
async function engineWith(worker: ToldWorker, slots = 4): Promise<FakeEngine> {
  const engine = await fakeEngine(
    { slots, threads: 2, itlTargetMs: 0.1, contextTokens: 2048, onRun: turn },
    { prefillWorker: true, spill: { directory, bytes: 100_000 } },
    undefined,
    worker.start,
  );
  while (worker.watcher === undefined || (await engine.stats()).prefillWorker === undefined) await turn();
  return engine;
}

async function firstToken(engine: FakeEngine, id: string): Promise<void> {
  while (engine.outputs(id).length === 0) await turn();
}

/** Prompts that were computed elsewhere, and those that failed there. */
function offloaded({ events }: FakeEngine): [computed: number, failed: number] {
  let [computed, failed] = [0, 0];
  for (const event of events) {
    if (event.type !== "step") continue;
    computed += event.report.offload?.prompts ?? 0;
    failed += event.report.offload?.failures ?? 0;
  }
  return [computed, failed];
}

/** What became of the prompts that it was given, in their order. */
async function endsOf(engine: FakeEngine): Promise<unknown[]> {
  return (await engine.timeline()).offloads.map(({ end }) => end);
}

test("a long prompt beside a stream is computed by the worker, and by nobody else", async () => {
  const worker = new ToldWorker();
  const engine = await engineWith(worker);
  const long = text(3, 100);
  engine.send(submitCommand("stream", text(1, 9), { maxTokens: 60 }));
  await firstToken(engine, "stream");
  engine.backend.calls.length = 0;
  engine.send(submitCommand("long", long, { maxTokens: 5 }));
  await engine.drained();
  expect(worker.computed).toEqual([long.slice(0, -1)]);
  expect(engine.tokens("long")).toEqual(fakeOutput(long, 5));
  expect(engine.tokens("stream")).toEqual(fakeOutput(text(1, 9), 60));
  expect(offloaded(engine)).toEqual([1, 0]);
  // The engine has decoded alone: no call has as many tokens of one slot as a cell.
  expect(engine.backend.calls.flat().every(({ tokens }) => tokens < 8)).toBe(true);
  expect(engine.outputs("long")[0]?.start?.cachedTokens).toBe(0);
  const { steps, offloads } = await engine.timeline();
  expect(offloads).toMatchObject([{ request: 1, slot: 1, tokens: 99, end: "landed" }]);
  const [{ startMs, endMs = NaN, deviceMs } = expect.fail()] = offloads;
  expect(deviceMs).toBeGreaterThan(0);
  expect(deviceMs).toBeLessThan(endMs - startMs);
  // All of its calls are behind it, and others' beside it.
  const calls = steps.flatMap((step) => step.calls);
  const ofLong = calls.filter(({ entries }) => entries[1] === 1 || entries[5] === 1);
  expect(Math.min(...ofLong.map((call) => call.startMs))).toBeGreaterThan(endMs);
  expect(calls.some((call) => call.startMs > startMs && call.startMs < endMs)).toBe(true);
  await engine.stop();
  expect(worker.closed).toBe(true);
  expect(readdirSync(directory)).toEqual([]);
});

test("who asks for it is told how far the worker is", async () => {
  const worker = new ToldWorker();
  const engine = await engineWith(worker);
  engine.send(submitCommand("stream", text(1, 9), { maxTokens: 60 }));
  await firstToken(engine, "stream");
  engine.send({ ...submitCommand("long", text(3, 100), { maxTokens: 5 }), reportsPrefill: true });
  await engine.drained();
  const told = engine.outputs("long").flatMap(({ prefill }) => prefill?.computedTokens ?? []);
  expect(told).toEqual([0, 8]);
  await engine.stop();
});

test("alone, or behind a prefix of half of it, a prompt is computed here", async () => {
  const worker = new ToldWorker();
  const engine = await engineWith(worker);
  engine.send({ ...submitCommand("alone", text(3, 100), { maxTokens: 60 }), cacheScope: "s" });
  await firstToken(engine, "alone");
  const half = [...text(3, 96), ...text(4, 60)];
  engine.send({ ...submitCommand("half", half, { maxTokens: 5 }), cacheScope: "s" });
  await engine.drained();
  expect(engine.outputs("half")[0]?.start?.cachedTokens).toBe(96);
  expect(worker.computed).toEqual([]);
  await engine.stop();
});

test("a prompt that begins like one that is computed elsewhere waits for it and copies it", async () => {
  const worker = new ToldWorker();
  worker.turns = 20;
  const engine = await engineWith(worker);
  engine.send(submitCommand("stream", text(1, 9), { maxTokens: 100 }));
  await firstToken(engine, "stream");
  const [a, b] = [text(3, 100), [...text(3, 100), 33, 34, 35]];
  engine.send({ ...submitCommand("a", a, { maxTokens: 5 }), cacheScope: "s" });
  engine.send({ ...submitCommand("b", b, { maxTokens: 5 }), cacheScope: "s" });
  await engine.drained();
  expect(worker.computed).toHaveLength(1);
  expect(engine.outputs("b")[0]?.start?.cachedTokens).toBe(99);
  expect(engine.tokens("b")).toEqual(fakeOutput(b, 5));
  await engine.stop();
});

test("the worker stands still while the engine computes, and has its time between steps", async () => {
  const worker = new ToldWorker();
  worker.turns = 10;
  const engine = await engineWith(worker);
  let heldInCalls = 0;
  const run = engine.backend.run.bind(engine.backend);
  engine.backend.run = (...given) => {
    if (worker.held) heldInCalls += 1;
    return run(...given);
  };
  engine.send(submitCommand("stream", text(1, 9), { maxTokens: 100 }));
  await firstToken(engine, "stream");
  engine.send(submitCommand("long", text(3, 100), { maxTokens: 5 }));
  await engine.drained();
  expect(worker.computed).toHaveLength(1);
  expect(heldInCalls).toBeGreaterThan(0);
  expect(worker.held).toBe(false);
  await engine.stop();
});

test("streams have their tokens before the cells of a prompt are read, which takes time", async () => {
  const worker = new ToldWorker();
  const engine = await engineWith(worker);
  const seen: string[] = [];
  const { backend } = engine;
  const [run, loadCells] = [backend.run.bind(backend), backend.loadCells.bind(backend)];
  backend.run = (...given) => {
    seen.push(worker.computed.length > 0 ? "call" : "call before");
    return run(...given);
  };
  backend.loadCells = (...given) => {
    seen.push("cells");
    return loadCells(...given);
  };
  engine.send(submitCommand("stream", text(1, 9), { maxTokens: 200 }));
  await firstToken(engine, "stream");
  engine.send(submitCommand("long", text(3, 100), { maxTokens: 5 }));
  await engine.drained();
  expect(seen.filter((one) => one !== "call before").slice(0, 3)).toEqual(["call", "cells", "call"]);
  await engine.stop();
});

test("who leaves takes the prompt away from the worker, which then takes another", async () => {
  const worker = new ToldWorker();
  worker.turns = 30;
  const engine = await engineWith(worker);
  engine.send(submitCommand("stream", text(1, 9), { maxTokens: 200 }));
  await firstToken(engine, "stream");
  engine.send(submitCommand("gone", text(3, 100), { maxTokens: 5 }));
  while ((await engine.stats()).prefillWorker !== "busy") await turn();
  engine.send({ type: "cancel", id: "gone" });
  while ((await engine.stats()).prefillWorker !== "idle") await turn();
  expect(worker.cancelled).toBe(1);
  engine.send(submitCommand("next", text(5, 100), { maxTokens: 5 }));
  await engine.drained();
  expect(worker.computed.at(-1)).toEqual(text(5, 99));
  expect(engine.tokens("next")).toEqual(fakeOutput(text(5, 100), 5));
  expect(offloaded(engine)).toEqual([1, 0]);
  expect(await endsOf(engine)).toEqual(["left", "landed"]);
  await engine.stop();
});

test("what the worker cannot compute is computed here, and it is not asked for ever", async () => {
  const worker = new ToldWorker();
  const engine = await engineWith(worker);
  worker.behaviour = "fails";
  engine.send(submitCommand("stream", text(1, 9), { maxTokens: 2000 }));
  await firstToken(engine, "stream");
  for (const id of ["a", "b", "c"]) {
    engine.send(submitCommand(id, text(id.charCodeAt(0), 100), { maxTokens: 2 }));
    while (engine.tokens(id).length < 2) await turn();
    expect(engine.tokens(id)).toEqual(fakeOutput(text(id.charCodeAt(0), 100), 2));
  }
  // Nobody has waited for the stream's end.
  expect(engine.tokens("stream").length).toBeLessThan(2000);
  expect(offloaded(engine)).toEqual([0, 2]);
  expect(await endsOf(engine)).toEqual(["failed", "failed"]);
  expect(worker.closed).toBe(true);
  expect((await engine.stats()).prefillWorker).toBeUndefined();
  await engine.stop();
});

test("the server hears of a prompt that is computed elsewhere while nothing is here", async () => {
  const worker = new ToldWorker();
  worker.turns = Infinity;
  const engine = await engineWith(worker);
  engine.send(submitCommand("stream", text(1, 9), { maxTokens: 10 }));
  await firstToken(engine, "stream");
  engine.send(submitCommand("long", text(3, 100), { maxTokens: 5 }));
  while (engine.tokens("stream").length < 10) await turn();
  while ((await engine.stats()).slots.some(({ state }) => state === "decode")) await turn();
  await turn();
  const before = engine.events.length;
  worker.tellProgress(64);
  while (engine.events.slice(before).every(({ type }) => type === "stats")) await engine.stats();
  expect(engine.events.slice(before).filter(({ type }) => type !== "stats")).toMatchObject([
    { type: "step", outputs: [] },
  ]);
  worker.left = 0;
  await engine.drained();
  expect(engine.tokens("long")).toEqual(fakeOutput(text(3, 100), 5));
  await engine.stop();
});

test("the server hears of it, too, while those who have slots here are paused", async () => {
  const worker = new ToldWorker();
  worker.turns = Infinity;
  const engine = await engineWith(worker);
  engine.send(submitCommand("stream", text(1, 9), { maxTokens: 1900 }));
  await firstToken(engine, "stream");
  engine.send(submitCommand("long", text(3, 100), { maxTokens: 5 }));
  while ((await engine.stats()).prefillWorker !== "busy") await turn();
  engine.send({ type: "control", id: "stream", change: { paused: true } });
  // A call that had begun ends first.
  for (let i = 0; i < 20; i++) await turn();
  const before = engine.events.length;
  worker.tellProgress(64);
  for (let i = 0; i < 20; i++) await turn();
  expect(engine.events.slice(before)).toMatchObject([{ type: "step", outputs: [] }]);
  engine.send({ type: "cancel", id: "stream" });
  worker.left = 0;
  await engine.drained();
  await engine.stop();
});

test("who needs a slot does not take that of a prompt of which the worker has much", async () => {
  const worker = new ToldWorker();
  worker.turns = Infinity;
  const engine = await engineWith(worker, 2);
  const low = { priority: PriorityClass.low };
  engine.send({ ...submitCommand("stream", text(1, 9), { maxTokens: 1900 }), ...low });
  await firstToken(engine, "stream");
  engine.send({ ...submitCommand("long", text(3, 200), { maxTokens: 1800 }), ...low });
  while ((await engine.stats()).prefillWorker !== "busy") await turn();
  worker.tellProgress(190);
  engine.send({ ...submitCommand("high", text(5, 9), { maxTokens: 2 }), priority: PriorityClass.high });
  while (engine.tokens("high").length < 2) await turn();
  expect(engine.tokens("stream").length).toBeLessThan(1900);
  expect(worker.cancelled).toBe(0);
  worker.left = 0;
  await engine.drained();
  expect(worker.computed).toEqual([text(3, 199)]);
  await engine.stop();
});

test("who shares but the beginning of it does not wait for a prompt that is computed elsewhere", async () => {
  const worker = new ToldWorker();
  worker.turns = Infinity;
  const engine = await engineWith(worker);
  engine.send(submitCommand("stream", text(1, 9), { maxTokens: 400 }));
  await firstToken(engine, "stream");
  engine.send({ ...submitCommand("long", text(3, 200), { maxTokens: 5 }), cacheScope: "s" });
  while ((await engine.stats()).prefillWorker !== "busy") await turn();
  const short = [...text(3, 40), 33, 34];
  engine.send({ ...submitCommand("short", short, { maxTokens: 2 }), cacheScope: "s" });
  while (engine.tokens("short").length < 2) await turn();
  expect(engine.tokens("short")).toEqual(fakeOutput(short, 2));
  expect(engine.tokens("long")).toEqual([]);
  worker.left = 0;
  await engine.drained();
  await engine.stop();
});

test("a worker's silence is time in which it has the device, since it said something last", () => {
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
  let nowMs = 0;
  vi.spyOn(performance, "now").mockImplementation(() => nowMs);
  const pass = (seconds: number): void => {
    nowMs += 1000 * seconds;
    vi.advanceTimersByTime(1000 * seconds);
  };
  try {
    const state = schedulerState();
    const worker = new ToldWorker();
    worker.compute = (_tokens, _file, onProgress) => {
      worker.tellProgress = onProgress;
      return new Promise(() => undefined);
    };
    const offloads = new Offloads({
      state,
      backend: new FakeBackend(),
      computer: worker,
      store: openSpillStore({ directory, bytes: 1000 }) ?? expect.fail(),
      record: new StepRecord(state),
      recorder: new FlightRecorder(1),
      prefills: new PrefillReports(state, () => undefined),
      wake: () => undefined,
    });
    offloads.begin({ request: "r", slot: 0, tokens: Uint32Array.from(text(1, 20)) });
    offloads.hold();
    // Another engine's turn.
    pass(500);
    offloads.go();
    pass(50);
    worker.tellProgress(8);
    pass(50);
    offloads.hold();
    pass(500);
    offloads.go();
    pass(9);
    expect(worker.closed).toBe(false);
    offloads.hold();
    pass(500);
    expect(worker.closed).toBe(false);
    offloads.go();
    pass(1);
    expect(worker.closed).toBe(true);
    expect(offloads.busy).toBe(false);
    offloads.close();
  } finally {
    vi.restoreAllMocks();
    vi.useRealTimers();
  }
});

test("whatever comes and goes, and whatever the worker does, every output is right", async () => {
  const request = fc.record({
    seed: fc.nat(3),
    length: fc.oneof(fc.integer({ min: 1, max: 20 }), fc.integer({ min: 40, max: 120 })),
    count: fc.integer({ min: 1, max: 30 }),
    waits: fc.nat(12),
    cancelledAfter: fc.option(fc.nat(20)),
    pausedFor: fc.option(fc.nat(20)),
    priority: fc.constantFrom(...Object.values(PriorityClass)),
    tenant: fc.nat(2),
    behaviour: fc.constantFrom<Behaviour>(
      "computes",
      "computes",
      "computes",
      "fails",
      "writes rubbish",
      "dies",
    ),
    turns: fc.integer({ min: 1, max: 20 }),
  });
  const totals = { computed: 0, failed: 0 };
  await fc.assert(
    fc.asyncProperty(
      fc.integer({ min: 1, max: 4 }),
      fc.array(request, { minLength: 3, maxLength: 14 }),
      async (slots, requests) => {
        for (const left of readdirSync(directory)) rmSync(join(directory, left), { recursive: true });
        const worker = new ToldWorker();
        const engine = await engineWith(worker, slots);
        const later: Promise<void>[] = [];
        const after = async (turns: number, act: () => void): Promise<void> => {
          for (let left = turns; left > 0; left--) await turn();
          act();
        };
        for (const [i, asked] of requests.entries()) {
          const { seed, length, count, waits, cancelledAfter, pausedFor, priority, tenant } = asked;
          Object.assign(worker, { behaviour: asked.behaviour, turns: asked.turns });
          const id = `r${i}`;
          const command = submitCommand(id, text(seed, length), { maxTokens: count });
          engine.send({ ...command, cacheScope: "s", priority, owner: `t${tenant}` });
          if (cancelledAfter !== null)
            later.push(after(cancelledAfter, () => engine.send({ type: "cancel", id })));
          if (pausedFor !== null) {
            engine.send({ type: "control", id, change: { paused: true } });
            later.push(
              after(pausedFor, () => engine.send({ type: "control", id, change: { paused: false } })),
            );
          }
          await after(waits, () => undefined);
        }
        await Promise.all(later);
        await engine.drained();
        for (const [i, { seed, length, count, cancelledAfter }] of requests.entries()) {
          const truth = fakeOutput(text(seed, length), count);
          const tokens = engine.tokens(`r${i}`);
          expect(tokens).toEqual(cancelledAfter === null ? truth : truth.slice(0, tokens.length));
        }
        expect(engine.events.filter((event) => event.type === "failed")).toEqual([]);
        const stats = await engine.stats();
        stats.slots.forEach((slot) => expect(slot.tokens).toBe(engine.backend.cellCount(slot.id)));
        const [computed, failed] = offloaded(engine);
        totals.computed += computed;
        totals.failed += failed;
        const timeline = await engine.timeline(100_000);
        expect(traceFaults(traceEvents(timeline))).toEqual([]);
        // Who is last may be gone before the server is told of it.
        const ended = (as: string): number => timeline.offloads.filter(({ end }) => end === as).length;
        expect([ended("landed") >= computed, ended("failed") >= failed]).toEqual([true, true]);
        expect(ended("landed")).toBeLessThanOrEqual(worker.computed.length);
        await engine.stop();
        expect(readdirSync(directory)).toEqual([]);
      },
    ),
    { numRuns: 60 },
  );
  // Both have happened.
  expect(Math.min(totals.computed, totals.failed)).toBeGreaterThan(5);
});
