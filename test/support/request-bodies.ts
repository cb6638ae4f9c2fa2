/** Valid bodies of every endpoint, rich in fields, for whoever wants to break them. */
import type { Json } from "./body-mutator.ts";

const PARAMETERS = {
  type: "object",
  properties: {
    city: { type: "string", enum: ["Paris"] },
    days: { type: "integer", minimum: 1, maximum: 9 },
  },
  required: ["city"],
  additionalProperties: false,
};
const TOOL = {
  type: "function",
  function: { name: "get_weather", description: "d", parameters: PARAMETERS },
};
const CALL = {
  id: "call_1",
  type: "function",
  function: { name: "get_weather", arguments: '{"city":"Paris"}' },
};
const MESSAGES = [
  { role: "system", content: "Be brief." },
  { role: "user", content: [{ type: "text", text: "hi" }] },
  { role: "assistant", content: null, tool_calls: [CALL], reasoning_content: "hm" },
  { role: "tool", tool_call_id: "call_1", content: "sunny" },
  { role: "user", content: "hi", name: "bob" },
];
const SAMPLING = {
  temperature: 0.5,
  top_p: 0.9,
  top_k: 5,
  seed: 7,
  logit_bias: { "5": -100 },
  max_tokens: 20,
};
const STREAM = { stream: true, stream_options: { include_usage: true } };

export const REQUEST_BODIES: readonly (readonly [path: string, body: Json])[] = [
  ["/v1/chat/completions", { model: "tiny", messages: MESSAGES, ...SAMPLING, stop: ["END"], n: 2 }],
  ["/v1/chat/completions", { model: "tiny", messages: MESSAGES, ...STREAM, logprobs: true, top_logprobs: 2 }],
  [
    "/v1/chat/completions",
    {
      model: "tiny",
      messages: MESSAGES,
      tools: [TOOL],
      tool_choice: "auto",
      parallel_tool_calls: false,
      ...STREAM,
    },
  ],
  [
    "/v1/chat/completions",
    {
      model: "tiny",
      messages: MESSAGES,
      response_format: { type: "json_schema", json_schema: { name: "a", strict: true, schema: PARAMETERS } },
      reasoning_effort: "low",
      chat_template_kwargs: { enable_thinking: true },
    },
  ],
  [
    "/v1/completions",
    { model: "tiny", prompt: "hi", ...SAMPLING, logprobs: 2, echo: true, n: 2, best_of: 2 },
  ],
  ["/v1/completions", { model: "tiny", prompt: [5, 6, 7], ...STREAM, suffix: "x", min_tokens: 1 }],
  ["/v1/completions", { model: "tiny", prompt: "hi", lora: [{ id: 0, scale: 0.5 }, { name: "robot" }] }],
  [
    "/v1/messages",
    {
      model: "tiny",
      max_tokens: 20,
      system: [{ type: "text", text: "Be brief." }],
      messages: [
        { role: "user", content: [{ type: "text", text: "hi" }] },
        {
          role: "assistant",
          content: [
            { type: "thinking", thinking: "hm", signature: "" },
            { type: "tool_use", id: "toolu_1", name: "get_weather", input: { city: "Paris" } },
          ],
        },
        { role: "user", content: [{ type: "tool_result", tool_use_id: "toolu_1", content: "sunny" }] },
      ],
      tools: [{ name: "get_weather", description: "d", input_schema: PARAMETERS }],
      tool_choice: { type: "any", disable_parallel_tool_use: true },
      thinking: { type: "enabled", budget_tokens: 10 },
      stop_sequences: ["END"],
      stream: true,
    },
  ],
  [
    "/v1/responses",
    {
      model: "tiny",
      input: [
        { role: "user", content: [{ type: "input_text", text: "hi" }] },
        { type: "function_call", call_id: "call_1", name: "get_weather", arguments: "{}" },
        { type: "function_call_output", call_id: "call_1", output: "sunny" },
      ],
      instructions: "Be brief.",
      tools: [{ type: "function", name: "get_weather", parameters: PARAMETERS, strict: true }],
      tool_choice: "auto",
      text: { format: { type: "json_schema", name: "a", schema: PARAMETERS } },
      reasoning: { effort: "low", summary: "auto" },
      store: false,
    },
  ],
  [
    "/v1/responses",
    { model: "tiny", input: "hi", stream: true, max_output_tokens: 20, metadata: { a: "b" } },
  ],
  ["/completion", { prompt: ["a", { prompt_string: "b" }, [5]], n_predict: 9, n_probs: 2, ...STREAM }],
  [
    "/completion",
    {
      prompt: [5, "a", 6],
      n_cmpl: 2,
      logit_bias: [["a", -1]],
      timings_per_token: true,
      return_progress: true,
    },
  ],
  ["/completion", { prompt: "a", logit_bias: { a: false } }],
  [
    "/completion",
    { prompt: "hi", ...SAMPLING, logit_bias: [[5, false]], response_fields: ["content", "timings/x"] },
  ],
  [
    "/infill",
    { input_prefix: "a", input_suffix: "b", input_extra: [{ filename: "f", text: "x" }], n_predict: 0 },
  ],
  ["/v1/chat/completions/input_tokens", { model: "tiny", messages: MESSAGES, tools: [TOOL] }],
  ["/v1/embeddings", { model: "tiny", input: ["red", "blue"], encoding_format: "base64", dimensions: 4 }],
  ["/embedding", { content: ["red", [5, "blue"]], embd_normalize: 2 }],
  ["/v1/rerank", { model: "tiny", query: "red", documents: ["red", { text: "blue" }], top_n: 1 }],
  ["/rerank", { query: "red", texts: ["red", "blue"], return_text: true }],
  ["/tokenize", { model: "tiny", content: "hi", add_special: true, with_pieces: true }],
  ["/detokenize", { model: "tiny", tokens: [5, 6, 7] }],
  ["/apply-template", { model: "tiny", messages: MESSAGES }],
];
