import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { describeErrorBody, parsePayload } from "../../bench/chunk.ts";

const nothing = {
  type: "chunk",
  choices: true,
  characters: 0,
  content: "",
  finishReason: undefined,
  usage: undefined,
};

describe("parsePayload", () => {
  it.each([
    {
      title: "a role chunk has choices but no characters",
      data: '{"choices":[{"delta":{"role":"assistant","content":""}}]}',
      expected: nothing,
    },
    {
      title: "content counts",
      data: '{"choices":[{"delta":{"content":"abc"}}]}',
      expected: { ...nothing, characters: 3, content: "abc" },
    },
    {
      title: "reasoning counts as output",
      data: '{"choices":[{"delta":{"content":null,"reasoning_content":"ab"}}]}',
      expected: { ...nothing, characters: 2 },
    },
    {
      title: "reasoning under both names counts once",
      data: '{"choices":[{"delta":{"reasoning_content":"ab","reasoning":"ab"}}]}',
      expected: { ...nothing, characters: 2 },
    },
    {
      title: "tool-call text counts as output",
      data: '{"choices":[{"delta":{"tool_calls":[{"function":{"name":"f","arguments":"{}"}}]}}]}',
      expected: { ...nothing, characters: 3 },
    },
    {
      title: "pieces of several calls count together, the id of one does not",
      data: '{"choices":[{"delta":{"tool_calls":[{"index":0,"id":"c1","function":{"arguments":":1}"}},{"index":1,"function":{"name":"put"}},7]}}]}',
      expected: { ...nothing, characters: 6 },
    },
    {
      title: "text of a text completion counts",
      data: '{"choices":[{"text":"hello","finish_reason":"stop"}]}',
      expected: { ...nothing, characters: 5, content: "hello", finishReason: "stop" },
    },
    {
      title: "a usage frame has no choices",
      data: '{"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":3,"prompt_tokens_details":{"cached_tokens":5}}}',
      expected: {
        ...nothing,
        choices: false,
        usage: { promptTokens: 7, outputTokens: 3, cachedTokens: 5 },
      },
    },
    {
      title: "null usage is no usage",
      data: '{"choices":[{"delta":{"content":"a"}}],"usage":null}',
      expected: { ...nothing, characters: 1, content: "a" },
    },
    {
      title: "an error object is an error",
      data: '{"error":{"message":"boom","code":500}}',
      expected: { type: "error", message: "boom" },
    },
    { title: "[DONE] ends the stream", data: "[DONE]", expected: { type: "done" } },
    { title: "text is malformed", data: "oops", expected: { type: "malformed", message: "oops" } },
    { title: "an array is malformed", data: "[1]", expected: { type: "malformed", message: "[1]" } },
  ])("$title", ({ data, expected }) => {
    expect(parsePayload(data)).toEqual(expected);
  });

  it("no text and no JSON makes it throw", () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.json()), (data) => {
        expect(["chunk", "done", "error", "malformed"]).toContain(parsePayload(data).type);
      }),
    );
  });
});

describe("describeErrorBody", () => {
  it.each([
    { body: '{"error":{"message":"model is loading","type":"x"}}', message: "model is loading" },
    { body: '{"error":"flat"}', message: "flat" },
    { body: '{"message":"bare"}', message: "bare" },
    { body: '{"detail":1}', message: '{"detail":1}' },
    { body: "<html>502</html>", message: "<html>502</html>" },
    { body: "", message: "" },
  ])("$body reads as $message", ({ body, message }) => {
    expect(describeErrorBody(body)).toBe(message);
  });

  it("a long body is cut", () => {
    expect(describeErrorBody("x".repeat(1000))).toBe(`${"x".repeat(200)}...`);
  });
});
