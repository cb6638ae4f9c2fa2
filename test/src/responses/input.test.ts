/** What reaches the template for the items that clients send, and how a wrong one is refused. */
import { describe, expect, it } from "vitest";
import { createResponsesApp, errorOf } from "./response-client.ts";

/** The messages that the template was given for this input. */
async function messagesOf(input: unknown, fields: object = {}): Promise<unknown> {
  const { answer, template } = createResponsesApp();
  await answer({ input, ...fields });
  return template.requests.at(-1)?.messages;
}

const user = (content: string): object => ({ role: "user", content });
const weather = { type: "function_call", call_id: "call_1", name: "weather", arguments: '{"city":"Rome"}' };
const weatherCall = {
  id: "call_1",
  type: "function",
  function: { name: "weather", arguments: { city: "Rome" } },
};

describe("input", () => {
  it("is a text of the user, after the instructions", async () => {
    expect(await messagesOf("hi", { instructions: "be kind" })).toEqual([
      { role: "system", content: "be kind" },
      user("hi"),
    ]);
  });

  it("T70: is items, with or without type, with content as text or as parts of any name", async () => {
    expect(
      await messagesOf([
        { role: "developer", content: "rules" },
        {
          type: "message",
          role: "user",
          content: [
            { type: "input_text", text: "a" },
            { type: "text", text: "b" },
          ],
        },
        {
          role: "assistant",
          content: [{ type: "output_text", text: "c", annotations: [] }],
          status: "completed",
        },
        { role: "assistant", content: [{ type: "input_text", text: "d" }] },
        { role: "assistant", content: [{ type: "refusal", refusal: "e" }] },
        { role: "system", content: "more", id: null },
        { role: "user", content: [] },
      ]),
    ).toEqual([
      { role: "developer", content: "rules" },
      user("ab"),
      { role: "assistant", content: "c" },
      { role: "assistant", content: "d" },
      { role: "assistant", content: "e" },
      { role: "system", content: "more" },
      user(""),
    ]);
  });

  it("joins thinking, text and calls of one turn to one message", async () => {
    const rome = { ...weather, call_id: "call_2", arguments: "{broken", id: "fc_1", status: "completed" };
    expect(
      await messagesOf([
        user("weather?"),
        { type: "reasoning", id: "rs_1", summary: [], content: [{ type: "reasoning_text", text: "hm" }] },
        { role: "assistant", content: "Let me see." },
        weather,
        rome,
        { type: "function_call_output", call_id: "call_1", output: "sunny" },
        {
          type: "function_call_output",
          call_id: "call_2",
          output: [
            { type: "input_text", text: "ra" },
            { type: "input_text", text: "in" },
          ],
        },
        { type: "reasoning", summary: [{ type: "summary_text", text: "so" }] },
        { role: "assistant", content: "It is sunny." },
      ]),
    ).toEqual([
      user("weather?"),
      {
        role: "assistant",
        content: "Let me see.",
        reasoning_content: "hm",
        tool_calls: [
          weatherCall,
          { id: "call_2", type: "function", function: { name: "weather", arguments: "{broken" } },
        ],
      },
      { role: "tool", tool_call_id: "call_1", content: "sunny" },
      { role: "tool", tool_call_id: "call_2", content: "rain" },
      { role: "assistant", content: "It is sunny.", reasoning_content: "so" },
    ]);
  });

  it("knows custom calls as calls with one text argument", async () => {
    expect(
      await messagesOf([
        { type: "custom_tool_call", call_id: "call_1", name: "patch", input: "a\nb" },
        { type: "custom_tool_call_output", call_id: "call_1", output: "done" },
      ]),
    ).toEqual([
      {
        role: "assistant",
        content: "",
        tool_calls: [
          { id: "call_1", type: "function", function: { name: "patch", arguments: { input: "a\nb" } } },
        ],
      },
      { role: "tool", tool_call_id: "call_1", content: "done" },
    ]);
  });

  it("T70: takes reasoning items that are empty, null or packed, here or elsewhere", async () => {
    const packed = Buffer.from("weft-reasoning:deep").toString("base64");
    const one = { role: "assistant", content: "x" };
    const of = (item: object): Promise<unknown> => messagesOf([{ type: "reasoning", ...item }, one]);
    const plain = [{ role: "assistant", content: "x" }];
    expect(await of({})).toEqual(plain);
    expect(await of({ id: null, summary: null, content: null, encrypted_content: null })).toEqual(plain);
    expect(await of({ id: "rs_1", summary: [], content: [], status: null })).toEqual(plain);
    expect(await of({ summary: [], encrypted_content: "gAAAAABo" })).toEqual(plain);
    expect(await of({ summary: [], encrypted_content: packed })).toEqual([
      { role: "assistant", content: "x", reasoning_content: "deep" },
    ]);
  });

  it("gets back the thinking that it packed", async () => {
    const { answer, template, engine } = createResponsesApp();
    const steps = [[5], [3], [6], [2], [3]].map((tokens) => ({ tokens }));
    engine.script = {
      kind: "answer",
      steps: [...steps, { tokens: [1], finish: { reason: "stop", stopToken: 1 } }],
    };
    const made = await answer({ store: false, include: ["reasoning.encrypted_content"] });
    const [thought, said] = made.output;
    await answer({ input: [user("hi"), { ...thought, content: undefined }, said, user("more")] });
    expect(template.requests.at(-1)?.messages).toEqual([
      user("hi"),
      { role: "assistant", content: "Hello", reasoning_content: "lo" },
      user("more"),
    ]);
  });

  it.each<readonly [name: string, input: unknown, param: string, code: string]>([
    ["nothing", undefined, "input", "missing_required_parameter"],
    ["no items", [], "input", "empty_array"],
    ["a number", 5, "input", "invalid_type"],
    ["an item that is none", ["hi"], "input[0]", "invalid_type"],
    ["T71: an unknown item", [user("x"), { type: "web_search_call" }], "input[1].type", "invalid_value"],
    ["a compaction", [{ type: "compaction" }], "input[0].type", "invalid_value"],
    ["an item of no type", [{ content: "x" }], "input[0].type", "missing_required_parameter"],
    ["a type that is no text", [{ type: 5 }], "input[0].type", "invalid_type"],
    ["no role", [{ type: "message", content: "x" }], "input[0].role", "missing_required_parameter"],
    ["an unknown role", [{ role: "boss", content: "x" }], "input[0].role", "invalid_value"],
    ["no content", [{ role: "user" }], "input[0].content", "missing_required_parameter"],
    ["content of a wrong type", [{ role: "user", content: 5 }], "input[0].content", "invalid_type"],
    [
      "an image",
      [
        {
          role: "user",
          content: [
            { type: "input_text", text: "a" },
            { type: "input_image", image_url: "x" },
          ],
        },
      ],
      "input[0].content[1].type",
      "unsupported_value",
    ],
    [
      "a file",
      [{ role: "user", content: [{ type: "input_file" }] }],
      "input[0].content[0].type",
      "unsupported_value",
    ],
    [
      "an unknown part",
      [{ role: "user", content: [{ type: "x" }] }],
      "input[0].content[0].type",
      "invalid_value",
    ],
    [
      "a part without type",
      [{ role: "user", content: [{}] }],
      "input[0].content[0].type",
      "missing_required_parameter",
    ],
    [
      "a part without text",
      [{ role: "user", content: [{ type: "input_text" }] }],
      "input[0].content[0].text",
      "missing_required_parameter",
    ],
    ["a call without name", [{ ...weather, name: undefined }], "input[0].name", "missing_required_parameter"],
    ["arguments that are no text", [{ ...weather, arguments: {} }], "input[0].arguments", "invalid_type"],
    [
      "an output without call_id",
      [{ type: "function_call_output", output: "x" }],
      "input[0].call_id",
      "missing_required_parameter",
    ],
    [
      "an output without output",
      [{ type: "function_call_output", call_id: "x" }],
      "input[0].output",
      "missing_required_parameter",
    ],
    [
      "a reference to nothing",
      [{ type: "item_reference", id: "msg_none_0" }],
      "input[0].id",
      "invalid_value",
    ],
    ["a reference to something foreign", [{ id: "msg_68af4030" }], "input[0].id", "invalid_value"],
    ["too many items", Array.from({ length: 4097 }, () => user("x")), "input", "array_above_max_length"],
  ])("refuses %s", async (_name, input, param, code) => {
    const { ask } = createResponsesApp();
    const error = await errorOf(ask({ input }));
    expect(error).toEqual({
      status: 400,
      type: "invalid_request_error",
      param,
      code,
      message: expect.any(String),
    });
  });

  it("T71: names the type it refuses", async () => {
    const { ask } = createResponsesApp();
    const { message } = await errorOf(ask({ input: [{ type: "computer_call" }] }));
    expect(message).toMatch(/^Invalid value: 'computer_call'. Supported values are: 'message', /);
  });
});
