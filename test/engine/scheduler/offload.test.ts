/** Which prompts the prefill worker is given. */
import { expect, test } from "vitest";
import { addRequest, runStep, schedulerState } from "../../support/scheduler.ts";

test.each([
  // Cells of 10 tokens take 30 ms each, and the target is 100.
  [131, undefined],
  [141, "long"],
])(
  "a prompt of %i tokens beside a stream goes there only if it takes longer than four targets",
  (tokens, request) => {
    const state = schedulerState({ spillBytes: 10_000 });
    addRequest(state, "stream", { maxTokens: 100 });
    while (state.requests.get("stream")?.phase !== "decode") runStep(state, 0);
    Object.assign(state.offload, { employed: true, ready: true });
    addRequest(state, "long", { prompt: Uint32Array.from({ length: tokens }, (_, i) => 5000 + i) });
    expect(runStep(state, 1).offload?.request).toBe(request);
  },
);
