/** Requests by what they do and their class, as Prometheus reads them. */
import { Registry } from "prom-client";
import { expect, test } from "vitest";
import { ClassMetrics } from "../../../src/metrics/class-metrics.ts";
import { createTestApp } from "../../support/test-app.ts";

const BY_CLASS = {
  waiting: [1, 20, 0, 3],
  held: [0, 2, 0, 0],
  prefilling: [0, 4, 0, 0],
  decoding: [5, 6, 0, 0],
  paused: [0, 0, 0, 7],
};

const LINES = [
  'weft_requests_waiting_by_class{model="M",class="high"} 1',
  'weft_requests_waiting_by_class{model="M",class="normal"} 20',
  'weft_requests_waiting_by_class{model="M",class="low"} 0',
  'weft_requests_waiting_by_class{model="M",class="background"} 3',
  'weft_requests_held{model="M",class="high"} 0',
  'weft_requests_held{model="M",class="normal"} 2',
  'weft_requests_held{model="M",class="low"} 0',
  'weft_requests_held{model="M",class="background"} 0',
  'weft_requests_prefilling{model="M",class="high"} 0',
  'weft_requests_prefilling{model="M",class="normal"} 4',
  'weft_requests_prefilling{model="M",class="low"} 0',
  'weft_requests_prefilling{model="M",class="background"} 0',
  'weft_requests_decoding{model="M",class="high"} 5',
  'weft_requests_decoding{model="M",class="normal"} 6',
  'weft_requests_decoding{model="M",class="low"} 0',
  'weft_requests_decoding{model="M",class="background"} 0',
  'weft_requests_paused{model="M",class="high"} 0',
  'weft_requests_paused{model="M",class="normal"} 0',
  'weft_requests_paused{model="M",class="low"} 0',
  'weft_requests_paused{model="M",class="background"} 7',
];

const numbersOf = (exposition: string): string[] =>
  exposition.split("\n").filter((line) => line !== "" && !line.startsWith("#"));

test("each kind has a number of each class, and none is left of an engine that is gone", async () => {
  const registry = new Registry();
  const metrics = new ClassMetrics(registry);
  metrics.setGauges("M", BY_CLASS);
  expect(numbersOf(await registry.metrics())).toEqual(LINES);
  metrics.resetGauges();
  expect(numbersOf(await registry.metrics())).toEqual([]);
});

test("what the engine counts is in /metrics, and nothing where it has not counted", async () => {
  const { app, engine, deps } = createTestApp();
  const read = async (): Promise<string> => (await app.request("/metrics")).text();
  expect(await read()).not.toContain("weft_requests_prefilling{");
  engine.statsToo = { byClass: BY_CLASS };
  const model = deps.models.served[0]?.id ?? "";
  const text = await read();
  for (const line of LINES) expect(text).toContain(line.replace('"M"', `"${model}"`));
});
