/** The metrics as a Markdown table for the README: our own, since the others are named by those who read them. */
import { Metrics } from "./metrics.ts";

export function metricsTable(): string {
  const rows = new Metrics("").families
    .filter(({ name }) => name.startsWith("weft_"))
    .map(({ name, labels, help }) => `| \`${name}\` | ${labels.join(", ")} | ${help.replace(/\.$/, "")} |`);
  return ["| metric | labels | |", "| --- | --- | --- |", ...rows].join("\n");
}
