import { expect, test } from "vitest";
import { changed, predictedEdit } from "../../../bench/scenarios/predicted-edit.ts";
import { fakeTurn, recordOf } from "./fake-turn.ts";

const plan = predictedEdit.plan({ requests: 2, isl: 10, osl: 11 });

test("the prediction is the file with one word changed, and both ways have the same seed", async () => {
  const { turn, sent } = fakeTurn(() => recordOf(0, [1, 2], { answer: "a b c d" }));
  await plan.run(turn);
  const content = "a b changed d";
  expect(changed("a b c d")).toBe(content);
  const prediction = { type: "content", content };
  expect(sent.map(({ seed, fields }) => [seed, fields])).toEqual([
    [1, { temperature: 1 }],
    [1, { temperature: 1 }],
    [1, { temperature: 1, prediction }],
    [2, { temperature: 1 }],
    [2, { temperature: 1, prediction }],
    [2, { temperature: 1 }],
  ]);
});

test("speeds are compared file by file, and so are the texts", async () => {
  const { turn } = fakeTurn(({ seed, fields }) => {
    const guided = fields?.["prediction"] !== undefined;
    const endMs = guided ? 500 : 1100;
    const content = seed === 2 && guided ? "other" : "same";
    return recordOf(0, [100, endMs], { outputTokens: 11, acceptedTokens: 7, answer: content });
  });
  const { figures, errors, summary } = await plan.run(turn);
  // Two of each way; the files themselves are not measured.
  expect(summary).toMatchObject({
    completed: 4,
    total_output_tokens: 44,
    duration: 1.1,
    output_throughput: 40,
    median_ttft_ms: 100,
    mean_tpot_ms: 70,
  });
  expect(errors).toEqual([]);
  expect(figures).toMatchObject({ ratio: 2.5, "equal %": 50, "without tok/s": 10, "accepted tokens": 14 });
});

test("what nobody says was accepted is not said to be none", async () => {
  const answer = "a b";
  const { turn } = fakeTurn(() => recordOf(0, [1, 2], { answer }));
  const silent = await plan.run(turn);
  expect(silent.figures["accepted tokens"]).toBeUndefined();
  expect(silent.lines[0]).toMatch(/accepted - tokens$/);
  const none = await plan.run(fakeTurn(() => recordOf(0, [1, 2], { answer, acceptedTokens: 0 })).turn);
  expect(none.figures["accepted tokens"]).toBe(0);
  expect(none.lines[0]).toMatch(/accepted 0 tokens$/);
});

test("a file that cannot be written is a failure, and nothing is compared with it", async () => {
  const error = { kind: "http_503", message: "full" } as const;
  const { turn, sent } = fakeTurn(() => recordOf(0, [], { error }));
  const { figures, errors } = await plan.run(turn);
  expect(sent).toHaveLength(2);
  expect(figures["ratio"]).toBeUndefined();
  expect(errors).toMatchObject([{ kind: "http_503", count: 2 }]);
});
