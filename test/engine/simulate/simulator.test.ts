/** The simulated clock: literal times of small traces, and that the scheduler's invariants hold in all of them. */
import * as fc from "fast-check";
import { expect, test } from "vitest";
import { defaultConfig, withKnobs } from "../../../engine/simulate/config.ts";
import type { SchedulerConfig } from "../../../engine/simulate/config.ts";
import { straightPasses } from "../../../engine/simulate/device.ts";
import type { DeviceModel } from "../../../engine/simulate/device.ts";
import { EventHeap } from "../../../engine/simulate/event-heap.ts";
import { simulate } from "../../../engine/simulate/simulator.ts";
import type {
  LiveRequest,
  SimulatedRequest,
  SimulationObserver,
} from "../../../engine/simulate/simulator.ts";

/** A pass costs 10 ms and 1 ms a slot, a prompt token 2 ms behind 10 ms, a copy 5 ms, a draw 0.5 ms, a step 1 ms. */
const DEVICE: DeviceModel = {
  name: "test",
  decodePassMs: straightPasses(10, 1),
  decodeCellsMs: 0,
  prefillCallMs: 10,
  prefillTokenMs: 2,
  prefillCellsMs: 0,
  copyMs: 5,
  sampleCallMs: 0,
  sampleTokenMs: 0.5,
  stepMs: 1,
};

const CONFIG: SchedulerConfig = {
  ...defaultConfig("cpu"),
  slots: 2,
  contextTokens: 64,
  prefillChunk: 8,
  batchTokens: 8,
};

let nextToken = 1;
function request(arrivalMs: number, prompt: number, output: number, more: Partial<SimulatedRequest> = {}) {
  const text = (tokens: number) => ({ first: (nextToken += tokens) - tokens, tokens });
  return {
    arrivalMs,
    tenant: "a",
    priority: 1,
    prompt: [text(prompt)],
    output: text(output),
    maxTokens: undefined,
    patienceMs: undefined,
    ...more,
  } satisfies SimulatedRequest;
}

function run(trace: readonly SimulatedRequest[], config = CONFIG, device = DEVICE) {
  const log: string[] = [];
  const note = (live: LiveRequest, what: string): void => void log.push(`${live.id} ${what}`);
  const observer: SimulationObserver = {
    arrived: (live, nowMs) => note(live, `arrived ${nowMs}`),
    admitted: (live) => note(live, `admitted ${live.admittedMs} reusing ${live.cachedTokens}`),
    token: (live, gapMs) => note(live, `token ${gapMs}`),
    ended: (live, end, nowMs) => note(live, `${end} ${nowMs}`),
    called: () => undefined,
    stepped: () => undefined,
  };
  const totals = simulate(trace, { config, device, lasts: (_nowMs, ms) => ms, check: true }, observer);
  return { log, totals };
}

test("a prompt is computed cell by cell and then decoded, in the device's times", () => {
  const { log, totals } = run([request(100, 11, 2)]);
  // Cells of 8 and 2 tokens, then two tokens: 1 + 26, 1 + 14, 1 + 11.5, 1 + 11.5.
  expect(log).toEqual([
    "0 arrived 100",
    "0 admitted 100 reusing 0",
    "0 token 54.5",
    "0 token 12.5",
    "0 done 167",
  ]);
  expect(totals).toEqual({ endMs: 167, steps: 4 });
});

test("two requests decode in one pass, and a third waits for a slot", () => {
  const { log } = run([request(0, 1, 2), request(0, 1, 3), request(0, 1, 1)]);
  expect(log.filter((line) => /admitted|done/.test(line))).toEqual([
    "0 admitted 0 reusing 0",
    "1 admitted 0 reusing 0",
    "0 done 28",
    "2 admitted 28 reusing 0",
    "2 done 42",
    "1 done 42",
  ]);
});

test("a prefix that a slot holds is not computed again", () => {
  const first = request(0, 17, 1);
  const again: SimulatedRequest = { ...request(500, 1, 1), prompt: first.prompt };
  const { log } = run([first, again]);
  expect(log).toContain("1 admitted 500 reusing 16");
  expect(log.at(-1)).toBe("1 done 512.5");
});

test("nobody waits for a prefix in the making where that is off, however slots are chosen", () => {
  const first = request(0, 17, 1);
  const trace = [first, { ...request(0, 1, 1), prompt: first.prompt }];
  const admitted = (slotChoice: "cheapest" | "oldest", prefixHolds?: boolean): string[] =>
    run(trace, { ...CONFIG, slotChoice, ...(prefixHolds === undefined ? {} : { prefixHolds }) }).log.filter(
      (line) => line.includes("admitted"),
    );
  const atOnce = ["0 admitted 0 reusing 0", "1 admitted 0 reusing 0"];
  expect(admitted("oldest", false)).toEqual(atOnce);
  expect(admitted("cheapest", false)).toEqual(atOnce);
  expect(admitted("cheapest", true)).toEqual(["0 admitted 0 reusing 0", "1 admitted 54 reusing 16"]);
  expect(admitted("cheapest")).toEqual(admitted("cheapest", true));
  // Copies are made with the cheapest slots alone: there is nothing to wait for, and it is waited for.
  expect(admitted("oldest", true)).toEqual(["0 admitted 0 reusing 0", "1 admitted 54 reusing 0"]);
});

test("a client that leaves frees its slot at the next boundary, or the queue at once", () => {
  const { log } = run([
    request(0, 1, 50, { patienceMs: 30 }),
    request(0, 1, 50, { patienceMs: 20 }),
    request(0, 1, 50, { patienceMs: 5 }),
  ]);
  expect(log.filter((line) => line.includes("cancelled"))).toEqual([
    "2 cancelled 13",
    "1 cancelled 28",
    "0 cancelled 40.5",
  ]);
});

test("what follows from an answer comes after it, and a full queue refuses", () => {
  const follow = request(0, 1, 1);
  const { log } = run(
    [
      request(0, 1, 1, { next: (endMs) => ({ ...follow, arrivalMs: endMs + 7 }) }),
      request(0, 1, 1),
      request(0, 1, 1),
    ],
    { ...CONFIG, maxQueued: 0 },
  );
  expect(log.filter((line) => /arrived|refused/.test(line))).toEqual([
    "0 arrived 0",
    "1 arrived 0",
    "2 arrived 0",
    "2 refused 0",
    "3 arrived 21",
  ]);
});

test("costs of long contexts and of copies are counted", () => {
  const device = { ...DEVICE, decodeCellsMs: 3, prefillCellsMs: 1000 };
  const { log } = run([request(0, 9, 1)], { ...CONFIG, slots: 1 }, device);
  // One cell of 8 tokens that look at 32 cells together, then a pass over one block.
  expect(log.at(-1)).toBe(`0 done ${1 + 10 + 16 + 32 + 1 + 11 + 3 + 0.5}`);
});

test("whatever comes, every request ends once, gets its tokens and breaks no invariant", () => {
  const traces = fc.array(
    fc.record({
      gap: fc.integer({ min: 0, max: 60 }),
      prompt: fc.integer({ min: 1, max: 40 }),
      shared: fc.integer({ min: 0, max: 30 }),
      output: fc.integer({ min: 1, max: 20 }),
      patienceMs: fc.option(fc.integer({ min: 0, max: 200 }), { nil: undefined }),
    }),
    { maxLength: 12 },
  );
  const knobs = fc.record({
    slots: fc.integer({ min: 1, max: 5 }),
    itlTargetMs: fc.constantFrom(5, 40, 60_000),
    plugGaps: fc.boolean(),
    slotChoice: fc.constantFrom("cheapest" as const, "oldest" as const),
    prefixHolds: fc.boolean(),
    deterministic: fc.boolean(),
    canRewind: fc.boolean(),
  });
  fc.assert(
    fc.property(traces, knobs, (drawn, changed) => {
      let atMs = 0;
      const trace = drawn.map(({ gap, prompt, shared, output, patienceMs }) => {
        const own = request((atMs += gap), prompt, output, { patienceMs });
        const opening = { first: 1_000_000, tokens: Math.min(shared, 62 - prompt) };
        const room = 64 - prompt - opening.tokens;
        return {
          ...own,
          prompt: [opening, ...own.prompt],
          output: { ...own.output, tokens: Math.min(output, room) },
        };
      });
      const { log } = run(trace, withKnobs(CONFIG, { ...changed, batchTokens: 8 }));
      trace.forEach(({ output }, id) => {
        const own = log.filter((line) => line.startsWith(`${id} `));
        const ends = own.filter((line) => /done|cancelled|refused/.test(line));
        expect(ends).toHaveLength(1);
        const tokens = own.filter((line) => line.includes("token")).length;
        if (ends[0]?.includes("done") === true) expect(tokens).toBe(output.tokens);
        else expect(tokens).toBeLessThanOrEqual(output.tokens);
      });
    }),
    { numRuns: 150 },
  );
});

test("events come by time, then by order", () => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 0, max: 9 })), (times) => {
      const heap = new EventHeap<number>();
      times.forEach((atMs, i) => heap.push(atMs, i));
      const expected = times.map((atMs, i) => [atMs, i] as const).sort((a, b) => a[0] - b[0] || a[1] - b[1]);
      expect(heap.popUntil(-1)).toBeUndefined();
      for (const [atMs, i] of expected) {
        expect(heap.nextMs).toBe(atMs);
        expect(heap.popUntil(atMs)).toBe(i);
      }
      expect(heap.popUntil(Infinity)).toBeUndefined();
    }),
  );
});
