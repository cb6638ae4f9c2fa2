/** Legacy completions beyond one prompt and its continuation: several prompts, echo, suffix, the best of several. */
import { OpenAI } from "openai";
import { describe, expect, it } from "vitest";
import type { PromptLogprobs, SubmitCommand, TokenLogprobs } from "../../engine/protocol.ts";
import { listenTestApp } from "../support/listen.ts";
import { sayThenStop } from "../support/scripted-engine.ts";
import { createTestApp, MODEL_ID } from "../support/test-app.ts";
import type { TestAppOptions } from "../support/test-app.ts";
import { BOS, EOS, idsOf } from "../support/tiny-vocabulary.ts";

const HEAD =
  '"id":"cmpl-2","object":"text_completion","created":1730000000,"model":"org/tiny","system_fingerprint":"fp_0123456789"';
const LENGTH = { reason: "length", stopToken: undefined } as const;
const STOP = { reason: "stop", stopToken: EOS } as const;
const [HEL = 0, LO = 0] = idsOf("Hello");

const logprob = (value: number): TokenLogprobs => ({ logprob: value, top: [] });

function createCompletions(options: TestAppOptions = {}) {
  const app = createTestApp(options);
  const ask = (fields: object): Promise<Response> =>
    app.post("/v1/completions", { model: MODEL_ID, prompt: "hi", ...fields });
  const answer = async (fields: object): Promise<OpenAI.Completion> =>
    (await (await ask(fields)).json()) as OpenAI.Completion;
  const json = async (path: string, fields: object): Promise<unknown> =>
    (await app.post(path, { model: MODEL_ID, ...fields })).json();
  return { ...app, ask, answer, json };
}

async function errorOf(response: Response) {
  const { error } = (await response.json()) as {
    error: { message: string; param: string | null; code: string | null };
  };
  return [response.status, error.param, error.code, error.message];
}

describe("several prompts", () => {
  it("are answered prompt by prompt, n choices each, and counted once each", async () => {
    const { engine, answer } = createCompletions();
    engine.script = sayThenStop("Hel", EOS);
    const body = await answer({ prompt: ["a", "bcd"], n: 2 });
    expect(engine.submits.map(({ prompt }) => prompt)).toEqual(
      ["a", "a", "bcd", "bcd"].map((text) => [{ text, special: true }]),
    );
    expect(engine.submits.map(({ id }) => id)).toEqual(["cmpl-2", "cmpl-2-1", "cmpl-2-2", "cmpl-2-3"]);
    expect(body.choices.map(({ index, text }) => [index, text])).toEqual([
      [0, "Hel"],
      [1, "Hel"],
      [2, "Hel"],
      [3, "Hel"],
    ]);
    expect(body.usage).toMatchObject({ prompt_tokens: 4, completion_tokens: 8, total_tokens: 12 });
  });

  it("draw with the seeds they would have alone", async () => {
    const { engine, answer } = createCompletions();
    engine.script = sayThenStop("Hel", EOS);
    await answer({ prompt: ["a", "b"], n: 2, seed: 5 });
    expect(engine.submits.map(({ params }) => params.sampling.seed)).toEqual([5, 6, 5, 6]);
  });

  it("may be lists of ids, to which no begin token is added", async () => {
    const { engine, answer } = createCompletions();
    engine.script = sayThenStop("Hel", EOS);
    const body = await answer({ prompt: [[HEL, LO], [HEL]], return_token_ids: true });
    expect(engine.submits.map(({ prompt, addBos }) => [prompt, addBos])).toEqual([
      [[{ tokens: [HEL, LO] }], false],
      [[{ tokens: [HEL] }], false],
    ]);
    expect(body.choices).toMatchObject([{ prompt_token_ids: [HEL, LO] }, { prompt_token_ids: [HEL] }]);
  });

  it("stream under their indices", async () => {
    const { engine, ask } = createCompletions();
    engine.script = sayThenStop("Hel", EOS);
    const text = await (await ask({ prompt: ["a", "b"], stream: true })).text();
    const seen = [...text.matchAll(/"text":"([^"]*)","index":(\d)/g)].map(
      ([, said, index]) => `${index} ${said}`,
    );
    expect(seen.filter((entry) => entry.startsWith("0"))).toEqual(["0 Hel", "0 "]);
    expect(seen.filter((entry) => entry.startsWith("1"))).toEqual(["1 Hel", "1 "]);
    expect(text.endsWith("data: [DONE]\n\n")).toBe(true);
  });

  it.each([
    [{ prompt: ["a", 1] }, "prompt[1]", "invalid_type"],
    [{ prompt: ["a", []] }, "prompt[1]", "empty_array"],
    [{ prompt: [[1], ["a"]] }, "prompt[1][0]", "invalid_type"],
    [{ prompt: [[1], [9999]] }, "prompt[1][0]", "invalid_value"],
    [{ prompt: Array.from({ length: 129 }, () => "a") }, "prompt", "array_above_max_length"],
    [{ prompt: Array.from({ length: 65 }, () => "a"), n: 2 }, "prompt", "array_above_max_length"],
  ])("%j is a 400", async (fields, param, code) => {
    const { engine, ask } = createCompletions();
    expect((await errorOf(await ask(fields))).slice(0, 3)).toEqual([400, param, code]);
    expect(engine.submits).toEqual([]);
  });
});

describe("echo", () => {
  it("puts the prompt in front of the text", async () => {
    const { engine, answer } = createCompletions();
    engine.script = sayThenStop("Hel", EOS);
    const body = await answer({ prompt: ["hé ", "b"], echo: true, n: 2 });
    expect(body.choices.map(({ text }) => text)).toEqual(["hé Hel", "hé Hel", "bHel", "bHel"]);
  });

  it("gives back ids as their text", async () => {
    const { engine, answer } = createCompletions();
    engine.script = sayThenStop("END", EOS);
    expect((await answer({ prompt: [HEL, LO], echo: true })).choices[0]?.text).toBe("HelloEND");
  });

  it("streams the prompt as a chunk of its own, in one write with the first text", async () => {
    const { engine, ask } = createCompletions();
    engine.script = sayThenStop("Hel", EOS);
    const reader = (await ask({ echo: true, stream: true, return_token_ids: true })).body?.getReader();
    const prompt = idsOf("hi").join(",");
    expect(new TextDecoder().decode((await reader?.read())?.value)).toBe(
      `data: {${HEAD},"choices":[{"text":"hi","index":0,"logprobs":null,"finish_reason":null,"token_ids":[],"prompt_token_ids":[${prompt}]}]}\n\n` +
        `data: {${HEAD},"choices":[{"text":"Hel","index":0,"logprobs":null,"finish_reason":null,"token_ids":[${HEL}]}]}\n\n`,
    );
    await reader?.cancel();
  });

  it("with max_tokens 0 computes the prompt and shows no token", async () => {
    for (const stream of [false, true]) {
      const { engine, ask } = createCompletions();
      engine.script = { kind: "answer", steps: [{ tokens: [], finish: LENGTH }] };
      const text = await (
        await ask({ echo: true, max_tokens: 0, stream, stream_options: { include_usage: true } })
      ).text();
      expect(text).toContain('"text":"hi"');
      expect(text).not.toContain("Hel");
      expect(text).toContain('"finish_reason":"length"');
      expect(text).toContain('"usage":{"prompt_tokens":2,"completion_tokens":0,"total_tokens":2');
      expect(engine.submits[0]?.params.maxTokens).toBe(0);
    }
  });

  it("cannot go with a suffix, and without it max_tokens is 1 at least", async () => {
    const { ask } = createCompletions();
    expect((await errorOf(await ask({ echo: true, suffix: "x" }))).slice(0, 3)).toEqual([
      400,
      "echo",
      "invalid_value",
    ]);
    expect((await errorOf(await ask({ max_tokens: 0 }))).slice(0, 3)).toEqual([
      400,
      "max_tokens",
      "integer_below_min_value",
    ]);
  });
});

describe("echo with logprobs", () => {
  /** Of "a", "hi" and so on in front of what is generated: the first token has none. */
  const scores = (tokens: number, top: readonly number[][] = []): PromptLogprobs => ({
    logprobs: Float32Array.from({ length: tokens }, (_, i) => -i / 2),
    top: top[0]?.length ?? 0,
    topTokens: Uint32Array.from(top.flat()),
    topLogprobs: Float32Array.from(top.flat(), () => -0.25),
  });

  it("has every token of prompt and output, the end token too, and asks the engine once per prompt", async () => {
    const { engine, ask } = createCompletions();
    const [a = 0, b = 0] = idsOf("ab");
    const answer = ask({ prompt: "ab", echo: true, logprobs: 1, n: 2 });
    await engine.until(() => engine.submits.length === 2);
    expect(engine.submits.map(({ promptLogprobs }) => promptLogprobs)).toEqual([1, undefined]);
    for (const [i, submit] of engine.submits.entries()) {
      engine.accept(submit);
      engine.step(
        submit,
        {
          tokens: [HEL],
          logprobs: [{ logprob: -1, top: [[LO, -0.5]] }],
          ...(i === 0 ? { promptLogprobs: scores(2, [[0], [a]]) } : {}),
        },
        true,
      );
      engine.step(
        submit,
        { tokens: [EOS], logprobs: [{ logprob: -2, top: [[EOS, -2]] }], finish: STOP },
        false,
      );
    }
    const { choices } = (await (await answer).json()) as OpenAI.Completion;
    const expected = {
      tokens: ["a", "b", "Hel", "</s>"],
      token_logprobs: [null, -0.5, -1, -2],
      top_logprobs: [null, { a: -0.25, b: -0.5 }, { lo: -0.5, Hel: -1 }, { "</s>": -2 }],
      text_offset: [0, 1, 2, 5],
    };
    expect(choices).toMatchObject([
      { index: 0, text: "abHel", logprobs: expected },
      { index: 1, text: "abHel", logprobs: expected },
    ]);
    expect([a, b]).toHaveLength(2);
  });

  it("streams the prompt's with each choice, however early the second one and the progress of the prompt come", async () => {
    const { engine, ask } = createCompletions();
    const answer = ask({ n: 2, echo: true, logprobs: 0, stream: true, return_progress: true });
    await engine.until(() => engine.submits.length === 2);
    const [one, two] = engine.submits;
    if (one === undefined || two === undefined) throw new Error("too few were submitted");
    for (const submit of [one, two]) engine.accept(submit);
    const response = await answer;
    const ending = { tokens: [HEL], logprobs: [logprob(-1)], finish: { ...STOP, reason: "length" } } as const;
    engine.reportPrefill(one, 1, 5);
    engine.step(two, ending, true);
    engine.step(one, { ...ending, promptLogprobs: scores(2) }, true);
    const chunks = [...(await response.text()).matchAll(/^data: (\{.*\})$/gm)].map(
      ([, json]) => (JSON.parse(json ?? "") as OpenAI.Completion).choices[0],
    );
    expect(chunks.filter((choice) => choice?.text === "hi")).toMatchObject([
      { index: 0, logprobs: { token_logprobs: [null, -0.5] } },
      { index: 1, logprobs: { token_logprobs: [null, -0.5] } },
    ]);
    expect(chunks.map((choice) => choice?.index).join("")).toMatch(/^0+1+$/);
  });

  it("streams the prompt's with the prompt and the output's with the output", async () => {
    const { engine, ask } = createCompletions();
    engine.script = {
      kind: "answer",
      steps: [
        { tokens: [HEL], logprobs: [logprob(-1)], promptLogprobs: scores(2) },
        { tokens: [EOS], logprobs: [logprob(-2)], finish: STOP },
      ],
    };
    const text = await (await ask({ echo: true, logprobs: 0, stream: true })).text();
    const seen = [...text.matchAll(/"logprobs":(\{.*?\]\})/g)].map(
      ([, json]) => JSON.parse(json ?? "") as object,
    );
    expect(seen).toEqual([
      { tokens: ["h", "i"], token_logprobs: [null, -0.5], top_logprobs: [null, null], text_offset: [0, 1] },
      { tokens: ["Hel"], token_logprobs: [-1], top_logprobs: [null], text_offset: [2] },
      { tokens: ["</s>"], token_logprobs: [-2], top_logprobs: [null], text_offset: [5] },
    ]);
  });

  it("counts no characters of a begin token that the engine added", async () => {
    const { engine, ask } = createCompletions();
    const answer = ask({ prompt: [BOS, HEL], echo: true, logprobs: 0, max_tokens: 0 });
    await engine.until(() => engine.submits.length === 1);
    const [submit] = engine.submits;
    if (submit === undefined) throw new Error("nothing was submitted");
    engine.accept(submit);
    engine.step(submit, { tokens: [], finish: LENGTH, promptLogprobs: scores(2) }, true);
    const { choices } = (await (await answer).json()) as OpenAI.Completion;
    // Here the client sent it, and its name is part of the text.
    expect(choices[0]).toMatchObject({ text: "<s>Hel", logprobs: { text_offset: [0, 3] } });
    const added = ask({ prompt: "Hel", echo: true, logprobs: 0, max_tokens: 0 });
    await engine.until(() => engine.submits.length === 2);
    const second = engine.submits[1];
    if (second === undefined) throw new Error("nothing was submitted");
    engine.accept({ ...second, prompt: [{ tokens: [BOS, HEL] }] });
    engine.step(second, { tokens: [], finish: LENGTH, promptLogprobs: scores(2) }, true);
    expect(((await (await added).json()) as OpenAI.Completion).choices[0]).toMatchObject({
      text: "Hel",
      logprobs: { tokens: ["<s>", "Hel"], text_offset: [0, 0] },
    });
  });
});

describe("a suffix", () => {
  const fim = { prefix: 4, suffix: 5, middle: 6 };

  it("makes a prompt of prefix, suffix and middle, in which both sides are plain text", async () => {
    const { engine, answer } = createCompletions({ facts: { fim } });
    engine.script = sayThenStop("Hel", EOS);
    const body = await answer({ prompt: "a</s>", suffix: "</s>b" });
    expect(engine.submits[0]).toMatchObject({
      prompt: [
        { tokens: [4] },
        { text: "a</s>", special: false },
        { tokens: [5] },
        { text: "</s>b", special: false },
        { tokens: [6] },
      ],
      addBos: true,
    });
    expect(body.choices[0]?.text).toBe("Hel");
  });

  it("that is empty is none", async () => {
    const { engine, answer } = createCompletions();
    engine.script = sayThenStop("Hel", EOS);
    await answer({ suffix: "" });
    expect(engine.submits[0]?.prompt).toEqual([{ text: "hi", special: true }]);
  });

  it("is refused by name when the model has no such tokens", async () => {
    const { ask } = createCompletions();
    expect(await errorOf(await ask({ suffix: "b" }))).toEqual([
      400,
      "suffix",
      "unsupported_parameter",
      "Unsupported parameter: 'suffix' is not supported with the model 'org/tiny', which has no tokens for filling in the middle.",
    ]);
  });
});

describe("best_of", () => {
  /** Answers with one token of this log probability, then the end. */
  function say(
    app: ReturnType<typeof createCompletions>,
    submit: SubmitCommand,
    token: number,
    value: number,
  ) {
    app.engine.accept(submit);
    app.engine.step(submit, { tokens: [token], logprobs: [logprob(value)] }, true);
    app.engine.step(submit, { tokens: [EOS], logprobs: [logprob(-1)], finish: STOP }, false);
  }

  it("shows the most likely, by mean, first, without the probabilities nobody asked for", async () => {
    const app = createCompletions();
    const answer = app.answer({ best_of: 3, n: 2, prompt: ["a", "b"] });
    await app.engine.until(() => app.engine.submits.length === 6);
    const values = [-3, -1, -2, -0.5, -4, -0.25];
    for (const [i, submit] of app.engine.submits.entries()) say(app, submit, HEL + i, values[i] ?? 0);
    const { choices, usage } = await answer;
    const words = ["Hel", "lo", " world", "<think>", "</think>", "END"];
    expect(choices.map(({ index, text }) => [index, text])).toEqual([
      [0, words[1]],
      [1, words[2]],
      [2, words[5]],
      [3, words[3]],
    ]);
    expect(choices.map((choice) => choice.logprobs)).toEqual([null, null, null, null]);
    expect(usage).toMatchObject({ prompt_tokens: 2, completion_tokens: 12 });
    expect(app.engine.submits.map(({ params }) => params.topLogprobs)).toEqual([0, 0, 0, 0, 0, 0]);
  });

  it("of as many as are shown keeps their order and needs no probabilities", async () => {
    const { engine, answer } = createCompletions();
    engine.script = sayThenStop("Hel", EOS);
    expect((await answer({ best_of: 2, n: 2 })).choices).toHaveLength(2);
    expect(engine.submits[0]?.params.topLogprobs).toBeUndefined();
  });

  it.each([
    [{ best_of: 2, n: 3 }, "best_of", "invalid_value"],
    [{ best_of: 2, stream: true }, "best_of", "invalid_value"],
    [{ best_of: 17 }, "best_of", "integer_above_max_value"],
    [{ best_of: 0 }, "best_of", "integer_below_min_value"],
  ])("%j is a 400", async (fields, param, code) => {
    const { ask } = createCompletions();
    expect((await errorOf(await ask(fields))).slice(0, 3)).toEqual([400, param, code]);
  });
});

describe("the openai client", () => {
  it("reads several prompts with echo", async () => {
    const server = await listenTestApp();
    server.engine.script = sayThenStop("Hello", EOS);
    const client = new OpenAI({ baseURL: `${server.baseURL}/v1`, apiKey: "none", maxRetries: 0 });
    const { choices } = await client.completions.create({
      model: MODEL_ID,
      prompt: ["a ", "b "],
      echo: true,
      n: 2,
    });
    expect(choices.map(({ text }) => text)).toEqual(["a Hello", "a Hello", "b Hello", "b Hello"]);
    await server.close();
  });
});

describe("truncate_prompt_tokens", () => {
  const CONTEXT = 256;
  const cut = { truncate_prompt_tokens: 2 };

  it("reads the end of prompts that would not fit", async () => {
    const { engine, ask, post, chat } = createCompletions();
    engine.script = sayThenStop("Hel", EOS);
    const ids = [...Array<number>(2 * CONTEXT).fill(HEL), LO, HEL];
    const text = `${"a".repeat(20_000)}bc`;
    const statuses = [
      await ask({ prompt: ids, ...cut }),
      await ask({ prompt: ids, truncate_prompt_tokens: -1 }),
      await ask({ prompt: text, ...cut }),
      await post("/completion", { prompt: ["a", ...ids], ...cut }),
      await chat({ messages: [{ role: "user", content: text }], ...cut }),
      await post("/v1/responses", { model: MODEL_ID, input: text, ...cut }),
    ].map(({ status }) => status);
    expect(statuses).toEqual(statuses.map(() => 200));
    const asIds = [{ tokens: [LO, HEL] }];
    const asText = [{ tokens: idsOf("bc") }];
    const most = [{ tokens: ids.slice(1 - CONTEXT) }];
    expect(engine.submits.map(({ prompt }) => prompt)).toEqual([asIds, most, asText, asIds, asText, asText]);
  });

  it("counts as many as it reads where a chat is counted alone", async () => {
    const { json } = createCompletions();
    const messages = [{ role: "user", content: "Hello" }];
    const chat = { messages, ...cut };
    expect(await json("/v1/chat/completions/input_tokens", chat)).toEqual({ input_tokens: 2 });
    const one = { input: "Hello", truncate_prompt_tokens: 1 };
    expect(await json("/v1/responses/input_tokens", one)).toMatchObject({ input_tokens: 1 });
    const all = { messages, truncate_prompt_tokens: -1 };
    expect(await json("/v1/chat/completions/input_tokens", all)).toEqual({ input_tokens: 3 });
  });

  it("does not make up for what is too long even so", async () => {
    const { ask, chat } = createCompletions();
    const ids = [...Array<number>(2 * CONTEXT).fill(HEL), 99_999];
    expect((await errorOf(await ask({ prompt: ids, ...cut }))).slice(0, 3)).toEqual([
      400,
      `prompt[${2 * CONTEXT}]`,
      "invalid_value",
    ]);
    expect(
      (await errorOf(await ask({ prompt: ids, truncate_prompt_tokens: CONTEXT + 1 }))).slice(0, 3),
    ).toEqual([400, "prompt", "context_length_exceeded"]);
    const text = "a".repeat(128 * 1024 + 1);
    const tooLong = expect.stringContaining("--max-tokenize-bytes");
    expect(await errorOf(await ask({ prompt: text, ...cut }))).toEqual([
      400,
      "prompt",
      "string_above_max_length",
      tooLong,
    ]);
    const messages = [{ role: "user", content: text }];
    expect(await errorOf(await chat({ messages, ...cut }))).toEqual([
      400,
      "messages",
      "string_above_max_length",
      tooLong,
    ]);
  });
});
