/** Vectors of a real chat model: what they say, and that nobody is disturbed. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { EngineClient } from "../../engine/client.ts";
import { forkEngine } from "../../engine/process/fork.ts";
import { GREEDY, LOAD_OPTIONS } from "../support/engine.ts";
import type { ModelFacts, PromptPart } from "../../engine/protocol.ts";

let engine: EngineClient;
let facts: ModelFacts;

beforeAll(async () => {
  engine = new EngineClient(
    forkEngine({ entry: new URL("../../dist/engine/process/main.js", import.meta.url) }),
  );
  facts = await engine.load({
    ...LOAD_OPTIONS,
    modelPath: "models/pocket.gguf",
    contextTokens: 512,
    prefillChunk: 32,
  });
});
afterAll(() => engine.stop());

const text = (value: string): PromptPart[] => [{ text: value, special: false }];

function similarity(a: Float32Array = new Float32Array(0), b: Float32Array = new Float32Array(0)): number {
  return a.reduce((sum, value, i) => sum + value * (b[i] ?? 0), 0);
}

test("a chat model says what its vectors are", () => {
  expect(facts.embeddings).toEqual({ dimensions: 128, pooling: "last", contextTokens: 512 });
  expect(facts.ranking).toBe(false);
});

test("vectors have length 1, are the same every time, and tell texts apart", async () => {
  const texts = ["The capital of France is", "The capital of Japan is", "1, 2, 3, 4,", "a".repeat(200)];
  const { vectors, tokenCounts } = await engine.embed(texts.map(text));
  expect(tokenCounts.every((count) => count > 0)).toBe(true);
  for (const vector of vectors) {
    expect(vector).toHaveLength(128);
    expect(Math.hypot(...vector)).toBeCloseTo(1, 4);
  }
  expect((await engine.embed(texts.toReversed().map(text))).vectors.toReversed()).toEqual(vectors);
  const [france, japan, numbers] = vectors;
  expect(similarity(france, japan)).toBeGreaterThan(similarity(france, numbers) + 0.1);
});

test("an input of several pieces up to the limit, and not beyond it", async () => {
  const tokens = (length: number): PromptPart[] => [
    { tokens: Array.from({ length }, (_, i) => 100 + (i % 50)) },
  ];
  const { vectors, tokenCounts } = await engine.embed([tokens(512), tokens(100), tokens(33), tokens(1)]);
  expect(tokenCounts).toEqual([512, 100, 33, 1]);
  expect(vectors.map((vector) => Math.hypot(...vector).toFixed(3))).toEqual(
    Array.from({ length: 4 }, () => "1.000"),
  );
  await expect(engine.embed([tokens(5), tokens(513)])).rejects.toMatchObject({
    code: "context_exceeded",
    details: { index: 1, promptTokens: 513, contextTokens: 512 },
  });
  // No token is kept free for what this model does not have around an input.
  expect((await engine.embed([tokens(512)], undefined, { keep: -1 })).vectors).toEqual(vectors.slice(0, 1));
  // What came before in the context must not show.
  expect((await engine.embed([tokens(33)])).vectors[0]).toEqual(vectors[2]);
});

test("a stream beside embeddings is what it is alone", async () => {
  const generate = async (id: string): Promise<number[]> => {
    const stream = await engine.submit({
      id,
      prompt: text("1, 2, 3, 4,"),
      addBos: true,
      params: { ...GREEDY, maxTokens: 60, reusePrefix: false },
      promptLogprobs: undefined,
      owner: "tester",
    });
    const tokens: number[] = [];
    for await (const output of stream) tokens.push(...output.tokens);
    return tokens;
  };
  const alone = await generate("alone");
  const embedded = engine.embed(Array.from({ length: 40 }, (_, i) => text("word ".repeat(i + 1))));
  expect(await generate("beside")).toEqual(alone);
  expect((await embedded).vectors).toHaveLength(40);
});

test("an aborted call leaves the engine free", async () => {
  const abort = new AbortController();
  const call = engine.embed(
    Array.from({ length: 2000 }, () => text("word ".repeat(50))),
    abort.signal,
  );
  setTimeout(() => abort.abort(new Error("gone")), 50);
  await expect(call).rejects.toThrow("gone");
  expect((await engine.embed([text("hello")])).vectors).toHaveLength(1);
});

test("scores need a ranking head", async () => {
  await expect(engine.rank(text("a"), [text("b")])).rejects.toMatchObject({ code: "invalid_request" });
});
