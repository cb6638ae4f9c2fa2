import { expect, test } from "vitest";
import type { RequestRecord, SendOne } from "../../../bench/client.ts";
import { mixedTenants } from "../../../bench/scenarios/mixed-tenants.ts";
import { fakeTurn, recordOf } from "./fake-turn.ts";

const keys = { apiKey: "small", greedyKey: "greedy" };
const plan = mixedTenants.plan({ requests: 3, few: 2, isl: 10, osl: 20, ...keys });

/** The small key's requests take what is given, alone and then beside; the greedy key's end when they are given up. */
function serve(aloneMs: number, besideMs: number) {
  const { turn, clock } = fakeTurn(() => recordOf(0, [1]));
  const log: string[] = [];
  const greedy: (() => void)[] = [];
  const send: SendOne = async (target, { signal, onOutput }) => {
    log.push(String(target.apiKey));
    const startMs = clock.nowMs();
    if (target.apiKey === "greedy") {
      const given = new Promise<RequestRecord>((resolve) => {
        const error = { kind: "cancelled", message: "" } as const;
        signal?.addEventListener("abort", () =>
          resolve(recordOf(startMs, [startMs], { error, endMs: clock.nowMs() })),
        );
      });
      greedy.push(() => onOutput?.(16));
      if (greedy.length === 3) greedy[1]?.();
      return given;
    }
    const takesMs = greedy.length === 0 ? aloneMs : besideMs;
    clock.advance(takesMs);
    return recordOf(startMs, [clock.nowMs()]);
  };
  return { turn: { ...turn, target: { ...turn.target, apiKey: "small" }, send }, log };
}

test("the small key asks alone first, then beside the greedy one, which is given up at the end", async () => {
  const { turn, log } = serve(100, 130);
  const { figures, records, errors, summary, lines } = await plan.run(turn);
  expect(log).toEqual(["small", "small", "greedy", "greedy", "greedy", "small", "small"]);
  expect(figures).toMatchObject({
    "beside / alone": 1.3,
    "beside ttft p95 ms": 130,
    "alone ttft p95 ms": 100,
    "greedy chunks/s": 3 / 0.26,
  });
  expect(lines.filter((line) => line.startsWith("note:"))).toEqual([]);
  expect(records).toHaveLength(5);
  expect(errors).toEqual([]);
  expect(summary).toMatchObject({ median_ttft_ms: 130, greedyAnswered: 0 });
});

test("its plot tells the small key alone from beside, and leaves the greedy one out", async () => {
  const { turn } = serve(100, 130);
  const [plot] = mixedTenants.plots?.([{ side: 0, round: 0, ...(await plan.run(turn)) }]) ?? [];
  expect(plot?.series.map(({ name, points }) => [name, points])).toEqual([
    [
      "A alone",
      [
        [100, 0],
        [100, 0.5],
        [100, 1],
      ],
    ],
    [
      "A beside",
      [
        [130, 0],
        [130, 0.5],
        [130, 1],
      ],
    ],
  ]);
});

test.each([
  ["ended before the last one beside it began", 349, undefined],
  ["ended after that", 351, 1.5],
])("there is a ratio if the flood lasted: it %s", async (_, floodEndMs, ratio) => {
  const { turn, clock } = fakeTurn(() => recordOf(0, [1]));
  let asked = 0;
  const send: SendOne = (target) => {
    const startMs = clock.nowMs();
    if (target.apiKey === "greedy") return Promise.resolve(recordOf(startMs, [floodEndMs]));
    // Alone until 200, beside from 200 and from 350.
    clock.advance(++asked > 2 ? 150 : 100);
    return Promise.resolve(recordOf(startMs, [clock.nowMs()]));
  };
  const { figures, summary } = await plan.run({ ...turn, send });
  expect(figures["beside / alone"]).toBe(ratio);
  expect(summary["ratio"]).toBe(ratio);
});

test("a greedy key that is refused is counted, and the small one asks all the same", async () => {
  const { turn } = fakeTurn(() => recordOf(0, [1]));
  const send: SendOne = (target) =>
    Promise.resolve(
      target.apiKey === "greedy"
        ? recordOf(0, [], { error: { kind: "http_429", message: "too many" } })
        : recordOf(0, [10]),
    );
  const { figures, errors, lines } = await plan.run({ ...turn, send });
  // There was no flood, so nothing was asked beside one.
  expect(figures["beside / alone"]).toBeUndefined();
  expect(figures).toMatchObject({ "beside ttft p95 ms": 10, "alone ttft p95 ms": 10 });
  expect(lines.filter((line) => line.startsWith("note:"))).toHaveLength(1);
  expect(errors).toEqual([{ kind: "http_429", count: 3, example: "too many" }]);
});
