/** A device model is found again from a recording of its own calls. */
import { expect, test } from "vitest";
import { NO_TURNS } from "../../../engine/scheduler/adapter-turns.ts";
import { FlightRecorder } from "../../../engine/flight-recorder.ts";
import { defaultConfig } from "../../../engine/simulate/config.ts";
import { callMs, DEVICES, measuredCosts, passMs, straightPasses } from "../../../engine/simulate/device.ts";
import { fitDevice, modelledMs, STALLED } from "../../../engine/simulate/fit-device.ts";
import { nonNegativeLeastSquares } from "../../../engine/simulate/least-squares.ts";
import { createState } from "../../../engine/scheduler/transitions.ts";
import type { PlannedCall, PlannedEntry } from "../../../engine/scheduler/types.ts";

const CONFIG = defaultConfig("cpu");
const DEVICE = DEVICES.cpu;

function entry(slot: number, position: number, tokens: number): PlannedEntry {
  return { slot, request: `r${slot}`, position, tokens: new Uint32Array(tokens), sample: tokens === 1 };
}

function call(kind: PlannedCall["kind"], entries: readonly PlannedEntry[]): PlannedCall {
  return { kind, entries, tokens: 1, drafts: 0, passes: 1, predictedMs: 1, unscaledMs: 1 };
}

/** Calls of many shapes, with the times that the device has for them. */
function recording() {
  const recorder = new FlightRecorder(1000);
  const state = createState(CONFIG, measuredCosts(DEVICE, CONFIG));
  const plan = {
    assignments: [],
    evictions: [],
    held: [],
    kept: [],
    passedOver: [],
    branches: [],
    boundary: [],
    calls: [],
    turns: NO_TURNS,
    keepingMs: 0,
    prefillCreditMs: 0,
    why: [],
  };
  let nowMs = 0;
  const record = (made: PlannedCall): void => {
    recorder.beginStep(state, plan, nowMs);
    recorder.beginCall(state, made, nowMs + 0.25);
    const ms = callMs(DEVICE, made);
    const sampleMs = made.kind === "decode" ? 0.3 + 0.3 * made.entries.length : 0;
    recorder.endCall(ms);
    recorder.sampled(sampleMs);
    recorder.endStep(0);
    nowMs += ms + sampleMs + 0.5;
  };
  for (let i = 0; i < 60; i++) {
    const width = 1 + (i % 8);
    // Every third call has a gap in it.
    const slots = Array.from({ length: width }, (_, k) => (i % 3 === 0 && k > 2 ? k + 1 : k)).filter(
      (s) => s < 8,
    );
    record(
      call(
        "decode",
        slots.map((slot) => entry(slot, (i * 67) % 3000, 1)),
      ),
    );
    record(call("prefill", [entry(0, (i * 64) % 3200, i % 4 === 0 ? 17 : 64)]));
  }
  return recorder.timeline(state, 1000);
}

test("costs of passes, cells, prompts and draws are told apart", () => {
  const timeline = recording();
  // Recorded requests that nobody submitted have no numbers; what is drawn is counted by them.
  const steps = timeline.steps.map((step) => ({
    ...step,
    running: 2,
    calls: step.calls.map((made) => ({
      ...made,
      entries: made.entries.map((n, i) => (i % 4 === 1 ? 0 : n)),
    })),
  }));
  const { device, speed, calls } = fitDevice("again", timeline, steps);
  expect(calls).toBe(120);
  for (const width of [1, 3, 8]) expect(passMs(device, width)).toBeCloseTo(passMs(DEVICE, width), 0);
  expect(device.decodeCellsMs).toBeCloseTo(DEVICE.decodeCellsMs, 2);
  expect(device.prefillTokenMs).toBeCloseTo(DEVICE.prefillTokenMs, 3);
  expect(device.prefillCellsMs).toBeCloseTo(DEVICE.prefillCellsMs, 3);
  expect(device.sampleTokenMs).toBeCloseTo(0.3, 3);
  expect(device.stepMs).toBeCloseTo(0.5, 3);
  expect(Math.max(...speed.map(({ ratio }) => ratio))).toBeLessThan(1.05);
  expect(Math.min(...speed.map(({ ratio }) => ratio))).toBeGreaterThan(0.95);
  for (const made of steps.flatMap((step) => step.calls))
    expect(modelledMs(device, made) / (made.ms ?? 0)).toBeCloseTo(1, 1);
});

test("a call that the machine held up for seconds says nothing of calls like it", () => {
  const timeline = recording();
  const plain = fitDevice("plain", timeline, timeline.steps).device;
  const steps = timeline.steps.map((step, i) => ({
    ...step,
    calls: step.calls.map((made) => (i === 20 || i === 21 ? { ...made, ms: (made.ms ?? 0) + 5000 } : made)),
  }));
  const { device, speed } = fitDevice("held up", timeline, steps);
  for (const width of [1, 3, 8]) expect(passMs(device, width) / passMs(plain, width)).toBeCloseTo(1, 1);
  expect(device.prefillTokenMs / plain.prefillTokenMs).toBeCloseTo(1, 1);
  expect(speed.filter(({ ratio }) => ratio > STALLED)).toHaveLength(2);
});

test("a recording without enough calls is refused", () => {
  const timeline = recording();
  expect(() => fitDevice("short", timeline, timeline.steps.slice(0, 5))).toThrow("10 decode calls");
});

test("no cost is below zero", () => {
  const rows = [
    [1, 1],
    [1, 2],
    [1, 3],
  ];
  expect(nonNegativeLeastSquares(rows, [5, 4, 3])).toEqual([4, 0]);
  const [constant, slope] = nonNegativeLeastSquares(rows, [3, 5, 7]);
  expect(constant).toBeCloseTo(1, 6);
  expect(slope).toBeCloseTo(2, 6);
});

test("a table of widths goes on as steeply as it ends", () => {
  expect(passMs({ decodePassMs: straightPasses(10, 2) }, 7)).toBe(24);
});
