/** The control tokens that a tool format consists of: the output keeps their names, so that the parser sees them. */
import type { TokenTable } from "../text/token-table.ts";
import type { ToolFormat } from "./tool-format.ts";

export function keptControls(format: Pick<ToolFormat, "markup">, table: TokenTable): string[] {
  return table.controlStrings().filter((name) => format.markup.some((text) => text.includes(name)));
}
