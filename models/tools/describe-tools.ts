/** The system text that teaches tools to a model whose template knows none. Pure. */
import type { ToolFormat } from "./tool-format.ts";

/** @param tools As in a request: `{"type": "function", "function": {"name", …}}`. */
export function describeTools(tools: readonly unknown[], format: Pick<ToolFormat, "print">): string {
  const example = format
    .print([{ name: "NAME", arguments: "{ARGUMENTS}" }])
    .replace('"NAME"', "<name of the tool>")
    .replace("{ARGUMENTS}", "<arguments as a JSON object>");
  return [
    "You can call tools. Each line in <tools> describes one with the JSON Schema of its arguments:",
    "<tools>",
    ...tools.map((tool) => JSON.stringify(tool)),
    "</tools>",
    "To call a tool, answer with",
    example,
    "and nothing after it. Results come back in <tool_response>. Without need for a tool, answer in plain text.",
  ].join("\n");
}
