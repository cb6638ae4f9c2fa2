import { expect, test } from "vitest";
import { sharedPrefix } from "../../../bench/scenarios/shared-prefix.ts";
import { fakeTurn, recordOf, textOf } from "./fake-turn.ts";

const plan = sharedPrefix.plan({ requests: 4, concurrency: 2, sharedPrefix: 50, osl: 3 });

test("all prompts begin with the same words and end with others; those before them share nothing", async () => {
  const { turn, sent } = fakeTurn(() => recordOf(0, [1, 2, 3]), 1);
  await plan.run(turn);
  const words = sent.map((request) => textOf(request).split(" "));
  const [warm, ...measured] = words;
  const prefix = measured[0]?.slice(0, 50);
  expect(words.map(({ length }) => length)).toEqual([82, 82, 82, 82, 82]);
  expect(measured.map((prompt) => prompt.slice(0, 50))).toEqual([prefix, prefix, prefix, prefix]);
  expect(new Set(measured.map((prompt) => prompt.slice(50).join(" "))).size).toBe(4);
  expect(warm?.slice(0, 3)).not.toEqual(prefix?.slice(0, 3));
});

test("counts what was computed, and how often the prefix was", async () => {
  const cached = [0, 0, 50, 60];
  const { turn } = fakeTurn((_, index, clock) => {
    const startMs = clock.nowMs();
    clock.advance(100);
    const at = clock.nowMs();
    return recordOf(startMs, [at, at, at], { promptTokens: 90, cachedTokens: cached[index] });
  });
  const { figures, summary } = await plan.run(turn);
  expect(figures).toMatchObject({
    "total s": 0.4,
    "ttft p50 ms": 100,
    "prefilled tokens": 360 - 110,
    "prefix computed": 2,
  });
  expect(summary).toMatchObject({ totalMs: 400, completed: 4, max_concurrency: 2, median_ttft_ms: 100 });
});

test("says nothing of it where the server does not", async () => {
  const { turn } = fakeTurn(() => recordOf(0, [1], { cachedTokens: undefined }));
  const { figures, lines } = await plan.run(turn);
  expect(figures["prefilled tokens"]).toBeUndefined();
  expect(lines[0]).toContain("prefilled - tokens   prefix computed - times");
});
