/** The request fields as a Markdown table for the README. */
import { ENDPOINT_FIELDS, fieldSupport } from "./request-fields.ts";
import type { DescribedEndpoint } from "./request-fields.ts";

/** What a reader has to know beyond the word; fields with a note have a row of their own. */
const NOTES: Readonly<Record<string, string>> = {
  best_of: "the best by mean log probability; not with `stream`",
  dimensions: "the first numbers, at unit length again",
  echo: "with `logprobs` and `max_tokens: 0` it scores the prompt",
  logit_bias: "ids of the model's own vocabulary; -100 bans, 100 forces",
  logprobs: "of the model's own distribution, whatever the sampling",
  modalities: '`["text"]`',
  n: "up to `--max-choices`; choice k draws with `seed` + k",
  repeat_last_n: "not together with `frequency_penalty` or `presence_penalty`",
  stop: "up to 16; never emitted unless `include_stop_str_in_output`",
  suffix: "with models that have tokens for filling in the middle",
};

const endpoints = Object.keys(ENDPOINT_FIELDS) as DescribedEndpoint[];

/** One row for each field with a note, one for all fields of the same support without. */
export function fieldTable(): string {
  const supports = endpoints.map(fieldSupport);
  const names = [...new Set(supports.flatMap((support) => [...support.keys()]))].toSorted((a, b) =>
    a < b ? -1 : 1,
  );
  const rows = new Map<string, { fields: string[]; cells: string[] }>();
  for (const name of names) {
    const cells = [...supports.map((support) => support.get(name) ?? "-"), NOTES[name] ?? ""];
    const key = cells.join("|");
    const row = rows.get(key) ?? { fields: [], cells };
    row.fields.push(`\`${name}\``);
    rows.set(key, row);
  }
  return [
    `| field | ${endpoints.join(" | ")} | |`,
    `| --- | ${endpoints.map(() => "---").join(" | ")} | --- |`,
    ...[...rows.values()].map(({ fields, cells }) => `| ${fields.join(" ")} | ${cells.join(" | ")} |`),
  ].join("\n");
}
