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
  return {
    type: "chunk",
    choices: choices.length > 0,
    characters: choice === undefined ? 0 : outputCharacters(choice),
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

function outputCharacters(choice: Fields): number {
  const delta = fieldsOf(choice["delta"]);
  let characters =
    lengthOf(choice["text"]) +
    lengthOf(delta?.["content"]) +
    // Servers that send both names of the reasoning field send the same text twice.
    Math.max(lengthOf(delta?.["reasoning_content"]), lengthOf(delta?.["reasoning"]));
  const calls = delta?.["tool_calls"];
  if (!Array.isArray(calls)) return characters;
  for (const call of calls as readonly unknown[]) {
    const called = fieldsOf(fieldsOf(call)?.["function"]);
    characters += lengthOf(called?.["name"]) + lengthOf(called?.["arguments"]);
  }
  return characters;
}

function parseUsage(value: unknown): Usage | undefined {
  const usage = fieldsOf(value);
  if (usage === undefined) return undefined;
  return {
    promptTokens: countOf(usage["prompt_tokens"]),
    outputTokens: countOf(usage["completion_tokens"]),
    cachedTokens: countOf(fieldsOf(usage["prompt_tokens_details"])?.["cached_tokens"]),
  };
}

function errorMessage(frame: Fields): string {
  const message = fieldsOf(frame["error"])?.["message"] ?? frame["error"] ?? frame["message"] ?? frame;
  return shorten(typeof message === "string" ? message : JSON.stringify(message));
}

function fieldsOf(value: unknown): Fields | undefined {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Fields) : undefined;
}

function lengthOf(value: unknown): number {
  return typeof value === "string" ? value.length : 0;
}

function countOf(value: unknown): number | undefined {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0 ? value : undefined;
}

function shorten(text: string): string {
  return text.length <= MESSAGE_CHARACTERS ? text : `${text.slice(0, MESSAGE_CHARACTERS)}...`;
}
