import { describe, expect, it } from "vitest";
import { arrivalTimes } from "../../bench/arrivals.ts";
import type { RequestRecord, Target } from "../../bench/client.ts";
import { interleave, runLevel } from "../../bench/closed-loop.ts";
import type { LevelShape, SendRequest } from "../../bench/closed-loop.ts";
import { formatRequests } from "../../bench/format.ts";
import { summarizeLevel, toVllmResult } from "../../bench/level-summary.ts";
import { createManualClock } from "./manual-clock.ts";

const target: Target = {
  url: "http://127.0.0.1:1",
  endpoint: "chat",
  model: "m",
  apiKey: undefined,
};
const plan: LevelShape = { concurrency: 3, length: { requests: 7 } };
const record: RequestRecord = {
  startMs: 0,
  endMs: 100,
  firstChunkMs: 15,
  choiceMs: [15, 20, 50, 90, 95],
  outputMs: [20, 50, 90],
  promptTokens: 10,
  cachedTokens: 5,
  outputTokens: 3,
  countedBy: "usage",
  finishReason: "length",
  error: undefined,
};
const prompts = { prompt: (index: number): string => `p${index}` };

describe("arrival times", () => {
  it("have the mean of the rate, and a spread as the burstiness says", () => {
    const spread = (burstiness: number): readonly [number, number] => {
      const at = arrivalTimes({ perSecond: 20, burstiness }, 7);
      const gaps = Array.from({ length: 20_000 }, (_, i) => at(i + 1) - at(i));
      const mean = gaps.reduce((total, gap) => total + gap, 0) / gaps.length;
      const variance = gaps.reduce((total, gap) => total + (gap - mean) ** 2, 0) / gaps.length;
      return [mean, Math.sqrt(variance) / mean];
    };
    for (const [burstiness, cv] of [
      [1, 1],
      [0.25, 2],
      [4, 0.5],
    ] as const) {
      const [mean, measured] = spread(burstiness);
      expect(Math.abs(mean / 50 - 1)).toBeLessThan(0.05);
      expect(Math.abs(measured / cv - 1)).toBeLessThan(0.05);
    }
  });
});

describe("interleave", () => {
  it("two servers take turns within a level, level by level", () => {
    const order = interleave([1, 4], 2, 2).map(({ level, round, side }) => `${level}/${round}/${"AB"[side]}`);
    expect(order).toEqual(["1/0/A", "1/0/B", "1/1/A", "1/1/B", "4/0/A", "4/0/B", "4/1/A", "4/1/B"]);
  });
});

describe("runLevel", () => {
  it("sends the requests of an open loop at their times, whether others are answered or not", async () => {
    const clock = createManualClock();
    const sentMs: number[] = [];
    const ends: (() => void)[] = [];
    const send: SendRequest = async () => {
      sentMs.push(clock.nowMs());
      await new Promise<void>((resolve) => ends.push(resolve));
      return record;
    };
    const times = [0, 10, 10, 40];
    const shape = { concurrency: 4, length: { requests: 4 }, sendAtMs: (index: number) => times[index] ?? 0 };
    const run = runLevel(target, shape, prompts, { clock, send });
    for (let step = 0; step < 5; step++) {
      clock.advance(10);
      await Promise.resolve();
    }
    for (const end of ends) end();
    expect((await run).records).toHaveLength(4);
    expect(sentMs).toEqual([0, 10, 10, 40]);
  });

  it("says when a request of an open loop was due, also where all clients were busy then", async () => {
    const clock = createManualClock();
    clock.advance(1000);
    const due: (number | undefined)[] = [];
    const send: SendRequest = (_target, _prompt, _index, dueMs) => {
      due.push(dueMs);
      // Longer than until the next ones are due.
      clock.advance(100);
      return Promise.resolve(record);
    };
    const shape = { concurrency: 1, length: { requests: 3 }, sendAtMs: (index: number) => 10 * index };
    await runLevel(target, shape, prompts, { clock, send });
    expect(due).toEqual([1000, 1010, 1020]);
    due.length = 0;
    await runLevel(target, { concurrency: 1, length: { requests: 1 } }, prompts, { clock, send });
    expect(due).toEqual([undefined]);
  });

  it("ends an open loop with the last request before its time is over", async () => {
    const sent: string[] = [];
    const send: SendRequest = (_, prompt) => {
      sent.push(prompt);
      return Promise.resolve(record);
    };
    const shape = { concurrency: 1, length: { durationMs: 5 }, sendAtMs: (index: number) => 5 * index };
    await runLevel(target, shape, prompts, { clock: createManualClock(), send });
    expect(sent).toEqual(["p0"]);
  });

  it("never has more requests running than clients, and sends each prompt once", async () => {
    const sent: string[] = [];
    let running = 0;
    let most = 0;
    const send: SendRequest = async (_, prompt) => {
      sent.push(prompt);
      most = Math.max(most, ++running);
      await Promise.resolve();
      running -= 1;
      return record;
    };
    const run = await runLevel(target, plan, prompts, { clock: createManualClock(), send });
    expect(most).toBe(3);
    expect(sent).toEqual(["p0", "p1", "p2", "p3", "p4", "p5", "p6"]);
    expect(run.records).toHaveLength(7);
  });

  it("a duration stops new requests and waits for the running ones", async () => {
    const clock = createManualClock();
    const send: SendRequest = () => {
      clock.advance(40);
      return Promise.resolve(record);
    };
    const timed: LevelShape = { ...plan, concurrency: 1, length: { durationMs: 100 } };
    const run = await runLevel(target, timed, prompts, { clock, send });
    expect(run).toMatchObject({ wallMs: 120, records: { length: 3 } });
  });
});

describe("summarizeLevel", () => {
  const failed: RequestRecord = {
    ...record,
    outputMs: [30],
    outputTokens: 1,
    finishReason: undefined,
    error: { kind: "connection", message: "reset" },
  };
  const second: RequestRecord = { ...record, outputTokens: 2, outputMs: [40, 60], choiceMs: [40, 60] };
  const run = { records: [record, failed, second], wallMs: 500 };

  it("says why gaps are nothing where several tokens come at a time, and only there", () => {
    const said = (outputMs: number[]): string[] =>
      formatRequests(summarizeLevel({ records: [{ ...record, outputMs }], wallMs: 100 }, 3)).filter((line) =>
        line.startsWith("note:"),
      );
    expect(said([20, 20, 20, 90])).toEqual([
      "note: the server sends several tokens at a time, which are 0 ms apart here; see the mean, or tpot",
    ]);
    expect(said([20, 50, 90])).toEqual([]);
  });

  it("counts succeeded requests in the rates, and every failure in the errors", () => {
    expect(summarizeLevel(run, 3)).toMatchObject({
      succeeded: 2,
      failed: 1,
      errors: [{ kind: "connection", count: 1, example: "reset" }],
      requestsPerSecond: 4,
      promptTokens: 20,
      cachedTokens: 10,
      outputTokens: 5,
      outputTokensPerSecond: 10,
      totalTokensPerSecond: 50,
      outputChunks: 5,
      wrongLength: 1,
      countedByChunks: 0,
      longestGapMs: 40,
    });
  });

  it("TTFT is to the first output; the first choices are a number of their own", () => {
    const { ttftMs, ttftAnyChunkMs } = summarizeLevel(run, 3);
    expect([ttftMs.mean, ttftAnyChunkMs.mean]).toEqual([30, 27.5]);
  });

  it("TPOT is (e2e - TTFT) / (tokens - 1) per request; ITL is the pooled gaps", () => {
    const { tpotMs, itlMs } = summarizeLevel(run, 3);
    // (100 - 20) / 2 and (100 - 40) / 1.
    expect(tpotMs).toMatchObject({ count: 2, mean: 50 });
    expect(itlMs).toMatchObject({ count: 3, mean: 30 });
  });

  it("vLLM's names carry vLLM's definitions", () => {
    const vllm = toVllmResult(run, summarizeLevel(run, 3));
    expect(vllm).toMatchObject({
      completed: 2,
      failed: 1,
      duration: 0.5,
      request_throughput: 4,
      output_throughput: 10,
      total_token_throughput: 50,
      // 15 and 40: the first choices count.
      mean_ttft_ms: 27.5,
      median_ttft_ms: 27.5,
      p99_ttft_ms: null,
      // (95 - 15) / 2 and (60 - 40) / 1.
      mean_tpot_ms: 30,
      mean_e2el_ms: 77.5,
      std_ttft_ms: 12.5,
      max_output_tokens_per_s: 7,
      max_concurrent_requests: 2,
    });
  });

  it("vLLM's peaks are of whole seconds since the first request", () => {
    const at = (startMs: number, choiceMs: readonly number[]): RequestRecord => ({
      ...record,
      startMs,
      choiceMs,
    });
    const records = [at(500, [600, 1400, 1600]), at(1700, [1800, 2400]), at(2600, [2700])];
    const vllm = toVllmResult({ records, wallMs: 3000 }, summarizeLevel({ records, wallMs: 3000 }, 3));
    // The first second lasts until 1500, the second one until 2500.
    expect(vllm).toMatchObject({ max_output_tokens_per_s: 3, max_concurrent_requests: 2 });
    const none = { records: [], wallMs: 0 };
    expect(toVllmResult(none, summarizeLevel(none, 3))).toMatchObject({
      max_output_tokens_per_s: 0,
      max_concurrent_requests: 0,
    });
  });

  it("a level in which all failed has no times and no division by zero", () => {
    const summary = summarizeLevel({ records: [failed], wallMs: 0 }, 3);
    expect(summary).toMatchObject({ outputTokensPerSecond: 0, cachedTokens: undefined });
    expect(summary.ttftMs.count).toBe(0);
  });
});
