/** The items of a response's input and output, as they are on the wire and in the store. */
import type { ChatTokenJson } from "../logprobs.ts";

export type ItemStatus = "in_progress" | "completed" | "incomplete";

export interface InputTextPart {
  readonly type: "input_text";
  readonly text: string;
}

export interface OutputTextPart {
  readonly type: "output_text";
  readonly text: string;
  readonly annotations: readonly [];
  readonly logprobs: readonly ChatTokenJson[];
}

export interface RefusalPart {
  readonly type: "refusal";
  readonly refusal: string;
}

export type ContentPart = InputTextPart | OutputTextPart | RefusalPart;

export interface MessageItem {
  readonly id: string;
  readonly type: "message";
  readonly status: ItemStatus;
  readonly role: "user" | "assistant" | "system" | "developer";
  readonly content: readonly ContentPart[];
}

export interface ReasoningItem {
  readonly id: string;
  readonly type: "reasoning";
  readonly status: ItemStatus;
  readonly summary: readonly { readonly type: "summary_text"; readonly text: string }[];
  readonly content?: readonly { readonly type: "reasoning_text"; readonly text: string }[];
  readonly encrypted_content?: string;
}

export interface FunctionCallItem {
  readonly id: string;
  readonly type: "function_call";
  readonly status: ItemStatus;
  readonly call_id: string;
  readonly name: string;
  /** JSON text. */
  readonly arguments: string;
}

export interface CustomCallItem {
  readonly id: string;
  readonly type: "custom_tool_call";
  readonly status: ItemStatus;
  readonly call_id: string;
  readonly name: string;
  readonly input: string;
}

export interface CallOutputItem {
  readonly id: string;
  readonly type: "function_call_output" | "custom_tool_call_output";
  readonly status: ItemStatus;
  readonly call_id: string;
  readonly output: string | readonly InputTextPart[];
}

export type OutputItem = MessageItem | ReasoningItem | FunctionCallItem | CustomCallItem;
export type Item = OutputItem | CallOutputItem;

/** What OpenAI's ids of each kind of item begin with. */
export const ITEM_PREFIX: Readonly<Record<Item["type"], string>> = {
  message: "msg_",
  reasoning: "rs_",
  function_call: "fc_",
  function_call_output: "fco_",
  custom_tool_call: "ctc_",
  custom_tool_call_output: "ctco_",
};

const RESPONSE_PREFIX = "resp_";

/**
 * The id of an output item. It follows from the response's id, so that a replayed stream has the same ids, and
 * the response can be found by the id of its item.
 */
export function outputItemId(responseId: string, type: OutputItem["type"], index: number): string {
  return `${ITEM_PREFIX[type]}${suffixOf(responseId)}_${index}`;
}

/** The id of an input item that came without one. */
export function inputItemId(responseId: string, type: Item["type"], index: number): string {
  return `${ITEM_PREFIX[type]}${suffixOf(responseId)}_in${index}`;
}

/** The response that an item of ours belongs to; undefined for a foreign id. */
export function responseIdOfItem(itemId: string): string | undefined {
  const suffix = /^[a-z]+_(\w+)_(?:in)?\d+$/.exec(itemId)?.[1];
  return suffix === undefined ? undefined : RESPONSE_PREFIX + suffix;
}

export const newResponseId = (ids: { next(prefix: string): string }): string => ids.next(RESPONSE_PREFIX);

function suffixOf(responseId: string): string {
  return responseId.slice(RESPONSE_PREFIX.length);
}
