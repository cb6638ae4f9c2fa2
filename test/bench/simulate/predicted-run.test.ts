/**
 * How near the simulator comes to a real run that it has not seen: two recordings of SmolLM2 on two cores, one to fit the
 * device to, the other, of other arrivals, to be predicted. bench/README.md says how they were made and shows all figures.
 *
 * A change of policy that moves the prediction away from what was recorded asks for new recordings.
 */
import { expect, test } from "vitest";
import { fitDevice } from "../../../engine/simulate/fit-device.ts";
import { deviceName, readTimeline } from "../../../bench/simulate/read-timeline.ts";
import { replay } from "../../../bench/simulate/replay.ts";
import { compared } from "../../../bench/simulate/report.ts";

const fitted = await readTimeline("test/fixtures/timelines/smollm2-fitted.json.gz");
const predicted = await readTimeline("test/fixtures/timelines/smollm2-predicted.json.gz");
const { device } = fitDevice(deviceName(fitted), fitted, fitted.steps);
const { errors, real, simulated, guessingShare } = replay(
  predicted,
  { ttftMs: 2000, itlMs: 200 },
  { device, check: true },
);

test("the recording is of whole requests, without guesses", () => {
  expect(real).toMatchObject({ requests: 39, done: 39 });
  expect(simulated).toMatchObject({ requests: 39, done: 39 });
  expect(guessingShare).toBe(0);
});

test("each kind of call takes what it took, within 10 %", () => {
  expect(errors.map(({ kind, calls }) => [kind, calls > 100])).toEqual([
    ["decode", true],
    ["prefill", true],
  ]);
  for (const { modelMs, realMs } of errors) expect(Math.abs(modelMs / realMs - 1)).toBeLessThan(0.1);
});

test.each([
  "duration s",
  "output tok/s",
  "ttft p50 ms",
  "ttft p90 ms",
  "itl p50 ms",
  "itl p99 ms",
  "e2e p50 ms",
])("%s is predicted within a tenth", (name) => {
  const found = compared(real, simulated).find((row) => row.name === name);
  expect(Math.abs((found?.b ?? NaN) / (found?.a ?? NaN) - 1)).toBeLessThan(0.1);
});
