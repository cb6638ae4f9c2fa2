/** Every limit on what a request may hold: it holds at the limit, is refused one past it, and the refusal names it. */
import { describe, expect, it } from "vitest";
import { DEFAULT_LIMITS, limitNames, pickLimits } from "../../src/config/limits.ts";
import type { LimitName } from "../../src/config/limits.ts";
import { loadConfig } from "../../src/config/load-config.ts";
import { createTestApp, MODEL_ID } from "../support/test-app.ts";
import { EOS } from "../support/tiny-vocabulary.ts";
import { sayThenStop } from "../support/scripted-engine.ts";

interface Case {
  readonly name: LimitName;
  readonly most: number;
  readonly path?: string;
  readonly status?: number;
  readonly param: string | null;
  /** The body that has `size` of what is limited. */
  readonly body: (size: number) => object;
}

const CHAT = { model: MODEL_ID, messages: [{ role: "user", content: "hi" }] };
const tool = (name: string, parameters: object = { type: "object" }): object => ({
  type: "function",
  function: { name, parameters },
});
/** A schema of exactly `size` characters as JSON. */
const schemaOf = (size: number): object => {
  const bare = JSON.stringify({ type: "object", title: "" }).length;
  return { type: "object", title: "x".repeat(size - bare) };
};
const times = <T>(count: number, make: (i: number) => T): T[] =>
  Array.from({ length: count }, (_, i) => make(i));

const CASES: readonly Case[] = [
  {
    name: "max-body-bytes",
    most: 2000,
    status: 413,
    param: null,
    body: (size) => ({ ...CHAT, user: "x".repeat(size - JSON.stringify({ ...CHAT, user: "" }).length) }),
  },
  {
    name: "max-json-depth",
    most: 8,
    param: null,
    body: (depth) => ({ ...CHAT, user: times(depth - 1, () => 0).reduce<unknown>((inner) => [inner], 0) }),
  },
  {
    name: "max-json-nodes",
    most: 1000,
    param: null,
    body: (nodes) => {
      const body = { ...CHAT, user: [] };
      const others = JSON.stringify(body).match(/[[{:]/g)?.length ?? 0;
      return { ...body, user: times(nodes - others, () => ({})) };
    },
  },
  {
    name: "max-fields",
    most: 100,
    param: null,
    body: (fields) => ({
      ...CHAT,
      ...Object.fromEntries(times(fields - Object.keys(CHAT).length, (i) => [`field ${i}`, {}])),
    }),
  },
  {
    name: "max-messages",
    most: 2,
    param: "messages",
    body: (count) => ({ ...CHAT, messages: times(count, () => CHAT.messages[0]) }),
  },
  {
    name: "max-messages",
    most: 2,
    path: "/v1/responses",
    param: "input",
    body: (count) => ({ model: MODEL_ID, input: times(count, () => CHAT.messages[0]) }),
  },
  {
    name: "max-message-parts",
    most: 2,
    param: "messages[0].content",
    body: (count) => ({
      ...CHAT,
      messages: [{ role: "user", content: times(count, () => ({ type: "text", text: "a" })) }],
    }),
  },
  {
    name: "max-message-parts",
    most: 2,
    path: "/v1/responses",
    param: "input[0].content",
    body: (count) => ({
      model: MODEL_ID,
      input: [{ role: "user", content: times(count, () => ({ type: "input_text", text: "a" })) }],
    }),
  },
  {
    name: "max-tools",
    most: 2,
    param: "tools",
    body: (count) => ({ ...CHAT, tools: times(count, (i) => tool(`t${i}`)) }),
  },
  {
    name: "max-tools",
    most: 2,
    path: "/v1/responses",
    param: "tools",
    body: (count) => ({
      model: MODEL_ID,
      input: "hi",
      tools: times(count, (i) => ({ type: "function", name: `t${i}`, parameters: { type: "object" } })),
    }),
  },
  {
    name: "max-stops",
    most: 2,
    param: "stop",
    body: (count) => ({ ...CHAT, stop: times(count, (i) => `stop ${i}`) }),
  },
  { name: "max-stop-bytes", most: 5, param: "stop", body: (size) => ({ ...CHAT, stop: "x".repeat(size) }) },
  {
    name: "max-stop-tokens",
    most: 2,
    param: "stop_token_ids",
    body: (count) => ({ ...CHAT, stop_token_ids: times(count, (i) => i) }),
  },
  {
    name: "max-logit-bias",
    most: 2,
    param: "logit_bias",
    body: (count) => ({ ...CHAT, logit_bias: Object.fromEntries(times(count, (i) => [i, 1])) }),
  },
  {
    name: "max-top-logprobs",
    most: 2,
    param: "top_logprobs",
    body: (top) => ({ ...CHAT, logprobs: true, top_logprobs: top }),
  },
  {
    name: "max-top-logprobs",
    most: 2,
    path: "/v1/completions",
    param: "logprobs",
    body: (top) => ({ model: MODEL_ID, prompt: "hi", logprobs: top }),
  },
  { name: "max-choices", most: 2, param: "n", body: (n) => ({ ...CHAT, n }) },
  {
    name: "max-choices",
    most: 2,
    path: "/v1/completions",
    param: "best_of",
    body: (best) => ({ model: MODEL_ID, prompt: "hi", best_of: best }),
  },
  {
    name: "max-answer-choices",
    most: 3,
    path: "/v1/completions",
    param: "prompt",
    body: (count) => ({ model: MODEL_ID, prompt: times(count, () => "hi") }),
  },
  {
    name: "max-schema-characters",
    most: 100,
    param: "response_format",
    body: (size) => ({
      ...CHAT,
      response_format: { type: "json_schema", json_schema: { name: "a", schema: schemaOf(size) } },
    }),
  },
  {
    name: "max-schema-characters",
    most: 100,
    param: "tools[0].function.parameters",
    body: (size) => ({ ...CHAT, tools: [tool("t", schemaOf(size))] }),
  },
  {
    name: "max-schema-characters",
    most: 100,
    path: "/v1/responses",
    param: "text.format",
    body: (size) => ({
      model: MODEL_ID,
      input: "hi",
      text: { format: { type: "json_schema", name: "a", schema: schemaOf(size) } },
    }),
  },
  {
    name: "max-grammar-characters",
    most: 40,
    param: "grammar",
    body: (size) => ({ ...CHAT, grammar: 'root ::= "a"'.padEnd(size) }),
  },
  {
    name: "max-tokenize-bytes",
    most: 10,
    path: "/tokenize",
    param: "content",
    body: (size) => ({ content: "x".repeat(size) }),
  },
  {
    name: "max-detokenize-tokens",
    most: 3,
    path: "/detokenize",
    param: "tokens",
    body: (count) => ({ tokens: times(count, () => 1) }),
  },
];

describe.each(CASES)("$name on $param of $path", ({ name, most, path, status = 400, param, body }) => {
  it("holds at the limit and is refused one past it, by name", async () => {
    const { engine, post } = createTestApp({ config: { limits: { ...DEFAULT_LIMITS, [name]: most } } });
    engine.script = sayThenStop("a", EOS);
    const ask = (size: number): Promise<Response> => post(path ?? "/v1/chat/completions", body(size));
    expect((await ask(most)).status).toBe(200);
    const before = engine.submits.length;
    const refused = await ask(most + 1);
    expect(refused.status).toBe(status);
    const { error } = (await refused.json()) as { error: { message: string; param: string | null } };
    expect(error).toMatchObject({ type: "invalid_request_error", param });
    expect(error.message).toContain(`(--${name})`);
    expect(error.message).toContain(String(most));
    expect(engine.submits).toHaveLength(before);
  });
});

describe("the limits", () => {
  it("come from flags, the environment and the file like all options", () => {
    const load = (flags: object, env: Record<string, string>) =>
      pickLimits(loadConfig({ flags: { ...flags }, env, file: undefined }).values);
    expect(load({}, {})).toEqual(DEFAULT_LIMITS);
    expect(load({ "max-tools": "3" }, { WEFT_MAX_STOPS: "5" })).toEqual({
      ...DEFAULT_LIMITS,
      "max-tools": 3,
      "max-stops": 5,
    });
    expect(() => load({ "max-json-depth": "100000" }, {})).toThrow(
      'Expected --max-json-depth to be an integer from 4 to 256, but got "100000".',
    );
  });

  it("are all shown by /props", async () => {
    const limits = { ...DEFAULT_LIMITS, "max-tools": 3 };
    const { app } = createTestApp({ config: { limits } });
    const response = await app.request("/props", { headers: { host: "localhost" } });
    const shown = ((await response.json()) as { limits: Record<string, number> }).limits;
    expect(Object.keys(shown)).toHaveLength(limitNames.length);
    expect(shown).toMatchObject({
      body_bytes: 8 * 1024 * 1024,
      json_depth: 64,
      tools: 3,
      requests_per_connection: 8,
      prompt_tokens: 16_777_216,
    });
  });
});
