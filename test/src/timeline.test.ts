/** `GET /debug/timeline`: the document that the simulator reads, the trace, and what is refused. */
import { expect, test } from "vitest";
import { FakeBackend } from "../../engine/fake/backend.ts";
import type { Timeline } from "../../engine/timeline.ts";
import { createTestApp, MODEL_ID } from "../support/test-app.ts";

const TIMELINE: Timeline = {
  originEpochMs: 1_730_000_000_000,
  capacity: 2000,
  config: {
    slots: 2,
    contextTokens: 128,
    batchTokens: 32,
    prefillChunk: 8,
    itlTargetMs: 1000,
    minPrefillShare: 0.3,
    maxQueued: 10,
    deterministic: false,
    speculate: false,
    speculateAloneTokens: 0,
    canRewind: true,
  },
  cost: new FakeBackend({ slots: 2 }).cost,
  steps: [
    {
      step: 7,
      startMs: 100,
      planMs: 0.5,
      sideMs: 0,
      running: 1,
      queued: 0,
      creditMs: 0,
      admitted: [3, 1, 0, -1],
      evicted: [{ request: 2, slot: 1, waiter: 3, kind: "class" }],
      transfers: [
        { kind: "save", slot: 1, tokens: 16, startMs: 100.25, ms: 0.125 },
        { kind: "restore", slot: 1, tokens: 8, startMs: 100.375, ms: 0.125, failed: true },
      ],
      calls: [
        {
          kind: "decode",
          startMs: 100.5,
          ms: 10,
          sampleMs: 0.25,
          predictedMs: 11,
          passes: 1,
          drafts: 0,
          draftMs: 0.25,
          entries: [0, -1, 5, 1, 1, 3, 19, 1],
        },
      ],
      why: ["admit req-a to slot 1, reuse 0"],
    },
  ],
  offloads: [{ request: 4, slot: 0, tokens: 99, startMs: 100.25, endMs: 140, deviceMs: 30, end: "landed" }],
  requests: [
    {
      request: 3,
      id: "req-a",
      owner: "alice",
      priority: 1,
      promptTokens: 20,
      resumedTokens: 0,
      maxNewTokens: 4,
      arrivalMs: 90,
      outputTokens: 1,
      endMs: undefined,
      end: undefined,
    },
  ],
};

const KEY = "sk-alice-0123456789abcdef";
// SHA-256 of KEY.
async function keys(names: readonly string[]) {
  const { createHash } = await import("node:crypto");
  return names.map((name) => ({ name, sha256: createHash("sha256").update(KEY).digest("hex") }));
}

const get = (app: ReturnType<typeof createTestApp>, query = "", headers = {}): Response | Promise<Response> =>
  app.app.request(`/debug/timeline${query}`, { headers: { host: "localhost", ...headers } });

test("tells of the steps as JSON", async () => {
  const app = createTestApp();
  app.engine.timeline = TIMELINE;
  const response = await get(app, "?steps=50");
  expect(response.status).toBe(200);
  const body = (await response.json()) as object;
  expect(body).toMatchObject({
    schema: "weft-timeline/1",
    model: { id: MODEL_ID, flashAttention: false },
    originEpochMs: 1_730_000_000_000,
    config: { slots: 2 },
    offloads: [{ request: 4, slot: 0, tokens: 99, startMs: 100.25, endMs: 140, deviceMs: 30, end: "landed" }],
    requests: [{ request: 3, id: "req-a", owner: "alice", promptTokens: 20, outputTokens: 1 }],
    steps: [
      {
        step: 7,
        admitted: [[3, 1, 0, -1]],
        evicted: [{ request: 2, slot: 1, waiter: 3, kind: "class" }],
        transfers: [
          { kind: "save", slot: 1, tokens: 16, startMs: 100.25, ms: 0.125 },
          { kind: "restore", slot: 1, tokens: 8, startMs: 100.375, ms: 0.125, failed: true },
        ],
        calls: [
          {
            kind: "decode",
            ms: 10,
            predictedMs: 11,
            draftMs: 0.25,
            entries: [
              [0, -1, 5, 1],
              [1, 3, 19, 1],
            ],
          },
        ],
        why: ["admit req-a to slot 1, reuse 0"],
      },
    ],
  });
  expect(app.engine.commands).toContainEqual({ type: "timeline", call: 1, steps: 50 });
});

test("makes a trace of them, in microseconds", async () => {
  const app = createTestApp();
  app.engine.timeline = TIMELINE;
  const response = await get(app, "?format=trace");
  const { traceEvents } = (await response.json()) as { traceEvents: readonly Record<string, unknown>[] };
  expect(traceEvents).toContainEqual({
    name: "plan",
    ph: "X",
    pid: 1,
    tid: 0,
    ts: 100_000,
    dur: 500,
  });
  expect(traceEvents).toContainEqual({
    name: "decode",
    ph: "X",
    pid: 2,
    tid: 1,
    ts: 100_500,
    dur: 10_000,
    args: { request: "req-a", position: 19, tokens: 1 },
  });
  expect(traceEvents).toContainEqual(
    expect.objectContaining({ name: "draft model", pid: 1, ts: 100_250, dur: 250 }),
  );
  expect(traceEvents).toContainEqual(expect.objectContaining({ name: "plug", pid: 2, tid: 0 }));
  expect(traceEvents.filter(({ name }) => name === "evict")).toEqual([
    { name: "evict", ph: "i", s: "t", pid: 2, tid: 1, ts: 100_000, args: { waiter: "req-a", kind: "class" } },
  ]);
  const ofCells = traceEvents.filter(({ name }) => name === "save" || name === "restore");
  expect(ofCells).toEqual([
    { name: "save", ph: "X", pid: 2, tid: 1, ts: 100_250, dur: 125, args: { tokens: 16, failed: false } },
    { name: "restore", ph: "X", pid: 2, tid: 1, ts: 100_375, dur: 125, args: { tokens: 8, failed: true } },
  ]);
  expect(traceEvents.filter(({ name }) => name === "prefill worker")).toEqual([
    {
      name: "prefill worker",
      ph: "X",
      pid: 2,
      tid: 0,
      ts: 100_250,
      dur: 39_750,
      args: { tokens: 99, deviceMs: 30, end: "landed" },
    },
  ]);
  const waits = traceEvents.filter(({ cat }) => cat === "wait").map(({ ph, ts }) => [ph, ts]);
  expect(waits).toEqual([
    ["b", 90_000],
    ["e", 100_000],
  ]);
});

test.each([
  ["?steps=0", "steps"],
  ["?steps=many", "steps"],
  ["?steps=99999999", "steps"],
  ["?format=xml", "format"],
])("refuses %s", async (query, param) => {
  const response = await get(createTestApp(), query);
  expect(response.status).toBe(400);
  expect(await response.json()).toMatchObject({ error: { param, code: "invalid_value" } });
});

test("wants a key where there are keys, and with several of them names nobody", async () => {
  const app = createTestApp({ config: { apiKeys: await keys(["alice", "bob"]) } });
  app.engine.timeline = TIMELINE;
  expect((await get(app)).status).toBe(401);
  const text = await (await get(app, "", { authorization: `Bearer ${KEY}` })).text();
  expect(text).toContain("weft-timeline/1");
  expect(text).not.toMatch(/alice|req-a/);
});
