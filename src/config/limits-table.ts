/** The limits as a Markdown table for the README. */
import { limitNames, limitOptions } from "./limits.ts";
import type { OptionSpec } from "./option-spec.ts";
import { environmentName } from "./options.ts";

export function limitsTable(): string {
  const rows = limitNames.map((name) => {
    const { kind, default: byDefault, description }: OptionSpec<number, number> = limitOptions[name];
    const shown = kind.show?.(byDefault) ?? byDefault.toLocaleString("en-US");
    return `| \`--${name}\` | \`${environmentName(name)}\` | ${shown} | ${description} |`;
  });
  return ["| flag | variable | default | |", "| --- | --- | --- | --- |", ...rows].join("\n");
}
