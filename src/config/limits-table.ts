/** The limits as a Markdown table for the README. */
import { limitNames, limitOptions } from "./limits.ts";
import { environmentName } from "./options.ts";

export function limitsTable(): string {
  const rows = limitNames.map((name) => {
    const { default: byDefault, description } = limitOptions[name];
    return `| \`--${name}\` | \`${environmentName(name)}\` | ${byDefault.toLocaleString("en-US")} | ${description} |`;
  });
  return ["| flag | variable | default | |", "| --- | --- | --- | --- |", ...rows].join("\n");
}
