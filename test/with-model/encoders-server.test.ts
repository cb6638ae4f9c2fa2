/** A chat model, one that gives vectors and one that gives scores, served side by side. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import OpenAI from "openai";
import { afterAll, beforeAll, expect, test } from "vitest";
import { startServer } from "../support/server.ts";
import type { RunningServer } from "../support/server.ts";
import { writeTinyEncoder } from "../support/tiny-gguf.ts";

interface Ranking {
  readonly results: readonly { readonly index: number; readonly relevance_score: number }[];
  readonly usage: { readonly total_tokens: number };
}

const directory = mkdtempSync(join(tmpdir(), "weft-encoders-"));
const DOCUMENTS = ["the cat", "a dog and a cat", "the dog"];

let server: RunningServer;
let client: OpenAI;

beforeAll(async () => {
  const models = (["mean", "rank"] as const).flatMap((kind) => {
    const path = join(directory, `${kind}.gguf`);
    writeTinyEncoder(path, kind);
    return ["--model", `${kind}=${path}`];
  });
  server = await startServer("--slots", "2", "--model", "pocket", ...models);
  client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: "none", maxRetries: 0 });
});
afterAll(async () => {
  await server.stop();
  rmSync(directory, { recursive: true });
});

async function errorOf(response: Response): Promise<unknown> {
  return { status: response.status, ...((await response.json()) as object) };
}

test("each model makes vectors of its own size, or says that it makes none", async () => {
  const sizeOf = async (model: string): Promise<number | undefined> =>
    (await client.embeddings.create({ model, input: "the cat" })).data[0]?.embedding.length;
  expect([await sizeOf("pocket"), await sizeOf("mean")]).toEqual([128, 32]);
  expect(await errorOf(await server.post("/v1/embeddings", { model: "rank", input: "a" }))).toMatchObject({
    status: 400,
    error: { param: "model", code: "unsupported_value" },
  });
});

test("the ranking model orders documents, whatever their order in the request", async () => {
  const rank = async (documents: readonly string[]): Promise<Ranking> => {
    const response = await server.post("/v1/rerank", { model: "rank", query: "cat", documents });
    expect(response.status).toBe(200);
    return (await response.json()) as Ranking;
  };
  const { results, usage } = await rank(DOCUMENTS);
  const scores = results.map(({ relevance_score }) => relevance_score);
  expect(scores).toEqual(scores.toSorted((a, b) => b - a));
  expect(results.map(({ index }) => index).toSorted((a, b) => a - b)).toEqual([0, 1, 2]);
  expect(usage.total_tokens).toBeGreaterThan(DOCUMENTS.length);
  const order = results.map(({ index }) => DOCUMENTS[index]);
  const reversed = DOCUMENTS.toReversed();
  expect((await rank(reversed)).results.map(({ index }) => reversed[index])).toEqual(order);
});

test("models that generate nothing say so, and one that ranks nothing too", async () => {
  for (const model of ["mean", "rank"]) {
    expect(await errorOf(await server.post("/v1/completions", { model, prompt: "the" }))).toMatchObject({
      status: 400,
      error: { param: "model", code: "unsupported_value" },
    });
  }
  const ranked = await server.post("/v1/rerank", { model: "mean", query: "a", documents: ["b"] });
  expect(await errorOf(ranked)).toMatchObject({ status: 400, error: { param: "model" } });
});

test("a document too long for the model is refused by its place", async () => {
  const documents = ["cat", "the cat ".repeat(200)];
  const response = await server.post("/v1/rerank", { model: "rank", query: "cat", documents });
  expect(await errorOf(response)).toMatchObject({
    status: 400,
    error: { param: "documents[1]", code: "context_length_exceeded" },
  });
});
