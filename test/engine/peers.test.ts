/** What other engines' tests ask of theirs, asked of the whole engine over the fake model. */
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { fakeOutput } from "../../engine/fake/backend.ts";
import type { FakeOptions } from "../../engine/fake/backend.ts";
import type { GenerationParams, SubmitCommand } from "../../engine/protocol.ts";
import { fakeEngine, submitCommand } from "../support/engine.ts";

const PROMPT = Array.from({ length: 12 }, (_, i) => i);
const OUTPUT = fakeOutput(PROMPT, 40);

/** Calls take no time: what is guessed would depend on how long this machine needs for them. */
beforeAll(() => void vi.useFakeTimers({ toFake: ["performance"] }));
afterAll(() => void vi.useRealTimers());

/** A request whose client says what it expects. */
function predicting(
  id: string,
  predicted: readonly number[],
  params: Partial<GenerationParams> = {},
): SubmitCommand {
  return {
    ...submitCommand(id, PROMPT, { maxTokens: 40, ...params }),
    predicted: [{ tokens: predicted }],
  };
}

/** Each request alone, one after the other, in slots that agree with the cells afterwards. */
async function oneByOne(commands: readonly SubmitCommand[], options: FakeOptions = {}) {
  const engine = await fakeEngine({ slots: 1, ...options });
  for (const command of commands) engine.send(command);
  await engine.drained();
  const stats = await engine.stats();
  expect(stats.slots.map(({ tokens }) => tokens)).toEqual([engine.backend.cellCount(0)]);
  await engine.stop();
  return engine;
}

describe("as vLLM's tests ask", () => {
  test("what was drawn together with a stop token, behind it, is dropped", async () => {
    const stops = OUTPUT.map((token, i) => predicting(`r${i}`, OUTPUT, { stopTokenIds: [token] }));
    const engine = await oneByOne(stops);
    let inside = 0;
    OUTPUT.forEach((token, i) => {
      expect(engine.tokens(`r${i}`)).toEqual(OUTPUT.slice(0, OUTPUT.indexOf(token) + 1));
      const last = engine.outputs(`r${i}`).at(-1);
      expect(last?.finish).toEqual({ reason: "stop", stopToken: token });
      if ((last?.guessed ?? 0) >= (last?.tokens.length ?? 0)) inside++;
    });
    // It stood among right guesses, not only at their end.
    expect(inside).toBeGreaterThan(5);
  });

  test("what was drawn beyond the limit is dropped as well", async () => {
    const lengths = OUTPUT.map((_, i) => i + 1);
    const engine = await oneByOne(
      lengths.map((maxTokens) => predicting(`r${maxTokens}`, OUTPUT, { maxTokens })),
    );
    for (const length of lengths) {
      expect(engine.tokens(`r${length}`)).toEqual(OUTPUT.slice(0, length));
      expect(engine.outputs(`r${length}`).at(-1)?.finish?.reason).toBe("length");
    }
  });

  test("right and wrong guesses are counted, and what is computed goes on behind the right ones", async () => {
    const wrong = OUTPUT.map((token, i) => (i % 9 === 8 ? token + 1 : token));
    const engine = await oneByOne([predicting("r", wrong)]);
    // The fake model would refuse a call that does not begin where the cells end.
    expect(engine.tokens("r")).toEqual(OUTPUT);
    const steps = engine.outputs("r").map(({ tokens, guessed = 0 }) => [guessed, tokens.length - 1] as const);
    expect(steps.every(([guessed, right]) => right >= 0 && right <= guessed)).toBe(true);
    const [guessed, right] = [0, 1].map((at) => steps.reduce((sum, step) => sum + (step[at] ?? 0), 0));
    // Each change costs at least the guess for it.
    expect((guessed ?? 0) - (right ?? 0)).toBeGreaterThanOrEqual(4);
    expect(right).toBeGreaterThan(10);
  });
});

test("as LMDeploy's tests ask, a cell that cannot be computed takes nothing from what others have computed", async () => {
  const failing = [...PROMPT, ...Array.from({ length: 20 }, () => 88), 5];
  let calls = 0;
  const engine = await fakeEngine(
    {
      slots: 2,
      onRun: (entries) => {
        calls += 1;
        if (entries.some(({ position, tokens }) => position >= 16 && tokens.includes(88)))
          throw new Error("no cell");
      },
    },
    { speculate: false },
  );
  engine.send(submitCommand("other", PROMPT, { maxTokens: 40 }));
  engine.send(submitCommand("failing", failing));
  await engine.drained();
  expect(engine.events.filter(({ type }) => type === "failed")).toMatchObject([
    { id: "failing", message: "no cell" },
  ]);
  expect(engine.tokens("other")).toEqual(OUTPUT);
  const { slots } = await engine.stats();
  expect(slots.map(({ id, tokens }) => [tokens, engine.backend.cellCount(id)])).toEqual([
    [PROMPT.length + 39, PROMPT.length + 39],
    // What was left of the call nobody knows, so that none of it is kept.
    [0, 0],
  ]);
  expect(calls).toBeGreaterThan(40);
  await engine.stop();
});
