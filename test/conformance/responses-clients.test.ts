/** Clients that speak `/v1/responses`, with tools and structured text, on the real model. */
import { createOpenAI } from "@ai-sdk/openai";
import { generateText, Output, stepCountIs, streamText, tool } from "ai";
import { OpenAI } from "openai";
import { zodResponsesFunction, zodTextFormat } from "openai/helpers/zod";
import { OpenAI as OpenAI7 } from "openai7";
import { describe, expect, test } from "vitest";
import { z } from "zod";
import { baseURL, decidedFetch, found, MODEL, POCKET, said } from "./harness.ts";

const person = z.object({ name: z.string(), age: z.number().int() });
const BOB = { name: said("Bob"), age: found(42, expect.any(Number)) };
const place = z.object({ city: z.string() });
const EXTRACT = "Extract name and age as JSON: Bob is 42 years old.";
const ASK_WEATHER = "What is the weather in Paris?";
const SUNNY = { temperature: 21, condition: "sunny" };
/** The model does not always tell the weather right, but the temperature and the city. */
const ANSWER = /^It is \w+ and 21 degrees in Paris\.$/;

const CLIENTS: readonly (readonly [name: string, client: unknown])[] = [
  ["openai 6", OpenAI],
  ["openai 7", OpenAI7],
];

describe.each(CLIENTS)("%s", (_name, official) => {
  // What is called here has the same types in both.
  const client = new (official as typeof OpenAI)({
    baseURL,
    apiKey: "none",
    maxRetries: 0,
    fetch: decidedFetch,
  });
  const base = { model: MODEL, temperature: 0 } as const;

  test("parses structured text, whole and streamed", async () => {
    const text = { format: zodTextFormat(person, "person") };
    const parsed = await client.responses.parse({ ...base, input: EXTRACT, text });
    expect(parsed.output_parsed).toEqual(BOB);
    const streamed = await client.responses.stream({ ...base, input: EXTRACT, text }).finalResponse();
    expect(streamed.output_parsed).toEqual(BOB);
  });

  test("T40 streams a function call with its helper, and goes on with its result", async () => {
    const tools = [zodResponsesFunction({ name: "get_weather", parameters: place })];
    const stream = client.responses.stream({ ...base, input: ASK_WEATHER, tools });
    let args = "";
    for await (const event of stream) {
      if (event.type === "response.function_call_arguments.delta") args += event.delta;
    }
    const first = await stream.finalResponse();
    expect(first.output).toMatchObject([
      {
        type: "function_call",
        name: "get_weather",
        arguments: args,
        parsed_arguments: { city: said("Paris") },
      },
    ]);
    const [call] = first.output;
    const second = await client.responses.create({
      ...base,
      previous_response_id: first.id,
      tools,
      input: [
        {
          type: "function_call_output",
          call_id: call?.type === "function_call" ? call.call_id : "",
          output: JSON.stringify(SUNNY),
        },
      ],
    });
    expect(second.output_text).toEqual(said(ANSWER));
  });

  test("makes several calls, or one at most", async () => {
    const tools = [zodResponsesFunction({ name: "get_weather", parameters: place })];
    const input = "What is the weather in Paris and Rome?";
    // Other models than pocket are made to call, and then call until they are cut off.
    const several = POCKET ? {} : ({ tool_choice: "required", max_output_tokens: 200 } as const);
    const both = await client.responses.create({ ...base, input, tools, ...several });
    const types = both.output.map(({ type }) => type);
    expect(types).toEqual(
      found(["function_call", "function_call"], Array(types.length).fill("function_call")),
    );
    expect(types.length).toBeGreaterThan(0);
    const one = await client.responses.create({ ...base, input, tools, parallel_tool_calls: false });
    expect(one.output.filter(({ type }) => type === "function_call")).toHaveLength(1);
  });

  test("must call, must not call, and must call the named one", async () => {
    const tools = ["get_weather", "get_time"].map((name) =>
      zodResponsesFunction({ name, parameters: place }),
    );
    const ask = async (fields: object): Promise<unknown[]> => {
      // Pocket stops calling by itself.
      const body = { ...base, input: ASK_WEATHER, tools, parallel_tool_calls: POCKET, ...fields };
      const { output } = await client.responses.create(body);
      return output.map((item) => (item.type === "function_call" ? item.name : item.type));
    };
    expect(await ask({ input: "Hello", tool_choice: "required" })).toEqual([expect.stringMatching(/^get_/)]);
    expect(await ask({ tool_choice: "none" })).toEqual(["message"]);
    expect(await ask({ tool_choice: { type: "function", name: "get_time" } })).toEqual(["get_time"]);
    const allowed = {
      type: "allowed_tools",
      mode: "required",
      tools: [{ type: "function", name: "get_time" }],
    };
    expect(await ask({ tool_choice: allowed })).toEqual(["get_time"]);
  });

  test("gives a custom tool its plain input, held to a regular expression", async () => {
    const custom = { type: "custom", name: "pick", description: "Picks a color" } as const;
    const format = { type: "grammar", syntax: "regex", definition: "(red|green)-[0-9]{3}" } as const;
    const stream = client.responses.stream({
      ...base,
      input: "Pick a color.",
      tools: [{ ...custom, format }],
      tool_choice: { type: "custom", name: "pick" },
    });
    let input = "";
    for await (const event of stream) {
      if (event.type === "response.custom_tool_call_input.delta") input += event.delta;
    }
    expect(input).toMatch(/^(red|green)-[0-9]{3}$/);
    expect((await stream.finalResponse()).output).toMatchObject([
      { type: "custom_tool_call", name: "pick", input },
    ]);
  });
});

describe("the AI SDK's Responses model", () => {
  const model = createOpenAI({ baseURL, apiKey: "none", fetch: decidedFetch })(MODEL);
  const weather = tool({
    description: "Get the weather for a city",
    inputSchema: place,
    execute: () => Promise.resolve(SUNNY),
  });
  const ask = { model, prompt: ASK_WEATHER, temperature: 0, tools: { get_weather: weather } } as const;

  test("runs tools to the answer, whole and streamed", async () => {
    const whole = await generateText({ ...ask, stopWhen: stepCountIs(3) });
    expect([whole.text, whole.steps.length]).toEqual([said(ANSWER), 2]);
    expect(whole.steps[0]?.finishReason).toBe("tool-calls");
    const streamed = streamText({ ...ask, stopWhen: stepCountIs(3) });
    await streamed.consumeStream();
    expect([await streamed.text, (await streamed.steps).length]).toEqual([said(ANSWER), 2]);
  });

  test("T72 makes objects of a schema", async () => {
    const { output } = await generateText({
      model,
      prompt: EXTRACT,
      temperature: 0,
      output: Output.object({ schema: person }),
    });
    expect(output).toEqual(BOB);
  });
});
