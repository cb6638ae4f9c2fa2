/** Every error a client can cause or meet, with its status and its whole envelope. */
import { describe, expect, it } from "vitest";
import type { EngineErrorCode } from "../../engine/errors.ts";
import type { TemplateErrorCode } from "../../models/chat-template.ts";
import { createTestApp, MODEL_ID } from "../support/test-app.ts";
import { VOCABULARY_SIZE } from "../support/tiny-vocabulary.ts";

interface Envelope {
  readonly error: {
    readonly message: string;
    readonly type: string;
    readonly param: unknown;
    readonly code: unknown;
  };
}

async function errorOf(response: Response): Promise<Envelope["error"]> {
  expect(response.headers.get("content-type")).toBe("application/json");
  const { error } = (await response.json()) as Envelope;
  expect(Object.keys(error).slice(0, 4)).toEqual(["message", "type", "param", "code"]);
  return error;
}

/** Fields that are refused, with the message, the param and the code. */
const REFUSED: readonly (readonly [object, string, string, string])[] = [
  [
    { temperature: "x" },
    "Invalid type for 'temperature': expected a decimal, but got a string instead.",
    "temperature",
    "invalid_type",
  ],
  [
    { temperature: 200 },
    "Invalid 'temperature': decimal above maximum value. Expected a value <= 2, but got 200 instead.",
    "temperature",
    "decimal_above_max_value",
  ],
  [
    { temperature: -1 },
    "Invalid 'temperature': decimal below minimum value. Expected a value >= 0, but got -1 instead.",
    "temperature",
    "decimal_below_min_value",
  ],
  [
    { top_p: true },
    "Invalid type for 'top_p': expected a decimal, but got a boolean instead.",
    "top_p",
    "invalid_type",
  ],
  [
    { max_tokens: 0 },
    "Invalid 'max_tokens': integer below minimum value. Expected a value >= 1, but got 0 instead.",
    "max_tokens",
    "integer_below_min_value",
  ],
  [
    { max_tokens: 1.5 },
    "Invalid type for 'max_tokens': expected an integer, but got a decimal number instead.",
    "max_tokens",
    "invalid_type",
  ],
  [
    { max_tokens: 1e12 },
    "Invalid 'max_tokens': integer above maximum value. Expected a value <= 2147483647, but got 1000000000000 instead.",
    "max_tokens",
    "integer_above_max_value",
  ],
  [
    { max_completion_tokens: -2 },
    "Invalid 'max_completion_tokens': integer below minimum value. Expected a value >= 1, but got -2 instead.",
    "max_completion_tokens",
    "integer_below_min_value",
  ],
  [
    { top_logprobs: 21, logprobs: true },
    "Invalid 'top_logprobs': integer above maximum value. Expected a value <= 20, but got 21 instead (--max-top-logprobs).",
    "top_logprobs",
    "integer_above_max_value",
  ],
  [
    { top_logprobs: 2 },
    "The 'top_logprobs' parameter is only allowed when 'logprobs' is enabled.",
    "top_logprobs",
    "invalid_value",
  ],
  [
    { stream: "yes" },
    "Invalid type for 'stream': expected a boolean, but got a string instead.",
    "stream",
    "invalid_type",
  ],
  [
    { stop: 4 },
    "Invalid type for 'stop': expected a string or an array of strings, but got an integer instead.",
    "stop",
    "invalid_type",
  ],
  [
    { stop: ["a", true] },
    "Invalid type for 'stop[1]': expected a string or an integer, but got a boolean instead.",
    "stop[1]",
    "invalid_type",
  ],
  [
    { seed: 1.5 },
    "Invalid type for 'seed': expected an integer, but got a decimal number instead.",
    "seed",
    "invalid_type",
  ],
  [
    { logit_bias: { "1": 101 } },
    "Invalid 'logit_bias.1': decimal above maximum value. Expected a value <= 100, but got 101 instead.",
    "logit_bias.1",
    "decimal_above_max_value",
  ],
  [
    { logit_bias: { x: 1 } },
    "Invalid 'logit_bias': its keys must be token ids.",
    "logit_bias",
    "invalid_value",
  ],
  [
    { logit_bias: { [VOCABULARY_SIZE]: 1 } },
    "Invalid 'logit_bias': token 264 is not in the vocabulary, which has 264 tokens.",
    "logit_bias",
    "invalid_value",
  ],
  [
    { stop_token_ids: [1, 264] },
    "Invalid 'stop_token_ids[1]': token 264 is not in the vocabulary, which has 264 tokens.",
    "stop_token_ids[1]",
    "invalid_value",
  ],
  [
    { stop: ["a", 264], stop_token_ids: [1] },
    "Invalid 'stop[1]': token 264 is not in the vocabulary, which has 264 tokens.",
    "stop[1]",
    "invalid_value",
  ],
  [
    { repeat_last_n: 64, frequency_penalty: 1 },
    "'repeat_last_n' cannot be combined with 'frequency_penalty' or 'presence_penalty', which count every generated token.",
    "repeat_last_n",
    "unsupported_value",
  ],
  [
    { messages: [] },
    "Invalid 'messages': empty array. Expected an array with minimum length 1, but got an empty array instead.",
    "messages",
    "empty_array",
  ],
  [
    { messages: undefined },
    "Missing required parameter: 'messages'.",
    "messages",
    "missing_required_parameter",
  ],
  [
    { messages: "hi" },
    "Invalid type for 'messages': expected an array, but got a string instead.",
    "messages",
    "invalid_type",
  ],
  [
    { messages: [{ role: "king", content: "x" }] },
    "Invalid value: 'king'. Supported values are: 'system', 'developer', 'user', 'assistant', 'tool', and 'function'.",
    "messages[0].role",
    "invalid_value",
  ],
  [
    { messages: [{ content: "x" }] },
    "Missing required parameter: 'messages[0].role'.",
    "messages[0].role",
    "missing_required_parameter",
  ],
  [
    { messages: [{ role: "user" }] },
    "Missing required parameter: 'messages[0].content'.",
    "messages[0].content",
    "missing_required_parameter",
  ],
  [
    { messages: [{ role: "user", content: 4 }] },
    "Invalid type for 'messages[0].content': expected a string or an array of objects, but got an integer instead.",
    "messages[0].content",
    "invalid_type",
  ],
  [
    { messages: [{ role: "user", content: [{ type: "text" }] }] },
    "Missing required parameter: 'messages[0].content[0].text'.",
    "messages[0].content[0].text",
    "missing_required_parameter",
  ],
  [
    { messages: [{ role: "user", content: [{ type: "image_url", image_url: {} }] }] },
    "Unsupported value: content of type 'image_url' is not supported: this server reads text only, whatever the model.",
    "messages[0].content[0].type",
    "unsupported_value",
  ],
  [
    { messages: [{ role: "user", content: "x" }], continue_final_message: true },
    "'continue_final_message' needs a last message with the role 'assistant'.",
    "continue_final_message",
    "invalid_value",
  ],
  [
    { n: 17 },
    "Invalid 'n': integer above maximum value. Expected a value <= 16, but got 17 instead (--max-choices).",
    "n",
    "integer_above_max_value",
  ],
  [
    { n: 0 },
    "Invalid 'n': integer below minimum value. Expected a value >= 1, but got 0 instead.",
    "n",
    "integer_below_min_value",
  ],
  [{ model: undefined }, "Missing required parameter: 'model'.", "model", "missing_required_parameter"],
  [
    { model: 4 },
    "Invalid type for 'model': expected a string, but got an integer instead.",
    "model",
    "invalid_type",
  ],
];

describe("a refused field", () => {
  it.each(REFUSED)("%j is told in OpenAI's words", async (fields, message, param, code) => {
    const { engine, chat } = createTestApp();
    const response = await chat(fields);
    expect(await errorOf(response)).toEqual({ message, type: "invalid_request_error", param, code });
    expect(response.status).toBe(400);
    expect(engine.commands).toEqual([]);
  });

  it.each([
    [{ modalities: ["text", "audio"] }, "modalities", "unsupported_value"],
    [{ audio: {} }, "audio", "unsupported_parameter"],
    [{ web_search_options: {} }, "web_search_options", "unsupported_parameter"],
    [{ lora: [{ id: 0 }] }, "lora[0]", "invalid_value"],
    [{ chat_template: "x" }, "chat_template", "unsupported_parameter"],
    [{ bad_words: "x" }, "bad_words", "invalid_type"],
    [{ bad_words: ["x", ""] }, "bad_words[1]", "empty_string"],
    [{ bad_words: ["x".repeat(300)] }, "bad_words[0]", "string_above_max_length"],
    [{ allowed_token_ids: [] }, "allowed_token_ids", "empty_array"],
    [{ allowed_token_ids: [99999] }, "allowed_token_ids[0]", "invalid_value"],
    [{ truncate_prompt_tokens: 0 }, "truncate_prompt_tokens", "integer_below_min_value"],
    [{ echo: true }, "echo", "unsupported_parameter"],
    [{ post_sampling_probs: true }, "post_sampling_probs", "unsupported_parameter"],
    [{ use_beam_search: true }, "use_beam_search", "unsupported_value"],
    [{ dynatemp_range: 0.5 }, "dynatemp_range", "unsupported_value"],
    [{ mirostat: 2 }, "mirostat", "unsupported_value"],
    [{ typical_p: 0.9 }, "typical_p", "unsupported_value"],
    [{ top_n_sigma: 1 }, "top_n_sigma", "unsupported_value"],
    [{ adaptive_target: 0.5 }, "adaptive_target", "unsupported_value"],
    [{ xtc_probability: 1.5 }, "xtc_probability", "decimal_above_max_value"],
    [{ xtc_threshold: -0.1 }, "xtc_threshold", "decimal_below_min_value"],
    [{ dry_multiplier: -1 }, "dry_multiplier", "decimal_below_min_value"],
    [{ dry_base: 0.5 }, "dry_base", "decimal_below_min_value"],
    [{ dry_allowed_length: 1.5 }, "dry_allowed_length", "invalid_type"],
    [{ dry_penalty_last_n: -2 }, "dry_penalty_last_n", "integer_below_min_value"],
    [{ dry_sequence_breakers: "x" }, "dry_sequence_breakers", "invalid_type"],
    [{ dry_sequence_breakers: [1] }, "dry_sequence_breakers[0]", "invalid_type"],
    [{ dry_sequence_breakers: ["x".repeat(65)] }, "dry_sequence_breakers[0]", "string_above_max_length"],
    [{ dry_sequence_breakers: Array(65).fill("x") }, "dry_sequence_breakers", "array_above_max_length"],
  ])("%j is refused by name because dropping it would change the answer", async (fields, param, code) => {
    const { chat } = createTestApp();
    const response = await chat(fields);
    expect(response.status).toBe(400);
    expect(await errorOf(response)).toMatchObject({ param, code, type: "invalid_request_error" });
  });

  it.each([
    [{ prompt: undefined }, "prompt", "missing_required_parameter"],
    [{ prompt: [] }, "prompt", "empty_array"],
    [{ prompt: [[]] }, "prompt[0]", "empty_array"],
    [{ prompt: [1, 1.5] }, "prompt[1]", "invalid_type"],
    [{ prompt: [1, "x"] }, "prompt[1]", "invalid_type"],
    [{ prompt: [-1] }, "prompt[0]", "invalid_value"],
    [{ prompt: [264] }, "prompt[0]", "invalid_value"],
    [{ prompt: [[4_294_967_296]] }, "prompt[0][0]", "invalid_value"],
    [{ prompt: {} }, "prompt", "invalid_type"],
    [{ best_of: 1e6 }, "best_of", "integer_above_max_value"],
  ])("%j of a completion is a 400", async (fields, param, code) => {
    const { post, engine } = createTestApp();
    const response = await post("/v1/completions", { model: MODEL_ID, prompt: "hi", ...fields });
    expect(response.status).toBe(400);
    expect(await errorOf(response)).toMatchObject({ param, code });
    expect(engine.commands).toEqual([]);
  });
});

describe("a body that is no request", () => {
  it.each([
    ["", 400],
    ["null", 400],
    ["[]", 400],
    ['"x"', 400],
    ["42", 400],
    ["{", 400],
    ['{"a":NaN}', 400],
    ['{"temperature":1e400}', 400],
    [`{"a":${"[".repeat(64)}${"]".repeat(64)}}`, 400],
    [Uint8Array.from([0x7b, 0x22, 0xc0, 0x80, 0x22, 0x3a, 0x31, 0x7d]), 400],
  ])("%s is a 400 with an envelope", async (body, status) => {
    const { post } = createTestApp();
    const response = await post("/v1/chat/completions", body);
    expect(response.status).toBe(status);
    expect((await errorOf(response)).type).toBe("invalid_request_error");
  });

  it("may be nested as deep as the limit", async () => {
    const { chat, engine } = createTestApp();
    engine.script = { kind: "fail", code: "queue_full" };
    const deep = JSON.parse(`${"[".repeat(63)}${"]".repeat(63)}`) as unknown;
    expect((await chat({ metadata: deep })).status).toBe(503);
    expect((await chat({ metadata: [deep] })).status).toBe(400);
  });

  it("is a 413 past 8 MiB, announced or not, and closes the connection", async () => {
    const { post, app } = createTestApp();
    const large = new Uint8Array(8 * 1024 * 1024 + 1).fill(0x20);
    const response = await post("/v1/chat/completions", large);
    expect(response.status).toBe(413);
    expect(response.headers.get("connection")).toBe("close");
    expect(await errorOf(response)).toMatchObject({ code: "request_too_large" });
    let pulled = 0;
    const endless = new ReadableStream<Uint8Array>({
      pull: (controller) => {
        pulled++;
        controller.enqueue(new Uint8Array(1024 * 1024));
      },
    });
    const init = {
      method: "POST",
      body: endless,
      duplex: "half",
      headers: { "content-type": "application/json" },
    };
    expect((await app.request("/v1/chat/completions", init as RequestInit)).status).toBe(413);
    // The bound, what is thrown away beyond it, and what the stream reads ahead.
    expect(pulled).toBeLessThan(8 + 64 + 4);
  });

  it("is a 415 when compressed or of another type, and may have no type", async () => {
    const { post, chat, engine } = createTestApp();
    engine.script = { kind: "fail", code: "queue_full" };
    const other = await post("/v1/chat/completions", "{}", { headers: { "content-type": "text/plain" } });
    expect(other.status).toBe(415);
    expect(await errorOf(other)).toMatchObject({ code: "unsupported_media_type" });
    expect((await chat({}, { headers: { "content-encoding": "gzip" } })).status).toBe(415);
    expect((await chat({}, { headers: { "content-type": "application/json; charset=utf-8" } })).status).toBe(
      503,
    );
    expect((await chat({}, { headers: { "content-type": "" } })).status).toBe(503);
  });
});

describe("a limit", () => {
  const accepted = async (fields: object): Promise<number> => {
    const { chat, engine } = createTestApp({ facts: { contextTokens: 1_000_000 } });
    engine.script = { kind: "fail", code: "queue_full" };
    return (await chat(fields)).status;
  };
  const user = { role: "user", content: "x" };

  it.each([
    ["messages", (n: number) => ({ messages: Array.from({ length: n }, () => user) }), 4096],
    [
      "parts",
      (n: number) => ({
        messages: [{ role: "user", content: Array.from({ length: n }, () => ({ type: "text", text: "x" })) }],
      }),
      256,
    ],
    ["stop strings", (n: number) => ({ stop: Array.from({ length: n }, (_, i) => `s${i}`) }), 16],
    ["bytes of a stop string", (n: number) => ({ stop: "x".repeat(n) }), 256],
    ["stop tokens", (n: number) => ({ stop_token_ids: Array.from({ length: n }, () => 1) }), 256],
    ["top_logprobs", (n: number) => ({ logprobs: true, top_logprobs: n }), 20],
  ] as const)("on %s holds at it and refuses past it", async (_name, fields, limit) => {
    expect(await accepted(fields(limit))).toBe(503);
    expect(await accepted(fields(limit + 1))).toBe(400);
  });

  it("on logit_bias keys holds at it and refuses past it", async () => {
    const bias = (n: number): object => ({
      logit_bias: Object.fromEntries(Array.from({ length: n }, (_, i) => [String(i), 1])),
    });
    const { chat, engine } = createTestApp({ facts: { vocabSize: 5000 } });
    engine.script = { kind: "fail", code: "queue_full" };
    expect((await chat(bias(1024))).status).toBe(503);
    expect((await chat(bias(1025))).status).toBe(400);
  });

  it("on text refuses what cannot fit before anything is tokenized or rendered", async () => {
    const { chat, engine, post, template } = createTestApp();
    const text = "x".repeat(256 * 16 + 4097);
    const response = await chat({ messages: [{ role: "user", content: text }] });
    expect(await errorOf(response)).toEqual({
      message:
        "This model's maximum context length is 256 tokens. However, your messages resulted in more than 256 tokens. Please reduce the length of the messages.",
      type: "invalid_request_error",
      param: "messages",
      code: "context_length_exceeded",
      n_ctx: 256,
    });
    expect((await post("/v1/completions", { model: "tiny", prompt: text })).status).toBe(400);
    expect(engine.commands).toEqual([]);
    expect(template.requests).toEqual([]);
  });
});

describe("an engine that refuses", () => {
  it("a long prompt gives OpenAI's sentence and the numbers", async () => {
    const { chat, engine } = createTestApp();
    engine.script = {
      kind: "fail",
      code: "context_exceeded",
      details: { promptTokens: 5000, contextTokens: 256 },
    };
    const response = await chat({ stream: true });
    expect(response.status).toBe(400);
    expect(await errorOf(response)).toEqual({
      message:
        "This model's maximum context length is 256 tokens. However, your messages resulted in 5000 tokens. Please reduce the length of the messages.",
      type: "invalid_request_error",
      param: "messages",
      code: "context_length_exceeded",
      n_prompt_tokens: 5000,
      n_ctx: 256,
    });
  });

  it("a prompt longer than the operator allows names the limit", async () => {
    const { chat, engine } = createTestApp();
    const details = { promptTokens: 5000, maxPromptTokens: 100 };
    engine.script = { kind: "fail", code: "prompt_too_long", details };
    expect(await errorOf(await chat())).toEqual({
      message:
        "This server's maximum prompt length is 100 tokens (--max-prompt-tokens). However, your messages resulted in 5000 tokens. Please reduce the length of the messages.",
      type: "invalid_request_error",
      param: "messages",
      code: "context_length_exceeded",
      n_prompt_tokens: 5000,
      n_ctx: 100,
    });
  });

  it.each<readonly [EngineErrorCode, number, string, string | null]>([
    ["queue_full", 503, "server_overloaded", "2"],
    ["draining", 503, "server_draining", "2"],
    ["engine_exited", 503, "engine_restarting", "2"],
    ["engine_crashed", 500, "engine_crashed", null],
    ["decode_failed", 500, "engine_error", null],
    ["internal", 500, "internal_error", null],
    ["empty_prompt", 400, "empty_string", null],
  ])("with %s gives %i and none of its own words", async (code, status, wire, retryAfter) => {
    const { chat, engine } = createTestApp();
    engine.script = { kind: "fail", code };
    for (const stream of [true, false]) {
      const response = await chat({ stream });
      expect(response.status).toBe(status);
      expect(response.headers.get("retry-after")).toBe(retryAfter);
      const error = await errorOf(response);
      expect(error.code).toBe(wire);
      expect(error.message).not.toContain("secret");
    }
  });
});

describe("a template that refuses", () => {
  it.each<readonly [TemplateErrorCode, number, string]>([
    ["template_rejected", 400, "invalid_messages"],
    ["template_timeout", 400, "template_limit"],
    ["template_too_large", 400, "template_limit"],
    ["template_busy", 503, "server_overloaded"],
    ["template_failed", 500, "template_error"],
  ])("with %s gives %i", async (failure, status, code) => {
    const { chat, template } = createTestApp();
    template.failure = failure;
    const response = await chat();
    expect(response.status).toBe(status);
    expect(response.headers.get("x-should-retry")).toBe(status === 500 ? "false" : null);
    expect(await errorOf(response)).toMatchObject({ code });
  });

  it("because the model has none points to completions", async () => {
    const { chat } = createTestApp({ withoutTemplate: true });
    const response = await chat();
    expect(response.status).toBe(400);
    expect((await errorOf(response)).message).toContain("/v1/completions");
  });
});

describe("a model", () => {
  it("that is unknown is a 404 in OpenAI's words", async () => {
    const { chat } = createTestApp();
    const response = await chat({ model: "gpt-9" });
    expect(response.status).toBe(404);
    expect(await errorOf(response)).toEqual({
      message: "The model `gpt-9` does not exist or you do not have access to it.",
      type: "invalid_request_error",
      param: null,
      code: "model_not_found",
    });
  });

  it("that is unknown or unnamed is the default with anyModel, under its own id", async () => {
    for (const model of ["gpt-9", undefined, null, ""]) {
      const { chat, engine } = createTestApp({ config: { anyModel: true } });
      engine.script = {
        kind: "answer",
        steps: [{ tokens: [2], finish: { reason: "length", stopToken: undefined } }],
      };
      expect(await (await chat({ model })).json()).toMatchObject({ model: MODEL_ID });
    }
  });

  it.each(["loading", "restarting"] as const)("that is %s is a 503 to try again", async (state) => {
    const { chat } = createTestApp({ model: { state, loaded: undefined } });
    const response = await chat();
    expect(response.status).toBe(503);
    expect(response.headers.get("retry-after")).toBe("2");
    expect(await errorOf(response)).toMatchObject({ code: "model_loading", type: "server_error" });
  });

  it("that gives vectors alone is a 400", async () => {
    const { chat, engine } = createTestApp({ facts: { generates: false } });
    const response = await chat();
    expect(response.status).toBe(400);
    expect(await errorOf(response)).toEqual({
      message: `The model '${MODEL_ID}' gives embeddings or scores and does not generate text.`,
      type: "invalid_request_error",
      param: "model",
      code: "unsupported_value",
    });
    expect(engine.commands.filter(({ type }) => type === "submit")).toEqual([]);
  });

  it("that failed is a 503 not to try again", async () => {
    const { chat } = createTestApp({ model: { state: "failed", loaded: undefined } });
    const response = await chat();
    expect([response.status, response.headers.get("x-should-retry")]).toEqual([503, "false"]);
  });
});

describe("an unexpected error", () => {
  it("tells the request id and nothing else; the log has the error", async () => {
    const { chat, engine, log } = createTestApp();
    engine.send = () => {
      throw new Error("secret");
    };
    const response = await chat({}, { headers: { "x-request-id": "mine" } });
    expect(response.status).toBe(500);
    expect(await errorOf(response)).toEqual({
      message:
        "The server had an error while processing your request. Please give the request id mine when you report it.",
      type: "server_error",
      param: null,
      code: "internal_error",
    });
    expect(log.some(({ level, message }) => level === "error" && message === "unexpected error")).toBe(true);
  });
});
