/** The chat templates of the fixtures, for tests of tool formats. */
import { readFileSync, readdirSync } from "node:fs";
import { ChatTemplate } from "../../../models/chat-template.ts";
import type { TemplateRenderer } from "../../../models/chat-template.ts";
import { controlToken, endToken, tableOf, textToken } from "../token-tables.ts";

const FIXTURES = new URL("../../fixtures/", import.meta.url);

const table = tableOf([
  ...["<s>", "<|im_start|>", "[TOOL_CALLS]", "<｜tool▁sep｜>", "<|tool_call|>"].map((name) =>
    controlToken(name),
  ),
  ...[
    "</s>",
    "<|im_end|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<｜end▁of▁sentence｜>",
    "<|call|>",
    "<|END_OF_TURN_TOKEN|>",
  ].map((name) => endToken(name)),
  textToken("a"),
]);

/** Names of the files, and of the two templates that belong to models. */
export const TEMPLATE_NAMES: readonly string[] = [
  "pocket",
  "smollm2",
  ...readdirSync(new URL("templates/", FIXTURES))
    .map((file) => file.replace(".jinja", ""))
    .sort(),
];

export function templateOf(name: string, renderer: TemplateRenderer): ChatTemplate {
  const file = ["pocket", "smollm2"].includes(name)
    ? `${name}-chat-template.jinja`
    : `templates/${name}.jinja`;
  return templateWith(readFileSync(new URL(file, FIXTURES), "utf8"), renderer);
}

export function templateWith(source: string, renderer: TemplateRenderer): ChatTemplate {
  return new ChatTemplate({ source, table, bosText: "<s>", eosText: "</s>", renderer });
}
