import { describe, expect, it } from "vitest";
import {
  joinNeighbours,
  shapeMessages,
  textOf,
  withOneSystemMessage,
  withoutSystemMessages,
} from "../../models/chat-template-messages.ts";
import type { TemplateMessage } from "../../models/chat-template-messages.ts";

const message = (role: string, content: unknown): TemplateMessage => ({ role, content });
const all = { contentParts: true, argumentObjects: true, developerRole: true, callsInsteadOfContent: false };
const none = {
  contentParts: false,
  argumentObjects: false,
  developerRole: false,
  callsInsteadOfContent: false,
};

function brief(messages: readonly TemplateMessage[] | undefined): string[] | undefined {
  return messages?.map(({ role, content }) => `${role}: ${String(content)}`);
}

describe("shapeMessages", () => {
  it("leaves everything to a template that understands everything, but absent content", () => {
    const parts = [{ type: "text", text: "a" }];
    expect(shapeMessages([message("developer", parts), message("assistant", null)], all)).toEqual([
      { role: "developer", content: parts },
      { role: "assistant", content: "" },
    ]);
  });

  it("joins text parts without a separator for a template that takes strings", () => {
    const parts = [{ type: "text", text: "a " }, "b", { type: "input_text", text: "c" }];
    expect(shapeMessages([message("user", parts)], none)).toEqual([{ role: "user", content: "a bc" }]);
  });

  it("makes the developer the system for a template that does not know the role", () => {
    expect(shapeMessages([message("developer", "d")], none)).toEqual([{ role: "system", content: "d" }]);
  });

  it("gives tool call arguments in the form that the template takes", () => {
    const call = (given: unknown) => ({ id: "1", function: { name: "f", arguments: given } });
    const given = (value: unknown, abilities: typeof all): unknown =>
      shapeMessages([{ role: "assistant", content: "", tool_calls: [call(value)] }], abilities);
    const expected = (value: unknown) => [{ role: "assistant", content: "", tool_calls: [call(value)] }];
    expect(given('{"a":1}', all)).toEqual(expected({ a: 1 }));
    expect(given('{"a":', all)).toEqual(expected('{"a":'));
    expect(given("[1]", all)).toEqual(expected("[1]"));
    expect(given('{"a":1}', none)).toEqual(expected('{"a":1}'));
    expect(given({ a: 1 }, none)).toEqual(expected('{"a":1}'));
  });
});

describe("textOf", () => {
  it("refuses a part without text and names its type", () => {
    expect(() => textOf([{ type: "input_audio" }])).toThrow('content parts of type "input_audio"');
    expect(() => textOf([3])).toThrow('content parts of type "number"');
  });
});

describe("withOneSystemMessage", () => {
  it("merges the leading ones and moves a later one to the user message after it", () => {
    const messages = [
      message("system", "A"),
      message("system", "B"),
      message("user", "1"),
      message("assistant", "2"),
      message("system", "C"),
      message("user", "3"),
    ];
    expect(brief(withOneSystemMessage(messages))).toEqual([
      "system: A\n\nB",
      "user: 1",
      "assistant: 2",
      "user: C\n\n3",
    ]);
  });

  it("moves one that no user message follows to the one before, else makes it a user message", () => {
    const [system, user, assistant] = [
      message("system", "S"),
      message("user", "U"),
      message("assistant", "A"),
    ];
    expect(brief(withOneSystemMessage([user, system, assistant]))).toEqual(["user: U\n\nS", "assistant: A"]);
    expect(brief(withOneSystemMessage([user, assistant, system]))).toEqual([
      "user: U",
      "assistant: A",
      "user: S",
    ]);
  });

  it("has nothing to change in a conversation with one leading system message", () => {
    expect(withOneSystemMessage([message("system", "S"), message("user", "U")])).toBeUndefined();
    expect(withOneSystemMessage([])).toBeUndefined();
  });
});

describe("joinNeighbours", () => {
  it("joins what one of them has thought as well", () => {
    const thought = (content: string, reasoning: unknown): TemplateMessage => ({
      ...message("assistant", content),
      reasoning_content: reasoning,
    });
    const join = (...messages: TemplateMessage[]): TemplateMessage[] =>
      joinNeighbours([message("user", "U"), ...messages]).slice(1);
    expect(join(thought("1", "A"), thought("2", "B"))).toEqual([thought("1\n\n2", "A\n\nB")]);
    expect(join(message("assistant", "1"), thought("2", "B"))).toEqual([thought("1\n\n2", "B")]);
    expect(join(thought("1", "A"), thought("2", ""))).toEqual([thought("1\n\n2", "A")]);
    expect(join(message("assistant", "1"), message("assistant", "2"))).toEqual([
      message("assistant", "1\n\n2"),
    ]);
  });
});

describe("withoutSystemMessages", () => {
  it("puts the system message before the first user message's text", () => {
    expect(brief(withoutSystemMessages([message("system", "S"), message("user", "U")]))).toEqual([
      "user: S\n\nU",
    ]);
    expect(withoutSystemMessages([message("user", "U")])).toBeUndefined();
  });
});
