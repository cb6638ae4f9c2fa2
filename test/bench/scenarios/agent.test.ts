import { expect, test } from "vitest";
import type { StreamedRequest } from "../../../bench/client.ts";
import { agent } from "../../../bench/scenarios/agent.ts";
import { fakeTurn, messagesOf, recordOf, textOf } from "./fake-turn.ts";

const plan = agent.plan({ conversations: 2, turns: 4, sharedPrefix: 20, isl: 40, osl: 2 });

const words = (text: string): string[] => text.split(" ");
const isCall = (request: StreamedRequest): boolean => messagesOf(request).length > 0;

test("each call sends all that was said before, behind instructions that are the same for all", async () => {
  const { turn, sent } = fakeTurn((_, index) => recordOf(0, [1, 2], { answer: `answer ${index}` }));
  await plan.run(turn);
  const calls = sent.filter(isCall).map(messagesOf);
  expect(calls.map(({ length }) => length).sort((a, b) => a - b)).toEqual([1, 1, 3, 3, 5, 5, 7, 7]);
  const last = calls.filter(({ length }) => length === 7);
  for (const messages of last)
    expect(calls.filter((call) => call.every((message, i) => message === messages[i]))).toHaveLength(4);
  const begins = last.map(([first]) => words(first?.content ?? ""));
  expect(begins.map(({ length }) => length)).toEqual([84, 84]);
  expect(begins[0]?.slice(0, 20)).toEqual(begins[1]?.slice(0, 20));
  expect(begins[0]?.slice(20)).not.toEqual(begins[1]?.slice(20));
  const outputs = last.flatMap((messages) => messages.slice(1).filter(({ role }) => role === "user"));
  expect(new Set(outputs.map(({ content }) => content)).size).toBe(6);
});

test("tool outputs are of several lengths, with the average that was asked for, and the same in each run", async () => {
  const many = agent.plan({ conversations: 32, turns: 20, sharedPrefix: 20, isl: 40, osl: 2 });
  const lengthsOf = async (): Promise<number[]> => {
    const { turn, sent } = fakeTurn(() => recordOf(0, [1, 2], { answer: "a" }));
    await many.run(turn);
    const longest = sent.map(messagesOf).filter(({ length }) => length === 39);
    return longest.flatMap((messages) =>
      messages.slice(1).flatMap(({ role, content }) => (role === "user" ? [words(content).length] : [])),
    );
  };
  const lengths = await lengthsOf();
  expect(lengths).toHaveLength(32 * 19);
  expect([...new Set(lengths)].sort((a, b) => a - b)).toEqual([10, 20, 120]);
  const mean = lengths.reduce((total, length) => total + length, 0) / lengths.length;
  expect(Math.abs(mean - 40)).toBeLessThan(8);
  expect(await lengthsOf()).toEqual(lengths);
});

test("a small request goes right before an agent's first call and before its last one", async () => {
  const { turn, sent } = fakeTurn(() => recordOf(0, [1, 2], { answer: "a" }));
  await agent.plan({ conversations: 1, turns: 3, sharedPrefix: 20, isl: 40, osl: 2 }).run(turn);
  expect(sent.map((request) => [isCall(request), request.outputTokens])).toEqual([
    [false, 16],
    [true, 2],
    [true, 2],
    [false, 16],
    [true, 2],
  ]);
  const asides = sent.filter((request) => !isCall(request)).map(textOf);
  expect(asides.map((text) => words(text).length)).toEqual([300, 300]);
  expect(new Set(asides).size).toBe(2);
});

test("calls after the first, whole tasks and small requests have figures of their own", async () => {
  const { turn } = fakeTurn((request, _, clock) => {
    const startMs = clock.nowMs();
    clock.advance(1);
    if (!isCall(request)) return recordOf(startMs, [startMs + 7, startMs + 8]);
    const later = messagesOf(request).length > 1;
    return recordOf(startMs, [startMs + (later ? 20 : 100), startMs + 150], {
      promptTokens: 50,
      cachedTokens: later ? 40 : 0,
      answer: "a",
    });
  });
  const alone = agent.plan({ conversations: 1, turns: 4, sharedPrefix: 20, isl: 40, osl: 2 });
  const { figures, summary, records, errors } = await alone.run(turn);
  expect(records).toHaveLength(6);
  expect(errors).toEqual([]);
  expect(figures).toMatchObject({
    // From the first call, at 1 ms, to the end of the last, which was sent at 5 ms.
    "task p50 s": 0.154,
    "later ttft p50 ms": 20,
    "first ttft p50 ms": 100,
    "side ttft p50 ms": 7,
    "later cached %": 80,
    "total s": 0.006,
  });
  expect(summary).toMatchObject({ completed: 4, taskMs: { count: 1 }, sideTtftMs: { count: 2 } });
});

test("an agent that gets no answer stops, and its task does not count as one", async () => {
  const refused = { kind: "http_503", message: "queue is full" } as const;
  const { turn, sent } = fakeTurn((request) =>
    messagesOf(request).length > 2
      ? recordOf(0, [], { error: refused })
      : recordOf(0, [1, 2], { answer: "a" }),
  );
  const { errors, figures, lines } = await plan.run(turn);
  expect(sent.filter(isCall)).toHaveLength(4);
  expect(errors).toEqual([{ kind: "http_503", count: 2, example: "queue is full" }]);
  expect(figures["task p50 s"]).toBeUndefined();
  expect(lines[0]).toContain("tasks ended 0 of 2");
});
