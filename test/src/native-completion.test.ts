/** llama.cpp's own dialect: `/completion`, `/infill`, and the count of a chat's tokens. */
import { describe, expect, it } from "vitest";
import { sayThenStop } from "../support/scripted-engine.ts";
import { readSse } from "../../src/conformance/sse-grammar.ts";
import { createTestApp } from "../support/test-app.ts";
import type { TestAppOptions } from "../support/test-app.ts";
import { EOS, idsOf } from "../support/tiny-vocabulary.ts";

const FIM = { prefix: 2, suffix: 3, middle: 4 };

function createNative(options: TestAppOptions = {}) {
  const app = createTestApp(options);
  app.engine.script = sayThenStop("Hello", EOS);
  const json = async (path: string, body: object): Promise<Record<string, unknown>> =>
    (await (await app.post(path, body)).json()) as Record<string, unknown>;
  const complete = (fields: object): Promise<Record<string, unknown>> =>
    json("/completion", { prompt: "hi", ...fields });
  const refusal = async (path: string, body: object): Promise<unknown[]> => {
    const response = await app.post(path, body);
    const { error } = (await response.json()) as { error: { param: unknown } };
    return [response.status, error.param];
  };
  return { ...app, json, complete, refusal };
}

describe("/completion", () => {
  it("answers without a model's name, in one flat object", async () => {
    const { complete, engine } = createNative();
    const body = await complete({ seed: 7, temperature: 0.5, stop: ["END"] });
    expect(body).toMatchObject({
      index: 0,
      content: "Hello",
      tokens: [],
      id_slot: -1,
      stop: true,
      model: "org/tiny",
      tokens_evaluated: engine.submits.length === 1 ? expect.any(Number) : "one submit",
      prompt: expect.stringContaining("hi"),
      truncated: false,
      has_new_line: false,
      stop_type: "eos",
      stopping_word: "",
      generation_settings: { seed: 7, temperature: 0.5, n_predict: -1, stop: ["END"], logit_bias: [] },
      timings: { predicted_n: body["tokens_predicted"] },
    });
    expect(engine.submits[0]?.params.maxTokens).toBeUndefined();
  });

  it("tells the samplers that it used, and that the others were off", async () => {
    const { complete } = createNative();
    const plain = { xtc_probability: 0, dry_multiplier: 0, mirostat: 0, typical_p: 1, adaptive_target: -1 };
    expect(await complete({})).toMatchObject({ generation_settings: plain });
    const asked = {
      xtc_probability: 0.5,
      xtc_threshold: 0.25,
      dry_multiplier: 2,
      dry_base: 3,
      dry_allowed_length: 4,
    };
    expect(await complete({ ...asked, dry_sequence_breakers: ["\n"], dry_penalty_last_n: -1 })).toMatchObject(
      {
        generation_settings: { ...asked, dry_sequence_breakers: ["\n"], dry_penalty_last_n: -1 },
      },
    );
  });

  it("generates up to n_predict, to the end for -1, and nothing for 0", async () => {
    const { complete, engine } = createNative();
    for (const n of [5, -1, 0]) await complete({ n_predict: n });
    expect(engine.submits.map(({ params }) => params.maxTokens)).toEqual([5, undefined, 0]);
  });

  it("says which word stopped it", async () => {
    const { complete } = createNative();
    expect(await complete({ stop: ["lo"] })).toMatchObject({
      content: "Hel",
      stop_type: "word",
      stopping_word: "lo",
    });
  });

  it("answers several prompts with a list, texts, tokens and objects", async () => {
    const { post } = createNative();
    const prompt = ["a", idsOf("Hel"), { prompt_string: "b" }];
    const list = (await (await post("/completion", { prompt })).json()) as {
      index: number;
      content: string;
    }[];
    expect(list.map(({ index, content }) => [index, content])).toEqual([
      [0, "Hello"],
      [1, "Hello"],
      [2, "Hello"],
    ]);
  });

  it("tells a stream how far the prompt is where that is asked for", async () => {
    const { post, engine } = createNative();
    engine.script = { kind: "accept" };
    const response = await post("/completion", {
      prompt: "hi",
      stream: true,
      return_progress: true,
      n_probs: 1,
    });
    const [submit] = engine.submits;
    if (submit === undefined) throw new Error("nothing was submitted");
    engine.reportPrefill(submit, 1, 0);
    engine.step(submit, { tokens: idsOf("H"), finish: { reason: "length", stopToken: undefined } }, true);
    const pieces = readSse(await response.text())
      .events.slice(0, 3)
      .map(({ data }) => JSON.parse(data) as object);
    const total = engine.submits.length === 1 ? expect.any(Number) : 0;
    expect(pieces[0]).toEqual({
      index: 0,
      content: "",
      tokens: [],
      id_slot: -1,
      stop: false,
      tokens_predicted: 0,
      tokens_evaluated: total,
      prompt_progress: { total, cache: 1, processed: 1, time_ms: 0 },
    });
    expect(pieces[1]).toMatchObject({ content: "", prompt_progress: { time_ms: 10 } });
    expect(pieces[2]).not.toHaveProperty("prompt_progress");
  });

  it("streams pieces, the last of which has what a whole answer has", async () => {
    const { post } = createNative();
    const text = await (await post("/completion", { prompt: "hi", stream: true })).text();
    const { events, problems } = readSse(text);
    expect(problems).toEqual([]);
    const pieces = events
      .filter(({ data }) => data !== "[DONE]")
      .map(({ data }) => JSON.parse(data) as { content: string; stop: boolean; tokens: number[] });
    expect(pieces.map(({ content }) => content).join("")).toBe("Hello");
    expect(pieces.map(({ stop }) => stop)).toEqual([...pieces.slice(1).map(() => false), true]);
    expect(pieces.flatMap(({ tokens }) => tokens)).toEqual([...idsOf("Hello"), EOS]);
    expect(pieces.at(-1)).toMatchObject({ stop_type: "eos", timings: {}, generation_settings: {} });
  });

  it("gives tokens and probabilities when asked for", async () => {
    const { complete, engine } = createNative();
    const [hel = 0, lo = 0] = idsOf("Hello");
    const scored = (token: number) => ({
      tokens: [token],
      logprobs: [
        {
          logprob: -1,
          top: [
            [token, -1],
            [EOS, -3],
          ] as const,
        },
      ],
    });
    engine.script = {
      kind: "answer",
      steps: [scored(hel), { ...scored(lo), finish: { reason: "length", stopToken: undefined } }],
    };
    const body = await complete({ n_probs: 2, return_tokens: true });
    expect(body["tokens"]).toEqual([hel, lo]);
    expect(body["stop_type"]).toBe("limit");
    const hello = { id: hel, token: "Hel", logprob: -1, bytes: [72, 101, 108] };
    expect(body["completion_probabilities"]).toMatchObject([
      { ...hello, top_logprobs: [hello, { id: EOS, logprob: -3, bytes: expect.any(Array) }] },
      { id: lo, token: "lo", logprob: -1 },
    ]);
  });

  it("gives the chances that draws gave, without those of none", async () => {
    const { complete, engine } = createNative();
    const [hel = 0, lo = 0] = idsOf("Hello");
    const top = [
      [hel, Math.log(0.75)],
      [lo, Math.log(0.25)],
      [EOS, -9999],
    ] as const;
    const finish = { reason: "length", stopToken: undefined } as const;
    engine.script = {
      kind: "answer",
      steps: [{ tokens: [lo], logprobs: [{ logprob: Math.log(0.25), top }], finish }],
    };
    const body = await complete({ n_probs: 3, post_sampling_probs: true });
    expect(engine.submits[0]?.params).toMatchObject({ topLogprobs: 3, logprobsOfDraws: true });
    const close = (value: number): unknown => expect.closeTo(value, 6);
    expect(body["completion_probabilities"]).toEqual([
      {
        id: lo,
        token: "lo",
        bytes: [108, 111],
        prob: close(0.25),
        top_probs: [
          { id: hel, token: "Hel", bytes: [72, 101, 108], prob: close(0.75) },
          { id: lo, token: "lo", bytes: [108, 111], prob: close(0.25) },
        ],
      },
    ]);
  });

  it("gives only the fields asked for, by their paths", async () => {
    const { complete } = createNative();
    const fields = ["content", "generation_settings/n_predict", "nosuch/path"];
    expect(await complete({ n_predict: 9, response_fields: fields })).toEqual({
      content: "Hello",
      "generation_settings/n_predict": 9,
    });
  });

  it("takes biases as pairs", async () => {
    const { complete, engine } = createNative();
    await complete({
      logit_bias: [
        [5, 1.5],
        [6, false],
      ],
    });
    expect(engine.submits[0]?.params.sampling.logitBias).toEqual([
      [5, 1.5],
      [6, -100],
    ]);
  });

  it("takes biases of texts, which are those of all their tokens", async () => {
    const { json, engine } = createNative();
    const [hel = 0, lo = 0] = idsOf("Hello");
    for (const logit_bias of [
      [
        ["Hello", -5],
        [lo, 2],
        [6, 1],
      ],
      { Hello: -5, 6: 1 },
      [["Hello", false]],
    ]) {
      await json("/completion", { prompt: "hi", logit_bias });
    }
    const biases = engine.submits.map(({ params }) => new Map(params.sampling.logitBias));
    const both = (bias: number): [number, number][] => [
      [hel, bias],
      [lo, bias],
    ];
    expect(biases).toEqual([
      new Map([[6, 1], ...both(-5)]),
      new Map([[6, 1], ...both(-5)]),
      new Map(both(-100)),
    ]);
    const gap = { input_prefix: "a", input_suffix: "b", logit_bias: { lo: 3 } };
    const filling = createNative({ facts: { fim: FIM } });
    expect(await filling.json("/infill", gap)).toMatchObject({
      generation_settings: { logit_bias: [{ token: lo, bias: 3 }] },
    });
  });

  it("takes texts and ids in one prompt, which begins as its first piece says", async () => {
    const { complete, engine } = createNative();
    await complete({ prompt: [5, 6, "Hel", "lo", 7] });
    await complete({ prompt: ["Hel", 7] });
    await complete({ prompt: [["Hel", 7], "lo", [5]] });
    expect(engine.submits.map(({ prompt, addBos }) => [prompt, addBos])).toEqual([
      [
        [{ tokens: [5, 6] }, { text: "Hel", special: true }, { text: "lo", special: true }, { tokens: [7] }],
        false,
      ],
      [[{ text: "Hel", special: true }, { tokens: [7] }], true],
      [[{ text: "Hel", special: true }, { tokens: [7] }], true],
      [[{ text: "lo", special: true }], true],
      [[{ tokens: [5] }], false],
    ]);
  });

  it("answers several times with n_cmpl, each with the prompt it belongs to", async () => {
    const { post } = createNative();
    const response = await post("/completion", { prompt: ["a", "b"], n_cmpl: 2 });
    const list = (await response.json()) as { index: number; prompt: string }[];
    expect(list.map(({ index, prompt }) => [index, prompt.at(-1)])).toEqual([
      [0, "a"],
      [1, "a"],
      [2, "b"],
      [3, "b"],
    ]);
  });

  it("lists what only OpenAI's completions read among the fields without effect", async () => {
    const { post } = createNative();
    const fields = { best_of: 3, echo: true, suffix: "x", id_slot: 1, samplers: ["top_k"] };
    const { headers } = await post("/completion", { prompt: "hi", ...fields });
    const ignored = headers.get("x-weft-ignored-params")?.split(",").toSorted();
    expect(ignored).toEqual(Object.keys(fields).toSorted());
  });

  it("has timings in each piece of a stream when asked for", async () => {
    const { post } = createNative();
    for (const timed of [true, false]) {
      const ask = { prompt: "hi", stream: true, timings_per_token: timed };
      const { events } = readSse(await (await post("/completion", ask)).text());
      const pieces = events
        .filter(({ data }) => data !== "[DONE]")
        .map(({ data }) => JSON.parse(data) as { timings?: { predicted_n: number } });
      expect(pieces.slice(0, -1).map(({ timings }) => timings?.predicted_n)).toEqual(
        timed ? [1, 2] : [undefined, undefined],
      );
    }
  });

  it.each([
    [{ prompt: undefined }, "prompt"],
    [{ n_predict: "many" }, "n_predict"],
    [{ n_probs: 1000 }, "n_probs"],
    [{ n_cmpl: 1000 }, "n_cmpl"],
    [{ logit_bias: [[null, 1]] }, "logit_bias[0]"],
    [{ logit_bias: [["a"]] }, "logit_bias[0]"],
    [{ logit_bias: [["a", "b"]] }, "logit_bias.a"],
    [{ logit_bias: { a: 101 } }, "logit_bias.a"],
    [{ logit_bias: { ["a".repeat(2000)]: 1 } }, "logit_bias"],
    [{ logit_bias: Array.from({ length: 300 }, (_, i) => [`a${i}`, 1]) }, "logit_bias"],
    [{ prompt: { prompt_string: "a", multimodal_data: ["AAAA"] } }, "prompt"],
    [{ prompt: {} }, "prompt.prompt_string"],
    [{ prompt: [1, "a", null] }, "prompt[2]"],
    [{ prompt: [1, "a", [1]] }, "prompt[2]"],
    [{ prompt: ["a", 1, 1.5] }, "prompt[2]"],
    [{ prompt: ["a", "b", 2 ** 30] }, "prompt[2]"],
    [{ prompt: [[]] }, "prompt[0]"],
    [{ prompt: [] }, "prompt"],
    [{ prompt: 5 }, "prompt"],
    [{ prompt: Array.from({ length: 600 }, (_, i) => (i % 2 === 0 ? "a" : 1)) }, "prompt"],
    [{ response_fields: "content" }, "response_fields"],
  ])("refuses %j by the name that was sent", async (fields, param) => {
    const { refusal } = createNative();
    expect(await refusal("/completion", { prompt: "hi", ...fields })).toEqual([400, param]);
  });

  it.each([
    [{ n_cmpl: 1000 }, "n_cmpl"],
    [{ n_probs: 1000 }, "n_probs"],
  ])("says of %j in its message, too, what was sent", async (fields, name) => {
    const { post } = createNative();
    const response = await post("/completion", { prompt: "hi", ...fields });
    const { error } = (await response.json()) as { error: { message: string; param: string } };
    expect(error).toMatchObject({ param: name, message: expect.stringContaining(`Invalid '${name}': `) });
    expect(error.message).not.toMatch(/'(n|logprobs|max_tokens)'/);
  });
});

describe("/infill", () => {
  const GAP = { input_prefix: "def f(", input_suffix: "return x\n" };

  it("writes between prefix and suffix, behind the text already begun, with other files in front", async () => {
    const { json, engine } = createNative({ facts: { fim: FIM } });
    const extra = [{ filename: "a.py", text: "x = 1" }, { text: "y = 2\n" }];
    expect(await json("/infill", { ...GAP, prompt: "a,", input_extra: extra, n_predict: 4 })).toMatchObject({
      content: "Hello",
    });
    expect(engine.submits[0]?.prompt).toEqual([
      { tokens: [2] },
      { text: "--- a.py ---\nx = 1\n\ny = 2\n\ndef f(", special: false },
      { tokens: [3] },
      { text: "return x\n", special: false },
      { tokens: [4] },
      { text: "a,", special: false },
    ]);
  });

  it.each([
    [{ input_prefix: undefined }, "input_prefix"],
    [{ input_suffix: undefined }, "input_suffix"],
    [{ input_extra: [{ filename: "ok" }] }, "input_extra[0].text"],
    [{ input_extra: [{ filename: 123, text: "abc" }] }, "input_extra[0].filename"],
    [{ input_extra: {} }, "input_extra"],
    [{ prompt: 5 }, "prompt"],
    [{ truncate_prompt_tokens: 8 }, "truncate_prompt_tokens"],
  ])("refuses %j", async (fields, param) => {
    const { refusal } = createNative({ facts: { fim: FIM } });
    expect(await refusal("/infill", { ...GAP, ...fields })).toEqual([400, param]);
  });

  it("is refused by a model without the tokens for it", async () => {
    const { refusal } = createNative({ facts: { fim: undefined } });
    expect(await refusal("/infill", GAP)).toEqual([400, "input_suffix"]);
  });
});

it("/chat/completions/input_tokens counts the prompt of a chat", async () => {
  const { json, engine } = createNative();
  const messages = [{ role: "user", content: "Hello" }];
  // The begin token, "Hel", "lo".
  expect(await json("/v1/chat/completions/input_tokens", { messages })).toEqual({ input_tokens: 3 });
  expect(engine.submits).toEqual([]);
});
