/** Shapes messages for templates that take less than the whole OpenAI form. Pure. */
import { TemplateError } from "./chat-template-error.ts";

export interface TemplateMessage {
  readonly role: string;
  readonly content: unknown;
  readonly [key: string]: unknown;
}

/** What a template was found to understand. */
export interface TemplateAbilities {
  /** Content as a list of parts. */
  readonly contentParts: boolean;
  /** Tool call arguments as an object; otherwise they are JSON text. */
  readonly argumentObjects: boolean;
  /** Calls only of a message whose content is null, not "". */
  readonly callsInsteadOfContent: boolean;
  /** The role `developer`; otherwise it is `system`. */
  readonly developerRole: boolean;
}

/** @throws {TemplateError} `template_rejected` for a part that is not text where only text is understood. */
export function shapeMessages(
  messages: readonly TemplateMessage[],
  abilities: TemplateAbilities,
): TemplateMessage[] {
  return messages.map((message) => {
    const shaped: Record<string, unknown> & TemplateMessage = {
      ...message,
      role: message.role === "developer" && !abilities.developerRole ? "system" : message.role,
      // Templates add strings to the content; absent means nothing was said.
      content: abilities.contentParts ? (message.content ?? "") : textOf(message.content),
    };
    if (!Array.isArray(message["tool_calls"])) return shaped;
    const calls: readonly unknown[] = message["tool_calls"];
    const content = abilities.callsInsteadOfContent && shaped.content === "" ? null : shaped.content;
    return { ...shaped, content, tool_calls: calls.map((call) => shapeCall(call, abilities)) };
  });
}

/** @throws {TemplateError} `template_rejected` for a part that is not text. */
export function textOf(content: unknown): string {
  if (typeof content === "string") return content;
  if (!Array.isArray(content))
    return content === null || content === undefined ? "" : JSON.stringify(content);
  return content
    .map((part: unknown) => {
      if (typeof part === "string") return part;
      if (isRecord(part) && typeof part["text"] === "string") return part["text"];
      const type = isRecord(part) ? String(part["type"]) : typeof part;
      throw new TemplateError(
        "template_rejected",
        `This model does not take content parts of type "${type}".`,
      );
    })
    .join("");
}

/**
 * One system message in front, for templates that refuse others: the leading ones become one, and a later one
 * goes before the text of the user message after it, else after that of the user message before it, else it
 * becomes a user message. Undefined when there is nothing to change.
 */
export function withOneSystemMessage(messages: readonly TemplateMessage[]): TemplateMessage[] | undefined {
  const firstOther = messages.findIndex((message) => message.role !== "system");
  const leading = firstOther === -1 ? messages : messages.slice(0, firstOther);
  const rest = messages.slice(leading.length);
  if (leading.length <= 1 && !rest.some((message) => message.role === "system")) return undefined;
  const [first] = leading;
  const head = first === undefined ? [] : [{ ...first, content: joinTexts(leading) }];
  return [...head, ...foldIntoUsers(rest)];
}

/** No system message at all, for templates that know none. Undefined when there is nothing to change. */
export function withoutSystemMessages(messages: readonly TemplateMessage[]): TemplateMessage[] | undefined {
  return messages.some((message) => message.role === "system") ? foldIntoUsers(messages) : undefined;
}

/**
 * User and assistant in turns, beginning with the user, for templates that refuse anything else: what one of them
 * says in several messages becomes one. Undefined when there is nothing to change.
 */
export function inTurns(messages: readonly TemplateMessage[]): TemplateMessage[] | undefined {
  const joined = joinNeighbours(messages);
  const first = joined.findIndex((message) => message.role !== "system");
  // Somebody has to ask before a greeting.
  const greets = joined[first]?.role === "assistant";
  if (!greets) return joined.length === messages.length ? undefined : joined;
  return [...joined.slice(0, first), { role: "user", content: "" }, ...joined.slice(first)];
}

/** No two plain messages of one role side by side. */
export function joinNeighbours(messages: readonly TemplateMessage[]): TemplateMessage[] {
  const joined: TemplateMessage[] = [];
  for (const message of messages) {
    const previous = joined.at(-1);
    if (previous !== undefined && previous.role === message.role && [previous, message].every(isPlain)) {
      joined[joined.length - 1] = join(previous, message);
    } else joined.push(message);
  }
  return joined;
}

function join(previous: TemplateMessage, message: TemplateMessage): TemplateMessage {
  const both = [previous, message];
  const joined = { ...previous, content: joinTexts(both) };
  const thoughts = both
    .map(({ reasoning_content: thought }) => thought)
    .filter((thought) => typeof thought === "string" && thought !== "");
  return thoughts.length === 0 ? joined : { ...joined, reasoning_content: thoughts.join("\n\n") };
}

function isPlain({ role, tool_calls: calls }: TemplateMessage): boolean {
  return role !== "tool" && !(Array.isArray(calls) && calls.length > 0);
}

function foldIntoUsers(messages: readonly TemplateMessage[]): TemplateMessage[] {
  const folded: TemplateMessage[] = [];
  let pending: TemplateMessage[] = [];
  const settle = (): void => {
    if (pending.length === 0) return;
    const previous = folded.at(-1);
    if (previous?.role === "user") {
      folded[folded.length - 1] = { ...previous, content: joinTexts([previous, ...pending]) };
    } else folded.push({ role: "user", content: joinTexts(pending) });
    pending = [];
  };
  for (const message of messages) {
    if (message.role === "system") pending.push(message);
    else if (message.role === "user" && pending.length > 0) {
      folded.push({ ...message, content: joinTexts([...pending, message]) });
      pending = [];
    } else {
      settle();
      folded.push(message);
    }
  }
  settle();
  return folded;
}

function joinTexts(messages: readonly TemplateMessage[]): string {
  return messages
    .map((message) => textOf(message.content))
    .filter((text) => text !== "")
    .join("\n\n");
}

/** Puts text behind the content of a message. */
export function withContentSuffix(message: TemplateMessage, suffix: string): TemplateMessage {
  if (!Array.isArray(message.content)) return { ...message, content: textOf(message.content) + suffix };
  const parts: readonly unknown[] = message.content;
  return { ...message, content: [...parts, { type: "text", text: suffix }] };
}

/** OpenAI sends arguments as JSON text, templates want the object. Text that is no JSON object stays as it is. */
function shapeCall(call: unknown, abilities: TemplateAbilities): unknown {
  if (!isRecord(call) || !isRecord(call["function"])) return call;
  const given = call["function"]["arguments"];
  const shaped = abilities.argumentObjects ? parsedObject(given) : jsonText(given);
  return { ...call, function: { ...call["function"], arguments: shaped } };
}

function parsedObject(value: unknown): unknown {
  if (typeof value !== "string") return value;
  try {
    const parsed: unknown = JSON.parse(value);
    return isRecord(parsed) ? parsed : value;
  } catch {
    return value;
  }
}

function jsonText(value: unknown): unknown {
  return typeof value === "string" || value === undefined ? value : JSON.stringify(value);
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
