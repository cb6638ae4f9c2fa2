/** Items as the messages that a chat template reads. */
import type { TemplateMessage } from "../../../models/chat-template.ts";
import { isObject } from "../../http/json.ts";
import { unpackReasoning } from "./encrypted-reasoning.ts";
import type { CallOutputItem, Item, MessageItem, ReasoningItem } from "./items.ts";

/** What the assistant said, thought and called in one go: several items, one message. */
interface Turn {
  content: string;
  reasoning: string;
  readonly calls: object[];
}

/** @param instructions A system message in front, undefined without one. */
export function toMessages(items: readonly Item[], instructions: string | undefined): TemplateMessage[] {
  const messages: TemplateMessage[] = [];
  if (instructions !== undefined) messages.push({ role: "system", content: instructions });
  let turn: Turn | undefined;
  const endTurn = (): void => {
    if (turn !== undefined) messages.push(turnMessage(turn));
    turn = undefined;
  };
  for (const item of items) {
    switch (item.type) {
      case "message":
        if (item.role === "assistant") {
          if (turn !== undefined && (turn.content !== "" || turn.calls.length > 0)) endTurn();
          turn ??= newTurn();
          turn.content = messageText(item);
        } else {
          endTurn();
          messages.push({ role: item.role, content: messageText(item) });
        }
        break;
      case "reasoning": {
        const text = reasoningText(item);
        if (text === "") break;
        if (turn !== undefined && (turn.content !== "" || turn.calls.length > 0)) endTurn();
        turn ??= newTurn();
        turn.reasoning += text;
        break;
      }
      case "function_call":
      case "custom_tool_call":
        turn ??= newTurn();
        turn.calls.push(callJson(item));
        break;
      case "function_call_output":
      case "custom_tool_call_output":
        endTurn();
        messages.push({ role: "tool", tool_call_id: item.call_id, content: outputText(item) });
        break;
    }
  }
  endTurn();
  return messages;
}

function newTurn(): Turn {
  return { content: "", reasoning: "", calls: [] };
}

function turnMessage({ content, reasoning, calls }: Turn): TemplateMessage {
  return {
    role: "assistant",
    content,
    ...(reasoning === "" ? {} : { reasoning_content: reasoning }),
    ...(calls.length === 0 ? {} : { tool_calls: calls }),
  };
}

function messageText({ content }: MessageItem): string {
  return content.map((part) => (part.type === "refusal" ? part.refusal : part.text)).join("");
}

/** The thoughts themselves where there are any; a summary of them is better than nothing. */
function reasoningText({ content, encrypted_content, summary }: ReasoningItem): string {
  const packed = encrypted_content === undefined ? undefined : unpackReasoning(encrypted_content);
  if (packed !== undefined) return packed;
  const parts = content ?? summary;
  return parts.map(({ text }) => text).join("\n");
}

function outputText({ output }: CallOutputItem): string {
  return typeof output === "string" ? output : output.map(({ text }) => text).join("");
}

function callJson(item: Extract<Item, { type: "function_call" | "custom_tool_call" }>): object {
  const args = item.type === "function_call" ? parsedArguments(item.arguments) : { input: item.input };
  return { id: item.call_id, type: "function", function: { name: item.name, arguments: args } };
}

/** Templates go through the arguments as an object; text that is none stays text. */
function parsedArguments(text: string): unknown {
  try {
    const parsed: unknown = JSON.parse(text);
    return isObject(parsed) ? parsed : text;
  } catch {
    return text;
  }
}
