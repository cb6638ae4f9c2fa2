/** Questions to the server of the suite, with every stream that comes back read as bytes and linted. */
import type OpenAI from "openai";
import { expect, inject } from "vitest";
import { lintChunks } from "../../src/conformance/chunk-lint.ts";
import { lintResponseEvents } from "../../src/conformance/response-events-lint.ts";
import { readSse } from "../../src/conformance/sse-grammar.ts";
import { serverAt } from "../support/server.ts";

export const MODEL = inject("serverModel");
/**
 * Of another model than this it is not known what it says; then only the shape of its answers is looked at, and what
 * the model itself would have to decide (to call a tool, to end a loop, to think) is asked for by the request.
 */
export const POCKET = MODEL === "pocket";
export const server = serverAt(inject("serverUrl"));
export const baseURL = `${server.url}/v1`;
/** Whose model thinks. */
export const thinkingServer = serverAt(inject("thinkingUrl"));
export const thinkingURL = `${thinkingServer.url}/v1`;

export type Chat = OpenAI.ChatCompletion;
export type ChatChunk = OpenAI.ChatCompletionChunk;
type Fields = Readonly<Record<string, unknown>>;

/** For `toEqual` and its like: the words of pocket; any text of another model. */
export function said(words: string | RegExp): unknown {
  return POCKET ? expect.stringMatching(wordsPattern(words)) : expect.any(String);
}

/** As `said`, of what is no text. */
export function found(value: unknown, shape: unknown): unknown {
  return POCKET ? value : shape;
}

function wordsPattern(words: string | RegExp): RegExp {
  if (typeof words !== "string") return words;
  return new RegExp(`^${words.replaceAll(/[$()*+.?[\\\]^{|}]/g, "\\$&")}$`);
}

/** Other models call a tool when they like, and as often; then it is the request that says so. */
export const MUST_CALL = POCKET ? {} : { tool_choice: "required", parallel_tool_calls: false };

/** Other models than pocket are made to end their thoughts, and to say something afterwards. */
export const SHORT_THOUGHT = POCKET ? {} : { thinking_token_budget: 16, min_tokens: 40 };

/** For clients that run tools: of another model than pocket the request says when it calls: once, until there is a result. */
export const decidedFetch: typeof fetch = changed((body) => {
  const limit = Object.hasOwn(body, "input") ? "max_output_tokens" : "max_tokens";
  const history = JSON.stringify(body["messages"] ?? body["input"]);
  const answered = /"role":"tool"|"type":"function_call_output"/.test(history);
  const choice = { tool_choice: answered ? "none" : "required", parallel_tool_calls: false };
  const free = Object.hasOwn(body, "tools") && (body["tool_choice"] ?? "auto") === "auto";
  return { [limit]: 100, ...body, ...(free ? choice : {}) };
});

/** For clients that show reasoning: of another model than pocket the request says how long it thinks. */
export const thinkingFetch: typeof fetch = changed((body) => ({ ...body, ...SHORT_THOUGHT }));

function changed(change: (body: Fields) => Fields): typeof fetch {
  if (POCKET) return fetch;
  return (input, init) =>
    fetch(
      input,
      typeof init?.body === "string"
        ? { ...init, body: JSON.stringify(change(JSON.parse(init.body) as Fields)) }
        : init,
    );
}

/** Bounds what a slow model spends on an answer; pocket comes to its own end. */
const BRIEF = POCKET ? {} : { max_tokens: 100 };

/** A user's question as the whole history. */
export function asking(content: string): { readonly messages: OpenAI.ChatCompletionMessageParam[] } {
  return { messages: [{ role: "user", content }] };
}

export const WEATHER = {
  type: "function",
  function: {
    name: "get_weather",
    description: "Get the weather for a city",
    parameters: {
      type: "object",
      properties: {
        city: { type: "string" },
        unit: { type: "string", enum: ["celsius", "fahrenheit"] },
      },
      required: ["city"],
    },
  },
} as const;

export const TIME = {
  type: "function",
  function: {
    name: "get_time",
    description: "Get the current time",
    parameters: { type: "object", properties: { timezone: { type: "string" } }, required: ["timezone"] },
  },
} as const;

/** @returns The body of an answer that must have the status. */
export async function bodyOf<T>(response: Response, status = 200): Promise<T> {
  const text = await response.text();
  expect([response.status, text.slice(0, 1000)]).toEqual([status, expect.anything()]);
  expect(response.headers.get("content-type")).toBe("application/json");
  return JSON.parse(text) as T;
}

/** A whole answer; greedy unless told otherwise. */
export async function chat(fields: Fields, from = server): Promise<Chat> {
  const body = { model: MODEL, temperature: 0, ...BRIEF, ...fields };
  return bodyOf<Chat>(await from.post("/v1/chat/completions", body));
}

export interface Recording<T> {
  /** The bytes of the body. */
  readonly text: string;
  /** Without `[DONE]`. */
  readonly chunks: readonly T[];
}

export type ChatRecording = Recording<ChatChunk> & {
  readonly content: string;
  readonly finish: string | null | undefined;
};

/** A faultless chat stream, read to its end. */
export async function chatStream(fields: Fields, from = server): Promise<ChatRecording> {
  const body = { model: MODEL, temperature: 0, stream: true, ...BRIEF, ...fields };
  const text = await streamText(await from.post("/v1/chat/completions", body));
  expect(lintChunks(text, "chat.completion.chunk")).toEqual([]);
  const chunks = dataOf<ChatChunk>(text);
  const choices = chunks.flatMap((chunk) => chunk.choices);
  return {
    text,
    chunks,
    content: choices.map(({ delta }) => delta.content ?? "").join(""),
    finish: choices.findLast(({ finish_reason }) => finish_reason !== null)?.finish_reason,
  };
}

/** A faultless stream of a legacy completion. */
export async function completionStream(
  fields: Fields,
): Promise<Recording<OpenAI.Completion> & { readonly content: string }> {
  const body = { model: MODEL, temperature: 0, stream: true, ...fields };
  const text = await streamText(await server.post("/v1/completions", body));
  expect(lintChunks(text, "text_completion")).toEqual([]);
  const chunks = dataOf<OpenAI.Completion>(text);
  return { text, chunks, content: chunks.map(({ choices }) => choices[0]?.text ?? "").join("") };
}

/** A faultless stream of `/v1/responses`. */
export async function responseStream(
  fields: Fields,
): Promise<Recording<OpenAI.Responses.ResponseStreamEvent>> {
  const limit = POCKET ? {} : { max_output_tokens: 100 };
  const body = { model: MODEL, temperature: 0, stream: true, ...limit, ...fields };
  const text = await streamText(await server.post("/v1/responses", body));
  expect(lintResponseEvents(text)).toEqual([]);
  return { text, chunks: dataOf(text) };
}

async function streamText(response: Response): Promise<string> {
  const text = await response.text();
  expect([response.status, text.slice(0, 300)]).toEqual([200, expect.anything()]);
  expect(response.headers.get("content-type")).toBe("text/event-stream; charset=utf-8");
  return text;
}

/** The data of each event but `[DONE]`. */
export function dataOf<T>(text: string): T[] {
  return readSse(text)
    .events.filter(({ data }) => data !== "[DONE]")
    .map(({ data }) => JSON.parse(data) as T);
}

export interface StreamedCall {
  readonly id: string;
  readonly name: string;
  readonly arguments: string;
}

/** The calls that the deltas of a stream add up to, in the order of their indices. */
export function callsOf({ chunks }: ChatRecording): readonly StreamedCall[] {
  const calls: { id: string; name: string; arguments: string }[] = [];
  for (const { choices } of chunks) {
    for (const { index, id, function: own } of choices[0]?.delta.tool_calls ?? []) {
      const call = (calls[index] ??= { id: id ?? "", name: own?.name ?? "", arguments: "" });
      call.arguments += own?.arguments ?? "";
    }
  }
  return calls;
}

/** The function calls of a whole answer. */
export function functionCalls(answer: Chat): readonly StreamedCall[] {
  return (answer.choices[0]?.message.tool_calls ?? []).flatMap((call) =>
    call.type === "function" ? [{ id: call.id, ...call.function }] : [],
  );
}
