/** What the operator has requests ask for that say nothing: read from the options, held by every endpoint, shown by /props. */
import { describe, expect, it, test } from "vitest";
import { loadConfig } from "../../src/config/load-config.ts";
import { sayThenStop } from "../support/scripted-engine.ts";
import { createTestApp } from "../support/test-app.ts";
import { EOS } from "../support/tiny-vocabulary.ts";

const DEFAULTS = {
  temperature: 0.25,
  top_p: 0.5,
  top_k: 7,
  min_p: 0.125,
  repeat_penalty: 1.5,
  presence_penalty: 0.5,
  frequency_penalty: -0.5,
  seed: 42,
  max_tokens: 9,
  enable_thinking: false,
};

const HELD = {
  maxTokens: 9,
  sampling: {
    temperature: 0.25,
    topP: 0.5,
    topK: 7,
    minP: 0.125,
    repeatPenalty: 1.5,
    presencePenalty: 0.5,
    frequencyPenalty: -0.5,
    seed: 42,
  },
};

const CHAT = { messages: [{ role: "user", content: "hi" }] };

const ENDPOINTS: readonly (readonly [path: string, body: object])[] = [
  ["/v1/chat/completions", CHAT],
  ["/v1/completions", { prompt: "hi" }],
  ["/completion", { prompt: "hi" }],
  ["/v1/responses", { input: "hi", store: false }],
  ["/v1/messages", CHAT],
];

function createWithDefaults() {
  const app = createTestApp({ config: { requestDefaults: DEFAULTS, anyModel: true } });
  app.engine.script = sayThenStop("Hello", EOS);
  const ask = async (path: string, body: object): Promise<unknown> => {
    const response = await app.post(path, body);
    expect([path, response.status]).toEqual([path, 200]);
    return response.json();
  };
  return { ...app, ask };
}

describe("--request-default", () => {
  it.each(ENDPOINTS)("is what %s generates with where a request says nothing", async (path, body) => {
    const { ask, engine } = createWithDefaults();
    await ask(path, body);
    expect(engine.submits[0]?.params).toMatchObject(HELD);
  });

  it("yields to what a request says, under any of its names", async () => {
    const { ask, engine } = createWithDefaults();
    const said = { temperature: 0, top_p: 1, top_k: 0, min_p: 0, repetition_penalty: 1, seed: 1 };
    await ask("/v1/chat/completions", {
      ...CHAT,
      ...said,
      n_predict: 3,
      presence_penalty: 0,
      frequency_penalty: 0,
    });
    await ask("/completion", { prompt: "hi", ...said, n_predict: -1 });
    await ask("/v1/responses", { input: "hi", store: false, max_output_tokens: 4 });
    expect(engine.submits.map(({ params }) => params.maxTokens)).toEqual([3, undefined, 4]);
    expect(engine.submits[0]?.params.sampling).toMatchObject({
      temperature: 0,
      topP: 1,
      topK: 0,
      minP: 0,
      repeatPenalty: 1,
      presencePenalty: 0,
      frequencyPenalty: 0,
      seed: 1,
    });
  });

  it("makes no request impossible: who looks back on some tokens has no penalties that look at all", async () => {
    const { ask, engine } = createWithDefaults();
    await ask("/completion", { prompt: "hi", repeat_last_n: 8 });
    expect(engine.submits[0]?.params.sampling).toMatchObject({
      repeatPenalty: 1.5,
      repeatLastTokens: 8,
      presencePenalty: 0,
      frequencyPenalty: 0,
    });
  });

  it("gives each choice a seed of its own", async () => {
    const { ask, engine } = createWithDefaults();
    await ask("/v1/chat/completions", { ...CHAT, n: 2 });
    expect(engine.submits.map(({ params }) => params.sampling.seed)).toEqual([42, 43]);
  });

  it("is shown by /props, and by the responses that it holds for", async () => {
    const { app, ask } = createWithDefaults();
    const { repeat_penalty, presence_penalty, frequency_penalty, ...others } = DEFAULTS;
    expect(await (await app.request("/props", { headers: { host: "localhost" } })).json()).toMatchObject({
      default_generation_settings: {
        params: { ...others, repeat_penalty, presence_penalty, frequency_penalty, n_predict: 9 },
      },
    });
    expect(await ask("/v1/responses", { input: "hi", store: false })).toMatchObject({
      temperature: 0.25,
      top_p: 0.5,
    });
  });
});

describe("--request-default enable_thinking", () => {
  it.each([
    ["/v1/chat/completions", {}, { enable_thinking: false }],
    ["/apply-template", {}, { enable_thinking: false }],
    ["/v1/responses", { messages: undefined, input: "hi", store: false }, { enable_thinking: false }],
    ["/v1/messages", {}, { enable_thinking: false }],
    ["/v1/chat/completions", { enable_thinking: true }, { enable_thinking: true }],
    ["/v1/chat/completions", { chat_template_kwargs: { enable_thinking: true } }, { enable_thinking: true }],
    ["/v1/chat/completions", { thinking_budget_tokens: 9 }, {}],
    ["/v1/chat/completions", { reasoning_effort: "high" }, { reasoning_effort: "high" }],
  ])("gives a template of %s, asked for %j, %j", async (path, fields, kwargs) => {
    const { ask, template } = createWithDefaults();
    await ask(path, { ...CHAT, ...fields });
    expect(template.requests.map((request) => request.kwargs)).toEqual([kwargs]);
  });
});

const read = (given: unknown): unknown =>
  loadConfig({ flags: { "request-default": given }, env: {}, file: undefined }).values["request-default"];

test("it is read from flags, from one text and from an object", () => {
  expect(read(["temperature=0.7", "seed=42"])).toEqual({ temperature: 0.7, seed: 42 });
  expect(read("temperature=0,max_tokens=512")).toEqual({ temperature: 0, max_tokens: 512 });
  expect(read({ top_k: 40, enable_thinking: true })).toEqual({ top_k: 40, enable_thinking: true });
  expect(read(["enable_thinking=false"])).toEqual({ enable_thinking: false });
});

test.each([
  [["temperature"]],
  [["temperature=hot"]],
  [["temperature=2.5"]],
  [["heat=1"]],
  [["seed=1", "seed=2"]],
  [["max_tokens=0"]],
  [["top_k=1.5"]],
  [["constructor=1"]],
  [["enable_thinking=0"]],
  [["temperature=true"]],
  [{ stop: "x" }],
  [7],
])("%j is refused in words", (given) => {
  expect(() => read(given)).toThrow(/^Expected --request-default to be FIELD=VALUE/);
});
