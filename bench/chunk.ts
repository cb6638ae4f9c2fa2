/**
 * What one SSE payload of a chat or text completion says to a benchmark: text, choices, end, usage or error.
 *
 * Reads the fields of both endpoints and of every reasoning dialect; anything it does not know is ignored,
 * and no input throws.
 */

export interface Usage {
  readonly promptTokens: number | undefined;
  readonly outputTokens: number | undefined;
  readonly cachedTokens: number | undefined;
  /** Tokens of the request's `prediction` that came true. */
  readonly acceptedTokens?: number | undefined;
}

export type Payload =
  | { readonly type: "done" }
  | { readonly type: "error"; readonly message: string }
  | { readonly type: "malformed"; readonly message: string }
  | {
      readonly type: "chunk";
      /** Whether `choices` is non-empty: what vLLM's benchmark counts as a token. */
      readonly choices: boolean;
      /** Characters of content, reasoning and tool-call arguments. */
      readonly characters: number;
      /** Of a chat's message or of a text completion, without reasoning. */
      readonly content: string;
      readonly finishReason: string | undefined;
      readonly usage: Usage | undefined;
    };

type Fields = Readonly<Record<string, unknown>>;

/** Longest stretch of a foreign message that goes into a report. */
const MESSAGE_CHARACTERS = 200;

export function parsePayload(data: string): Payload {
  if (data.trim() === "[DONE]") return { type: "done" };
  let parsed: unknown;
  try {
    parsed = JSON.parse(data);
  } catch {
    return { type: "malformed", message: shorten(data) };
  }
  const frame = fieldsOf(parsed);
  if (frame === undefined) return { type: "malformed", message: shorten(data) };
  if (frame["error"] !== undefined && frame["error"] !== null) {
    return { type: "error", message: errorMessage(frame) };
  }
  const choices = Array.isArray(frame["choices"]) ? (frame["choices"] as readonly unknown[]) : [];
  const choice = fieldsOf(choices[0]);
  const finish = choice?.["finish_reason"];
  const delta = fieldsOf(choice?.["delta"]);
  const content = textOf(choice?.["text"]) + textOf(delta?.["content"]);
  return {
    type: "chunk",
    choices: choices.length > 0,
    characters: content.length + reasoningCharacters(delta) + callCharacters(delta?.["tool_calls"]),
    content,
    finishReason: typeof finish === "string" ? finish : undefined,
    usage: parseUsage(frame["usage"]),
  };
}

/** The message of an OpenAI error body, or the start of whatever came instead. */
export function describeErrorBody(body: string): string {
  try {
    const frame = fieldsOf(JSON.parse(body));
    if (frame !== undefined) return errorMessage(frame);
  } catch {
    // Proxies answer in HTML or plain text: shown as it is.
  }
  return shorten(body);
}

/** Servers that send both names of the field send the same text twice. */
function reasoningCharacters(delta: Fields | undefined): number {
  return Math.max(textOf(delta?.["reasoning_content"]).length, textOf(delta?.["reasoning"]).length);
}

/** Of their names and arguments. */
function callCharacters(calls: unknown): number {
  if (!Array.isArray(calls)) return 0;
  let characters = 0;
  for (const call of calls as readonly unknown[]) {
    const called = fieldsOf(fieldsOf(call)?.["function"]);
    characters += textOf(called?.["name"]).length + textOf(called?.["arguments"]).length;
  }
  return characters;
}

function parseUsage(value: unknown): Usage | undefined {
  const usage = fieldsOf(value);
  if (usage === undefined) return undefined;
  const accepted = countOf(fieldsOf(usage["completion_tokens_details"])?.["accepted_prediction_tokens"]);
  return {
    promptTokens: countOf(usage["prompt_tokens"]),
    outputTokens: countOf(usage["completion_tokens"]),
    cachedTokens: countOf(fieldsOf(usage["prompt_tokens_details"])?.["cached_tokens"]),
    ...(accepted === undefined ? {} : { acceptedTokens: accepted }),
  };
}

function errorMessage(frame: Fields): string {
  const message = fieldsOf(frame["error"])?.["message"] ?? frame["error"] ?? frame["message"] ?? frame;
  return shorten(typeof message === "string" ? message : JSON.stringify(message));
}

function fieldsOf(value: unknown): Fields | undefined {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Fields) : undefined;
}

function textOf(value: unknown): string {
  return typeof value === "string" ? value : "";
}

function countOf(value: unknown): number | undefined {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0 ? value : undefined;
}

function shorten(text: string): string {
  return text.length <= MESSAGE_CHARACTERS ? text : `${text.slice(0, MESSAGE_CHARACTERS)}...`;
}
