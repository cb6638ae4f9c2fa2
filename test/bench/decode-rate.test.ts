import { describe, expect, it } from "vitest";
import { commonDecodeRate, recordSteps } from "../../bench/decode-rate.ts";
import type { TimedStep } from "../../bench/decode-rate.ts";
import type { EngineEvent, EnginePort } from "../../engine/protocol.ts";
import { createManualClock } from "./manual-clock.ts";

function step(
  atMs: number,
  ...outputs: readonly (readonly [id: string, tokens: number, end?: true])[]
): TimedStep {
  return {
    atMs,
    outputs: outputs.map(([id, tokens, end]) => ({ id, tokens, finished: end === true })),
  };
}

describe("commonDecodeRate", () => {
  it("takes the steps from all begun to the first finished, without the first one's tokens", () => {
    const steps = [
      step(0, ["a", 1]),
      step(10, ["a", 1]),
      step(20, ["a", 1], ["b", 1]),
      step(30, ["a", 1], ["b", 1]),
      step(40, ["a", 1, true], ["b", 1]),
      step(100, ["b", 1, true]),
    ];
    expect(commonDecodeRate(steps, 2)).toBe(4 / 0.02);
  });

  it("has no rate when one finished before the last began", () => {
    expect(
      commonDecodeRate([step(0, ["a", 1, true]), step(10, ["b", 1]), step(20, ["b", 1])], 2),
    ).toBeUndefined();
    expect(commonDecodeRate([step(0, ["a", 1])], 2)).toBeUndefined();
    expect(commonDecodeRate([], 1)).toBeUndefined();
  });
});

describe("recordSteps", () => {
  it("notes steps with output and hands every event on", () => {
    const clock = createManualClock();
    const received: EngineEvent[] = [];
    let emit: (event: EngineEvent) => void = () => undefined;
    const port: EnginePort = {
      send: () => undefined,
      kill: () => undefined,
      exited: Promise.resolve({ unexpected: false, detail: "" }),
      onEvent: (receiver) => (emit = receiver),
    };
    const steps: TimedStep[] = [];
    recordSteps(port, clock, steps).onEvent((event) => received.push(event));
    clock.advance(5);
    emit({ type: "load_progress", ratio: 1 });
    emit({
      type: "step",
      outputs: [
        {
          id: "a",
          tokens: [1, 2],
          logprobs: undefined,
          start: undefined,
          finish: { reason: "length", stopToken: undefined },
        },
      ],
      report: {
        planMs: 0,
        decodeMs: 0,
        sampleMs: 0,
        prefillMs: 0,
        decodeSequences: 1,
        prefillTokens: 0,
        passes: 1,
        running: 1,
        queued: 0,
        usedCells: 0,
      },
    });
    expect(steps).toEqual([step(5, ["a", 2, true])]);
    expect(received.map((event) => event.type)).toEqual(["load_progress", "step"]);
  });
});
