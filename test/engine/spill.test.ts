/** An engine that keeps prefixes in files: outputs are those of an engine without, whatever happens to the files. */
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as fc from "fast-check";
import { afterEach, beforeEach, expect, test } from "vitest";
import { EngineError } from "../../engine/errors.ts";
import type { FakeOptions } from "../../engine/fake/backend.ts";
import { fakeOutput } from "../../engine/fake/backend.ts";
import type { EngineStats } from "../../engine/engine-stats.ts";
import type { SpillReport } from "../../engine/step-report.ts";
import { PriorityClass } from "../../engine/sharing.ts";
import { traceEvents } from "../../src/routes/trace-events.ts";
import { fakeEngine, submitCommand } from "../support/engine.ts";
import type { FakeEngine } from "../support/engine.ts";
import { traceFaults } from "../support/trace-form.ts";

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "weft-spill-test-"));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

/** Texts of families that begin alike. */
const prompt = (family: number, length: number, tail: number): number[] =>
  Array.from({ length }, (_, i) =>
    i < length - tail ? 97 + ((family * 7 + i) % 26) : 65 + ((family + i) % 26),
  );

/** What became of prefixes in files, over all steps. */
function spillOf({ events }: FakeEngine): Omit<SpillReport, "ms"> {
  const sum = { saved: 0, restored: 0, restoredTokens: 0, dropped: 0, saveFailures: 0, restoreFailures: 0 };
  for (const event of events) {
    const { spill } = event.type === "step" ? event.report : {};
    if (spill === undefined) continue;
    for (const key of Object.keys(sum) as (keyof typeof sum)[]) sum[key] += spill[key];
  }
  return sum;
}

const isBusy = ({ running, queued }: EngineStats): boolean => running + queued > 0;

const cachedOf = (engine: FakeEngine, id: string): number | undefined =>
  engine.outputs(id)[0]?.start?.cachedTokens;

/** Asks and waits. */
async function ask(engine: FakeEngine, id: string, tokens: readonly number[], count = 4): Promise<number[]> {
  engine.send({ ...submitCommand(id, tokens, { maxTokens: count }), cacheScope: "s" });
  while (engine.outputs(id).every(({ finish }) => finish === undefined))
    await new Promise((resolve) => setImmediate(resolve));
  return engine.tokens(id);
}

function filesIn(folder: string): string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name));
}

test("a prompt whose slot went to others is read back, its tokens counted as cached", async () => {
  const engine = await fakeEngine({ slots: 1 }, { spill: { directory, bytes: 10_000 } });
  const [loaded] = engine.events.filter(({ type }) => type === "loaded");
  expect(loaded).toMatchObject({ facts: { spill: { directory, inMemory: false, limitBytes: 10_000 } } });
  const long = prompt(1, 60, 0);
  expect(await ask(engine, "a", long)).toEqual(fakeOutput(long, 4));
  expect(await ask(engine, "b", prompt(2, 60, 0))).toEqual(fakeOutput(prompt(2, 60, 0), 4));
  expect((await engine.stats()).spill).toMatchObject({ prefixes: 1, tokens: 63, limitBytes: 10_000 });
  const next = [...long, ...fakeOutput(long, 4), 40, 41, 42];
  expect(await ask(engine, "c", next)).toEqual(fakeOutput(next, 4));
  expect(cachedOf(engine, "c")).toBe(62);
  // All but one token, which would be a cell of its own.
  expect(spillOf(engine)).toEqual({
    saved: 2,
    restored: 1,
    restoredTokens: 62,
    dropped: 1,
    saveFailures: 0,
    restoreFailures: 0,
  });
  const { steps } = await engine.timeline();
  const transfers = steps.flatMap((step) => step.transfers ?? []);
  expect(transfers.map(({ kind, slot, tokens, failed }) => [kind, slot, tokens, failed])).toEqual([
    ["save", 0, 63, undefined],
    ["save", 0, 63, undefined],
    ["restore", 0, 63, undefined],
  ]);
  await engine.stop();
  expect(readdirSync(directory)).toEqual([]);
});

test("a prompt that is to be kept is read back behind any number of dearer ones", async () => {
  // Room for two of them.
  const engine = await fakeEngine({ slots: 1 }, { spill: { directory, bytes: 600 } });
  const kept = prompt(0, 60, 0);
  engine.send({ ...submitCommand("kept", kept, { maxTokens: 4, keepMs: 86_400_000 }), cacheScope: "s" });
  for (let family = 1; family < 8; family++) await ask(engine, `${family}`, prompt(family, 70, 0));
  await ask(engine, "again", kept);
  expect(cachedOf(engine, "again")).toBe(59);
  await engine.stop();
});

test("a changed file is not read: the prompt is computed, and the file goes", async () => {
  const engine = await fakeEngine({ slots: 1 }, { spill: { directory, bytes: 10_000 } });
  const long = prompt(1, 60, 0);
  await ask(engine, "a", long);
  await ask(engine, "b", prompt(2, 60, 0));
  const [file] = filesIn(directory);
  writeFileSync(file ?? "", Array.from({ length: 63 }, () => 98).join(" "));
  expect(await ask(engine, "c", long)).toEqual(fakeOutput(long, 4));
  expect(cachedOf(engine, "c")).toBe(0);
  expect(spillOf(engine)).toMatchObject({ restored: 0, restoreFailures: 1 });
  expect(filesIn(directory)).not.toContain(file);
  await engine.stop();
});

test("whatever is asked, and whatever happens to files, every output is right and nothing is left", async () => {
  const request = fc.record({
    family: fc.nat(4),
    length: fc.integer({ min: 1, max: 80 }),
    tail: fc.nat(30),
    count: fc.integer({ min: 1, max: 12 }),
    scope: fc.nat(1),
    priority: fc.constantFrom(...Object.values(PriorityClass)),
    /** Comes without waiting for those before it. */
    together: fc.boolean(),
    cancelled: fc.boolean(),
    harm: fc.constantFrom("none", "none", "none", "change", "remove", "no save", "no load"),
  });
  const shape = fc.record({
    slots: fc.integer({ min: 1, max: 3 }),
    memory: fc.constantFrom<FakeOptions>(
      {},
      { canRewind: false },
      { canRewind: false, windowTokens: 6, batchTokens: 10 },
      { canRewind: false, windowTokens: 30, batchTokens: 10 },
    ),
    deterministic: fc.boolean(),
    bytes: fc.constantFrom(300, 1000, 100_000),
  });
  const totals = { saved: 0, restored: 0, saveFailures: 0, restoreFailures: 0 };
  await fc.assert(
    fc.asyncProperty(shape, fc.array(request, { minLength: 4, maxLength: 16 }), async (sizes, requests) => {
      const { slots, memory, deterministic, bytes } = sizes;
      for (const left of readdirSync(directory)) rmSync(join(directory, left), { recursive: true });
      const engine = await fakeEngine({ slots, ...memory }, { deterministic, spill: { directory, bytes } });
      const [save, load] = [
        engine.backend.saveCells.bind(engine.backend),
        engine.backend.loadCells.bind(engine.backend),
      ];
      let failing: string | undefined = undefined;
      engine.backend.saveCells = async (slot, file, tokens) => {
        const written = await save(slot, file, tokens);
        if (failing === "no save") throw new EngineError("decode_failed", "On purpose.");
        return written;
      };
      engine.backend.loadCells = async (slot, file, tokens) => {
        await load(slot, file, tokens);
        if (failing === "no load") throw new EngineError("decode_failed", "On purpose.");
      };
      const texts = requests.map(({ family, length, tail }) =>
        prompt(family, length, Math.min(tail, length)),
      );
      for (const [i, { count, scope, priority, together, cancelled, harm }] of requests.entries()) {
        failing = harm;
        const idle = !isBusy(await engine.stats());
        for (const file of idle && (harm === "change" || harm === "remove") ? filesIn(directory) : []) {
          if (harm === "change") writeFileSync(file, "98 98");
          else rmSync(file);
        }
        engine.send({
          ...submitCommand(`r${i}`, texts[i] ?? [], { maxTokens: count }),
          cacheScope: String(scope),
          priority,
        });
        if (cancelled) setImmediate(() => engine.send({ type: "cancel", id: `r${i}` }));
        if (together) continue;
        // Nobody changes a file in the moment in which it is read.
        while (isBusy(await engine.stats())) await new Promise((resolve) => setImmediate(resolve));
        expect((await engine.stats()).spill?.bytes ?? 0).toBeLessThanOrEqual(bytes);
      }
      await engine.drained();
      for (const [i, { count, cancelled }] of requests.entries()) {
        const truth = fakeOutput(texts[i] ?? [], count);
        const tokens = engine.tokens(`r${i}`);
        expect(tokens).toEqual(cancelled ? truth.slice(0, tokens.length) : truth);
      }
      expect(engine.events.filter((event) => event.type === "failed")).toEqual([]);
      const stats = await engine.stats();
      stats.slots.forEach((slot) => expect(slot.tokens).toBe(engine.backend.cellCount(slot.id)));
      const kept = filesIn(directory);
      expect(kept.length).toBeLessThanOrEqual(stats.spill?.prefixes ?? 0);
      const spill = spillOf(engine);
      for (const key of Object.keys(totals) as (keyof typeof totals)[]) totals[key] += spill[key];
      const timeline = await engine.timeline(100_000);
      expect(traceFaults(traceEvents(timeline))).toEqual([]);
      const restores = timeline.steps
        .flatMap(({ transfers = [] }) => transfers)
        .filter(({ kind }) => kind === "restore");
      expect(restores.filter(({ failed }) => failed !== true)).toHaveLength(spill.restored);
      expect(restores.filter(({ failed }) => failed === true)).toHaveLength(spill.restoreFailures);
      await engine.stop();
      expect(readdirSync(directory)).toEqual([]);
    }),
    { numRuns: 60 },
  );
  // All of it has happened.
  expect(Math.min(...Object.values(totals))).toBeGreaterThan(3);
});

test("an engine that is asked to keep prefixes where it cannot does not start", async () => {
  const file = join(directory, "file");
  writeFileSync(file, "");
  const { createEngine } = await import("../../engine/engine.ts");
  const failed = await new Promise((resolve) => {
    const engine = createEngine(
      () => Promise.reject(new Error("not reached")),
      (event) => event.type === "load_failed" && resolve(event),
    );
    engine.receive({
      type: "load",
      options: { modelPath: "m", slots: 1, spill: { directory: file, bytes: 1 } } as never,
    });
  });
  expect(failed).toMatchObject({ code: "invalid_request" });
  rmSync(file);
});
