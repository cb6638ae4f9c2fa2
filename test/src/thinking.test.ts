/** What a request says about thinking, and what happens to thinking that takes too long. */
import { describe, expect, it } from "vitest";
import { createTestApp } from "../support/test-app.ts";
import { EOS, idsOf } from "../support/tiny-vocabulary.ts";

const CLOSING = idsOf("\n</think>\n\n");
const STOP = { reason: "stop", stopToken: EOS } as const;

type TestApp = ReturnType<typeof createTestApp>;

/** The n-th submission, once it is there. */
async function submission({ engine }: TestApp, count: number) {
  await engine.until(() => engine.submits.length >= count);
  const submit = engine.submits[count - 1];
  if (submit === undefined) throw new Error("nothing was submitted");
  return submit;
}

/** Says the texts, one a step, until the engine is told to stop. */
async function think(test: TestApp, texts: readonly string[]) {
  const submit = await submission(test, 1);
  test.engine.accept(submit);
  for (const [i, text] of texts.entries()) test.engine.step(submit, { tokens: idsOf(text) }, i === 0);
  return submit;
}

describe("a thinking budget", () => {
  it.each([
    [{ thinking_budget_tokens: 3 }],
    [{ thinking_token_budget: 3 }],
    [{ reasoning: { max_tokens: 3 } }],
  ])("%j ends the thinking in the model's place, and the answer goes on behind it", async (fields) => {
    const test = createTestApp();
    const answer = test.chat({ ...fields, return_token_ids: true });
    const first = await think(test, ["<think>", "a", "b", "never read"]);
    const second = await submission(test, 2);
    const soFar = [...idsOf("<think>ab"), ...CLOSING];
    expect(test.engine.cancels).toEqual([first.id]);
    expect(second).toEqual({ ...first, id: `${first.id}-answer`, resume: soFar, paused: false });
    test.engine.accept(second);
    test.engine.step(second, { tokens: idsOf("Hello") }, false);
    test.engine.step(second, { tokens: [EOS], finish: STOP }, false);
    expect(await (await answer).json()).toMatchObject({
      choices: [
        {
          message: { reasoning_content: "ab", content: "Hello" },
          finish_reason: "stop",
          token_ids: [...soFar, ...idsOf("Hello"), EOS],
        },
      ],
      usage: {
        completion_tokens: soFar.length + 3,
        completion_tokens_details: { reasoning_tokens: soFar.length },
      },
    });
    expect(test.loaded.engine.openRequests).toBe(0);
  });

  it("leaves thinking alone that ends in time", async () => {
    const test = createTestApp();
    const answer = test.chat({ thinking_budget_tokens: 9 });
    const submit = await think(test, ["<think>", "a", "</think>", "Hello"]);
    test.engine.step(submit, { tokens: [EOS], finish: STOP }, false);
    expect(await (await answer).json()).toMatchObject({
      choices: [{ message: { reasoning_content: "a", content: "Hello" } }],
    });
    expect(test.engine.submits).toHaveLength(1);
  });

  it("leaves thinking alone where its end would not fit the limit", async () => {
    const test = createTestApp();
    const answer = test.chat({ thinking_budget_tokens: 1, max_tokens: CLOSING.length + 1 });
    const submit = await think(test, ["<think>", "ab", "c"]);
    const length = { reason: "length", stopToken: undefined } as const;
    test.engine.step(submit, { tokens: idsOf("d"), finish: length }, false);
    expect(await (await answer).json()).toMatchObject({
      choices: [{ message: { content: "" }, finish_reason: "length" }],
    });
  });

  it("frees what goes on when the client leaves", async () => {
    const test = createTestApp();
    const client = new AbortController();
    const answer = test.chat({ thinking_budget_tokens: 1 }, { signal: client.signal });
    await think(test, ["<think>", "ab"]);
    const second = await submission(test, 2);
    test.engine.accept(second);
    client.abort();
    await answer.catch(() => undefined);
    await test.engine.until(() => test.engine.cancels.includes(second.id));
    expect(test.loaded.engine.openRequests).toBe(0);
  });
});

describe("what a request says about thinking", () => {
  const said = {
    kind: "answer",
    steps: [{ tokens: idsOf("<think>hm</think>Hello") }, { tokens: [EOS], finish: STOP }],
  } as const;

  it.each([
    [{ reasoning_effort: "low" }, { reasoning_effort: "low" }],
    [{ reasoning_effort: "none" }, { reasoning_effort: "none", enable_thinking: false }],
    [{ reasoning: { effort: "high" } }, { reasoning_effort: "high", enable_thinking: true }],
    [{ reasoning: { effort: "none" } }, { reasoning_effort: "none", enable_thinking: false }],
    [{ reasoning: { enabled: true } }, { enable_thinking: true }],
    [{ reasoning: { enabled: false } }, { enable_thinking: false }],
    [{ reasoning: { exclude: true, effort: null } }, {}],
    [{ enable_thinking: true }, { enable_thinking: true }],
    [{ thinking_budget_tokens: 0 }, { enable_thinking: false }],
    [{ thinking_budget_tokens: -1 }, {}],
    [
      { reasoning_effort: "none", chat_template_kwargs: { enable_thinking: true } },
      { reasoning_effort: "none", enable_thinking: true },
    ],
  ])("%j reaches the template as %j", async (fields, kwargs) => {
    const { chat, engine, template } = createTestApp();
    engine.script = said;
    expect((await chat(fields)).status).toBe(200);
    expect(template.requests[0]?.kwargs).toEqual(kwargs);
  });

  it.each([
    [{}, { content: "Hello", reasoning_content: "hm" }],
    [{ reasoning_format: "deepseek" }, { content: "Hello", reasoning_content: "hm" }],
    [{ reasoning_format: "none" }, { content: "<think>hm</think>Hello" }],
    [{ include_reasoning: false }, { content: "Hello" }],
    [{ reasoning: { exclude: true } }, { content: "Hello" }],
  ])("%j delivers %j, whole and streamed", async (fields, message) => {
    const { chat, engine } = createTestApp();
    engine.script = said;
    const whole = (await (await chat(fields)).json()) as { choices: { message: object }[] };
    expect(whole.choices[0]?.message).toEqual({
      role: "assistant",
      refusal: null,
      annotations: [],
      ...message,
    });
    const raw = await (await chat({ ...fields, stream: true })).text();
    const joined = (key: string): string =>
      Array.from(raw.matchAll(new RegExp(`"delta":\\{"${key}":"([^"]*)"`, "g")), ([, text]) => text).join("");
    expect({ content: joined("content"), reasoning_content: joined("reasoning_content") }).toEqual({
      reasoning_content: "",
      ...message,
    });
  });

  it("goes into the answer under the names that the operator chose", async () => {
    for (const [reasoningField, message] of [
      ["reasoning", { reasoning: "hm" }],
      ["both", { reasoning: "hm", reasoning_content: "hm" }],
    ] as const) {
      const { chat, engine } = createTestApp({ config: { reasoningField } });
      engine.script = said;
      const body = (await (await chat()).json()) as { choices: { message: object }[] };
      expect(body.choices[0]?.message).toEqual({
        role: "assistant",
        refusal: null,
        annotations: [],
        content: "Hello",
        ...message,
      });
    }
  });

  it.each([
    [{ reasoning_format: "markdown" }, "reasoning_format", "invalid_value"],
    [{ reasoning_effort: 3 }, "reasoning_effort", "invalid_type"],
    [{ reasoning: "high" }, "reasoning", "invalid_type"],
    [{ reasoning: { max_tokens: -1 } }, "reasoning.max_tokens", "integer_below_min_value"],
    [{ thinking_budget_tokens: 1.5 }, "thinking_budget_tokens", "invalid_type"],
    [{ thinking_budget_tokens: 5, reasoning_format: "none" }, "thinking_budget_tokens", "invalid_value"],
  ])("%j is refused", async (fields, param, code) => {
    const { chat } = createTestApp();
    const response = await chat(fields);
    expect([response.status, await response.json()]).toMatchObject([400, { error: { param, code } }]);
  });
});
