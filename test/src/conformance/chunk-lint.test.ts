/** The lint of chunk streams: silent on what OpenAI sends, and one sentence for each way to break a client. */
import { describe, expect, it } from "vitest";
import { lintChunks } from "../../../src/conformance/chunk-lint.ts";

const HEAD = { id: "chatcmpl-1", object: "chat.completion.chunk", created: 1_700_000_000, model: "m" };
const USAGE = { prompt_tokens: 5, completion_tokens: 2, total_tokens: 7 };
const DONE = "data: [DONE]\n\n";
const TOOLS_FINISH = "tool_calls";

const frame = (data: object): string => `data: ${JSON.stringify(data)}\n\n`;
const chunk = (delta: object, finish: string | null = null, index = 0): object => ({
  ...HEAD,
  choices: [{ index, delta, logprobs: null, finish_reason: finish }],
});
const call = (index: number, rest: object): object => chunk({ tool_calls: [{ index, ...rest }] });
const callStart = (index: number, id = `call_${index}`): object =>
  call(index, { id, type: "function", function: { name: "get_weather", arguments: "" } });

const ROLE = chunk({ role: "assistant", content: "" });
const HEL = chunk({ content: "Hel" });
const LO = chunk({ content: "lo" });
const FINISH = chunk({}, "stop");
const USAGE_CHUNK = { ...HEAD, choices: [], usage: USAGE };
const CALL_ROLE = chunk({ role: "assistant", content: null });
const CALL_FINISH = chunk({}, TOOLS_FINISH);

const stream = (...chunks: object[]): string => chunks.map(frame).join("") + DONE;
const lint = (text: string): readonly string[] => lintChunks(text, "chat.completion.chunk");

describe("a stream that every client reads", () => {
  const good: [string, string][] = [
    ["text", stream(ROLE, HEL, LO, FINISH)],
    ["text with usage", stream(ROLE, HEL, LO, FINISH, USAGE_CHUNK)],
    ["usage null before", stream({ ...ROLE, usage: null }, { ...FINISH, usage: null }, USAGE_CHUNK)],
    ["role and text in one delta", stream(chunk({ role: "assistant", content: "Hel" }), LO, FINISH)],
    ["reasoning", stream(ROLE, chunk({ reasoning_content: "hm" }), HEL, FINISH)],
    ["a comment before the first frame", `: keep-alive\n\n${stream(ROLE, HEL, FINISH)}`],
    ["a tool call", stream(CALL_ROLE, callStart(0), call(0, { function: { arguments: "{}" } }), CALL_FINISH)],
    ["two tool calls", stream(CALL_ROLE, callStart(0), callStart(1), CALL_FINISH)],
    ["two choices", stream(ROLE, chunk({ role: "assistant" }, null, 1), FINISH, chunk({}, "length", 1))],
    [
      "an error after the first chunk",
      stream(ROLE, { error: { message: "boom", type: "server_error", param: null, code: null } }),
    ],
    ["further keys", stream({ ...ROLE, obfuscation: "abcd" }, { ...FINISH, timings: { prompt_n: 5 } })],
  ];

  it.each(good)("%s", (_name, text) => {
    expect(lint(text)).toEqual([]);
  });

  it("legacy completions, whose choices have texts", () => {
    const text = (piece: string, finish: string | null): object => ({
      ...HEAD,
      object: "text_completion",
      choices: [{ index: 0, text: piece, logprobs: null, finish_reason: finish }],
    });
    expect(lintChunks(stream(text("Hel", null), text("", "stop")), "text_completion")).toEqual([]);
    expect(lintChunks(stream(HEL, FINISH), "text_completion")).toEqual([
      'object is "chat.completion.chunk" instead of "text_completion"',
      "a choice without a text",
    ]);
  });
});

describe("a stream that some client cannot read", () => {
  const bad: [string, string, string[]][] = [
    ["nothing", "", ["the last event is not [DONE]", "no choice at all"]],
    ["no role", stream(HEL, FINISH), ["the first delta of a choice has no role"]],
    [
      "a role in every delta",
      stream(ROLE, chunk({ role: "assistant", content: "Hel" }), FINISH),
      ["a role in a later delta"],
    ],
    ["no finish reason", stream(ROLE, HEL), ["choice 0 has no finish_reason"]],
    ["an unknown finish reason", stream(ROLE, chunk({}, "eos")), ['an unknown finish_reason: "eos"']],
    ["no [DONE]", stream(ROLE, HEL, FINISH, USAGE_CHUNK).replace(DONE, ""), ["the last event is not [DONE]"]],
    [
      "data after [DONE]",
      stream(ROLE, FINISH) + frame(LO),
      ['a frame that is no JSON object: "[DONE]"', "the last event is not [DONE]"],
    ],
    [
      "a last event without its empty line",
      stream(ROLE, FINISH).trimEnd(),
      [
        "the last event does not end with an empty line",
        "the last event is not [DONE]",
        "choice 0 has no finish_reason",
      ],
    ],
    [
      "a comment between tokens",
      frame(ROLE) + ": ping\n\n" + stream(LO, FINISH),
      ["a comment between events"],
    ],
    [
      "empty data",
      frame(ROLE) + "data:\n\n" + stream(LO, FINISH),
      ['a frame that is not one data line: "data:"'],
    ],
    [
      "a retry line",
      "retry: 3000\n\n" + stream(ROLE, FINISH),
      ['a frame that is not one data line: "retry: 3000"'],
    ],
    ["an event line", "event: chunk\n" + stream(ROLE, FINISH), ['an event line: "chunk"']],
    [
      "no space after data:",
      stream(ROLE, FINISH).replace("data: {", "data:{"),
      [expect.stringContaining("not one data line") as string, "the first delta of a choice has no role"],
    ],
    [
      "carriage returns",
      stream(ROLE, FINISH).replaceAll("\n", "\r\n"),
      expect.arrayContaining(["a carriage return in the stream"]) as string[],
    ],
    ["an error key that is null", stream({ ...ROLE, error: null }), ["a key named error that is no error"]],
    ["an id that changes", stream(ROLE, { ...FINISH, id: "x" }), ["id changes during the stream"]],
    ["a time that changes", stream(ROLE, { ...FINISH, created: 1 }), ["created changes during the stream"]],
    [
      "a frame without choices",
      stream({ progress: 0.5, ...HEAD }, ROLE, FINISH),
      ["a chunk without an array of choices"],
    ],
    [
      "usage before the finish",
      stream(ROLE, USAGE_CHUNK, FINISH),
      ["a frame between the usage frame and [DONE]"],
    ],
    [
      "a number in a delta",
      stream(ROLE, chunk({ content: "Hel", num: 1 }), FINISH),
      ["delta.num is neither a string nor null"],
    ],
    ["half a character", stream(ROLE, chunk({ content: "\ud83d" }), FINISH), ["half a character in content"]],
    ["text after the finish", stream(ROLE, FINISH, LO), ["choice 0 goes on after its finish_reason"]],
    [
      "the second choice first",
      stream(chunk({ role: "assistant" }, "stop", 1), ROLE, FINISH),
      ["choice 1 begins before choice 0", "choice 0 begins before choice 1"],
    ],
    [
      "calls that begin at 1",
      stream(CALL_ROLE, callStart(1), CALL_FINISH),
      ["the indices of tool calls are not 0, 1, 2 and so on"],
    ],
    [
      "two calls with one index",
      stream(CALL_ROLE, callStart(0), callStart(0, "call_x"), CALL_FINISH),
      ["id, type or name in a later delta of a tool call"],
    ],
    [
      "a null id in a later delta of a call",
      stream(CALL_ROLE, callStart(0), call(0, { id: null, function: { arguments: "{}" } }), CALL_FINISH),
      ["id, type or name in a later delta of a tool call"],
    ],
    [
      "a call without a type",
      stream(CALL_ROLE, call(0, { id: "call_1", function: { name: "f", arguments: "{}" } }), CALL_FINISH),
      ["the first delta of a tool call has no type"],
    ],
    [
      "an empty list of calls",
      stream(ROLE, chunk({ content: "Hel", tool_calls: [] }), FINISH),
      ["tool_calls is no array of calls"],
    ],
  ];

  it.each(bad)("%s", (_name, text, problems) => {
    expect(lint(text)).toEqual(problems);
  });
});
