/** Which requests are taken for the same one that is sent again. */
import { expect, test } from "vitest";
import { visitorOf } from "../../engine/visitor.ts";
import { submitCommand } from "../support/engine.ts";

const command = submitCommand("a", [1, 2, 3], { maxTokens: 8 });
const text = (...parts: string[]) => ({
  ...command,
  prompt: parts.map((part) => ({ text: part, special: false })),
});

test("the same request under another id, with other draws and deadlines, is the same visitor's", () => {
  const again = {
    ...submitCommand("b", [1, 2, 3], { maxTokens: 8, ignoreEos: true }),
    firstTokenWithinMs: 5,
  };
  expect(visitorOf(again)).toBe(visitorOf(command));
});

test("another prompt, length or scope is another's, however it is divided", () => {
  const others = [
    command,
    submitCommand("a", [1, 2], { maxTokens: 8 }),
    submitCommand("a", [1, 2, 3], { maxTokens: 9 }),
    { ...command, cacheScope: "s" },
    { ...command, prompt: [{ tokens: [1] }, { tokens: [2, 3] }] },
    text("ab", "c"),
    text("a", "bc"),
    text("abc"),
    text(""),
  ];
  expect(new Set(others.map(visitorOf)).size).toBe(others.length);
});
