/** Other forms of calls and results, for templates that refuse the usual one. Pure. */
import { joinNeighbours } from "../chat-template-messages.ts";
import type { TemplateMessage } from "../chat-template-messages.ts";
import { callsAsText, definitionsAsText, resultsAsUser, withSingleCalls } from "./tool-history.ts";
import type { ToolConversation } from "./tool-history.ts";
import type { ToolFormat } from "./tool-format.ts";

type Reshape = () => ToolConversation;

/** Tried one after the other, each on top of those before it; the last one leaves nothing but text. */
export function toolReshapes({ messages, tools: given }: ToolConversation, format: ToolFormat): Reshape[] {
  const tools = given?.map(withDescriptions);
  const shortIds = (): readonly TemplateMessage[] =>
    format.shows.namesInIds ? messages : withShortIds(messages);
  const objects = (): TemplateMessage[] => withObjectArguments(shortIds());
  const single = (): TemplateMessage[] => withSingleCalls(objects());
  const forms = [
    () => messages,
    shortIds,
    objects,
    single,
    () => withoutStrayResults(single()),
    () => asText(messages, format),
  ];
  return [
    ...forms.map((form) => () => ({ messages: form(), tools })),
    // Some fail without a list of tools.
    () => ({ ...definitionsAsText({ messages: asText(messages, format), tools: given }, format), tools: [] }),
  ];
}

/** Empty descriptions where there are none, for templates that write them without looking. */
function withDescriptions(tool: unknown): unknown {
  if (!isRecord(tool) || !isRecord(tool["function"])) return tool;
  const { parameters } = tool["function"];
  const described = { description: "", ...tool["function"] };
  if (!isRecord(parameters) || !isRecord(parameters["properties"])) return { ...tool, function: described };
  const properties = Object.fromEntries(
    Object.entries(parameters["properties"]).map(([key, schema]) => [
      key,
      isRecord(schema) ? { description: "", ...schema } : schema,
    ]),
  );
  return { ...tool, function: { ...described, parameters: { ...parameters, properties } } };
}

/** Ids of nine letters and digits, which is what some templates insist on. The same id always becomes the same. */
export function withShortIds(messages: readonly TemplateMessage[]): TemplateMessage[] {
  return messages.map((message) => {
    const calls = recordsOf(message["tool_calls"]);
    const changed = calls === undefined ? message : { ...message, tool_calls: calls.map(withShortId) };
    const id = message["tool_call_id"];
    return message.role === "tool" ? { ...changed, tool_call_id: shortId(id) } : changed;
  });
}

function withShortId(call: Readonly<Record<string, unknown>>): Readonly<Record<string, unknown>> {
  return { ...call, id: shortId(call["id"]) };
}

const ID_LENGTH = 9;

function shortId(id: unknown): string {
  const text = typeof id === "string" ? id : JSON.stringify(id ?? "");
  if (/^[a-zA-Z0-9]{9}$/.test(text)) return text;
  // FNV-1a; 36 to the 6 is below 2 to the 32.
  const hash = (seed: number): string => {
    let value = seed;
    for (let index = 0; index < text.length; index++) {
      value = Math.imul(value ^ text.charCodeAt(index), 0x01000193) >>> 0;
    }
    return value.toString(36).padStart(7, "0");
  };
  return (hash(0x811c9dc5) + hash(0x9747b28c)).slice(-ID_LENGTH);
}

/** Arguments that are no JSON object become the one entry of an object. */
function withObjectArguments(messages: readonly TemplateMessage[]): TemplateMessage[] {
  return messages.map((message) => {
    const calls = recordsOf(message["tool_calls"]);
    if (calls === undefined) return message;
    return { ...message, tool_calls: calls.map(withObjectArgument) };
  });
}

function withObjectArgument(call: Readonly<Record<string, unknown>>): Readonly<Record<string, unknown>> {
  const called = call["function"];
  if (!isRecord(called)) return call;
  const given = called["arguments"];
  const usable = isRecord(given) || (typeof given === "string" && isObjectText(given));
  if (usable) return call;
  const nothing = given === undefined || given === null || given === "";
  return { ...call, function: { ...called, arguments: nothing ? {} : { arguments: given } } };
}

function isObjectText(text: string): boolean {
  try {
    return isRecord(JSON.parse(text));
  } catch {
    return false;
  }
}

/** Results without a call of theirs before them become what the user says. */
function withoutStrayResults(messages: readonly TemplateMessage[]): TemplateMessage[] {
  let ids: ReadonlySet<unknown> = new Set();
  return messages.flatMap((message) => {
    if (message.role === "assistant") {
      ids = new Set((recordsOf(message["tool_calls"]) ?? []).map((call) => call["id"]));
    } else if (message.role !== "tool") ids = new Set();
    else if (!ids.has(message["tool_call_id"])) return resultsAsUser([message]);
    return [message];
  });
}

/** Nothing but text, and no two messages of one role side by side. */
function asText(messages: readonly TemplateMessage[], format: ToolFormat): TemplateMessage[] {
  return joinNeighbours(resultsAsUser(messages.map((message) => callsAsText(message, format))));
}

function recordsOf(value: unknown): readonly Readonly<Record<string, unknown>>[] | undefined {
  return Array.isArray(value) ? value.filter(isRecord) : undefined;
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
