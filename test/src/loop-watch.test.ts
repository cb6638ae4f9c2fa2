import { expect, test } from "vitest";
import { LoopWatch } from "../../src/loop-watch.ts";

test("row 93: a held up loop is told of once, with the routes of those who wait", () => {
  let nowMs = 0;
  let stalls = 0;
  const told: object[] = [];
  const routes = ["POST /v1/embeddings", "POST /v1/chat/completions", "POST /v1/chat/completions"];
  const watch = new LoopWatch({
    nowMs: () => nowMs,
    open: () => routes,
    log: { warn: (fields, message) => told.push([message, fields]) },
    onStall: () => (stalls += 1),
  });
  // The timer of a busy loop is late now and then.
  for (const passedMs of [250, 251, 700, 250]) {
    nowMs += passedMs;
    watch.tick();
  }
  expect(told).toEqual([]);
  nowMs += 2250;
  watch.tick();
  nowMs += 250;
  watch.tick();
  const open = [
    { route: "POST /v1/embeddings", count: 1 },
    { route: "POST /v1/chat/completions", count: 2 },
  ];
  expect(stalls).toBe(1);
  expect(told).toEqual([["the event loop was held up", { ms: 2000, open }]]);
});
