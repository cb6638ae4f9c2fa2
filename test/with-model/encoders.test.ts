/** Models that give vectors or scores and nothing else, made up of a few kilobytes: computed, limited, refused. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { EngineClient } from "../../engine/client.ts";
import { forkEngine } from "../../engine/process/fork.ts";
import { GREEDY, LOAD_OPTIONS } from "../support/engine.ts";
import { writeTinyEncoder } from "../support/tiny-gguf.ts";
import type { ModelFacts, PromptPart } from "../../engine/protocol.ts";

const text = (value: string): PromptPart[] => [{ text: value, special: false }];

interface Encoder {
  readonly engine: EngineClient;
  readonly facts: ModelFacts;
}

/** The model of the surrounding block's tests, loaded before and gone after them. */
function encoderOf(kind: "mean" | "rank"): () => Encoder {
  const directory = mkdtempSync(join(tmpdir(), "weft-encoder-"));
  let encoder: Encoder | undefined;
  beforeAll(async () => {
    const modelPath = join(directory, `${kind}.gguf`);
    writeTinyEncoder(modelPath, kind);
    const entry = new URL("../../dist/engine/process/main.js", import.meta.url);
    const engine = new EngineClient(forkEngine({ entry }));
    encoder = { engine, facts: await engine.load({ ...LOAD_OPTIONS, modelPath }) };
  });
  afterAll(async () => {
    await encoder?.engine.stop();
    rmSync(directory, { recursive: true });
  });
  return () => {
    if (encoder === undefined) throw new Error("no model");
    return encoder;
  };
}

const GENERATION = {
  id: "r",
  prompt: text("the cat"),
  addBos: true,
  params: GREEDY,
  promptLogprobs: undefined,
  owner: "tester",
};

describe("a model that gives vectors", () => {
  const encoder = encoderOf("mean");

  test("says so, and does nothing else", async () => {
    const { engine, facts } = encoder();
    expect(facts).toMatchObject({
      embeddings: { dimensions: 32, pooling: "mean", contextTokens: 64 },
      ranking: false,
      generates: false,
    });
    await expect(engine.submit(GENERATION)).rejects.toMatchObject({ code: "invalid_request" });
    await expect(engine.rank(text("a"), [text("b")])).rejects.toMatchObject({ code: "invalid_request" });
  });

  test("pools whole inputs, with the tokens around them that it wants", async () => {
    const { engine } = encoder();
    const texts = ["the cat sat", "the dog sat on the mat", "cat"];
    const { vectors, tokenCounts } = await engine.embed(texts.map(text));
    expect(tokenCounts).toEqual([5, 8, 3]);
    for (const vector of vectors) expect(Math.hypot(...vector)).toBeCloseTo(1, 4);
    expect((await engine.embed([text("cat")])).vectors[0]).toEqual(vectors[2]);
  });

  test("takes inputs up to its limit", async () => {
    const { engine } = encoder();
    expect((await engine.embed([text("a ".repeat(62))])).tokenCounts).toEqual([64]);
    await expect(engine.embed([text("cat"), text("a ".repeat(63))])).rejects.toMatchObject({
      code: "context_exceeded",
      details: { index: 1, promptTokens: 65, contextTokens: 64 },
    });
  });

  test("reads as many of an input's last tokens as fit with those around them", async () => {
    const { engine } = encoder();
    const [begun = []] = await engine.tokenizeEach([[{ text: "[CLS]", special: true }]], false);
    expect(begun).toHaveLength(1);
    const most = text("a ".repeat(62));
    const body = await engine.tokenize(text("a ".repeat(63)), false);
    const inputs = [most, text("the " + "a ".repeat(62)), [{ tokens: [...begun, ...body] }]];
    const { vectors, tokenCounts } = await engine.embed(inputs, undefined, { keep: -1 });
    expect(tokenCounts).toEqual([64, 64, 64]);
    const [whole] = (await engine.embed([most])).vectors;
    expect(vectors).toEqual([whole, whole, whole]);
  });
});

describe("a model that gives scores", () => {
  const encoder = encoderOf("rank");

  test("says so, and does nothing else", async () => {
    const { engine, facts } = encoder();
    expect([facts.embeddings, facts.ranking, facts.generates]).toEqual([undefined, true, false]);
    await expect(engine.submit(GENERATION)).rejects.toMatchObject({ code: "invalid_request" });
    await expect(engine.embed([text("b")])).rejects.toMatchObject({ code: "invalid_request" });
  });

  test("scores each document on its own", async () => {
    const { engine } = encoder();
    const { scores, tokenCounts } = await engine.rank(text("the cat"), ["the dog", "cat"].map(text));
    expect(tokenCounts[0]).toBe((tokenCounts[1] ?? 0) + 1);
    for (const score of scores) expect(score > 0 && score < 1).toBe(true);
    expect((await engine.rank(text("the cat"), [text("cat")])).scores[0]).toBe(scores[1]);
  });

  test("takes documents as long as fits beside the query", async () => {
    const { engine } = encoder();
    const { tokenCounts } = await engine.rank(text("the cat"), [text("cat")]);
    const longest = 64 - (tokenCounts[0] ?? 0) + 1;
    const rank = (words: number): ReturnType<EngineClient["rank"]> =>
      engine.rank(text("the cat"), [text("a ".repeat(words))]);
    expect((await rank(longest)).tokenCounts).toEqual([64]);
    await expect(rank(longest + 1)).rejects.toMatchObject({
      code: "context_exceeded",
      details: { index: 0, promptTokens: 65, contextTokens: 64 },
    });
  });
});

test("a context longer than the table of positions is cut to it, and what fills that is computed", async () => {
  const directory = mkdtempSync(join(tmpdir(), "weft-encoder-"));
  const modelPath = join(directory, "mean.gguf");
  writeTinyEncoder(modelPath, "mean");
  const entry = new URL("../../dist/engine/process/main.js", import.meta.url);
  const engine = new EngineClient(forkEngine({ entry }));
  const facts = await engine.load({ ...LOAD_OPTIONS, modelPath, contextTokens: 2048 });
  expect([facts.contextTokens, facts.embeddings?.contextTokens]).toEqual([64, 64]);
  // With the begin and the end that the model wants.
  const { tokenCounts } = await engine.embed([text("cat ".repeat(62))]);
  expect(tokenCounts).toEqual([64]);
  await expect(engine.embed([text("cat ".repeat(63))])).rejects.toMatchObject({ code: "context_exceeded" });
  await engine.stop();
  rmSync(directory, { recursive: true });
});
