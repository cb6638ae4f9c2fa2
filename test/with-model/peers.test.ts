/** What llama.cpp's tests ask of its server, asked of the engine on a real model. */
import { afterAll, describe, expect, test } from "vitest";
import type { GenerationParams, LoadOptions, StepOutput } from "../../engine/protocol.ts";
import { GREEDY, LOAD_OPTIONS, submitCommand } from "../support/engine.ts";
import { startLlamaEngine } from "../support/llama-engine.ts";
import type { LlamaEngine } from "../support/llama-engine.ts";

const CONTEXT = 256;
const COUNTING = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20,";

interface PocketEngine extends LlamaEngine {
  readonly generate: (
    prompt: string,
    params: Partial<GenerationParams>,
    predicted?: readonly number[],
  ) => Promise<StepOutput[]>;
}

const engines: PocketEngine[] = [];
afterAll(() => Promise.all(engines.map((engine) => engine.stop())));

async function pocket(options: Partial<LoadOptions>): Promise<PocketEngine> {
  const engine = await startLlamaEngine({
    ...LOAD_OPTIONS,
    modelPath: "models/pocket.gguf",
    contextTokens: CONTEXT,
    prefillChunk: 32,
    slots: 2,
    threads: 1,
    speculate: false,
    ...options,
  });
  let serial = 0;
  const made: PocketEngine = {
    ...engine,
    generate: async (prompt, params, predicted = []) => {
      const [outputs = []] = await engine.ask({
        ...submitCommand(`r${++serial}`, [], params),
        prompt: [{ text: prompt, special: false }],
        predicted: [{ tokens: predicted }],
      });
      return outputs;
    },
  };
  engines.push(made);
  return made;
}

const tokensOf = (outputs: readonly StepOutput[]): number[] => outputs.flatMap(({ tokens }) => [...tokens]);

test("the same seed gives the same text with any number of slots and any batch, another seed another one", async () => {
  const drawn = (seed: number): Partial<GenerationParams> => ({
    sampling: { ...GREEDY.sampling, temperature: 1.2, seed },
    maxTokens: 40,
    ignoreEos: true,
    reusePrefix: false,
  });
  const texts = new Map<number, number[]>();
  for (const options of [
    { slots: 1 },
    { slots: 2 },
    { slots: 2, batchTokens: 64 },
    { slots: 4, batchTokens: 200 },
  ]) {
    const engine = await pocket(options);
    for (const seed of [1, 2]) {
      const text = tokensOf(await engine.generate("Once upon a time, there was", drawn(seed)));
      expect(text).toEqual(texts.get(seed) ?? text);
      texts.set(seed, text);
    }
  }
  expect(texts.get(1)).not.toEqual(texts.get(2));
});

describe("guesses", () => {
  const params = { maxTokens: 60, ignoreEos: true };

  test("change no text, right or wrong, alone or beside others, and never go beyond the context", async () => {
    const plain = await pocket({});
    const guessing = await pocket({ speculate: true });
    const truth = tokensOf(await plain.generate(COUNTING, params));
    const wrong = truth.map((token, i) => (i % 5 === 4 ? 300 : token));
    const toTheEnd = { ...params, maxTokens: undefined };
    const whole = tokensOf(await plain.generate(COUNTING, toTheEnd));
    for (const predicted of [truth, wrong, [], Array.from({ length: 60 }, () => 300)])
      expect(tokensOf(await guessing.generate(COUNTING, params, predicted))).toEqual(truth);
    const together = await Promise.all(
      [truth, wrong, []].map((one) => guessing.generate(COUNTING, params, one)),
    );
    expect(together.map(tokensOf)).toEqual([truth, truth, truth]);
    const last = await guessing.generate(COUNTING, toTheEnd, whole);
    expect(tokensOf(last)).toEqual(whole);
    expect(last.at(-1)?.finish?.reason).toBe("length");
    // Several tokens came in one step: otherwise this would have shown nothing.
    expect(last.length).toBeLessThan(whole.length / 2);
    const { slots } = await guessing.stats();
    expect(Math.max(...slots.map(({ tokens }) => tokens))).toBeLessThanOrEqual(CONTEXT);
  });
});

test("computed and reused prompt tokens are told apart, slots are idle afterwards, and times are numbers", async () => {
  const engine = await pocket({});
  const before = await engine.stats();
  const params = { maxTokens: 5, ignoreEos: true };
  const first = (await engine.generate(COUNTING, params))[0]?.start;
  const again = (await engine.generate(COUNTING, params))[0]?.start;
  const after = await engine.stats();
  const promptTokens = after.promptTokens / 2;
  expect(promptTokens).toBeGreaterThan(30);
  expect([first?.cachedTokens, again?.cachedTokens]).toEqual([0, promptTokens - 1]);
  expect([before.reusedTokens, after.reusedTokens]).toEqual([0, promptTokens - 1]);
  expect(after.outputTokens - before.outputTokens).toBe(10);
  // Where a copy costs nothing, by the measured costs, the second one may take the other slot.
  const states = after.slots.map(({ state }) => state);
  expect([after.running, after.queued, states]).toEqual([
    0,
    0,
    ["resident", expect.stringMatching(/^(?:resident|empty)$/)],
  ]);
  for (const start of [first, again]) {
    for (const ms of [start?.queueMs, start?.prefillMs]) expect(ms).toSatisfy(Number.isFinite);
  }
});
