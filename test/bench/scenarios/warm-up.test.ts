import { expect, test } from "vitest";
import { SCENARIOS } from "../../../bench/scenarios/catalogue.ts";
import { fakeTurn, recordOf } from "./fake-turn.ts";

/** So short a duration leaves overload at its closed loop, whose clock requests move on. */
const values = { requests: 2, conversations: 2, turns: 1, few: 1, concurrency: 1, duration: 300 };

test.each(SCENARIOS.map((scenario) => [scenario.name, scenario] as const))(
  "%s sends its warm-up one by one before anything else, and does not count it",
  async (_, { plan }) => {
    const { run } = plan({ ...values, apiKey: "small", greedyKey: "greedy" });
    const log: string[] = [];
    const { turn } = fakeTurn(async (request, index, clock) => {
      log.push(`begin ${index}`);
      const startMs = clock.nowMs();
      await Promise.resolve();
      // Time passes, or levels of a duration would have no end.
      clock.advance(200);
      log.push(`end ${index}`);
      const acceptedTokens = 0;
      request.onOutput?.(request.outputTokens);
      return recordOf(startMs, [startMs + 1, clock.nowMs()], { acceptedTokens });
    }, 2);
    const { records } = await run(turn);
    expect(log.slice(0, 4)).toEqual(["begin 0", "end 0", "begin 1", "end 1"]);
    expect(records.every(({ startMs }) => startMs >= 400)).toBe(true);
  },
);
