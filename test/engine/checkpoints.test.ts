/** An engine over a model that cannot take tokens back, with checkpoints: outputs are those of an engine without any. */
import * as fc from "fast-check";
import { expect, test } from "vitest";
import { EngineError } from "../../engine/errors.ts";
import { FakeBackend, fakeContinuation, fakeOutput } from "../../engine/fake/backend.ts";
import type { FakeOptions } from "../../engine/fake/backend.ts";
import type { SlotCheckpoint } from "../../engine/backend.ts";
import { adapterSet } from "../../engine/adapters.ts";
import type { EngineStats } from "../../engine/engine-stats.ts";
import type { SubmitCommand } from "../../engine/protocol.ts";
import type { CheckpointReport } from "../../engine/step-report.ts";
import { PriorityClass } from "../../engine/sharing.ts";
import { traceEvents } from "../../src/routes/trace-events.ts";
import { fakeEngine, submitCommand } from "../support/engine.ts";
import type { FakeEngine } from "../support/engine.ts";
import { traceFaults } from "../support/trace-form.ts";

const KINDS: readonly FakeOptions[] = [
  { canRewind: false },
  { canRewind: false, checkpointNeeds: "cells" },
  { canRewind: false, windowTokens: 6, batchTokens: 10 },
];

/** Texts of families that begin alike. */
const prompt = (family: number, length: number, tail: number): number[] =>
  Array.from({ length }, (_, i) =>
    i < length - tail ? 97 + ((family * 7 + i) % 26) : 65 + ((family + length + i) % 26),
  );

/** What became of checkpoints, over all steps. */
function checkpointsOf({ events }: FakeEngine): Omit<CheckpointReport, "ms"> {
  const sum = { taken: 0, restored: 0, restoredTokens: 0, dropped: 0, failures: 0 };
  for (const event of events) {
    const { checkpoints } = event.type === "step" ? event.report : {};
    if (checkpoints === undefined) continue;
    for (const key of Object.keys(sum) as (keyof typeof sum)[]) sum[key] += checkpoints[key];
  }
  return sum;
}

const cachedOf = (engine: FakeEngine, id: string): number | undefined =>
  engine.outputs(id)[0]?.start?.cachedTokens;

/** Asks and waits. */
async function ask(
  engine: FakeEngine,
  id: string,
  tokens: readonly number[],
  extra: Partial<SubmitCommand> = {},
): Promise<number[]> {
  engine.send({ ...submitCommand(id, tokens, { maxTokens: 4 }), ...extra });
  while (engine.outputs(id).every(({ finish }) => finish === undefined))
    await new Promise((resolve) => setImmediate(resolve));
  return engine.tokens(id);
}

test.each(KINDS)("a prompt that is asked again, or changed, goes on from a checkpoint: %o", async (kind) => {
  const engine = await fakeEngine({ slots: 1, ...kind }, { checkpoints: { bytes: 10_000 } });
  const first = prompt(1, 60, 0);
  const changed = prompt(1, 60, 30);
  for (const [id, tokens] of Object.entries({ first, again: first, changed, back: first, next: changed }))
    expect([id, await ask(engine, id, tokens)]).toEqual([id, fakeOutput(tokens, 4)]);
  expect(cachedOf(engine, "again")).toBe(59);
  // Even distances of 16 tokens, in cells of 8; then the line where the two were seen to part.
  expect(cachedOf(engine, "changed")).toBeGreaterThanOrEqual(16);
  expect(cachedOf(engine, "next")).toBeGreaterThanOrEqual(24);
  expect(checkpointsOf(engine)).toMatchObject({ failures: 0 });
  const { checkpoints } = await engine.stats();
  expect(checkpoints?.count).toBeGreaterThan(2);
  expect(checkpoints?.bytes).toBeLessThanOrEqual(10_000);
  await engine.stop();
});

test("none is taken where the model needs none, or none are allowed", async () => {
  for (const [kind, load] of [
    [{}, { checkpoints: { bytes: 10_000 } }],
    [{ canRewind: false }, {}],
  ] as const) {
    const engine = await fakeEngine({ slots: 1, ...kind }, load);
    await ask(engine, "a", prompt(1, 60, 0));
    expect((await engine.stats()).checkpoints).toBeUndefined();
    expect(checkpointsOf(engine).taken).toBe(0);
    await engine.stop();
  }
});

test.each(KINDS)("none is come back to from another scope, or with other adapters: %o", async (kind) => {
  const facts = [{ fingerprint: "first" }, { fingerprint: "second" }];
  const engine = await fakeEngine(
    { slots: 2, ...kind, adapters: facts },
    { checkpoints: { bytes: 100_000 } },
  );
  const tokens = prompt(1, 60, 0);
  const [first, half, second] = [
    [{ adapter: 0, scale: 1 }],
    [{ adapter: 0, scale: 0.5 }],
    [{ adapter: 1, scale: 1 }],
  ];
  const others: Readonly<Record<string, Partial<SubmitCommand>>> = {
    plain: {},
    key: { cacheScope: "key" },
    salt: { cacheScope: "key\nsalt" },
    first: { adapters: first },
    half: { adapters: half },
    second: { adapters: second },
    "first of the key": { adapters: first, cacheScope: "key" },
  };
  for (const [id, extra] of Object.entries(others)) {
    const adapters = adapterSet(extra.adapters ?? [], facts)?.key;
    const truth = fakeContinuation(tokens, 4, { adapters });
    expect([id, await ask(engine, id, tokens, extra)]).toEqual([id, truth]);
    expect([id, cachedOf(engine, id)]).toEqual([id, 0]);
    expect([id, await ask(engine, `${id} again`, tokens, extra)]).toEqual([id, truth]);
    expect([id, cachedOf(engine, `${id} again`)]).toEqual([id, 59]);
  }
  // A window has what is asked again.
  if (kind.windowTokens === undefined)
    expect(checkpointsOf(engine).restored).toBe(Object.keys(others).length);
  await engine.stop();
});

test("memory that a checkpoint turns out to take is counted, its tokens included", async () => {
  // Each is predicted to have 160 bytes, and has ten times as many.
  const engine = await fakeEngine({ slots: 1, canRewind: false }, { checkpoints: { bytes: 5000 } });
  const take = engine.backend.takeCheckpoint.bind(engine.backend);
  engine.backend.takeCheckpoint = async (slot) => {
    const taken = await take(slot);
    Object.defineProperty(taken, "bytes", { value: 1000 });
    return taken;
  };
  for (let i = 0; i < 6; i++) {
    await ask(engine, `r${i}`, prompt(i, 60, 0));
    const { checkpoints } = await engine.stats();
    const { count = 0, bytes = 0 } = checkpoints ?? {};
    expect(bytes).toBeGreaterThanOrEqual(1000 * count);
    expect(bytes).toBeLessThanOrEqual(5000);
  }
  const before = checkpointsOf(engine).dropped;
  for (let i = 6; i < 12; i++) await ask(engine, `r${i}`, prompt(i, 60, 0));
  const { taken, dropped } = checkpointsOf(engine);
  expect([taken > 12, dropped > before]).toEqual([true, true]);
  expect(await ask(engine, "last", prompt(11, 60, 0))).toEqual(fakeOutput(prompt(11, 60, 0), 4));
  expect(cachedOf(engine, "last")).toBeGreaterThanOrEqual(16);
  await engine.stop();
});

test("a recurrent state outlives its slot: more conversations than slots go on where they were", async () => {
  const engine = await fakeEngine({ slots: 1, canRewind: false }, { checkpoints: { bytes: 10_000 } });
  const texts = [1, 2, 3, 4].map((family) => prompt(family, 50, 0));
  for (const [i, tokens] of texts.entries()) await ask(engine, `cold${i}`, tokens);
  for (const [i, tokens] of texts.entries()) {
    expect(await ask(engine, `warm${i}`, tokens)).toEqual(fakeOutput(tokens, 4));
    expect(cachedOf(engine, `warm${i}`)).toBe(49);
  }
  await engine.stop();
});

test("whatever is asked, and whichever checkpoints fail, every output is right and nothing is left", async () => {
  const request = fc.record({
    family: fc.nat(3),
    length: fc.integer({ min: 1, max: 90 }),
    tail: fc.nat(40),
    count: fc.integer({ min: 1, max: 12 }),
    scope: fc.nat(1),
    priority: fc.constantFrom(...Object.values(PriorityClass)),
    /** Comes without waiting for those before it. */
    together: fc.boolean(),
    cancelled: fc.boolean(),
    failing: fc.constantFrom("none", "none", "none", "none", "take", "restore", "call"),
  });
  const shape = fc.record({
    slots: fc.integer({ min: 1, max: 3 }),
    kind: fc.constantFrom(...KINDS),
    deterministic: fc.boolean(),
    bytes: fc.constantFrom(600, 2000, 100_000),
  });
  const totals = { taken: 0, restored: 0, dropped: 0, failures: 0 };
  let refused = 0;
  await fc.assert(
    fc.asyncProperty(shape, fc.array(request, { minLength: 4, maxLength: 16 }), async (sizes, requests) => {
      const { slots, kind, deterministic, bytes } = sizes;
      let failing = "none";
      const onCheckpoint = (what: "take" | "restore"): void => {
        if (failing === what) throw new EngineError("decode_failed", "On purpose.");
      };
      const onRun = (): Promise<void> => {
        const fails = failing === "call";
        if (fails) failing = "none";
        return fails ? Promise.reject(new EngineError("decode_failed", "On purpose.")) : Promise.resolve();
      };
      const engine = await fakeEngine(
        { slots, ...kind, onCheckpoint, onRun },
        { deterministic, checkpoints: { bytes } },
      );
      const live = new Set<SlotCheckpoint>();
      const take = engine.backend.takeCheckpoint.bind(engine.backend);
      engine.backend.takeCheckpoint = async (slot) => {
        const taken = await take(slot);
        live.add(taken);
        const dispose = taken.dispose.bind(taken);
        taken.dispose = () => {
          live.delete(taken);
          dispose();
        };
        return taken;
      };
      const isBusy = ({ running, queued }: EngineStats): boolean => running + queued > 0;
      const texts = requests.map(({ family, length, tail }) =>
        prompt(family, length, Math.min(tail, length)),
      );
      for (const [i, { count, scope, priority, together, cancelled, failing: next }] of requests.entries()) {
        failing = next;
        engine.send({
          ...submitCommand(`r${i}`, texts[i] ?? [], { maxTokens: count }),
          cacheScope: String(scope),
          priority,
        });
        if (cancelled) setImmediate(() => engine.send({ type: "cancel", id: `r${i}` }));
        if (together) continue;
        while (isBusy(await engine.stats())) await new Promise((resolve) => setImmediate(resolve));
        const { checkpoints } = await engine.stats();
        expect(checkpoints?.bytes ?? 0).toBeLessThanOrEqual(bytes);
        expect(live.size).toBeLessThanOrEqual(checkpoints?.count ?? 0);
      }
      await engine.drained();
      const failed = new Set(engine.events.flatMap((event) => (event.type === "failed" ? [event.id] : [])));
      refused += failed.size;
      for (const [i, { count, cancelled }] of requests.entries()) {
        const truth = fakeOutput(texts[i] ?? [], count);
        const tokens = engine.tokens(`r${i}`);
        const cut = cancelled || failed.has(`r${i}`);
        expect(tokens).toEqual(cut ? truth.slice(0, tokens.length) : truth);
      }
      const stats = await engine.stats();
      stats.slots.forEach((slot) => expect(slot.tokens).toBe(engine.backend.cellCount(slot.id)));
      const seen = checkpointsOf(engine);
      for (const key of Object.keys(totals) as (keyof typeof totals)[]) totals[key] += seen[key];
      const timeline = await engine.timeline(100_000);
      expect(traceFaults(traceEvents(timeline))).toEqual([]);
      const ofCheckpoints = timeline.steps.flatMap(({ transfers = [] }) => transfers);
      const done = (kept: string): number =>
        ofCheckpoints.filter((one) => one.kind === kept && one.failed !== true).length;
      expect([done("checkpoint"), done("rewind")]).toEqual([seen.taken, seen.restored]);
      await engine.stop();
      expect(live.size).toBe(0);
    }),
    { numRuns: 50 },
  );
  // All of it has happened; calls alone fail requests.
  expect(Math.min(...Object.values(totals), refused)).toBeGreaterThan(3);
});

test("the fake backend refuses what a real one would die of", async () => {
  const backend = new FakeBackend({ canRewind: false, checkpointNeeds: "cells" });
  const feed = (slot: number, tokens: readonly number[]): Promise<void> =>
    backend.run([{ slot, position: 0, tokens: Uint32Array.from(tokens), sample: false }]).done;
  await expect(backend.takeCheckpoint(0)).rejects.toThrow("in use");
  await feed(0, [1, 2, 3]);
  const checkpoint = await backend.takeCheckpoint(0);
  await feed(1, [1, 9, 3]);
  await expect(backend.restoreCheckpoint(1, checkpoint, 3)).rejects.toThrow("not there");
  checkpoint.dispose();
  await expect(backend.restoreCheckpoint(0, checkpoint, 3)).rejects.toThrow("no such");
});
