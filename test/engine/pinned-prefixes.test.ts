/** An engine with pinned prompts: computed before it has anything else to do, there for everybody, and there again after it. */
import { copyFileSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import * as fc from "fast-check";
import { afterEach, beforeEach, expect, test } from "vitest";
import { EventChecker } from "../../engine/check-event.ts";
import { modelOf } from "../../engine/calibrate.ts";
import { FakeBackend, fakeOutput } from "../../engine/fake/backend.ts";
import type { FakeOptions } from "../../engine/fake/backend.ts";
import type { EngineEvent, LoadOptions, PinnedPrompt, PinPrompt } from "../../engine/protocol.ts";
import { PinnedPrefixes } from "../../engine/pinned-prefixes.ts";
import { SpillStore } from "../../engine/spill-store.ts";
import { schedulerState } from "../support/scheduler.ts";
import { fakeEngine, submitCommand } from "../support/engine.ts";
import type { FakeEngine } from "../support/engine.ts";

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "weft-pins-test-"));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

const text = (seed: number, length: number): number[] =>
  Array.from({ length }, (_, i) => 97 + ((seed * 7 + i) % 26));

const SYSTEM = text(1, 30);

/** As it is with three turns of users that have nothing in common. */
const asked = (name: string, tokens: readonly number[]): PinPrompt => ({
  name,
  prompts: [[65], [66, 67], [68]].map((turn) => [{ tokens: [...tokens, ...turn] }]),
});

const start = (options: FakeOptions = {}, load: Partial<LoadOptions> = {}): Promise<FakeEngine> =>
  fakeEngine({ slots: 2, ...options }, { spill: { directory, bytes: 2000 }, ...load });

let lastCall = 100;
type Answer = Extract<EngineEvent, { type: "pinned" | "call_failed" }>;
async function pinned(engine: FakeEngine, prompts: readonly PinPrompt[]): Promise<Answer> {
  const call = ++lastCall;
  engine.send({ type: "pin", call, prompts });
  for (;;) {
    const answer = engine.events.find((event): event is Answer => "call" in event && event.call === call);
    if (answer !== undefined) return answer;
    await new Promise((resolve) => setImmediate(resolve));
  }
}

async function pinsOf(engine: FakeEngine, prompts: readonly PinPrompt[]): Promise<readonly PinnedPrompt[]> {
  const answer = await pinned(engine, prompts);
  expect(answer).toMatchObject({ type: "pinned" });
  return answer.type === "pinned" ? answer.pins : [];
}

async function ask(engine: FakeEngine, id: string, tokens: readonly number[], scope = ""): Promise<number> {
  engine.send({ ...submitCommand(id, tokens, { maxTokens: 4 }), cacheScope: scope });
  while (engine.outputs(id).every(({ finish }) => finish === undefined))
    await new Promise((resolve) => setImmediate(resolve));
  expect(engine.tokens(id)).toEqual(fakeOutput(tokens, 4));
  return engine.outputs(id)[0]?.start?.cachedTokens ?? -1;
}

function filesIn(folder: string): string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name));
}

async function idle(engine: FakeEngine, pins: number): Promise<void> {
  while ((await engine.stats()).pins?.length !== pins) await new Promise((resolve) => setImmediate(resolve));
}

test("what prompts begin with is computed once, in the cells of a cold run, and found by the first request", async () => {
  const engine = await start();
  const [pin] = await pinsOf(engine, [asked("tea.txt", SYSTEM)]);
  expect(engine.backend.calls.map((entries) => entries.map(({ tokens }) => tokens))).toEqual([
    [8],
    [8],
    [8],
    [6],
  ]);
  expect(pin).toMatchObject({ name: "tea.txt", tokens: SYSTEM, adapters: [] });
  const { spill, pins } = await engine.stats();
  expect(pins).toEqual([{ name: "tea.txt", tokens: 30, bytes: pin?.file?.bytes, hits: 0 }]);
  expect(spill).toMatchObject({ prefixes: 0, limitBytes: 2000 - (pin?.file?.bytes ?? 0) });
  expect(await ask(engine, "a", [...SYSTEM, 50, 51, 52], "one")).toBe(30);
  expect(await ask(engine, "b", [...SYSTEM, 60, 61, 62], "two")).toBe(30);
  expect((await engine.stats()).pins).toMatchObject([{ hits: 2 }]);
  await engine.stop();
  expect(readdirSync(directory)).toEqual([]);
});

test("with --deterministic whole cells are pinned, since nothing else is reused", async () => {
  const engine = await start({}, { deterministic: true });
  expect((await pinsOf(engine, [asked("tea.txt", SYSTEM)]))[0]?.tokens).toHaveLength(24);
  expect(await ask(engine, "a", [...SYSTEM, 50, 51, 52])).toBe(24);
  await engine.stop();
});

test("the next engine takes the file, and computes what is not there or not what was written", async () => {
  const first = await start();
  const other = text(5, 20);
  const pins = await pinsOf(first, [asked("tea.txt", SYSTEM), asked("other.json", other)]);
  // As after a kill: the folder is there, and what it was of is not.
  const [, second] = pins;
  writeFileSync(second?.file?.path ?? "", "98 98");
  const next = await start({}, { pins });
  const [loaded] = next.events.filter(({ type }) => type === "loaded");
  expect(loaded).toMatchObject({ facts: { pins: [{ name: "tea.txt" }, { name: "other.json" }] } });
  expect(filesIn(directory).filter((file) => file === pins[0]?.file?.path)).toEqual([]);
  expect(next.events.filter(({ type }) => type === "load_progress")).toHaveLength(3);
  expect(await ask(next, "a", [...SYSTEM, 50, 51, 52])).toBe(30);
  expect(await ask(next, "b", [...other, 50, 51, 52])).toBe(20);
  await next.stop();
  await first.stop();
});

test("what was pinned of another model is not taken, and files are taken from other engines' folders alone", async () => {
  const first = await start();
  const [pin] = await pinsOf(first, [asked("tea.txt", SYSTEM)]);
  if (pin?.file === undefined) return expect.unreachable();
  const { file } = pin;
  // In the same place, but no engine's folder; and an engine's folder, but in another place.
  const strange = ["others/1", "deeper/weft-spill-1-2-3-abc/1"].map((path) => join(directory, path));
  for (const path of strange) {
    mkdirSync(dirname(path), { recursive: true });
    copyFileSync(file.path, path);
  }
  const named = strange.map((path, i) => ({ ...pin, name: `${i}`, file: { ...file, path } }));
  const next = await start({}, { pins: [{ ...pin, of: "another" }, ...named] });
  expect((await next.stats()).pins).toMatchObject([{ name: "0" }, { name: "1", tokens: 30 }]);
  expect(filesIn(directory)).toEqual(expect.arrayContaining(strange));
  expect(await ask(next, "a", [...SYSTEM, 50, 51, 52])).toBe(30);
  await next.stop();
  await first.stop();
});

test("an engine with less room than the one before takes its pins all the same, and what it says is what engines say", async () => {
  const first = await start();
  const pins = await pinsOf(first, [asked("tea.txt", SYSTEM)]);
  const next = await start({}, { pins, spill: { directory, bytes: 50 } });
  const { spill, pins: taken } = await next.stats();
  expect([spill?.limitBytes, taken?.length]).toEqual([0, 1]);
  const checker = new EventChecker();
  expect(next.events.filter(({ type }) => type === "stats").map((event) => checker.accepts(event))).toEqual([
    true,
  ]);
  expect(await ask(next, "a", [...SYSTEM, 50, 51, 52])).toBe(30);
  expect(await pinsOf(next, [])).toEqual([]);
  expect((await next.stats()).spill?.limitBytes).toBe(50);
  await next.stop();
  await first.stop();
});

test.each<[string, FakeOptions, number]>([
  ["without any room for files", {}, 0],
  ["whose slots are too small for it", { contextTokens: 24 }, 2000],
])("an engine %s serves without what the one before had pinned", async (_, options, bytes) => {
  const first = await start();
  const pins = await pinsOf(first, [asked("tea.txt", SYSTEM)]);
  const next = await start(options, { pins, spill: { directory, bytes } });
  expect(await ask(next, "a", text(1, 9))).toBe(0);
  expect((await next.stats()).pins ?? []).toEqual([]);
  expect(filesIn(directory)).toEqual([]);
  await next.stop();
  await first.stop();
});

test("what is pinned instead of one whose file is lost has the room of both", async () => {
  const engine = await start({}, { spill: { directory, bytes: 200 } });
  const [pin] = await pinsOf(engine, [asked("tea.txt", SYSTEM)]);
  rmSync(pin?.file?.path ?? "");
  // Begins with it, so that the loss is found while there is a request.
  engine.send(submitCommand("a", [...SYSTEM, 50, 51, 52], { maxTokens: 80 }));
  while (engine.tokens("a").length === 0) await new Promise((resolve) => setImmediate(resolve));
  expect((await engine.stats()).pins).toEqual([]);
  await pinsOf(engine, [asked("other.txt", text(5, 20))]);
  const { pins, spill } = await engine.stats();
  expect((spill?.limitBytes ?? 0) + (pins?.[0]?.bytes ?? 0)).toBe(200);
  await engine.stop();
});

test("one in whose place others are pinned while it is computed is not kept", async () => {
  let engine: FakeEngine | undefined;
  let second = 0;
  const replaced = await start({
    onRun: ([entry]) => {
      if (entry?.position !== 8 || engine === undefined || second > 0) return;
      second = ++lastCall;
      engine.send({ type: "pin", call: second, prompts: [asked("other.txt", text(5, 20))] });
    },
  });
  engine = replaced;
  expect(await pinned(engine, [asked("tea.txt", SYSTEM)])).toMatchObject({ type: "call_failed" });
  while (!engine.events.some((event) => event.type === "pinned" && event.call === second))
    await new Promise((resolve) => setImmediate(resolve));
  const { pins, spill } = await engine.stats();
  expect(pins).toMatchObject([{ name: "other.txt" }]);
  expect([filesIn(directory).length, (spill?.limitBytes ?? 0) + (pins?.[0]?.bytes ?? 0)]).toEqual([1, 2000]);
  await engine.stop();
});

test("one whose file is lost is computed by who needs it, and again when nobody has anything to compute", async () => {
  const engine = await start();
  const [pin] = await pinsOf(engine, [asked("tea.txt", SYSTEM)]);
  const { limitBytes } = (await engine.stats()).spill ?? {};
  rmSync(pin?.file?.path ?? "");
  expect(await ask(engine, "a", [...SYSTEM, 50, 51, 52])).toBe(0);
  await idle(engine, 1);
  expect((await engine.stats()).spill?.limitBytes).toBe(limitBytes);
  expect(await ask(engine, "b", [...SYSTEM, 60, 61, 62], "another")).toBe(30);
  await engine.stop();
});

test("other prompts take the place of those before, their files and their room", async () => {
  const engine = await start();
  await pinsOf(engine, [asked("tea.txt", SYSTEM)]);
  await pinsOf(engine, [asked("other.txt", text(5, 20))]);
  const { pins, spill } = await engine.stats();
  expect(pins).toMatchObject([{ name: "other.txt", tokens: 20 }]);
  expect([filesIn(directory).length, (spill?.limitBytes ?? 0) + (pins?.[0]?.bytes ?? 0)]).toEqual([1, 2000]);
  expect(await pinsOf(engine, [])).toEqual([]);
  expect(filesIn(directory)).toEqual([]);
  await engine.stop();
});

test.each<[string, Partial<LoadOptions>, number, RegExp]>([
  [
    "where no files are kept",
    { spill: { directory: "", bytes: 0 } },
    30,
    /tea\.txt cannot be pinned.*--spill-size/,
  ],
  [
    "for which there is no room",
    { spill: { directory: "", bytes: 50 } },
    30,
    /\d+ bytes are needed and 50 are left/,
  ],
  ["that no slot can hold", {}, 127, /it has 127 tokens, and a slot holds 128 \(--context\)/],
  ["of which nothing would be reused", {}, 1, /Nothing is won by pinning tea\.txt: its 1 tokens/],
])("a prompt %s is refused by name", async (_, load, length, message) => {
  const spill = load.spill && { ...load.spill, directory };
  const engine = await start({}, spill === undefined ? {} : { spill });
  expect(await pinned(engine, [asked("tea.txt", text(1, length))])).toMatchObject({
    type: "call_failed",
    code: "invalid_request",
    message: expect.stringMatching(message) as string,
  });
  expect((await engine.stats()).pins ?? []).toEqual([]);
  expect(await ask(engine, "a", text(1, 9))).toBe(0);
  await engine.stop();
});

test("a device that fails tells who has asked, and serves on", async () => {
  let failing = true;
  const engine = await start({
    onRun: () => {
      if (failing) throw new Error("On purpose.");
    },
  });
  expect(await pinned(engine, [asked("tea.txt", SYSTEM)])).toMatchObject({ type: "call_failed" });
  failing = false;
  expect(await ask(engine, "a", [...SYSTEM, 50, 51, 52])).toBe(0);
  await engine.stop();
});

test("what an engine cannot compute again is tried behind later requests, later and later", async () => {
  const state = schedulerState({ slots: 2, contextTokens: 128, prefillChunk: 8, spillBytes: 2000 });
  const store = new SpillStore(directory, 2000);
  let [failing, nowMs] = [true, 0];
  const onRun = (): void => {
    if (failing) throw new Error("On purpose.");
  };
  const backend = new FakeBackend({ slots: 2, onRun });
  const prefixes = new PinnedPrefixes({ state, backend, store, nowMs: () => nowMs });
  const tea = { name: "tea.txt", of: modelOf(backend.facts), tokens: SYSTEM, adapters: [] };
  await prefixes.take([tea], () => undefined);
  expect(prefixes.pins).toEqual([tea]);
  for (const waitMs of [1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000]) {
    nowMs += waitMs - 1;
    expect(prefixes.pending).toBe(false);
    nowMs += 1;
    expect(prefixes.pending).toBe(true);
    await prefixes.runPiece();
    expect(state.spill?.pins.size).toBe(0);
  }
  failing = false;
  nowMs += 60_000;
  await prefixes.runPiece();
  expect([prefixes.pending, state.spill?.pins.size]).toEqual([false, 1]);
  expect(prefixes.pins).toMatchObject([{ ...tea, file: { bytes: expect.any(Number) as number } }]);
  store.close();
});

test("what one engine cannot compute again the next one does", async () => {
  const first = await start();
  const [pin] = await pinsOf(first, [asked("tea.txt", SYSTEM)]);
  if (pin === undefined) return expect.unreachable();
  rmSync(pin.file?.path ?? "");
  const failing = await start(
    {
      onRun: () => {
        throw new Error("On purpose.");
      },
    },
    { pins: [pin] },
  );
  const [loaded] = failing.events.filter((event) => event.type === "loaded");
  const { pins = [] } = loaded?.facts ?? {};
  const { file: _, ...lost } = pin;
  expect(pins).toEqual([lost]);
  expect(new EventChecker().accepts(loaded)).toBe(true);
  const next = await start({}, { pins });
  expect(await ask(next, "a", [...SYSTEM, 50, 51, 52])).toBe(30);
  for (const engine of [next, failing, first]) await engine.stop();
});

test("an engine that is to end computes nothing more", async () => {
  let engine: FakeEngine | undefined;
  const calls: number[] = [];
  const asking = await start({
    onRun: ([entry]) => {
      calls.push(entry?.position ?? -1);
      if (entry?.position === 8) engine?.send({ type: "stop" });
    },
  });
  engine = asking;
  calls.length = 0;
  engine.send({ type: "pin", call: ++lastCall, prompts: [asked("tea.txt", SYSTEM)] });
  while (calls.length < 2) await new Promise((resolve) => setImmediate(resolve));
  await engine.stop();
  expect(calls).toEqual([0, 8]);
});

test("whatever is asked, cancelled and broken, outputs are right, and what is pinned is found", async () => {
  const memories: readonly FakeOptions[] = [
    {},
    { canRewind: false },
    { canRewind: false, windowTokens: 6, batchTokens: 10 },
    { canRewind: false, windowTokens: 40, batchTokens: 10 },
  ];
  const request = fc.record({
    family: fc.constantFrom(0, 0, 1, 2, 3),
    length: fc.integer({ min: 1, max: 40 }),
    scope: fc.nat(2),
    together: fc.boolean(),
    cancelled: fc.boolean(),
  });
  let found = 0;
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom(...memories),
      fc.integer({ min: 1, max: 3 }),
      fc.constantFrom(200, 400, 100_000),
      fc.array(request, { minLength: 4, maxLength: 14 }),
      async (memory, slots, bytes, requests) => {
        for (const left of readdirSync(directory)) rmSync(join(directory, left), { recursive: true });
        const engine = await start({ ...memory, slots }, { spill: { directory, bytes } });
        await pinsOf(engine, [asked("tea.txt", SYSTEM)]);
        const texts = requests.map(({ family, length }) =>
          family === 0 ? [...SYSTEM, ...text(9, length)] : text(family, length),
        );
        for (const [i, { scope, together, cancelled, family, length }] of requests.entries()) {
          const own = texts[i] ?? [];
          engine.send({
            ...submitCommand(`r${i}`, own, { maxTokens: 5 }),
            cacheScope: String(scope),
          });
          if (cancelled) setImmediate(() => engine.send({ type: "cancel", id: `r${i}` }));
          if (together) continue;
          for (
            let stats = await engine.stats();
            stats.running + stats.queued > 0;
            stats = await engine.stats()
          )
            await new Promise((resolve) => setImmediate(resolve));
          const cached = engine.outputs(`r${i}`)[0]?.start?.cachedTokens;
          if (family !== 0 || cached === undefined) continue;
          found += 1;
          // One less where the rest of its cell would be one token.
          expect(cached).toBeGreaterThanOrEqual(length === 2 ? 29 : 30);
        }
        await engine.drained();
        for (const [i, { cancelled }] of requests.entries()) {
          const truth = fakeOutput(texts[i] ?? [], 5);
          const tokens = engine.tokens(`r${i}`);
          expect(tokens).toEqual(cancelled ? truth.slice(0, tokens.length) : truth);
        }
        expect((await engine.stats()).pins).toMatchObject([{ name: "tea.txt", tokens: 30 }]);
        await engine.stop();
        expect(readdirSync(directory)).toEqual([]);
      },
    ),
    { numRuns: 40 },
  );
  expect(found).toBeGreaterThan(20);
});
