/** What is left of an output that is held to calls and cut off: of white space, and of several pieces at the end. */
import { expect, test } from "vitest";
import { HeldCallParser } from "../../../models/tools/cut-calls.ts";
import type { HeldCalls, ToolCallParser, ToolPiece } from "../../../models/tools/tool-format.ts";

const CALL: ToolPiece = { kind: "call", index: 0, name: "get_weather" };
const content = (text: string): ToolPiece => ({ kind: "content", text });

/** Pieces of a cut off output, of which the parser hands out some as they come and the others at the end. */
function cutOff(held: HeldCalls, coming: readonly ToolPiece[], last: readonly ToolPiece[]): ToolPiece[] {
  const parser: ToolCallParser = { push: () => [...coming], flush: () => [...last] };
  const reader = new HeldCallParser(parser, held);
  return [...reader.push("x"), ...reader.flush(false)];
}

test.each([{ atStart: true }, { atStart: false }])("white space alone begins no call: %o", (place) => {
  const held = { names: ["get_weather"], triggers: ["<tool_call>"], ...place };
  expect(cutOff(held, [], [content("\n\n")])).toEqual([content("\n\n")]);
});

test("white space that is out already does not make the beginning of a call an answer", () => {
  const held = { names: ["get_weather"], triggers: ["<tool_call>"], atStart: true };
  expect(cutOff(held, [content("\n")], [content("<tool")])).toEqual([content("\n"), CALL]);
  expect(cutOff(held, [content("1")], [content("<tool")])).toEqual([content("1"), content("<tool")]);
});

test("what comes before a call at the end is kept, and what comes behind it is markup", () => {
  const held = { names: ["get_weather"], triggers: ["<tool_call>"] };
  expect(cutOff(held, [], [content("Well: "), CALL, content("</tool")])).toEqual([content("Well: "), CALL]);
});
