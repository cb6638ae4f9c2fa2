/** Request bodies as no client means them: valid ones, changed at random places in random ways, by a seed. */

export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };

/** Uniform in [0, 1), the same for the same seed (mulberry32). */
export function seededRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Values that have broken some server: extremes, wrong types, lookalikes, names of prototypes. */
const NASTY: readonly Json[] = [
  null,
  true,
  false,
  0,
  -1,
  1,
  2,
  0.5,
  -0.5,
  1e308,
  -1e308,
  5e-324,
  2 ** 31,
  -(2 ** 31) - 1,
  2 ** 53,
  128,
  "",
  " ",
  "0",
  "null",
  "NaN",
  "auto",
  "none",
  "required",
  "any",
  "json_object",
  "json_schema",
  "function",
  "assistant",
  "tool",
  "__proto__",
  "constructor",
  "toString",
  "\u0000",
  "\ud83d",
  "\uFFFD",
  "é😀",
  "<|im_start|>system",
  "</s>",
  "{",
  '{"a":1}',
  "x".repeat(5000),
  [],
  {},
  [[]],
  [null],
  [""],
  [{}],
  [0, -1, 1e9],
  { type: "text" },
  { type: "object", properties: { a: { $ref: "#" } }, required: ["a"] },
  { anyOf: [] },
  { $ref: "#/$defs/none" },
  { type: "string", pattern: "(((a*)*)*)*b" },
  { name: "x", arguments: "{" },
  { __proto__: null, constructor: 1 },
];

const FIELD_NAMES = (
  "model messages prompt input temperature top_p top_k min_p n best_of echo suffix stop stop_token_ids seed stream " +
  "stream_options max_tokens max_completion_tokens max_output_tokens min_tokens ignore_eos logprobs top_logprobs " +
  "logit_bias tools tool_choice parallel_tool_calls functions function_call response_format text grammar guided_json " +
  "guided_choice guided_regex guided_grammar structured_outputs json_schema chat_template_kwargs reasoning_effort " +
  "reasoning reasoning_format continue_final_message add_generation_prompt prediction modalities user metadata store " +
  "role content type name tool_calls tool_call_id function arguments parameters strict previous_response_id instructions " +
  "include background encoding_format dimensions query documents tokens __proto__ constructor hasOwnProperty"
).split(" ");

/** @param random As of `seededRandom`. */
export class BodyMutator {
  readonly #random: () => number;

  constructor(random: () => number) {
    this.#random = random;
  }

  /** The JSON text of a body: changed in one to four places; now and then no JSON at all. */
  mutate(body: Json): string {
    const text = JSON.stringify(this.change(body));
    return this.#random() < 0.05 ? this.#damage(text) : text;
  }

  /** A value changed in one to four places. */
  change(body: Json): Json {
    let value = structuredClone(body);
    for (let changes = 1 + this.#below(4); changes > 0; changes--) value = this.#change(value, 0);
    return value;
  }

  pick<T>(list: readonly T[]): T {
    return list[this.#below(list.length)] as T;
  }

  #below(count: number): number {
    return Math.floor(this.#random() * count);
  }

  /** Goes down at random and changes what it comes to. */
  #change(value: Json, depth: number): Json {
    const goDown = this.#random() < (depth === 0 ? 0.95 : 0.6);
    if (Array.isArray(value) && value.length > 0 && goDown) return this.#changeArray(value, depth);
    if (typeof value === "object" && value !== null && !Array.isArray(value) && goDown) {
      return this.#changeObject(value, depth);
    }
    if (typeof value === "number" && this.#random() < 0.3) return value * this.pick([-1, 2, 1e6, 0.5]);
    if (typeof value === "string" && this.#random() < 0.3)
      return value + this.pick(["", "\u0000", "é", value]);
    return structuredClone(this.pick(NASTY));
  }

  #changeArray(value: Json[], depth: number): Json {
    const index = this.#below(value.length);
    const copy = [...value];
    const dice = this.#random();
    if (dice < 0.1) copy.splice(index, 1);
    else if (dice < 0.2) copy.splice(index, 0, structuredClone(value[index] ?? null));
    else if (dice < 0.25) copy.push(structuredClone(this.pick(NASTY)));
    else copy[index] = this.#change(value[index] ?? null, depth + 1);
    return copy;
  }

  #changeObject(value: { [key: string]: Json }, depth: number): Json {
    const keys = Object.keys(value);
    const copy = { ...value };
    const dice = this.#random();
    if (keys.length === 0 || dice < 0.25) {
      set(copy, this.pick(FIELD_NAMES), structuredClone(this.pick(NASTY)));
      return copy;
    }
    const key = this.pick(keys);
    if (dice < 0.35) delete copy[key];
    else set(copy, key, this.#change(value[key] ?? null, depth + 1));
    return copy;
  }

  #damage(text: string): string {
    const at = this.#below(text.length);
    return this.pick([
      text.slice(0, at),
      text.slice(0, at) + this.pick(["}", "]", ",", "\\", "1e999"]) + text.slice(at),
    ]);
  }
}

/** As JSON does it: `__proto__` too becomes a key. */
function set(object: { [key: string]: Json }, key: string, value: Json): void {
  Object.defineProperty(object, key, { value, enumerable: true, writable: true, configurable: true });
}
