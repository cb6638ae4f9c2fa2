import { describe, expect, it } from "vitest";
import type { SendOne } from "../../../bench/client.ts";
import {
  resultOf,
  runLongBesideShort,
  summarizeLongBesideShort,
} from "../../../bench/scenarios/long-beside-short.ts";
import { recordOf, target, textOf } from "./fake-turn.ts";

const plan = {
  streamPrompts: ["s0", "s1"],
  longPrompt: "long",
  outputTokens: 256,
  seed: 1,
  timeoutMs: 1000,
};

describe("runLongBesideShort", () => {
  it("the long prompt is sent when the slowest stream has shown 16 chunks, not before", async () => {
    const sent: string[] = [];
    let end: () => void = () => undefined;
    const longSent = new Promise<void>((resolve) => (end = resolve));
    const streamOne: SendOne = async (_, request) => {
      const { onOutput } = request;
      const prompt = textOf(request);
      sent.push(prompt);
      if (prompt === "long") {
        end();
        return recordOf(0, [1]);
      }
      onOutput?.(15);
      sent.push(`${prompt} 15`);
      await Promise.resolve();
      onOutput?.(16);
      sent.push(`${prompt} 16`);
      await longSent;
      return recordOf(0, [1]);
    };
    const run = await runLongBesideShort(target, plan, streamOne);
    expect(sent).toEqual(["s0", "s0 15", "s1", "s1 15", "s0 16", "s1 16", "long"]);
    expect(run.long).toBeDefined();
  });

  it("streams that fail before they all began leave the long prompt unsent", async () => {
    const failed = { ...recordOf(0, []), error: { kind: "http_503", message: "loading" } } as const;
    const run = await runLongBesideShort(target, plan, () => Promise.resolve(failed));
    expect(run.long).toBeUndefined();
    expect(summarizeLongBesideShort(run)).toMatchObject({
      longTtftMs: undefined,
      longestGapAfterMs: undefined,
      streamsEndedEarly: 2,
      errors: [{ kind: "http_503", count: 2, example: "loading" }],
    });
  });
});

describe("summarizeLongBesideShort", () => {
  it("a gap counts before the arrival or after it by its end, and the start of the streams not at all", () => {
    const summary = summarizeLongBesideShort({
      // Alone until the second begins at 100: its gap of 80 is not what the scenario measures.
      streams: [recordOf(0, [10, 90, 110, 130, 200, 210]), recordOf(0, [100, 115, 135, 205, 220])],
      long: { ...recordOf(140, [207, 215]), promptTokens: 3000 },
    });
    expect(summary).toMatchObject({
      longestGapBeforeMs: 20,
      longestGapAfterMs: 70,
      longTtftMs: 67,
      longPromptTokens: 3000,
      streamsEndedEarly: 0,
      errors: [],
    });
    expect(summary.itlBeforeMs.count).toBe(4);
    expect(summary.itlDuringPrefillMs).toMatchObject({ count: 2, max: 70 });
  });

  it("the result has vLLM's names for the streams and the long prompt together", () => {
    const streams = [recordOf(0, [10, 90, 200]), recordOf(0, [100, 115])];
    const { summary } = resultOf({ streams, long: recordOf(140, [207, 240]) });
    expect(summary).toMatchObject({
      completed: 3,
      duration: 0.24,
      max_concurrent_requests: 3,
      median_ttft_ms: 67,
      longTtftMs: 67,
    });
    const failed = recordOf(0, [], { error: { kind: "http_503", message: "full" } });
    expect(resultOf({ streams: [failed], long: undefined }).summary).toMatchObject({
      completed: 0,
      failed: 1,
      duration: 0,
      mean_ttft_ms: null,
    });
  });

  it("a stream that ended before the long prompt's first output is pointed out", () => {
    const summary = summarizeLongBesideShort({
      streams: [recordOf(0, [10, 20]), recordOf(0, [10, 90])],
      long: recordOf(15, [60]),
    });
    expect(summary.streamsEndedEarly).toBe(1);
  });
});
