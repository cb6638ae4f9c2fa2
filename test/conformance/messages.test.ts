/** Histories as clients really send them. */
import { afterAll, describe, expect, test } from "vitest";
import { ChatTemplate, TemplateRenderer } from "../../models/chat-template.ts";
import { sayThenStop } from "../support/scripted-engine.ts";
import { createTestApp } from "../support/test-app.ts";
import { EOS } from "../support/tiny-vocabulary.ts";
import { asking, bodyOf, chat, MODEL, POCKET, said, server, WEATHER } from "./harness.ts";
import type { Chat } from "./harness.ts";

const CALL = {
  id: "call_1",
  type: "function",
  function: { name: "get_weather", arguments: '{"city":"Paris"}' },
};
const ASKED = { role: "user", content: "What is the weather in Paris?" };
const RESULT = { role: "tool", tool_call_id: "call_1", content: '{"temperature": 21, "condition": "sunny"}' };
const SUNNY = "It is sunny and 21 degrees in Paris.";

const textOf = (answer: Chat): string | null | undefined => answer.choices[0]?.message.content;

/** The prompt that pocket's template makes of the messages. */
async function promptOf(messages: readonly object[], fields: object = {}): Promise<string> {
  const response = await server.post("/apply-template", { model: MODEL, messages, ...fields });
  return (await bodyOf<{ prompt: string }>(response)).prompt;
}

describe("tool calls in a history", () => {
  test("T19 with null, empty or absent content are rendered, and the result is answered", async () => {
    for (const content of [null, "", undefined]) {
      const messages = [ASKED, { role: "assistant", content, tool_calls: [CALL] }, RESULT];
      expect(textOf(await chat({ messages }))).toEqual(said(SUNNY));
      expect(await promptOf(messages)).toContain(
        POCKET
          ? '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>'
          : "get_weather",
      );
    }
  });

  test("of a custom tool are rendered as the model wrote them, and can be gone on from", async () => {
    const tools = [{ type: "custom", custom: { name: "note", description: "Takes a note" } }];
    const ask = { tools, tool_choice: "required", parallel_tool_calls: false };
    const [choice] = (await chat({ ...asking("Hi"), ...ask })).choices;
    const [call] = choice?.message.tool_calls ?? [];
    const input = call?.type === "custom" ? call.custom.input : undefined;
    const messages = [
      ...asking("Hi").messages,
      choice?.message ?? {},
      { role: "tool", tool_call_id: call?.id, content: "done" },
    ];
    expect(await promptOf(messages, { tools })).toContain(
      POCKET
        ? `<tool_call>\n{"name": "note", "arguments": {"input": ${JSON.stringify(input)}}}\n</tool_call>`
        : "note",
    );
    await chat({ messages, tools, max_tokens: 2 });
  });

  test("T20 that are an empty list or null are none", async () => {
    const plain = await promptOf([ASKED, { role: "assistant", content: "Sunny." }, ASKED]);
    for (const calls of [[], null]) {
      const messages = [ASKED, { role: "assistant", content: "Sunny.", tool_calls: calls }, ASKED];
      expect(await promptOf(messages)).toBe(plain);
      await chat({ messages, max_tokens: 2 });
    }
  });

  test("T21 have their arguments parsed for a template that goes through them; broken ones are kept as text", async () => {
    const messages = (text: string): object[] => [
      ASKED,
      {
        role: "assistant",
        content: null,
        tool_calls: [{ ...CALL, function: { name: "f", arguments: text } }],
      },
      RESULT,
    ];
    expect(await promptOf(messages('{"city":"Paris","n":{"a":[1]}}'))).toContain(
      POCKET ? '{"name": "f", "arguments": {"city": "Paris", "n": {"a": [1]}}}' : '"f"',
    );
    for (const broken of ['{"city":', "", "no JSON", "[1]"]) {
      expect((await chat({ messages: messages(broken), max_tokens: 4 })).choices).toHaveLength(1);
    }
    const walking = createTestApp();
    const template = new ChatTemplate({
      source:
        "{% for t in tools or [] %}{{ t | tojson }}{% endfor %}" +
        "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% if m.tool_calls %}{% for c in m.tool_calls %}" +
        `<tool_call>\n{"name": "{{ c.function.name }}", "arguments": {{ "{" }}` +
        "{% for k, v in c.function.arguments.items() %}{{ k | tojson }}: {{ v | tojson }}" +
        "{% if not loop.last %}, {% endif %}{% endfor %}{{ '}}' }}\n</tool_call>" +
        "{% endfor %}{% endif %}{% endfor %}",
      table: walking.loaded.tokens,
      bosText: "",
      eosText: "",
      renderer,
    });
    const app = createTestApp({ model: { loaded: { ...walking.loaded, template } } });
    const good = await app.post("/apply-template", { model: "tiny", messages: messages('{"city":"Paris"}') });
    const { prompt } = await bodyOf<{ prompt: string }>(good);
    expect(prompt).toContain(
      '[assistant]<tool_call>\n{"name": "f", "arguments": {"city": "Paris"}}\n</tool_call>[tool]',
    );
    const broken = await app.post("/apply-template", { model: "tiny", messages: messages("no JSON") });
    expect((await bodyOf<{ prompt: string }>(broken)).prompt).toContain("no JSON");
  });

  test("T54 may be answered under a null or unknown id", async () => {
    for (const id of [null, undefined, "call_never_made"]) {
      const messages = [
        ASKED,
        { role: "assistant", content: null, tool_calls: [CALL] },
        { ...RESULT, tool_call_id: id },
      ];
      expect(textOf(await chat({ messages }))).toEqual(said(SUNNY));
    }
  });

  test("T54 are refused in OpenAI's words where their order is wrong and the operator is strict", async () => {
    const strict = createTestApp({ config: { strictParams: true } });
    const calling = { role: "assistant", content: null, tool_calls: [CALL] };
    const stray =
      "Invalid parameter: messages with role 'tool' must be a response to a preceeding message with 'tool_calls'.";
    const unanswered =
      "An assistant message with 'tool_calls' must be followed by tool messages responding to each 'tool_call_id'. " +
      "The following tool_call_ids did not have response messages: call_1";
    const wrong: [object[], string, number][] = [
      [[ASKED, RESULT], stray, 1],
      [[ASKED, { role: "assistant", content: "?" }, ASKED, RESULT], stray, 3],
      [[ASKED, calling, { ...RESULT, tool_call_id: "call_never_made" }], stray, 2],
      [[ASKED, calling, { ...RESULT, tool_call_id: null }], stray, 2],
      [[ASKED, calling, RESULT, RESULT], stray, 3],
      [[ASKED, calling, ASKED], unanswered, 2],
      [[ASKED, calling], unanswered, 1],
    ];
    for (const [messages, message, index] of wrong) {
      const error = { message, type: "invalid_request_error", param: `messages.[${index}].role`, code: null };
      expect(await bodyOf(await strict.chat({ messages }), 400)).toEqual({ error });
      const lenient = createTestApp();
      lenient.engine.script = sayThenStop("Hello", EOS);
      expect((await lenient.chat({ messages })).status).toBe(200);
    }
    const two = { ...calling, tool_calls: [CALL, { ...CALL, id: "call_2" }] };
    strict.engine.script = sayThenStop("Hello", EOS);
    const messages = [ASKED, two, { ...RESULT, tool_call_id: "call_2" }, RESULT, ASKED];
    expect((await strict.chat({ messages })).status).toBe(200);
  });

  const renderer = new TemplateRenderer();
  afterAll(() => renderer.close());
});

describe("contents and roles", () => {
  test("T22 content parts are joined without anything between them, for every role", async () => {
    const parts = (...texts: string[]): object[] => texts.map((text) => ({ type: "text", text }));
    const split = [
      { role: "system", content: parts("Answer in ", "upper case.") },
      { role: "user", content: parts("What is the weather", " in Paris?") },
      { role: "assistant", content: parts("On", "e moment."), tool_calls: [CALL] },
      {
        role: "tool",
        tool_call_id: "call_1",
        content: parts('{"temperature": 21, ', '"condition": "sunny"}'),
      },
    ];
    const joined = [
      { role: "system", content: "Answer in upper case." },
      ASKED,
      { role: "assistant", content: "One moment.", tool_calls: [CALL] },
      RESULT,
    ];
    expect(await promptOf(split)).toBe(await promptOf(joined));
    expect((await chat({ messages: split, max_tokens: 4 })).usage?.prompt_tokens).toBe(
      (await chat({ messages: joined, max_tokens: 4 })).usage?.prompt_tokens,
    );
  });

  test("T23 the role developer and a system message in the middle are taken", async () => {
    const question = "What is the capital of France?";
    const developer = await chat({
      messages: [{ role: "developer", content: "Answer in upper case." }, ...asking(question).messages],
    });
    expect(textOf(developer)).toEqual(said("THE CAPITAL OF FRANCE IS PARIS."));
    const middle = await chat({
      messages: [
        { role: "system", content: "Answer in one word." },
        { role: "user", content: "What is the capital of Spain?" },
        { role: "assistant", content: "Madrid" },
        { role: "system", content: "Be kind." },
        ...asking(question).messages,
      ],
      max_tokens: 20,
    });
    expect(textOf(middle)).not.toBe("");
  });
});

describe("a trailing assistant message", () => {
  const begun = [
    ...asking("What is the capital of France?").messages,
    { role: "assistant", content: "The capital" },
  ];

  test("T60 is followed by a new turn, and continued without an echo when asked to", async () => {
    expect(await promptOf(begun)).toMatch(/The capital<\|im_end\|>\n<\|im_start\|>assistant\n$/);
    expect(await promptOf(begun, { continue_final_message: true })).toMatch(
      /<\|im_start\|>assistant\nThe capital$/,
    );
    const continued = await chat({ messages: begun, continue_final_message: true });
    expect(textOf(continued)).toEqual(said(" of France is Paris."));
    const prefixed = [...begun.slice(0, -1), { role: "assistant", content: "The capital", prefix: true }];
    expect(textOf(await chat({ messages: prefixed }))).toBe(textOf(continued));
  });
});

test("a chat's prompt is counted without being answered", async () => {
  const fields = { model: MODEL, ...asking("What is the weather in Paris?"), tools: [WEATHER] };
  const counted = await bodyOf<{ input_tokens: number }>(
    await server.post("/v1/chat/completions/input_tokens", fields),
  );
  expect(counted.input_tokens).toBe((await chat({ ...fields, max_tokens: 1 })).usage?.prompt_tokens);
});
