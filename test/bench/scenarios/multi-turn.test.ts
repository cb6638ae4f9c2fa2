import { expect, test } from "vitest";
import { Gate } from "../../../bench/scenarios/gate.ts";
import { multiTurn } from "../../../bench/scenarios/multi-turn.ts";
import type { ScenarioTurn } from "../../../bench/scenarios/scenario.ts";
import { fakeTurn, messagesOf, recordOf } from "./fake-turn.ts";

const plan = multiTurn.plan({ conversations: 2, turns: 3, isl: 10, osl: 2 });

test("each turn sends the conversation so far, with the answers it got", async () => {
  const { turn, sent } = fakeTurn((_, index) => recordOf(0, [1, 2], { answer: `answer ${index}` }));
  await plan.run(turn);
  const shapes = sent.map((request) =>
    messagesOf(request)
      .map(({ role }) => role.slice(0, 1))
      .join(""),
  );
  expect(shapes.sort()).toEqual(["u", "u", "uau", "uau", "uauau", "uauau"]);
  const last = sent.map(messagesOf).filter(({ length }) => length === 5);
  expect(last.map((messages) => messages.map(({ content }) => content.split(" ").length))).toEqual([
    [10, 2, 32, 2, 32],
    [10, 2, 32, 2, 32],
  ]);
  expect(new Set(last.flatMap((messages) => messages.map(({ content }) => content))).size).toBe(10);
});

test("turns after the first have figures of their own", async () => {
  const { turn } = fakeTurn((request, _, clock) => {
    const startMs = clock.nowMs();
    const later = messagesOf(request).length > 1;
    clock.advance(1);
    return recordOf(startMs, [startMs + (later ? 20 : 100), startMs + 150], {
      promptTokens: 50,
      cachedTokens: later ? 40 : 0,
      answer: "a",
    });
  });
  const { figures, summary, records } = await plan.run(turn);
  expect(records).toHaveLength(6);
  expect(figures).toMatchObject({
    "later ttft p50 ms": 20,
    "first ttft p50 ms": 100,
    "later cached %": 80,
    "total s": 0.006,
  });
  expect(summary).toMatchObject({ laterTtftMs: { count: 4 }, completed: 6, median_ttft_ms: 20 });
});

test("a conversation ends with its first failure", async () => {
  const { turn, sent } = fakeTurn(() =>
    recordOf(0, [], { error: { kind: "http_503", message: "queue is full" } }),
  );
  const { errors } = await plan.run(turn);
  expect(sent).toHaveLength(2);
  expect(errors).toEqual([{ kind: "http_503", count: 2, example: "queue is full" }]);
});

test("time to think passes between turns, not before the first or after the last", async () => {
  const slow = multiTurn.plan({ conversations: 1, turns: 2, isl: 10, osl: 2, think: 1000 });
  const { turn, sent, clock } = fakeTurn(() => recordOf(0, [1], { answer: "a" }));
  const waits: number[] = [];
  const after: ScenarioTurn["clock"]["after"] = (delayMs, callback) => {
    waits.push(delayMs);
    expect(sent).toHaveLength(1);
    queueMicrotask(() => clock.advance(delayMs));
    return clock.after(delayMs, callback);
  };
  await slow.run({ ...turn, clock: { ...clock, after } });
  expect(sent).toHaveLength(2);
  expect(waits).toHaveLength(1);
  // Half of the average to half as much again.
  expect(waits[0]).toBeGreaterThanOrEqual(500);
  expect(waits[0]).toBeLessThan(1500);
});

test("a gate lets so many through at a time, in the order in which they came", async () => {
  const gate = new Gate(2);
  const begun: number[] = [];
  const ends: (() => void)[] = [];
  const all = [0, 1, 2, 3].map((n) =>
    gate.pass(async () => {
      begun.push(n);
      await new Promise<void>((resolve) => ends.push(resolve));
    }),
  );
  await Promise.resolve();
  expect(begun).toEqual([0, 1]);
  ends[1]?.();
  await all[1];
  await Promise.resolve();
  expect(begun).toEqual([0, 1, 2]);
  ends[0]?.();
  ends[2]?.();
  await all[2];
  await Promise.resolve();
  ends[3]?.();
  await Promise.all(all);
  expect(begun).toEqual([0, 1, 2, 3]);
});
