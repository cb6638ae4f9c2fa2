/** Embeddings with real inference: the same text the same vector, whatever is asked beside it and however it is sent. */
import OpenAI from "openai";
import { afterAll, beforeAll, expect, test } from "vitest";
import { startServer } from "../support/server.ts";
import type { RunningServer } from "../support/server.ts";

const TEXTS = [
  "The sky is blue.",
  "What is the capital of France?",
  "1, 2, 3, 4, 5",
  "The sky is blue.",
  "x",
];

let server: RunningServer;
let client: OpenAI;

beforeAll(async () => {
  server = await startServer("--slots", "2", "--context", "1024");
  client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: "none", maxRetries: 0 });
});
afterAll(() => server.stop());

const dot = (a: readonly number[] = [], b: readonly number[] = []): number =>
  a.reduce((sum, value, i) => sum + value * (b[i] ?? 0), 0);

async function vectorsOf(input: string | string[] | number[][], fields: object = {}): Promise<number[][]> {
  const { data } = await client.embeddings.create({ model: "pocket", input, ...fields });
  return data.map(({ embedding }) => embedding);
}

test("a text of which the end is read has the vector of its last tokens", async () => {
  const content = "The sky is blue. ".repeat(300);
  const { tokens } = (await (await server.post("/tokenize", { content })).json()) as { tokens: number[] };
  const [end] = await vectorsOf([tokens.slice(-5)]);
  const [cut] = await vectorsOf(content, { truncate_prompt_tokens: 5 });
  expect(dot(cut, end)).toBeCloseTo(1, 4);
  expect(await vectorsOf(content, { truncate_prompt_tokens: -1 })).toHaveLength(1);
  await expect(vectorsOf(content)).rejects.toMatchObject({ code: "context_length_exceeded" });
});

test("vectors have length one, in the order of the texts, equal for equal texts and only for them", async () => {
  const vectors = await vectorsOf(TEXTS);
  expect(vectors.map((vector) => dot(vector, vector))).toEqual(
    TEXTS.map(() => expect.closeTo(1, 4) as number),
  );
  expect(dot(vectors[0], vectors[3])).toBeCloseTo(1, 4);
  for (const other of [1, 2, 4]) expect(dot(vectors[0], vectors[other])).toBeLessThan(0.999);
});

test("a text alone has the vector it has among others, as numbers and as base64", async () => {
  const together = await vectorsOf(TEXTS);
  for (const [i, text] of TEXTS.entries()) {
    for (const fields of [{}, { encoding_format: "float" }]) {
      const [alone] = await vectorsOf(text, fields);
      expect(dot(alone, together[i])).toBeCloseTo(1, 4);
    }
  }
});

test("ids have the vector of their text, and dimensions are its first numbers at length one", async () => {
  const { tokens } = (await (await server.post("/tokenize", { content: TEXTS[0] })).json()) as {
    tokens: number[];
  };
  const [text] = await vectorsOf(TEXTS[0] ?? "");
  const [ids] = await vectorsOf([tokens]);
  expect(dot(text, ids)).toBeCloseTo(1, 4);
  const [short = []] = await vectorsOf(TEXTS[0] ?? "", { dimensions: 16 });
  expect(short).toHaveLength(16);
  expect(dot(short, short)).toBeCloseTo(1, 4);
  const head = text?.slice(0, 16) ?? [];
  expect(dot(short, head) / Math.sqrt(dot(head, head))).toBeCloseTo(1, 4);
});

test("usage counts the tokens of all texts", async () => {
  const each = await Promise.all(
    TEXTS.map(
      async (input) => (await client.embeddings.create({ model: "pocket", input })).usage.prompt_tokens,
    ),
  );
  const { usage } = await client.embeddings.create({ model: "pocket", input: TEXTS });
  expect(usage.prompt_tokens).toBe(each.reduce((sum, count) => sum + count, 0));
  expect(usage.total_tokens).toBe(usage.prompt_tokens);
});

test("a stream goes on beside many texts, and they beside it", async () => {
  const stream = await client.completions.create({
    model: "pocket",
    prompt: "1, 2, 3,",
    stream: true,
    max_tokens: 200,
    temperature: 0,
    logit_bias: {},
  });
  const many = vectorsOf(Array.from({ length: 200 }, (_, i) => `Text number ${i} about the sky.`));
  let text = "";
  for await (const chunk of stream) text += chunk.choices[0]?.text ?? "";
  expect(text.startsWith(" 4, 5, 6")).toBe(true);
  expect(await many).toHaveLength(200);
});

test("a text longer than the context is refused by its place", async () => {
  const response = await server.post("/v1/embeddings", {
    model: "pocket",
    input: ["short", "word ".repeat(3000)],
  });
  expect(response.status).toBe(400);
  expect(await response.json()).toMatchObject({
    error: { code: "context_length_exceeded", param: "input[1]" },
  });
});

test("pocket ranks nothing, and says so", async () => {
  const response = await server.post("/v1/rerank", { model: "pocket", query: "a", documents: ["b"] });
  expect(response.status).toBe(400);
  expect(await response.json()).toMatchObject({
    error: { param: "model", message: "The model 'pocket' cannot rank documents." },
  });
});
