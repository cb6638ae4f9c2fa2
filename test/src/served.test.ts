/** What the log tells of how an answer was served: of the slowest choice, and before it has ended too. */
import { expect, test } from "vitest";
import { servedOf } from "../../src/generation-events.ts";
import type { DeltaEvent, FinishEvent, GenerationTimings } from "../../src/generation-events.ts";
import { sayThenStop } from "../support/scripted-engine.ts";
import { createTestApp, MODEL_ID } from "../support/test-app.ts";
import { EOS } from "../support/tiny-vocabulary.ts";

const said = (timings: Partial<GenerationTimings>): DeltaEvent => ({
  kind: "content",
  text: "a",
  tokens: [],
  promptLogprobs: undefined,
  tokenIds: [],
  usage: {
    promptTokens: 9,
    cachedTokens: 4,
    completionTokens: 1,
    guessesRight: 0,
    guessesWrong: 0,
    predictionsRight: 0,
    predictionsWrong: 0,
    reasoningTokens: 0,
  },
  timings: { prefillMs: 5, decodeMs: 0, ...timings },
});

const ended = (reason: FinishEvent["reason"], timings: Partial<GenerationTimings>): FinishEvent => ({
  ...said(timings),
  kind: "finish",
  reason,
  stopReason: undefined,
  endToken: undefined,
});

test("of several choices the slowest, and every way in which they ended", () => {
  const last = [
    ended("stop", { queueMs: 3.4, ttftMs: 90 }),
    ended("length", { queueMs: 70.6, ttftMs: 81.2 }),
    ended("stop", { queueMs: 1, ttftMs: 2 }),
  ];
  expect(servedOf(last, 4)).toEqual({ cachedTokens: 4, queueMs: 71, ttftMs: 90, finish: "stop,length" });
});

test("of one that has not ended, as of a client who left, what is known", () => {
  expect(servedOf([said({ queueMs: 7, ttftMs: 20 }), said({})], 4)).toEqual({
    cachedTokens: 4,
    queueMs: 7,
    ttftMs: 20,
  });
  expect(servedOf([said({})], 4)).toEqual({});
  expect(servedOf([], 0)).toEqual({});
});

test("a response is told of like a chat", async () => {
  const { engine, post, log } = createTestApp();
  engine.script = sayThenStop("Hel", EOS);
  await (await post("/v1/responses", { model: MODEL_ID, input: "a", store: false })).text();
  expect(log.at(-1)).toMatchObject({
    message: "request",
    fields: { cachedTokens: 1, queueMs: 0, ttftMs: 0, finish: "stop" },
  });
});
