/** LangChain's chat model. */
import { AIMessage, HumanMessage, SystemMessage, ToolMessage } from "@langchain/core/messages";
import type { AIMessageChunk } from "@langchain/core/messages";
import { tool } from "@langchain/core/tools";
import { ChatOpenAI } from "@langchain/openai";
import { expect, test } from "vitest";
import { z } from "zod";
import { listenTestApp } from "../support/listen.ts";
import { idsOf } from "../support/tiny-vocabulary.ts";
import { baseURL, decidedFetch, found, MODEL, POCKET, said } from "./harness.ts";

const configuration = { baseURL, fetch: decidedFetch };
const model = new ChatOpenAI({
  model: MODEL,
  apiKey: "none",
  temperature: 0,
  maxRetries: 0,
  maxTokens: 64,
  configuration,
});
const ANSWER = "The capital of France is Paris.";

test("invoke reads a whole answer with its usage", async () => {
  const answer = await model.invoke("What is the capital of France?");
  expect(answer.content).toEqual(said(ANSWER));
  expect(answer.usage_metadata).toMatchObject(
    found({ input_tokens: 15, output_tokens: 8, total_tokens: 23 }, {}) as object,
  );
  expect(answer.response_metadata).toMatchObject({
    finish_reason: found("stop", expect.any(String)),
  });
});

test("stream reads chunks that concatenate to the answer, with usage at the end", async () => {
  let whole: AIMessageChunk | undefined;
  let text = "";
  for await (const chunk of await model.stream("What is the capital of France?")) {
    text += chunk.text;
    whole = whole?.concat(chunk) ?? chunk;
  }
  expect(text).toEqual(said(ANSWER));
  expect(whole?.content).toEqual(said(ANSWER));
  expect(whole?.usage_metadata).toMatchObject(found({ input_tokens: 15, output_tokens: 8 }, {}) as object);
});

test("a history of several roles is answered", async () => {
  const answer = await model.invoke([
    new SystemMessage("Answer in one word."),
    new HumanMessage("What is the capital of Spain?"),
    new AIMessage("Madrid"),
    new HumanMessage("What is the capital of France?"),
  ]);
  expect(answer.content).toEqual(said("Paris"));
});

test("batch answers in order", async () => {
  const answers = await model.batch(["What is the capital of Japan?", "What is 7 + 5?"]);
  expect(answers.map(({ content }) => content)).toEqual([said("The capital of Japan is Tokyo."), said("12")]);
});

test("bound tools are called, and their results answered", async () => {
  const getWeather = tool(() => "", {
    name: "get_weather",
    description: "Get the weather for a city",
    schema: z.object({ city: z.string() }),
  });
  const bound = model.bindTools([getWeather]);
  const question = new HumanMessage("What is the weather in Paris?");
  const call = await bound.invoke([question]);
  expect(call.tool_calls).toMatchObject([{ name: "get_weather", args: { city: said("Paris") } }]);
  expect(call.invalid_tool_calls).toEqual([]);
  let streamed: AIMessageChunk | undefined;
  for await (const chunk of await bound.stream([question])) streamed = streamed?.concat(chunk) ?? chunk;
  expect(streamed?.tool_calls).toMatchObject([{ name: "get_weather", args: { city: said("Paris") } }]);
  const result = new ToolMessage({
    content: '{"temperature": 21, "condition": "sunny"}',
    tool_call_id: call.tool_calls?.[0]?.id ?? "",
  });
  expect((await bound.invoke([question, call, result])).content).toEqual(
    said("It is sunny and 21 degrees in Paris."),
  );
});

test("withStructuredOutput gives objects by schema, by tool and by JSON mode", async () => {
  const person = z.object({ name: z.string(), age: z.number() });
  for (const method of ["jsonSchema", "functionCalling", "jsonMode"] as const) {
    // What keeps to a schema that the model is not told is the model's own doing.
    const told = POCKET || method !== "jsonMode";
    const schema: z.ZodType<Record<string, unknown>> = told ? person : z.looseObject({});
    const structured = model.withStructuredOutput(schema, { method, name: "person" });
    const value = await structured.invoke("Extract name and age as JSON: Bob is 42 years old.");
    const shape = told ? { name: expect.any(String), age: expect.any(Number) } : expect.any(Object);
    expect([method, value]).toEqual([method, shape]);
  }
});

test("T33 an engine that fails in the middle of a stream is thrown", async () => {
  const app = await listenTestApp();
  app.engine.script = { kind: "accept" };
  const failing = new ChatOpenAI({
    model: "tiny",
    apiKey: "none",
    maxRetries: 0,
    configuration: { baseURL: `${app.baseURL}/v1` },
  });
  const reading = (async () => {
    for await (const chunk of await failing.stream("hi")) expect(chunk.content).toBeTypeOf("string");
  })().catch((error: unknown) => error);
  await app.engine.until(() => app.engine.submits.length > 0);
  const [submit] = app.engine.submits;
  if (submit === undefined) throw new Error("nothing was submitted");
  await app.app.request("/livez", { headers: { host: "localhost" } });
  for (const [i, token] of idsOf("Hello").entries()) app.engine.step(submit, { tokens: [token] }, i === 0);
  app.engine.fail(submit, "decode_failed");
  expect(await reading).toMatchObject({ message: expect.stringContaining("failed to compute") });
  await app.close();
});
