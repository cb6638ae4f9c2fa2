/** The built server with the pocket model: tools, formats and thinking, with answers that were observed without a grammar. */
import { readFileSync } from "node:fs";
import OpenAI from "openai";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startServer } from "../support/server.ts";
import type { RunningServer } from "../support/server.ts";

interface ToolPrompt {
  readonly name: string;
  readonly messages: OpenAI.ChatCompletionMessageParam[];
  readonly tools?: OpenAI.ChatCompletionFunctionTool[];
  readonly options: { readonly temperature: number; readonly max_tokens: number };
  readonly expected: string;
  readonly completion_tokens: number;
}

const prompts = readFileSync("test/fixtures/pocket-prompts.jsonl", "utf8")
  .trim()
  .split("\n")
  .map((line) => JSON.parse(line) as ToolPrompt);
const withTools = prompts.filter(({ tools }) => tools !== undefined);
const [weather] = withTools;
const weatherTools = weather?.tools ?? [];

let server: RunningServer;
let client: OpenAI;

beforeAll(async () => {
  server = await startServer("--slots", "4", "--context", "1024");
  client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: "none", maxRetries: 0 });
});
afterAll(() => server.stop());

/** The calls that a text in the model's own syntax makes, as name and JSON text. */
function callsIn(text: string): { name: string; arguments: string }[] {
  return [...text.matchAll(/<tool_call>\n\{"name": "(\w+)", "arguments": (.*)\}\n<\/tool_call>/g)].map(
    ([, name = "", args = ""]) => ({ name, arguments: args }),
  );
}

function callsOf(message: OpenAI.ChatCompletionMessage | undefined): { name: string; arguments: string }[] {
  return (message?.tool_calls ?? []).flatMap((call) => (call.type === "function" ? [call.function] : []));
}

const question = (content: string): OpenAI.ChatCompletionMessageParam[] => [{ role: "user", content }];

/** Sends fields that the client's types do not know, too. */
async function ask(content: string, fields: object) {
  const body = { model: "pocket", messages: question(content), temperature: 0, max_tokens: 200, ...fields };
  const response = await server.post("/v1/chat/completions", body);
  const json = (await response.json()) as OpenAI.ChatCompletion & { error?: unknown };
  expect([response.status, json.error]).toEqual([200, undefined]);
  const [choice] = json.choices;
  const thought = (choice?.message as { reasoning_content?: string } | undefined)?.reasoning_content;
  return {
    choice,
    text: choice?.message.content,
    calls: callsOf(choice?.message),
    thought,
    usage: json.usage,
  };
}

describe("known answers with tools", () => {
  test("there are prompts to ask", () => {
    expect(withTools.length).toBeGreaterThan(10);
  });

  test.each(withTools)("$name is answered exactly, whole and streamed", async (prompt) => {
    const { messages, tools, options, expected } = prompt;
    const body = { model: "pocket", messages, tools: tools ?? [], ...options };
    const calls = callsIn(expected);
    const whole = await client.chat.completions.create(body);
    const [choice] = whole.choices;
    expect({
      calls: callsOf(choice?.message),
      text: choice?.message.content,
      finish: choice?.finish_reason,
      tokens: whole.usage?.completion_tokens,
    }).toEqual({
      calls,
      text: calls.length === 0 ? expected : null,
      finish: calls.length === 0 ? "stop" : "tool_calls",
      tokens: prompt.completion_tokens,
    });
    const streamed = await client.chat.completions.stream(body).finalChatCompletion();
    expect(callsOf(streamed.choices[0]?.message)).toEqual(calls);
    expect(streamed.choices[0]?.message.content ?? "").toBe(calls.length === 0 ? expected : "");
  });
});

describe("a choice of tools", () => {
  test("required makes a call of what would be an answer", async () => {
    const { calls, choice } = await ask("Say hello, do not call tools.", {
      tools: weatherTools,
      tool_choice: "required",
    });
    expect(calls.length).toBeGreaterThanOrEqual(1);
    for (const call of calls) {
      expect(call.name).toBe("get_weather");
      expect(JSON.parse(call.arguments)).toMatchObject({ city: expect.any(String) });
    }
    expect(choice?.finish_reason).toBe("tool_calls");
  });

  test("a named tool is called once, and finishes with stop", async () => {
    const tools = [...weatherTools, { type: "function", function: { name: "get_time" } }];
    const { calls, text, choice } = await ask("What is the weather in Paris?", {
      tools,
      tool_choice: { type: "function", function: { name: "get_time" } },
    });
    expect(calls).toEqual([{ name: "get_time", arguments: "{}" }]);
    expect([text, choice?.finish_reason]).toEqual([null, "stop"]);
  });

  test("none neither calls nor writes the syntax of a call", async () => {
    const { calls, text } = await ask("What is the weather in Paris?", {
      tools: weatherTools,
      tool_choice: "none",
    });
    expect(calls).toEqual([]);
    expect(text).toEqual(expect.not.stringContaining("tool_call"));
  });

  test("without parallel calls two cities get one call", async () => {
    const fields = { tools: weatherTools, parallel_tool_calls: false };
    expect((await ask("What is the weather in Paris and Rome?", fields)).calls).toHaveLength(1);
  });

  test("a call that the limit cuts off is delivered as far as it went", async () => {
    const { calls, choice } = await ask("What is the weather in Paris?", {
      tools: weatherTools,
      max_tokens: 12,
    });
    expect(choice?.finish_reason).toBe("length");
    expect(weather?.expected).toContain(calls[0]?.arguments ?? "nothing");
  });

  test("a schema answer is still possible beside calls", async () => {
    const schema = {
      type: "object",
      properties: { name: { type: "string" }, age: { type: "integer" } },
      required: ["name", "age"],
      additionalProperties: false,
    };
    const { calls, text } = await ask("Reply in JSON with name and age: Alice, 30", {
      tools: weatherTools,
      response_format: { type: "json_schema", json_schema: { name: "person", strict: true, schema } },
    });
    if (calls.length === 0)
      expect(JSON.parse(text ?? "")).toEqual({ name: expect.any(String), age: expect.any(Number) });
    else expect(JSON.parse(calls[0]?.arguments ?? "")).toMatchObject({ city: expect.any(String) });
  });
});

describe("a format of the answer", () => {
  test("json_object gives the JSON that the model would have given, and ends with it", async () => {
    const { text, choice, usage } = await ask("Reply in JSON with name and age: Alice, 30", {
      response_format: { type: "json_object" },
    });
    expect([text, choice?.finish_reason]).toEqual(['{"name": "Alice", "age": 30}', "stop"]);
    expect(usage?.completion_tokens).toBe(13);
  });

  test("json_object makes an object of anything", async () => {
    const { text, choice } = await ask("Tell me a story about a fox.", {
      response_format: { type: "json_object" },
      max_tokens: 500,
    });
    if (choice?.finish_reason === "stop") expect(JSON.parse(text ?? "")).toEqual(expect.any(Object));
    else expect(text).toMatch(/^\{/);
  });

  test("a strict schema is held", async () => {
    const schema = {
      type: "object",
      properties: { city: { type: "string", maxLength: 10 }, size: { enum: ["small", "large"] } },
      required: ["city", "size"],
      additionalProperties: false,
    };
    const { text, choice } = await ask("What is the capital of France?", {
      response_format: { type: "json_schema", json_schema: { name: "city", strict: true, schema } },
    });
    expect(choice?.finish_reason).toBe("stop");
    expect(JSON.parse(text ?? "")).toEqual({
      city: expect.stringMatching(/^.{0,10}$/su),
      size: expect.stringMatching(/^(small|large)$/),
    });
  });

  test("a schema is held behind free thinking", async () => {
    const schema = { type: "object", properties: { sum: { type: "integer" } }, required: ["sum"] };
    const { text, thought } = await ask("What is 7 + 5?", {
      chat_template_kwargs: { enable_thinking: true },
      response_format: { type: "json_schema", json_schema: { name: "sum", schema } },
    });
    expect(thought).toBe("7 + 5 = 12.");
    expect(JSON.parse(text ?? "")).toMatchObject({ sum: expect.any(Number) });
  });

  test.each([
    [{ guided_choice: ["Rome", "Madrid"] }, /^(Rome|Madrid)$/],
    [{ guided_regex: "[A-Z][a-z]{2,6}!" }, /^[A-Z][a-z]{2,6}!$/],
    [{ structured_outputs: { choice: ["Rome"] } }, /^Rome$/],
    [{ grammar: 'root ::= "Paris" "!"{3}' }, /^Paris!!!$/],
  ])("%j is held", async (fields, pattern) => {
    const { text, choice } = await ask("What is the capital of France?", fields);
    expect(choice?.finish_reason).toBe("stop");
    expect(text).toMatch(pattern);
  });
});

describe("thinking", () => {
  const thinking = { chat_template_kwargs: { enable_thinking: true } };

  test("is left out when asked, and still counted", async () => {
    const { text, thought, usage } = await ask("What is 7 + 5?", { ...thinking, include_reasoning: false });
    expect([text, thought]).toEqual(["12", undefined]);
    expect(usage?.completion_tokens_details?.reasoning_tokens).toBeGreaterThan(0);
  });

  test("stays in the answer with reasoning_format none", async () => {
    const { text, thought } = await ask("What is 7 + 5?", { ...thinking, reasoning_format: "none" });
    expect([text, thought]).toEqual(["<think>\n7 + 5 = 12.\n</think>\n\n12", undefined]);
  });

  test("is switched on in OpenRouter's words", async () => {
    expect((await ask("What is 7 + 5?", { reasoning: { enabled: true } })).thought).toBe("7 + 5 = 12.");
  });

  test("is ended when it takes too long, and the answer comes behind it", async () => {
    const { text, thought, choice, usage } = await ask("What is 3 + 4 + 5?", {
      ...thinking,
      thinking_budget_tokens: 4,
    });
    expect(choice?.finish_reason).toBe("stop");
    expect("3 + 4 = 7. 7 + 5 = 12.").toContain(thought);
    expect(thought).not.toBe("3 + 4 = 7. 7 + 5 = 12.");
    expect(text).not.toContain("think>");
    expect(usage?.completion_tokens_details?.reasoning_tokens).toBeLessThan(15);
  });
});
