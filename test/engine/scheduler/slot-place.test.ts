/** What a slot's place costs, against the bound that is used to look at few of them. */
import * as fc from "fast-check";
import { expect, test } from "vitest";
import { Places } from "../../../engine/scheduler/slot-place.ts";
import { addRequest, schedulerState } from "../../support/scheduler.ts";

const SLOTS = 24;

test("a place costs no less than its bound says, whatever the passes cost and whether gaps may be closed", () => {
  let [tried, close] = [0, 0];
  fc.assert(
    fc.property(
      fc.array(fc.double({ min: 0, max: 10, noNaN: true }), { minLength: SLOTS, maxLength: SLOTS }),
      fc.subarray(Array.from({ length: SLOTS }, (_, slot) => slot)),
      fc.boolean(),
      fc.double({ min: 0.2, max: 5, noNaN: true }),
      (steps, busy, plugGaps, decodeScale) => {
        const state = schedulerState({ slots: SLOTS, plugGaps });
        const decodePassMs = [0];
        for (const [width, ms] of steps.entries()) decodePassMs.push((decodePassMs[width] ?? 0) + ms);
        state.cost = { ...state.cost, decodePassMs, decodeScale };
        addRequest(state, "a", { maxTokens: 50 });
        const request = state.requests.get("a");
        if (request === undefined) throw new Error("There is no request.");
        const places = new Places(state, busy, request);
        for (let slot = 0; slot < SLOTS; slot++) {
          if (busy.includes(slot)) continue;
          const [least, ms] = [places.leastMs(slot), places.ms(slot)];
          expect(least).toBeLessThanOrEqual(ms);
          if (plugGaps) tried += 1;
          if (plugGaps && least >= 0.99 * ms) close += 1;
        }
      },
    ),
  );
  // A bound that says nothing would be right as well.
  expect(close).toBeGreaterThan(0.99 * tried);
});
