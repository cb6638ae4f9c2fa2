/**
 * How near the simulator comes to a real run that it has not seen: two recordings of SmolLM2 on two cores, one to fit the
 * device to, the other, of other arrivals, to be predicted, and the other way round. bench/README.md says how they were made
 * and shows all figures, and those of another pair, some of which are not within 10 %.
 *
 * A change of policy that moves the prediction away from what was recorded asks for new recordings.
 */
import { describe, expect, test } from "vitest";
import { fitDevice } from "../../../engine/simulate/fit-device.ts";
import { deviceName, readTimeline } from "../../../bench/simulate/read-timeline.ts";
import { replay } from "../../../bench/simulate/replay.ts";
import { compared } from "../../../bench/simulate/report.ts";

const first = await readTimeline("test/fixtures/timelines/smollm2-fitted.json.gz");
const second = await readTimeline("test/fixtures/timelines/smollm2-predicted.json.gz");

test("a request is played in the class that it came with, normal where the recording does not say", () => {
  const { device } = fitDevice(deviceName(first), first, first.steps);
  const played = (priorityOf: (promptTokens: number) => number) => {
    const requests = second.requests.map((request) => ({
      ...request,
      priority: priorityOf(request.promptTokens),
    }));
    return replay({ ...second, requests }, { ttftMs: 2000, itlMs: 200 }, { device, check: true }).simulated;
  };
  expect(second.requests.filter(({ priority }) => priority !== 1)).toEqual([]);
  const alike = played(() => 1);
  const shortFirst = played((tokens) => (tokens < 300 ? 0 : 3));
  expect(shortFirst.done).toBe(alike.done);
  expect(shortFirst.ttftMs.p50).toBeLessThan(0.7 * (alike.ttftMs.p50 ?? 0));
});

describe.each([
  { run: "the second run by the first", fitted: first, predicted: second },
  { run: "the first run by the second", fitted: second, predicted: first },
])("$run", ({ fitted, predicted }) => {
  const { device } = fitDevice(deviceName(fitted), fitted, fitted.steps);
  const { errors, real, simulated, guessingShare } = replay(
    predicted,
    { ttftMs: 2000, itlMs: 200 },
    { device, check: true },
  );

  test("the recording is of whole requests, without guesses", () => {
    const requests = predicted.requests.length;
    expect(requests).toBeGreaterThan(30);
    expect(real).toMatchObject({ requests, done: requests });
    expect(simulated).toMatchObject({ requests, done: requests });
    expect(guessingShare).toBe(0);
  });

  test("each kind of call takes what it took, within 10 %", () => {
    expect(errors.map(({ kind, calls }) => [kind, calls > 100])).toEqual([
      ["decode", true],
      ["prefill", true],
    ]);
    for (const { modelMs, realMs } of errors) expect(Math.abs(modelMs / realMs - 1)).toBeLessThan(0.1);
  });

  test("every figure is predicted within a tenth", () => {
    const rows = compared(real, simulated);
    expect(rows.map(({ name }) => name)).toEqual([
      "duration s",
      "output tok/s",
      "steps",
      ...["ttft", "itl", "e2e"].flatMap((time) =>
        ["mean", "p50", "p90", "p99"].map((of) => `${time} ${of} ms`),
      ),
      "reused %",
    ]);
    // Nothing was reused, nor is it when it is played again.
    const last = rows.pop();
    expect([last?.a, last?.b]).toEqual([0, 0]);
    expect(rows.filter(({ a, b }) => !(Math.abs(b / a - 1) < 0.1))).toEqual([]);
  });
});
