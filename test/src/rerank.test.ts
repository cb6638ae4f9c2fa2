/** Reranking in the shape of Jina and Cohere. */
import { describe, expect, it } from "vitest";
import { createTestApp, MODEL_ID } from "../support/test-app.ts";
import type { TestAppOptions } from "../support/test-app.ts";

const FACTS = { ranking: true, embeddings: { dimensions: 1, pooling: "cls", contextTokens: 64 } } as const;

function createRerank(options: TestAppOptions = {}) {
  const app = createTestApp({ facts: FACTS, ...options });
  app.engine.scoreOf = (_, document) => document.length / 100;
  const ask = (fields: object, path = "/v1/rerank"): Promise<Response> =>
    app.post(path, { model: MODEL_ID, query: "hi", documents: ["a", "abc", "ab"], ...fields });
  return { ...app, ask };
}

describe("a ranking", () => {
  it("lists the documents by relevance, with the tokens of query and documents", async () => {
    const { ask, engine } = createRerank();
    expect(await (await ask({})).text()).toBe(
      '{"id":"rerank-2","object":"list","model":"org/tiny","results":[{"index":1,"relevance_score":0.03},' +
        '{"index":2,"relevance_score":0.02},{"index":0,"relevance_score":0.01}],' +
        '"usage":{"prompt_tokens":12,"total_tokens":12}}',
    );
    expect(engine.commands[0]).toMatchObject({
      type: "rank",
      query: [{ text: "hi", special: false }],
      documents: [
        [{ text: "a", special: false }],
        [{ text: "abc", special: false }],
        [{ text: "ab", special: false }],
      ],
    });
  });

  it("says what is left to its key, from the engine's own counters", async () => {
    const { ask, engine } = createRerank();
    engine.allowance = {
      requests: 12,
      requestsLeft: 11,
      requestsResetMs: 250,
      tokens: 900,
      tokensLeft: 880,
      tokensResetMs: 1500,
    };
    const { headers } = await ask({});
    expect([...headers].filter(([name]) => name.startsWith("x-ratelimit"))).toEqual([
      ["x-ratelimit-limit-requests", "12"],
      ["x-ratelimit-limit-tokens", "900"],
      ["x-ratelimit-remaining-requests", "11"],
      ["x-ratelimit-remaining-tokens", "880"],
      ["x-ratelimit-reset-requests", "250ms"],
      ["x-ratelimit-reset-tokens", "1.5s"],
    ]);
  });

  it("holds the best and their texts when asked for, also without /v1 and for documents as objects", async () => {
    const { ask } = createRerank();
    const response = await ask(
      { top_n: 1, return_documents: true, documents: [{ text: "a" }, { text: "ab" }] },
      "/rerank",
    );
    expect(await response.json()).toMatchObject({
      results: [{ index: 1, relevance_score: 0.02, document: { text: "ab" } }],
    });
  });

  it("of texts is a list of scores, as clients of Text Embeddings Inference read it", async () => {
    const { post } = createRerank();
    const body = { query: "hi", texts: ["a", "abc"], return_text: true };
    expect(await (await post("/rerank", body)).json()).toEqual([
      { index: 1, score: 0.03, text: "abc" },
      { index: 0, score: 0.01, text: "a" },
    ]);
  });

  it.each([
    [{ documents: undefined, texts: [1] }, "texts[0]", "invalid_type"],
    [{ documents: undefined, texts: [] }, "texts", "empty_array"],
    [{ documents: undefined, texts: ["b".repeat(100_000)] }, "texts[0]", "context_length_exceeded"],
    [{ query: undefined }, "query", "missing_required_parameter"],
    [{ query: "" }, "query", "empty_string"],
    [{ documents: undefined }, "documents", "missing_required_parameter"],
    [{ documents: [] }, "documents", "empty_array"],
    [{ documents: [1] }, "documents[0]", "invalid_type"],
    [{ documents: "a" }, "documents", "invalid_type"],
    [{ documents: ["a", "b".repeat(100_000)] }, "documents[1]", "context_length_exceeded"],
    [{ documents: Array.from({ length: 2049 }, () => "a") }, "documents", "array_above_max_length"],
    [{ top_n: 0 }, "top_n", "integer_below_min_value"],
  ])("of %j is a 400", async (fields, param, code) => {
    const { ask, engine } = createRerank();
    const response = await ask(fields);
    expect(response.status).toBe(400);
    expect(await response.json()).toMatchObject({ error: { param, code } });
    expect(engine.commands).toEqual([]);
  });

  it("of a model that cannot is a 400 that says so", async () => {
    const { ask } = createRerank({ facts: {} });
    const response = await ask({});
    expect(response.status).toBe(400);
    expect(await response.json()).toMatchObject({
      error: {
        message: "The model 'org/tiny' cannot rank documents.",
        param: "model",
        code: "unsupported_value",
      },
    });
  });
});
