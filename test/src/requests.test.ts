/** What reaches engine and template for what a client sends. */
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { createTestApp, MODEL_ID } from "../support/test-app.ts";
import { byteIds } from "../support/tiny-vocabulary.ts";

const ANSWER = {
  kind: "answer",
  steps: [{ tokens: [2], finish: { reason: "length", stopToken: undefined } }],
} as const;

const EVERY_OPTIONAL_FIELD = [
  "temperature",
  "top_p",
  "top_k",
  "min_p",
  "frequency_penalty",
  "presence_penalty",
  "repeat_penalty",
  "repetition_penalty",
  "repeat_last_n",
  "logit_bias",
  "seed",
  "ignore_eos",
  "min_tokens",
  "stop",
  "stop_token_ids",
  "max_tokens",
  "max_completion_tokens",
  "n_predict",
  "logprobs",
  "top_logprobs",
  "stream",
  "stream_options",
  "include_stop_str_in_output",
  "skip_special_tokens",
  "cache_prompt",
  "chat_template_kwargs",
  "add_generation_prompt",
  "continue_final_message",
  "reasoning_format",
  "reasoning_effort",
  "return_token_ids",
  "timings_per_token",
  "n",
  "tools",
  "tool_choice",
  "functions",
  "function_call",
  "response_format",
  "suffix",
  "echo",
  "grammar",
  "json_schema",
  "prediction",
  "modalities",
  "audio",
  "web_search_options",
  "user",
  "store",
  "metadata",
  "service_tier",
  "best_of",
  "lora",
  "chat_template",
  "something_new",
];

async function paramsOf(fields: object) {
  const { chat, engine } = createTestApp();
  engine.script = ANSWER;
  const response = await chat(fields);
  expect(response.status).toBe(200);
  const [submit] = engine.submits;
  if (submit === undefined) throw new Error("nothing was submitted");
  return submit.params;
}

describe("the parameters of a request", () => {
  it("have OpenAI's defaults", async () => {
    const { sampling, ...rest } = await paramsOf({ seed: 7 });
    expect(sampling).toEqual({
      temperature: 1,
      topP: 1,
      topK: 0,
      minP: 0,
      frequencyPenalty: 0,
      presencePenalty: 0,
      repeatPenalty: 1,
      repeatLastTokens: 0,
      xtcProbability: 0,
      xtcThreshold: 0.1,
      dry: undefined,
      logitBias: [],
      seed: 7,
    });
    expect(rest).toEqual({
      maxTokens: undefined,
      minTokens: 0,
      ignoreEos: false,
      stopTokenIds: [],
      topLogprobs: undefined,
      reusePrefix: true,
    });
  });

  it("reach the engine under its names", async () => {
    const params = await paramsOf({
      temperature: 0.5,
      top_p: 0.9,
      top_k: -1,
      min_p: 0.1,
      repetition_penalty: 1.1,
      repeat_last_n: 64,
      xtc_probability: 0.5,
      xtc_threshold: 0.2,
      dry_multiplier: 0.8,
      dry_allowed_length: 3,
      dry_penalty_last_n: -1,
      logit_bias: { "5": -100 },
      seed: -2,
      ignore_eos: true,
      min_tokens: 3,
      stop_token_ids: [4],
      stop: ["END", 5],
      max_tokens: 9,
      max_completion_tokens: 8,
      logprobs: true,
      cache_prompt: false,
    });
    expect(params).toEqual({
      sampling: {
        temperature: 0.5,
        topP: 0.9,
        topK: 0,
        minP: 0.1,
        frequencyPenalty: 0,
        presencePenalty: 0,
        repeatPenalty: 1.1,
        repeatLastTokens: 64,
        xtcProbability: 0.5,
        xtcThreshold: 0.2,
        dry: {
          multiplier: 0.8,
          base: 1.75,
          allowedLength: 3,
          lastTokens: 0,
          breakers: ["\n", ":", '"', "*"],
        },
        logitBias: [[5, -100]],
        seed: 2 ** 32 - 2,
      },
      maxTokens: 8,
      minTokens: 3,
      ignoreEos: true,
      stopTokenIds: [4, 5],
      topLogprobs: 0,
      reusePrefix: false,
    });
  });

  it("keep a computed prompt for a day where OpenAI's field says so, and refuse other times by name", async () => {
    const keepMsOf = async (prompt_cache_retention: unknown) =>
      (await paramsOf({ prompt_cache_retention })).keepMs;
    expect(await keepMsOf("24h")).toBe(86_400_000);
    for (const value of ["in_memory", "in-memory", null]) expect(await keepMsOf(value)).toBeUndefined();
    const { chat } = createTestApp();
    const reply = await chat({ prompt_cache_retention: "48h" });
    expect(reply.status).toBe(400);
    expect(await reply.json()).toMatchObject({ error: { param: "prompt_cache_retention" } });
  });

  it("turn DRY on with its multiplier alone, and off with a window of 0", async () => {
    const dryOf = async (fields: object) => (await paramsOf(fields)).sampling.dry;
    expect(await dryOf({ dry_base: 2, dry_allowed_length: 4, dry_sequence_breakers: ["a"] })).toBeUndefined();
    expect(await dryOf({ dry_multiplier: 1, dry_penalty_last_n: 0 })).toBeUndefined();
    expect(await dryOf({ dry_multiplier: 1, dry_base: 3, dry_sequence_breakers: [] })).toEqual({
      multiplier: 1,
      base: 3,
      allowedLength: 2,
      lastTokens: 64,
      breakers: [],
    });
  });

  it("treat -1 as no limit and as a random seed, and a window of 0 as no penalty", async () => {
    const params = await paramsOf({ max_tokens: -1, repeat_penalty: 2, repeat_last_n: 0, seed: -1 });
    expect(params.maxTokens).toBeUndefined();
    expect(params.sampling.repeatPenalty).toBe(1);
    expect(params.sampling.seed).toBeGreaterThanOrEqual(0);
    expect(params.sampling.seed).toBeLessThan(2 ** 32);
  });

  it("take llama.cpp's n_predict where there is no other limit", async () => {
    const limits = [{ n_predict: 7 }, { n_predict: -1 }, { n_predict: 7, max_tokens: 9 }];
    const read = await Promise.all(limits.map(paramsOf));
    expect(read.map(({ maxTokens }) => maxTokens)).toEqual([7, undefined, 9]);
  });

  it("are the same for null and for absent, field by field and all together", async () => {
    const without = await paramsOf({});
    const all = Object.fromEntries(EVERY_OPTIONAL_FIELD.map((field) => [field, null]));
    for (const nulls of [all, ...EVERY_OPTIONAL_FIELD.map((field) => ({ [field]: null }))]) {
      const params = await paramsOf(nulls);
      expect({ ...params, sampling: { ...params.sampling, seed: 0 } }).toEqual({
        ...without,
        sampling: { ...without.sampling, seed: 0 },
      });
    }
  });

  it("of a completion have a limit of 16 tokens, and token ids as they are", async () => {
    const { post, engine } = createTestApp();
    engine.script = ANSWER;
    for (const prompt of ["hi", ["hi"], [3, 4], [[3, 4]]]) {
      expect((await post("/v1/completions", { model: MODEL_ID, prompt })).status).toBe(200);
    }
    expect(engine.submits.map(({ prompt, addBos, params }) => [prompt, addBos, params.maxTokens])).toEqual([
      [[{ text: "hi", special: true }], true, 16],
      [[{ text: "hi", special: true }], true, 16],
      [[{ tokens: [3, 4] }], false, 16],
      [[{ tokens: [3, 4] }], false, 16],
    ]);
  });
});

describe("a chat history", () => {
  it("reaches the template with text joined, calls parsed and reasoning under one name", async () => {
    const { chat, engine, template } = createTestApp();
    engine.script = ANSWER;
    await chat({
      reasoning_effort: "none",
      chat_template_kwargs: { flavour: "dry" },
      tools: [],
      tool_choice: "auto",
      messages: [
        {
          role: "developer",
          content: [
            { type: "text", text: "a" },
            { type: "text", text: "b" },
          ],
        },
        { role: "user", content: "q", name: "joe" },
        {
          role: "assistant",
          content: null,
          reasoning: "hm",
          tool_calls: [
            { id: "c1", type: "function", function: { name: "f", arguments: '{"x":1}' } },
            { id: "c2", type: "function", function: { name: "g", arguments: "not json" } },
          ],
        },
        { role: "tool", tool_call_id: "c1", content: "42" },
        { role: "assistant", content: [{ type: "refusal", refusal: "no" }] },
      ],
    });
    expect(template.requests).toEqual([
      {
        addGenerationPrompt: true,
        continueFinalMessage: false,
        tools: undefined,
        kwargs: { reasoning_effort: "none", enable_thinking: false, flavour: "dry" },
        messages: [
          { role: "developer", content: "ab" },
          { role: "user", content: "q", name: "joe" },
          {
            role: "assistant",
            content: "",
            reasoning_content: "hm",
            tool_calls: [
              { id: "c1", type: "function", function: { name: "f", arguments: { x: 1 } } },
              { id: "c2", type: "function", function: { name: "g", arguments: "not json" } },
            ],
          },
          { role: "tool", content: "42", tool_call_id: "c1" },
          { role: "assistant", content: "no" },
        ],
      },
    ]);
  });

  it("is continued in its last message when that is asked for", async () => {
    for (const fields of [{ continue_final_message: true }, {}]) {
      const { chat, engine, template } = createTestApp();
      engine.script = ANSWER;
      const prefix = Object.keys(fields).length === 0;
      await chat({
        ...fields,
        messages: [
          { role: "user", content: "q" },
          { role: "assistant", content: "a", prefix },
        ],
      });
      expect(template.requests[0]).toMatchObject({ continueFinalMessage: true, addGenerationPrompt: false });
    }
  });

  it("has half surrogates replaced before anything reads them", async () => {
    const { post, engine } = createTestApp();
    engine.script = ANSWER;
    await post(
      "/v1/chat/completions",
      `{"model":"tiny","messages":[{"role":"user","content":"a\\ud800b\\ud83d\\ude00"}]}`,
    );
    expect(engine.submits[0]?.prompt).toEqual([{ text: "a\uFFFDb😀", special: false }]);
  });
});

describe("fields without effect", () => {
  it("are listed in a header, streaming or not, with harmless names", async () => {
    for (const stream of [false, true]) {
      const { chat, engine } = createTestApp();
      engine.script = ANSWER;
      const response = await chat({ stream, user: "u", store: true, "be\r\nevil": 1, mirostat_tau: 2 });
      expect(response.headers.get("x-weft-ignored-params")).toBe("user,store,be??evil,mirostat_tau");
      await response.text();
    }
  });

  it("are listed within fields too", async () => {
    const fields = {
      stream: true,
      stream_options: { include_usage: true, include_obfuscation: true, chunk: 1, none: null },
      structured_outputs: { choice: ["a"], whitespace_pattern: " ", disable_fallback: false },
    };
    const { chat, engine } = createTestApp();
    engine.script = ANSWER;
    const response = await chat(fields);
    expect(response.headers.get("x-weft-ignored-params")).toBe(
      "stream_options.include_obfuscation,stream_options.chunk,structured_outputs.whitespace_pattern",
    );
    await response.text();
    const strict = createTestApp({ config: { strictParams: true } });
    strict.engine.script = ANSWER;
    const { include_obfuscation } = fields.stream_options;
    expect((await strict.chat({ stream: true, stream_options: { include_obfuscation } })).status).toBe(200);
    expect(await (await strict.chat(fields)).json()).toMatchObject({
      error: { param: "stream_options.chunk", code: "unknown_parameter" },
    });
  });

  it("are listed up to 32 of them, each cut to 64 characters, wherever they stand", async () => {
    const many = Object.fromEntries(
      Array.from({ length: 200 }, (_, i) => [`f${i}${"é".repeat(i === 0 ? 100 : 0)}`, 1]),
    );
    const first = `f0${"?".repeat(62)}`;
    const listed = Array.from({ length: 31 }, (_, i) => `f${i + 1}`);
    const { chat, post, engine } = createTestApp();
    engine.script = ANSWER;
    const header = async (reply: Response | Promise<Response>): Promise<unknown> => {
      const answer = await reply;
      expect([answer.status, await answer.text()]).toEqual([200, expect.any(String)]);
      return answer.headers.get("x-weft-ignored-params")?.split(",");
    };
    expect(await header(chat({ ...many, user: "u" }))).toEqual([first, ...listed]);
    expect(await header(post("/tokenize", { content: "a", ...many }))).toEqual([first, ...listed]);
    expect(await header(post("/v1/responses", { model: "tiny", input: "a", ...many }))).toEqual([
      first,
      ...listed,
    ]);
    const within = [first, ...listed].map((name) => `stream_options.${name}`.slice(0, 64));
    const streamed = chat({ stream: true, user: "u", stream_options: many });
    expect(await header(streamed)).toEqual(["user", ...within.slice(0, 31)]);
  });

  it("are refused with strictParams when OpenAI does not know them", async () => {
    const { chat, engine } = createTestApp({ config: { strictParams: true } });
    engine.script = ANSWER;
    expect((await chat({ user: "u", store: true })).status).toBe(200);
    const response = await chat({ mirostat_tau: 2 });
    expect(await response.json()).toEqual({
      error: {
        message: "Unknown parameter: 'mirostat_tau'.",
        type: "invalid_request_error",
        param: "mirostat_tau",
        code: "unknown_parameter",
      },
    });
  });
});

describe("tokenizing", () => {
  const messages = [{ role: "user", content: "a" }];
  it.each([
    ["/tokenize", { content: "a", with_pieces: true, add_special: false, new_one: 1 }, "new_one"],
    ["/tokenize", { prompt: "a", messages, "b\r\n": 1 }, "messages,b??"],
    [
      "/tokenize",
      { messages, add_special_tokens: true, return_token_strs: true, top_k: 3, user: "u", x: 1 },
      "user,x",
    ],
    ["/detokenize", { tokens: [2], content: "a" }, "content"],
    ["/apply-template", { messages, temperature: 0, chat_template_kwargs: {}, store: true, x: 1 }, "store,x"],
    ["/tokenize", { content: "a" }, null],
    ["/detokenize", { tokens: [2], model: "tiny", nothing: null }, null],
    ["/apply-template", { messages, tools: [] }, null],
  ])("%s reports what has no effect: %j", async (path, fields, header) => {
    const response = await createTestApp().post(path, { model: "tiny", ...fields });
    expect([response.status, response.headers.get("x-weft-ignored-params")]).toEqual([200, header]);
    const strict = await createTestApp({ config: { strictParams: true } }).post(path, {
      model: "tiny",
      ...fields,
    });
    expect(strict.status).toBe(header === null ? 200 : 400);
  });

  it("answers both dialects at once", async () => {
    const { post } = createTestApp();
    const ids = byteIds("a");
    expect(await (await post("/tokenize", { content: "a" })).json()).toMatchObject({ tokens: ids });
    expect(
      await (await post("/tokenize", { model: "tiny", content: "a", with_pieces: true })).json(),
    ).toEqual({
      tokens: [{ id: ids[0], piece: "a" }],
      count: 1,
      max_model_len: 256,
    });
    expect(
      await (await post("/v1/tokenize", { model: "tiny", prompt: "a", return_token_strs: true })).json(),
    ).toEqual({ tokens: [0, ...ids], count: 2, max_model_len: 256, token_strs: ["<s>", "a"] });
    expect(await (await post("/detokenize", { model: "tiny", tokens: [2, 3] })).json()).toEqual({
      content: "Hello",
      prompt: "Hello",
    });
    for (const tokens of [[-1], [264], [2 ** 31], [1.5], ["x"], "x", undefined]) {
      expect((await post("/detokenize", { model: "tiny", tokens })).status).toBe(400);
    }
    expect(await (await post("/apply-template", { model: "tiny", messages })).json()).toEqual({
      prompt: "a",
    });
  });

  it("is told of beforehand: special tokens, the template, and the context", async () => {
    const { app } = createTestApp();
    const about = async (path: string) =>
      (await app.request(path, { headers: { host: "localhost" } })).json();
    expect(await about("/tokenizer_info")).toEqual({
      tokenizer_class: "llama.cpp",
      model: MODEL_ID,
      bos_token: "<s>",
      eos_token: "</s>",
      add_bos_token: true,
      vocab_size: 264,
      model_max_length: 256,
      chat_template: "<think></think>",
    });
    expect(await about("/v1/tokenizer_info?model=none")).toMatchObject({
      error: { code: "model_not_found" },
    });
    const bare = createTestApp({ withoutTemplate: true, facts: { bosToken: undefined } });
    expect(await (await bare.app.request("/tokenizer_info")).json()).toMatchObject({
      bos_token: null,
      chat_template: null,
    });
  });
});

describe("any JSON whatever", () => {
  const field = fc.constantFrom(...EVERY_OPTIONAL_FIELD, "messages", "prompt", "model", "content", "tokens");
  const body = fc.dictionary(field, fc.jsonValue({ maxDepth: 4 }));
  const path = fc.constantFrom("/v1/chat/completions", "/v1/completions", "/tokenize", "/detokenize");

  it("is answered with 200 or a proper error, never a 500", async () => {
    const { post, engine } = createTestApp({ config: { anyModel: true } });
    engine.script = ANSWER;
    await fc.assert(
      fc.asyncProperty(path, body, fc.boolean(), async (url, fields, valid) => {
        const base = valid
          ? { messages: [{ role: "user", content: "x" }], prompt: "x", content: "x", tokens: [2] }
          : {};
        const response = await post(url, { ...fields, ...base });
        const text = await response.text();
        if (response.status === 200) return;
        expect([400, 404, 503]).toContain(response.status);
        const { error } = JSON.parse(text) as { error: Record<string, unknown> };
        expect(typeof error["message"]).toBe("string");
        expect(error["type"]).toMatch(/^(invalid_request|server)_error$/);
        expect(error["param"] === null || typeof error["param"] === "string").toBe(true);
        expect(error["code"] === null || typeof error["code"] === "string").toBe(true);
      }),
      { numRuns: 400 },
    );
  });
});
