/** The AI SDK over chat completions, with its OpenAI-compatible and its OpenAI provider. */
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { APICallError, generateObject, generateText, stepCountIs, streamObject, streamText, tool } from "ai";
import { describe, expect, test } from "vitest";
import { z } from "zod";
import { listenTestApp } from "../support/listen.ts";
import { idsOf } from "../support/tiny-vocabulary.ts";
import { baseURL, decidedFetch, found, MODEL, POCKET, said, thinkingFetch, thinkingURL } from "./harness.ts";

const compatible = createOpenAICompatible({
  name: "weft",
  baseURL,
  apiKey: "none",
  includeUsage: true,
  supportsStructuredOutputs: true,
  fetch: decidedFetch,
});
const openai = createOpenAI({ baseURL, apiKey: "none", fetch: decidedFetch });
const providers = [
  { name: "openai-compatible", model: compatible(MODEL) },
  { name: "openai, chat", model: openai.chat(MODEL) },
  { name: "openai, Responses", model: openai(MODEL) },
];

const FRANCE = {
  prompt: "What is the capital of France?",
  temperature: 0,
  maxRetries: 0,
  maxOutputTokens: 40,
};
const END = found("stop", expect.any(String));
const USAGE = found({ inputTokens: 15, outputTokens: 8 }, { inputTokens: expect.any(Number) }) as object;
const BOB = { name: said("Bob"), age: found(42, expect.any(Number)) };
const ANSWER = "The capital of France is Paris.";
const SUNNY = "It is sunny and 21 degrees in Paris.";

describe.each(providers)("$name", ({ model }) => {
  test("generates a text with its usage", async () => {
    const { text, finishReason, usage } = await generateText({ model, ...FRANCE });
    expect([text, finishReason]).toEqual([said(ANSWER), END]);
    expect(usage).toMatchObject(USAGE);
  });

  test("streams a text with its usage", async () => {
    const result = streamText({ model, ...FRANCE });
    let text = "";
    for await (const delta of result.textStream) text += delta;
    expect([text, await result.finishReason]).toEqual([said(ANSWER), END]);
    expect(await result.usage).toMatchObject(USAGE);
  });

  test("takes system and history", async () => {
    const { text } = await generateText({
      model,
      temperature: 0,
      maxOutputTokens: 40,
      system: "Answer in upper case.",
      messages: [{ role: "user", content: "What is the capital of France?" }],
    });
    expect(text).toEqual(said("THE CAPITAL OF FRANCE IS PARIS."));
  });

  test("is told of a limit", async () => {
    const { finishReason } = await generateText({ model, ...FRANCE, maxOutputTokens: 3 });
    expect(finishReason).toBe("length");
  });

  test("raises a refusal with its message", async () => {
    const failure = generateText({ model, ...FRANCE, temperature: 9 });
    const error: unknown = await failure.catch((thrown: unknown) => thrown);
    expect(APICallError.isInstance(error)).toBe(true);
    expect(error).toMatchObject({ statusCode: 400, message: expect.stringContaining("temperature") });
  });
});

describe.each(providers)("tools and objects with $name", ({ model }) => {
  test("calls a tool, is given its result, and ends with a text, streamed and not", async () => {
    const asked: unknown[] = [];
    const tools = {
      get_weather: tool({
        description: "Get the weather for a city",
        inputSchema: z.object({ city: z.string(), unit: z.enum(["celsius", "fahrenheit"]).optional() }),
        execute: (input) => {
          asked.push(input);
          return '{"temperature": 21, "condition": "sunny"}';
        },
      }),
    };
    const ask = {
      model,
      temperature: 0,
      tools,
      prompt: "What is the weather in Paris?",
      stopWhen: stepCountIs(3),
    };
    const whole = await generateText(ask);
    const streamed = streamText(ask);
    expect([whole.text, await streamed.text]).toEqual([said(SUNNY), said(SUNNY)]);
    expect(whole.steps.map(({ finishReason }) => finishReason)).toEqual(["tool-calls", END]);
    const paris = { city: said("Paris") };
    expect(asked).toMatchObject([paris, paris]);
  });

  test("generates and streams an object of a schema", async () => {
    const schema = z.object({ name: z.string(), age: z.number().int() });
    const ask = {
      model,
      schema,
      temperature: 0,
      prompt: "Extract name and age as JSON: Bob is 42 years old.",
    };
    expect((await generateObject(ask)).object).toEqual(BOB);
    const streamed = streamObject(ask);
    const parts: unknown[] = [];
    for await (const part of streamed.partialObjectStream) parts.push(part);
    expect(parts.at(-1)).toEqual(BOB);
    expect(parts.length).toBeGreaterThan(2);
  });
});

test("the compatible provider generates an object without sending its schema", async () => {
  const model = createOpenAICompatible({ name: "weft", baseURL, apiKey: "none" })(MODEL);
  // What keeps to a schema that the model is not told is the model's own doing.
  const schema = POCKET ? z.object({ name: z.string(), age: z.number() }) : z.looseObject({});
  const prompt = "Extract name and age as JSON: Bob is 42 years old.";
  const { object } = await generateObject({ model, schema, temperature: 0, prompt, maxRetries: 0 });
  expect(object).toEqual(found(BOB, expect.any(Object)));
});

test("the Responses provider shows reasoning as a summary when it was asked for", async () => {
  const { text, reasoningText } = await generateText({
    model: createOpenAI({ baseURL: thinkingURL, apiKey: "none", fetch: thinkingFetch })(MODEL),
    prompt: "What is 7 + 5?",
    temperature: 0,
    providerOptions: { openai: { reasoningEffort: "high", reasoningSummary: "auto", forceReasoning: true } },
  });
  // The provider sends no temperature to a model that reasons, so the sum is drawn; where each text goes is not.
  expect(reasoningText?.trim()).toMatch(/^\S/);
  expect(text).not.toContain("<think>");
  expect(text).not.toContain(reasoningText?.trim());
});

test("the compatible provider shows reasoning apart from the text", async () => {
  const thinking = { name: "weft", baseURL: thinkingURL, apiKey: "none", fetch: thinkingFetch };
  const { reasoningText, text } = await generateText({
    model: createOpenAICompatible(thinking)(MODEL),
    prompt: "What is 7 + 5?",
    temperature: 0,
    providerOptions: { weft: { chat_template_kwargs: { enable_thinking: true } } },
  });
  expect(reasoningText).toMatch(/\S/);
  expect(text).toMatch(/\S/);
  expect(text).not.toContain("<think>");
  if (!POCKET) return;
  // What is cached decides the last bits of an F16 model, and with them, at times, its sum; not where each text goes.
  const [, sum] = /^7 \+ 5 = (\d+)\.$/.exec(reasoningText?.trim() ?? "") ?? [];
  expect(sum).toBeDefined();
  expect(text.trim()).toBe(sum);
});

test("T33 an engine that fails in the middle of a stream is an error part, and the finish says so", async () => {
  const app = await listenTestApp();
  app.engine.script = { kind: "accept" };
  const model = createOpenAICompatible({ name: "weft", baseURL: `${app.baseURL}/v1`, apiKey: "none" })(
    "tiny",
  );
  const kinds: string[] = [];
  const result = streamText({ model, prompt: "hi", maxRetries: 0, onError: () => {} });
  const reading = (async () => {
    for await (const { type } of result.fullStream) kinds.push(type);
  })();
  await app.engine.until(() => app.engine.submits.length > 0);
  const [submit] = app.engine.submits;
  if (submit === undefined) throw new Error("nothing was submitted");
  await app.app.request("/livez", { headers: { host: "localhost" } });
  for (const [i, token] of idsOf("Hello").entries()) app.engine.step(submit, { tokens: [token] }, i === 0);
  app.engine.fail(submit, "decode_failed");
  await reading;
  expect(kinds).toContain("error");
  expect(await result.finishReason).toBe("error");
  await app.close();
});
