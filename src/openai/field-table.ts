/** The request fields as a Markdown table for the README. */
import { ENDPOINT_FIELDS, fieldSupport } from "./request-fields.ts";
import type { DescribedEndpoint } from "./request-fields.ts";

const CALLS =
  "held by a grammar, streamed as they are generated; custom tools with text or a regular expression";
const FORMATS =
  "thinking stays free; what of a schema cannot be held is a 400 when strict, else listed in `x-weft-ignored-params`";
const GRAMMAR = "GBNF, behind free thinking";
const ORDER =
  "order: bias and DRY, penalties, top-k, top-p, min-p, XTC, temperature; at a temperature above 0 and up to 0.85 without top-k, top-p, min-p, XTC and `post_sampling_probs`, tokens are left out that have less than a 2048th of the likeliest one's chance all together";
const PENALTIES = "over generated tokens only";
const DRY = "over prompt and output alike; `dry_penalty_last_n: -1` looks at all of it";
const XTC = "drawn from the seed, also at temperature 0";
const OFF = "not there: only the value that turns it off is taken, every other one refused by name";
const BUDGET = "thinking that uses up its budget is ended, and the answer goes on";

/** What a reader has to know beyond the word; fields with the same note and support share a row. */
const NOTES: Readonly<Record<string, string>> = {
  adaptive_target: OFF,
  best_of: "the best by mean log probability; not with `stream`; of chats only 1",
  cache_salt: "requests of other salts reuse nothing of this one, nor it of theirs",
  dimensions: "the first numbers, at unit length again",
  dry_allowed_length: DRY,
  dry_base: DRY,
  dry_multiplier: DRY,
  dry_penalty_last_n: DRY,
  dry_sequence_breakers: DRY,
  echo: "with `logprobs` and `max_tokens: 0` it scores the prompt",
  frequency_penalty: PENALTIES,
  function_call: "deprecated name of `tool_choice`",
  functions: "deprecated name of `tools`",
  grammar: GRAMMAR,
  guided_choice: FORMATS,
  guided_grammar: GRAMMAR,
  allowed_token_ids: "nothing else is drawn; the end of the answer neither, unless it is among them",
  truncate_prompt_tokens:
    "so many of the prompt's, or of each input's, last tokens are read, with -1 as many as fit; not with `echo`, `suffix` or `/infill`",
  bad_words: "as the tokenizer writes them, at the beginning and behind a space",
  guided_json: FORMATS,
  guided_regex: FORMATS,
  json_schema: FORMATS,
  logit_bias: "ids of the model's own vocabulary; -100 bans, 100 forces",
  logprobs:
    "of the model's own distribution, whatever the sampling; completions show up to 20 alternatives, where OpenAI's show 5",
  lora: "adapters by `id` or `name`, with `scale`, in place of those that `model` names; those of `GET /lora-adapters`",
  max_output_tokens: "also less than the 16 that OpenAI asks for at least",
  min_p: ORDER,
  modalities: '`["text"]`',
  n_probs: "llama.cpp's way to ask for `logprobs` with so many alternatives",
  n_predict: "llama.cpp's name of `max_tokens`, which goes before it",
  n: "up to `--max-choices`; choice k draws with `seed` + k",
  parallel_tool_calls: CALLS,
  prediction:
    "followed by its text, whatever tokens the model writes it in, and checked several tokens at a time (`--speculation`) where that takes less time than one after the other, which it does not with a model as small as `pocket`; `usage` counts what of it came true in a step and what did not, `timings` all guesses",
  post_sampling_probs: "`/completion` and `/infill` know it",
  presence_penalty: PENALTIES,
  prompt_cache_retention:
    "`24h` keeps the computed prompt before others that are as dear to compute and not used all the time, less so as its day goes by, in its slot or in `--spill-size`; `in_memory` like any. It is a preference and no promise, as with OpenAI (24 hours at most): what is used more, or the death of an engine, may end it before. What the operator pins holds (`--pin-prompt`)",
  priority:
    "`high`, `normal`, `low`, `background`, or vLLM's numbers: lower goes first, 0 is normal; no higher than the key may have, else it is listed in `x-weft-ignored-params`",
  prompt_logprobs: "of each token of the prompt, in vLLM's shape; not with `stream`",
  reasoning_format: "`<think>` blocks become `reasoning_content`",
  repeat_last_n: "not together with `frequency_penalty` or `presence_penalty`",
  repeat_penalty: PENALTIES,
  repetition_penalty: PENALTIES,
  response_format: FORMATS,
  return_progress:
    "llama.cpp's `prompt_progress` in a stream: as the prompt begins, with each part of it, and when it is computed",
  stop: "up to 16 texts or token ids; never emitted unless `include_stop_str_in_output`",
  stream_options: "`include_usage`, `continuous_usage_stats`",
  structured_outputs: FORMATS,
  suffix: "with models that have tokens for filling in the middle",
  temperature: ORDER,
  verbose: "llama.cpp's `__verbose`, with the prompt and the answer as the model read and wrote them",
  thinking_budget_tokens: BUDGET,
  thinking_token_budget: BUDGET,
  tool_choice: CALLS,
  tools: CALLS,
  top_k: ORDER,
  top_p: ORDER,
  dynatemp_range: OFF,
  length_penalty: OFF,
  mirostat: OFF,
  top_n_sigma: OFF,
  typ_p: OFF,
  typical_p: OFF,
  use_beam_search: OFF,
  xtc_probability: XTC,
  xtc_threshold: XTC,
};

const endpoints = Object.keys(ENDPOINT_FIELDS) as DescribedEndpoint[];

/** One row for all fields of the same support and note. */
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
