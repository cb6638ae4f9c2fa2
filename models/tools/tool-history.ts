/** Writes tools, calls and results into messages for templates that leave them out, and puts them in order. Pure. */
import { textOf } from "../chat-template-messages.ts";
import type { TemplateMessage } from "../chat-template-messages.ts";
import { describeTools } from "./describe-tools.ts";
import { namedId } from "./probe.ts";
import type { PrintedCall, ToolFormat } from "./tool-format.ts";

/** What of a conversation a template gets to see. */
export interface ToolConversation {
  readonly messages: readonly TemplateMessage[];
  readonly tools: readonly unknown[] | undefined;
}

/** Whether a conversation has anything to do with tools. */
export function concernsTools({ messages, tools }: ToolConversation): boolean {
  return (
    (tools !== undefined && tools.length > 0) ||
    messages.some((message) => message.role === "tool" || callsOf(message).length > 0)
  );
}

/**
 * Results in the order of their calls, each with the name of its tool, as templates go by position or by name;
 * results that no call can have had, and all that the template would leave out, as text.
 * @throws {TemplateError} `template_rejected` for a result that is not text.
 */
export function shapeTools(conversation: ToolConversation, format: ToolFormat): ToolConversation {
  const { definitions, calls, severalCalls, namesInIds, results } = format.shows;
  let messages = inOrderOfCalls(conversation.messages);
  if (namesInIds) messages = withNamedIds(messages);
  if (calls && !severalCalls) messages = withSingleCalls(messages);
  if (!results) messages = resultsAsUser(messages);
  if (!calls) messages = messages.map((message) => callsAsText(message, format));
  const shaped = { messages, tools: conversation.tools };
  return definitions ? shaped : definitionsAsText(shaped, format);
}

/** The tools in a system message. */
export function definitionsAsText(
  { messages, tools }: ToolConversation,
  format: Pick<ToolFormat, "print">,
): ToolConversation {
  if (tools === undefined || tools.length === 0) return { messages, tools };
  return { messages: withSystemText(messages, describeTools(tools, format)), tools: undefined };
}

/** Results of a run of tool messages, sorted by the calls of the assistant's message before them. */
function inOrderOfCalls(messages: readonly TemplateMessage[]): TemplateMessage[] {
  const shaped: TemplateMessage[] = [];
  let calls: readonly KnownCall[] = [];
  let run: TemplateMessage[] = [];
  const settle = (): void => {
    const order = (message: TemplateMessage): number => {
      const at = calls.findIndex((call) => call.id === message["tool_call_id"]);
      return at === -1 ? calls.length : at;
    };
    const sorted = run.sort((a, b) => order(a) - order(b));
    shaped.push(...(calls.length === 0 ? resultsAsUser(sorted) : sorted));
    run = [];
  };
  for (const message of messages) {
    if (message.role === "tool") {
      const name = calls.find((call) => call.id === message["tool_call_id"])?.name;
      run.push(name === undefined || message["name"] !== undefined ? message : { ...message, name });
      continue;
    }
    settle();
    calls = callsOf(message);
    shaped.push(message);
  }
  settle();
  return shaped;
}

/** Ids from which models can tell the names, in calls and results. */
function withNamedIds(messages: readonly TemplateMessage[]): TemplateMessage[] {
  let count = 0;
  let ids = new Map<unknown, string>();
  return messages.map((message) => {
    if (message.role === "tool") {
      const id = ids.get(message["tool_call_id"]);
      return id === undefined ? message : { ...message, tool_call_id: id };
    }
    const calls = listOf(message["tool_calls"]);
    ids = new Map();
    if (calls.length === 0) return message;
    const named = calls.map((call) => {
      const called = call["function"];
      const id = namedId(isRecord(called) ? String(called["name"]) : "", count++);
      ids.set(call["id"], id);
      return { ...call, id };
    });
    return { ...message, tool_calls: named };
  });
}

/** A message for each call, followed by its result. */
export function withSingleCalls(messages: readonly TemplateMessage[]): TemplateMessage[] {
  const shaped: TemplateMessage[] = [];
  for (let index = 0; index < messages.length; index++) {
    const message = messages[index];
    if (message === undefined) break;
    const calls = listOf(message["tool_calls"]);
    if (calls.length < 2) {
      shaped.push(message);
      continue;
    }
    const end = messages.findIndex((other, at) => at > index && other.role !== "tool");
    const results = messages.slice(index + 1, end === -1 ? messages.length : end);
    for (const [place, call] of calls.entries()) {
      shaped.push({ ...message, content: place === 0 ? message.content : "", tool_calls: [call] });
      shaped.push(...results.filter((result) => result["tool_call_id"] === call["id"]));
    }
    const ids = new Set(calls.map((call) => call["id"]));
    shaped.push(...results.filter((result) => !ids.has(result["tool_call_id"])));
    index += results.length;
  }
  return shaped;
}

/** One user message for each run of results. */
export function resultsAsUser(messages: readonly TemplateMessage[]): TemplateMessage[] {
  const shaped: TemplateMessage[] = [];
  let inRun = false;
  for (const message of messages) {
    if (message.role !== "tool") {
      shaped.push(message);
      inRun = false;
      continue;
    }
    const text = `<tool_response>\n${textOf(message.content)}\n</tool_response>`;
    const previous = shaped.at(-1);
    if (inRun && previous !== undefined) {
      shaped[shaped.length - 1] = { ...previous, content: `${textOf(previous.content)}\n${text}` };
    } else shaped.push({ role: "user", content: text });
    inRun = true;
  }
  return shaped;
}

/** The calls at the end of what the assistant said. */
export function callsAsText(message: TemplateMessage, format: Pick<ToolFormat, "print">): TemplateMessage {
  const calls = callsOf(message);
  const { tool_calls: left, ...others } = message;
  if (!Array.isArray(left)) return message;
  const said = textOf(message.content);
  const separator = said === "" || calls.length === 0 ? "" : "\n";
  return { ...others, role: message.role, content: said + separator + format.print(calls) };
}

function withSystemText(messages: readonly TemplateMessage[], text: string): TemplateMessage[] {
  const [first, ...others] = messages;
  if (first?.role !== "system" && first?.role !== "developer") {
    return [{ role: "system", content: text }, ...messages];
  }
  const said = textOf(first.content);
  return [{ ...first, content: said === "" ? text : `${said}\n\n${text}` }, ...others];
}

interface KnownCall extends PrintedCall {
  readonly id: unknown;
}

/** Calls that have a function; others are left out, as there is no way to show them. */
function callsOf(message: TemplateMessage): KnownCall[] {
  return listOf(message["tool_calls"]).flatMap((call): KnownCall[] => {
    const called = call["function"];
    if (!isRecord(called)) return [];
    const given = called["arguments"];
    const json = typeof given === "string" ? given : given === undefined ? "{}" : JSON.stringify(given);
    return [{ id: call["id"], name: String(called["name"]), arguments: json }];
  });
}

function listOf(value: unknown): readonly Readonly<Record<string, unknown>>[] {
  return Array.isArray(value) ? value.filter(isRecord) : [];
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
