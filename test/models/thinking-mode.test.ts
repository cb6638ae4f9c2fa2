import { readFileSync } from "node:fs";
import { afterAll, describe, expect, it } from "vitest";
import { ChatTemplate, TemplateRenderer } from "../../models/chat-template.ts";
import { mayThink } from "../../models/thinking-mode.ts";
import { endToken, tableOf } from "./token-tables.ts";

const renderer = new TemplateRenderer();
afterAll(() => renderer.close());

function templateOf(source: string): ChatTemplate {
  return new ChatTemplate({
    source,
    table: tableOf([endToken("<|im_end|>")]),
    bosText: "",
    eosText: "<|im_end|>",
    renderer,
  });
}

const pocket = readFileSync(new URL("../fixtures/pocket-chat-template.jinja", import.meta.url), "utf8");
/** Thinks unless it is told not to, in the way of Qwen's. */
const unlessOff =
  "{{ messages[0].content }}{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}";

describe("mayThink", () => {
  it.each([
    ["a template that is told to think", pocket, {}, false],
    ["a template that is told to think", pocket, { enable_thinking: true }, true],
    ["a template that is told to think", pocket, { enable_thinking: false }, false],
    ["a template that is told not to", unlessOff, {}, true],
    ["a template that is told not to", unlessOff, { enable_thinking: false }, false],
    ["a template that calls the switch thinking", "{% if thinking %}Think.{% endif %}</think>", {}, false],
    [
      "a template that calls the switch thinking",
      "{% if thinking %}Think.{% endif %}</think>",
      { thinking: true },
      true,
    ],
    ["a template without a switch", "{{ messages[0].content }}{# thinking #}</think>", {}, true],
    ["a template that knows no thinking", "{{ messages[0].content }}", { enable_thinking: true }, false],
  ])("of %s (%#)", async (_name, source, variables, expected) => {
    expect(await mayThink(templateOf(source), variables)).toBe(expected);
  });
});
