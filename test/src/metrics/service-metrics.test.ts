/** Which answers are good ones, and what their times are by token. */
import { Registry } from "prom-client";
import { expect, test } from "vitest";
import { ServiceMetrics } from "../../../src/metrics/service-metrics.ts";

const TARGETS = { ttftMs: 1000, itlMs: 50 };
const FINISHED = { e2eMs: 1400, ttftMs: 1000, decodeMs: 400, outputTokens: 9, quality: 0.93 };

async function told(observe: (metrics: ServiceMetrics) => void): Promise<string> {
  const registry = new Registry();
  observe(new ServiceMetrics(registry));
  return registry.metrics();
}

test("an answer is good when its first token and the time between the others keep their targets", async () => {
  const text = await told((metrics) => {
    metrics.observeFinish("m", FINISHED, TARGETS);
    metrics.observeFinish("m", { ...FINISHED, ttftMs: 1001 }, TARGETS);
    metrics.observeFinish("m", { ...FINISHED, decodeMs: 401 }, TARGETS);
    metrics.observeFinish("m", { ...FINISHED, ttftMs: 90_000 }, { ...TARGETS, ttftMs: Infinity });
  });
  expect(text).toContain('weft_goodput_requests_total{model="m"} 2');
  expect(text).toContain('weft_tpot_seconds_bucket{le="0.05",model="m"} 3');
  expect(text).toContain('weft_tpot_seconds_count{model="m"} 4');
  expect(text).toContain('weft_stream_qoe_bucket{le="0.9",model="m"} 0');
  expect(text).toContain('weft_stream_qoe_bucket{le="0.95",model="m"} 4');
});

test("one token has no time between tokens, and no token none at all", async () => {
  const text = await told((metrics) => {
    metrics.observeFinish(
      "m",
      { e2eMs: 300, ttftMs: 300, decodeMs: 0, outputTokens: 1, quality: undefined },
      TARGETS,
    );
    metrics.observeFinish(
      "m",
      { e2eMs: 20, ttftMs: undefined, decodeMs: 0, outputTokens: 0, quality: undefined },
      TARGETS,
    );
  });
  expect(text).not.toContain("weft_tpot_seconds_count");
  expect(text).not.toContain("weft_stream_qoe_count");
  expect(text).toContain('weft_normalized_latency_seconds_sum{model="m"} 0.3');
  expect(text).toContain('weft_goodput_requests_total{model="m"} 2');
});

test("tokens that come together are one delivery", async () => {
  const text = await told((metrics) => metrics.observeGap("m", 30));
  expect(text).toContain('weft_inter_chunk_seconds_count{model="m"} 1');
});

test("waits for a prefix, for a slot that is left, and for a reader are told in seconds", async () => {
  const report = { planMs: 0, decodeMs: 0, sampleMs: 0, prefillMs: 0, decodeSequences: 0, prefillTokens: 0 };
  const text = await told((metrics) => {
    metrics.observeHold("m", 250);
    metrics.observeReaderPause("m", 4000);
    metrics.observeStep("m", {
      ...report,
      passes: 1,
      running: 0,
      queued: 0,
      usedCells: 0,
      freedMs: [20, 100],
    });
  });
  expect(text).toContain('weft_hold_seconds_sum{model="m"} 0.25');
  expect(text).toContain('weft_slow_reader_pause_seconds_sum{model="m"} 4');
  expect(text).toContain('weft_cancel_seconds_count{model="m"} 2');
  expect(text).toContain('weft_cancel_seconds_sum{model="m"} 0.12');
});
