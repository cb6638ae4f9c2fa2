/** Embeddings: what reaches the engine, and vectors as clients read them. */
import { OpenAI } from "openai";
import { describe, expect, it } from "vitest";
import { MOST_INPUT_TOKENS } from "../../engine/protocol.ts";
import type { EmbedCommand } from "../../engine/protocol.ts";
import { listenTestApp } from "../support/listen.ts";
import type { ScriptedEngine } from "../support/scripted-engine.ts";
import { createTestApp, MODEL_ID } from "../support/test-app.ts";
import type { TestAppOptions } from "../support/test-app.ts";
import { idsOf } from "../support/tiny-vocabulary.ts";

const FACTS = { embeddings: { dimensions: 4, pooling: "mean", contextTokens: 64 } } as const;

interface EmbeddingList {
  readonly data: readonly { readonly index: number; readonly embedding: number[] | string }[];
  readonly usage: { readonly prompt_tokens: number; readonly total_tokens: number };
}

function createEmbeddings(options: TestAppOptions = {}) {
  const app = createTestApp({ facts: FACTS, ...options });
  // A vector that tells its input: the number of tokens and the first token.
  app.engine.vectorOf = (tokens) => Float32Array.of(tokens.length, tokens[0] ?? 0, 0, 0);
  const ask = (fields: object, signal?: AbortSignal): Promise<Response> =>
    app.post(
      "/v1/embeddings",
      { model: MODEL_ID, input: "hi", ...fields },
      signal === undefined ? {} : { signal },
    );
  const answer = async (fields: object): Promise<EmbeddingList> =>
    (await (await ask(fields)).json()) as EmbeddingList;
  return { ...app, ask, answer };
}

async function embedCommand(engine: ScriptedEngine): Promise<EmbedCommand> {
  const find = (): EmbedCommand | undefined => engine.commands.find((command) => command.type === "embed");
  await engine.until(() => find() !== undefined);
  const command = find();
  if (command === undefined) throw new Error("nothing was asked");
  return command;
}

describe("embeddings", () => {
  it("are lists of numbers in the order of the inputs", async () => {
    const { ask, engine } = createEmbeddings();
    const [hel = 0, lo = 0] = idsOf("Hello");
    const response = await ask({ input: ["Hel", "loHel"] });
    expect(await response.text()).toBe(
      `{"object":"list","data":[{"object":"embedding","index":0,"embedding":[1,${hel},0,0]},` +
        `{"object":"embedding","index":1,"embedding":[2,${lo},0,0]}],"model":"org/tiny",` +
        '"usage":{"prompt_tokens":3,"total_tokens":3}}',
    );
    expect(await embedCommand(engine)).toMatchObject({
      inputs: [[{ text: "Hel", special: false }], [{ text: "loHel", special: false }]],
    });
  });

  it("say what is left to their key, from the engine's own counters", async () => {
    const { ask, engine } = createEmbeddings();
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

  it("are made of ids as well, one list or several", async () => {
    const { answer, engine } = createEmbeddings();
    const [hel = 0, lo = 0] = idsOf("Hello");
    const several = await answer({ input: [[hel], [lo, hel]] });
    expect(several.data.map(({ embedding }) => embedding)).toEqual([
      [1, hel, 0, 0],
      [2, lo, 0, 0],
    ]);
    expect(several.usage).toEqual({ prompt_tokens: 3, total_tokens: 3 });
    expect((await answer({ input: [lo, hel] })).data).toHaveLength(1);
    expect(await embedCommand(engine)).toMatchObject({
      inputs: [[{ tokens: [hel] }], [{ tokens: [lo, hel] }]],
    });
  });

  it("are made of texts and ids in one, as one input or each of several", async () => {
    const { answer, engine } = createEmbeddings();
    const [hel = 0, lo = 0] = idsOf("Hello");
    const mixed = [{ tokens: [lo, hel] }, { text: "Hel", special: false }, { tokens: [lo] }];
    const one = await answer({ input: [lo, hel, "Hel", lo] });
    expect([one.data.length, one.data[0]?.embedding, one.usage.prompt_tokens]).toEqual([1, [4, lo, 0, 0], 4]);
    const several = await answer({ input: ["Hel", [lo, hel, "Hel", lo], ["Hel", "lo"]] });
    expect(several.data.map(({ embedding }) => embedding)).toEqual([
      [1, hel, 0, 0],
      [4, lo, 0, 0],
      [2, hel, 0, 0],
    ]);
    expect(engine.commands.flatMap((command) => (command.type === "embed" ? [command.inputs] : []))).toEqual([
      [mixed],
      [
        [{ text: "Hel", special: false }],
        mixed,
        [
          { text: "Hel", special: false },
          { text: "lo", special: false },
        ],
      ],
    ]);
  });

  it("are the bytes of little-endian floats as base64", async () => {
    const { answer, engine } = createEmbeddings();
    engine.vectorOf = () => Float32Array.of(1, 0, 0, -2);
    expect((await answer({ encoding_format: "base64" })).data[0]?.embedding).toBe("AACAPwAAAAAAAAAAAAAAwA==");
  });

  it("are cut to the dimensions asked for and have length one again", async () => {
    const { answer, ask, engine } = createEmbeddings();
    engine.vectorOf = () => Float32Array.of(3, 4, 12, 0);
    const two = (await answer({ dimensions: 2 })).data[0]?.embedding;
    expect(two).toEqual([...Float32Array.of(0.6, 0.8)]);
    expect((await answer({ dimensions: 4 })).data[0]?.embedding).toHaveLength(4);
    const response = await ask({ dimensions: 5 });
    expect(response.status).toBe(400);
    expect(await response.json()).toMatchObject({
      error: { param: "dimensions", code: "integer_above_max_value" },
    });
  });

  it("are made of the last tokens alone where `truncate_prompt_tokens` says so", async () => {
    const { ask, answer, engine } = createEmbeddings();
    const [hel = 0, lo = 0] = idsOf("Hello");
    const read = async (fields: object): Promise<unknown> =>
      (await answer(fields)).data.map(({ embedding }) => embedding.slice(0, 2));
    expect(await read({ input: ["Hello", "Hel"], truncate_prompt_tokens: 1 })).toEqual([
      [1, lo],
      [1, hel],
    ]);
    expect(await read({ input: [hel, lo, hel], truncate_prompt_tokens: 2 })).toEqual([[2, lo]]);
    await read({ input: "Hello", truncate_prompt_tokens: -1 });
    // What fits depends on what the model has around an input, which the engine knows.
    expect(engine.commands.flatMap((each) => (each.type === "embed" ? [each.keep] : []))).toEqual([1, 2, -1]);
    expect(engine.commands.map(({ type }) => type)).not.toContain("tokenize");
    const refusal = async (fields: object): Promise<unknown> =>
      ((await (await ask(fields)).json()) as { error: object }).error;
    expect(await refusal({ truncate_prompt_tokens: 0 })).toMatchObject({
      param: "truncate_prompt_tokens",
      code: "integer_below_min_value",
    });
    expect(await refusal({ input: ["a", "a".repeat(131_073)], truncate_prompt_tokens: 1 })).toMatchObject({
      param: "input[1]",
      code: "string_above_max_length",
    });
  });

  it("are made of a text that may fit as a whole, however long, where the end of longer ones is read", async () => {
    const { answer } = createEmbeddings({
      facts: { embeddings: { ...FACTS.embeddings, contextTokens: 65_536 } },
    });
    const { usage } = await answer({ input: "Hel".repeat(45_000), truncate_prompt_tokens: -1 });
    expect(usage.prompt_tokens).toBe(45_000);
  });

  it("report fields without effect", async () => {
    const { ask } = createEmbeddings();
    expect((await ask({ user: "u", task: "x" })).headers.get("x-weft-ignored-params")).toBe("user,task");
    const strict = createEmbeddings({ config: { strictParams: true } });
    expect((await strict.ask({ user: "u" })).status).toBe(200);
    expect((await strict.ask({ task: "x" })).status).toBe(400);
  });

  it.each([
    [{ input: undefined }, "input", "missing_required_parameter"],
    [{ input: "" }, "input", "empty_string"],
    [{ input: ["a", ""] }, "input[1]", "empty_string"],
    [{ input: [] }, "input", "empty_array"],
    [{ input: [[]] }, "input[0]", "empty_array"],
    [{ input: {} }, "input", "invalid_type"],
    [{ input: [1, "a", {}] }, "input[2]", "invalid_type"],
    [{ input: [["a", 1.5]] }, "input[0][1]", "invalid_type"],
    [{ input: ["a", ["", ""]] }, "input[1]", "empty_string"],
    [{ input: ["a", { text: "b" }] }, "input[1]", "invalid_type"],
    [{ input: ["a", 99_999] }, "input[1]", "invalid_value"],
    [
      { input: Array.from({ length: 600 }, (_, i) => (i % 2 === 0 ? "a" : 1)) },
      "input",
      "array_above_max_length",
    ],
    [{ input: [99_999] }, "input[0]", "invalid_value"],
    [{ input: [[1], [-1]] }, "input[1][0]", "invalid_value"],
    [{ input: Array.from({ length: 2049 }, () => "a") }, "input", "array_above_max_length"],
    [{ input: Array.from({ length: 65 }, () => 2) }, "input", "context_length_exceeded"],
    [{ input: ["a", "a".repeat(100_000)] }, "input[1]", "context_length_exceeded"],
    [{ input: ["a", ["a".repeat(4000), 1, "a".repeat(4000)]] }, "input[1]", "context_length_exceeded"],
    [
      { input: [...Array<number>(40).fill(2), "a", ...Array<number>(40).fill(2)] },
      "input",
      "context_length_exceeded",
    ],
    [{ encoding_format: "hex" }, "encoding_format", "invalid_value"],
    [{ dimensions: 0 }, "dimensions", "integer_below_min_value"],
  ])("of %j are a 400", async (fields, param, code) => {
    const { ask, engine } = createEmbeddings();
    const response = await ask(fields);
    expect(response.status).toBe(400);
    expect(await response.json()).toMatchObject({ error: { param, code, type: "invalid_request_error" } });
    expect(engine.commands).toEqual([]);
  });

  it.each([
    [
      "context_exceeded",
      { index: 1, promptTokens: 90, contextTokens: 64 },
      [
        400,
        "input[1]",
        "This model's maximum context length is 64 tokens. However, your input resulted in 90 tokens. Please reduce the length of the input.",
      ],
    ],
    ["empty_prompt", { index: 0 }, [400, "input[0]", "Invalid 'input[0]': it must hold at least one token."]],
    [
      "invalid_request",
      undefined,
      [400, "input", `Invalid 'input': one request may have at most ${MOST_INPUT_TOKENS} tokens.`],
    ],
    [
      "queue_full",
      undefined,
      [503, null, "The server's queue is full (--max-queued). Please try again later."],
    ],
    ["decode_failed", undefined, [500, null, "The model's engine failed to compute this request."]],
  ] as const)("that the engine refuses with %s say so", async (code, details, expected) => {
    const { ask, engine } = createEmbeddings();
    engine.vectorOf = undefined;
    const answer = ask({ input: ["a", "b"] });
    engine.failCall((await embedCommand(engine)).call, code, details);
    const response = await answer;
    const { error } = (await response.json()) as { error: { param: string | null; message: string } };
    expect([response.status, error.param, error.message]).toEqual(expected);
  });

  it("of a model that makes none are a 400", async () => {
    const { ask } = createEmbeddings({ facts: {} });
    const response = await ask({});
    expect(response.status).toBe(400);
    expect(await response.json()).toMatchObject({
      error: {
        message: "The model 'org/tiny' makes no embeddings.",
        param: "model",
        code: "unsupported_value",
      },
    });
  });

  it("are counted and logged under their own name", async () => {
    const { ask, log, app } = createEmbeddings();
    await ask({});
    expect(log.at(-1)?.fields).toMatchObject({ outcome: "ok", promptTokens: 2, model: MODEL_ID });
    const metrics = await (await app.request("/metrics")).text();
    for (const line of [
      'weft_requests_total{endpoint="embeddings",outcome="ok"} 1',
      'weft_tokens_total{model="org/tiny",kind="input"} 2',
      'vllm:prompt_tokens_total{model_name="org/tiny",engine="0"} 2',
      "llamacpp:prompt_tokens_total 2",
      "llamacpp:prompt_seconds_total 0.01",
      "llamacpp:n_decode_total 1",
      "llamacpp:tokens_predicted_total 0",
    ])
      expect(metrics).toContain(line);
  });

  it("are taken back from the engine when the client leaves", async () => {
    const { ask, engine } = createEmbeddings();
    engine.vectorOf = undefined;
    const gone = new AbortController();
    const answer = ask({}, gone.signal);
    const { call } = await embedCommand(engine);
    gone.abort();
    expect((await answer).status).toBe(499);
    expect(engine.commands).toContainEqual({ type: "cancel_call", call });
  });

  it("of a dead engine are a 503 to try again", async () => {
    const { ask, engine } = createEmbeddings();
    engine.vectorOf = undefined;
    const answer = ask({});
    await embedCommand(engine);
    engine.die();
    expect((await answer).status).toBe(503);
  });
});

describe("embeddings in llama.cpp's dialect", () => {
  it("are a list with the vectors of each input, under either name, of the first model", async () => {
    const { post, engine, app } = createEmbeddings();
    const [hel = 0, lo = 0] = idsOf("Hello");
    const one = await post("/embedding", { content: "Hel" });
    expect(await one.text()).toBe(`[{"index":0,"embedding":[[1,${hel},0,0]]}]`);
    const two = await post("/embedding", { input: ["lo", [hel, "lo"]], embd_normalize: 2, user: "u" });
    expect(await two.json()).toEqual([
      { index: 0, embedding: [[1, lo, 0, 0]] },
      { index: 1, embedding: [[2, hel, 0, 0]] },
    ]);
    expect(two.headers.get("x-weft-ignored-params")).toBe("user");
    expect(await embedCommand(engine)).toMatchObject({ inputs: [[{ text: "Hel", special: false }]] });
    expect(await (await app.request("/metrics")).text()).toContain(
      'weft_tokens_total{model="org/tiny",kind="input"} 4',
    );
  });

  it.each([
    [{}, "content", "missing_required_parameter"],
    [{ content: "" }, "content", "empty_string"],
    [{ content: ["a", 1, {}] }, "content[2]", "invalid_type"],
    [{ input: ["a", [99_999]] }, "input[1][0]", "invalid_value"],
    [{ content: "a", embd_normalize: -1 }, "embd_normalize", "unsupported_value"],
    [{ content: "a", embd_normalize: "x" }, "embd_normalize", "invalid_type"],
  ])("of %j are a 400", async (body, param, code) => {
    const { post, engine } = createEmbeddings();
    const response = await post("/embedding", body);
    expect(response.status).toBe(400);
    expect(await response.json()).toMatchObject({ error: { param, code } });
    expect(engine.commands).toEqual([]);
  });

  it("are those of `input` where both are there, and `content` is listed", async () => {
    const { post } = createEmbeddings();
    const both = { input: "lo", content: "Hel" };
    const answer = await post("/embedding", both);
    expect(await answer.json()).toMatchObject([{ embedding: [[1, idsOf("lo")[0], 0, 0]] }]);
    expect(answer.headers.get("x-weft-ignored-params")).toBe("content");
    const strict = createEmbeddings({ config: { strictParams: true } });
    expect((await strict.post("/embedding", both)).status).toBe(400);
  });

  it("of a text that is too long are refused in the words of the field that it came in", async () => {
    const { post, engine } = createEmbeddings();
    const refused = await post("/embedding", { content: "a".repeat(100_000) });
    const error = {
      param: "content",
      message: expect.stringContaining("Please reduce the length of the content."),
    };
    expect(await refused.json()).toMatchObject({ error });
    engine.vectorOf = undefined;
    const counted = post("/embedding", { content: "a" });
    const details = { index: 0, promptTokens: 90, contextTokens: 64 };
    engine.failCall((await embedCommand(engine)).call, "context_exceeded", details);
    expect(await (await counted).json()).toMatchObject({ error });
  });

  it("of too many tokens are named as they were sent", async () => {
    const { post, engine } = createEmbeddings();
    engine.vectorOf = undefined;
    const answer = post("/embedding", { content: ["a", "b"] });
    engine.failCall((await embedCommand(engine)).call, "invalid_request");
    expect(await (await answer).json()).toMatchObject({ error: { param: "content", code: "invalid_value" } });
  });
});

describe("the openai client", () => {
  it("T34 reads the right vector whatever it asks for", async () => {
    const server = await listenTestApp({ facts: FACTS });
    server.engine.vectorOf = () => Float32Array.of(0.6, 0, 0.8, 0);
    const client = new OpenAI({ baseURL: `${server.baseURL}/v1`, apiKey: "none", maxRetries: 0 });
    const read = async (encoding?: "float" | "base64"): Promise<unknown> => {
      const format = encoding === undefined ? {} : { encoding_format: encoding };
      return (await client.embeddings.create({ model: MODEL_ID, input: "hi", ...format })).data[0]?.embedding;
    };
    const vector = Float32Array.of(0.6, 0, 0.8, 0);
    expect(await read()).toEqual([...vector]);
    expect(await read("float")).toEqual([...vector]);
    expect(await read("base64")).toEqual(Buffer.from(vector.buffer).toString("base64"));
    await server.close();
  });

  it("T35 gets a vector for each kind of input", async () => {
    const server = await listenTestApp({ facts: FACTS });
    server.engine.vectorOf = (tokens) => Float32Array.of(tokens.length, 0, 0, 0);
    const client = new OpenAI({ baseURL: `${server.baseURL}/v1`, apiKey: "none", maxRetries: 0 });
    for (const [input, lengths] of [
      [[[1, 2, 3]], [3]],
      [[1, 2, 3], [3]],
      [
        ["a", "bc"],
        [1, 2],
      ],
      ["a", [1]],
    ] as const) {
      const { data } = await client.embeddings.create({
        model: MODEL_ID,
        input: structuredClone(input) as string | string[] | number[] | number[][],
      });
      expect(data.map(({ index, embedding }) => [index, embedding[0]])).toEqual(
        lengths.map((length, index) => [index, length]),
      );
    }
    await server.close();
  });
});
