/**
 * The events of a streamed response, and with them the response itself: a pure state machine over what the
 * generation brought. The same input gives the same events, so a finished response can be streamed again.
 */
import { isObject } from "../../http/json.ts";
import type { ChatTokenJson } from "../logprobs.ts";
import { packReasoning } from "./encrypted-reasoning.ts";
import { outputItemId } from "./items.ts";
import type { ItemStatus, OutputItem, OutputTextPart } from "./items.ts";
import type { EndEvent, OutputEvent, ResponseUsageJson } from "./output-events.ts";
import { responseJson } from "./response-object.ts";
import type { ResponseHead, ResponseJson, ResponseStatus } from "./response-object.ts";

export interface ResponseEvent {
  readonly type: string;
  readonly sequence_number: number;
  readonly [key: string]: unknown;
}

/** The item that is being written. */
type OpenItem =
  | { readonly kind: "message"; readonly id: string; text: string; readonly logprobs: ChatTokenJson[] }
  | { readonly kind: "reasoning"; readonly id: string; text: string }
  | {
      readonly kind: "call";
      readonly custom: boolean;
      readonly id: string;
      readonly callId: string;
      readonly name: string;
      text: string;
    };

type Payload = Readonly<Record<string, unknown>>;

/** White space before anything else was said is held back: around tool calls it is no message. */
interface HeldText {
  text: string;
  logprobs: ChatTokenJson[];
}

/** What OpenAI's schema asks for in any response, and its state; but for what may be long. */
const REQUIRED_KEYS = [
  "id",
  "object",
  "created_at",
  "status",
  "error",
  "incomplete_details",
  "metadata",
  "model",
  "output",
  "parallel_tool_calls",
  "temperature",
  "top_p",
  "usage",
] as const;

/**
 * A response that goes on: typed clients want all keys that it must have, and put it in the place of the one before.
 * Its instructions and tools, and a list of those allowed, are as long as the prompt may be, and they have them.
 */
function shortResponse(response: ResponseJson): object {
  const choice = response["tool_choice"];
  const required = Object.fromEntries(REQUIRED_KEYS.map((key) => [key, response[key]]));
  return {
    ...required,
    instructions: null,
    tool_choice: isObject(choice) && choice["type"] === "allowed_tools" ? choice["mode"] : choice,
    tools: [],
  };
}

export class ResponseEvents {
  readonly #head: ResponseHead;
  #sequence = 0;
  #status: ResponseStatus;
  #output: OutputItem[] = [];
  #open: OpenItem | undefined;
  #held: HeldText = { text: "", logprobs: [] };
  #usage: ResponseUsageJson | null = null;
  #error: { readonly code: string; readonly message: string } | null = null;
  #completedAt: number | null = null;
  #cutOff = false;

  constructor(head: ResponseHead) {
    this.#head = head;
    this.#status = head.background ? "queued" : "in_progress";
  }

  /** The response as far as it is written. */
  get response(): ResponseJson {
    const open = this.#open === undefined ? [] : [this.#item(this.#open, "in_progress")];
    return responseJson(this.#head, {
      status: this.#status,
      completedAt: this.#completedAt,
      error: this.#error,
      incompleteReason: this.#cutOff ? "max_output_tokens" : undefined,
      output: [...this.#output, ...open],
      usage: this.#usage,
    });
  }

  /** The number of the last event; -1 before the first. */
  get lastSequence(): number {
    return this.#sequence - 1;
  }

  /** The events before any output. A background response waits in a queue that clients are told of. */
  begin(): ResponseEvent[] {
    const { response } = this;
    const next = this.#head.background ? "response.queued" : "response.in_progress";
    return [this.#event("response.created", { response }), this.#event(next, { response })];
  }

  push(event: OutputEvent): ResponseEvent[] {
    const events = this.#push(event);
    const last = event.timings === undefined ? undefined : events.pop();
    return last === undefined ? events : [...events, { ...last, timings: event.timings }];
  }

  #push(event: OutputEvent): ResponseEvent[] {
    const started = this.#leaveQueue(event);
    switch (event.kind) {
      case "text":
        return [...started, ...this.#pushText(event.text, event.logprobs ?? [])];
      case "reasoning":
        return [...started, ...this.#openReasoning(), ...this.#pushReasoning(event.text)];
      case "call": {
        const { custom, callId, name } = event;
        const id = this.#nextId(custom ? "custom_tool_call" : "function_call");
        return [...started, ...this.#begin({ kind: "call", custom, id, callId, name, text: "" })];
      }
      case "arguments":
        return [...started, ...this.#pushArguments(event.text)];
      case "progress":
        return [
          ...started,
          this.#event("response.in_progress", { response: shortResponse(this.response), ...event.prompt }),
        ];
      case "end":
      case "failed":
      case "cancelled":
        return [...started, ...this.#finish(event)];
    }
  }

  #leaveQueue(event: OutputEvent): ResponseEvent[] {
    if (this.#status !== "queued" || event.kind === "cancelled" || event.kind === "failed") return [];
    this.#status = "in_progress";
    return [this.#event("response.in_progress", { response: this.response })];
  }

  #pushText(text: string, logprobs: readonly ChatTokenJson[]): ResponseEvent[] {
    const events: ResponseEvent[] = [];
    if (this.#open?.kind !== "message") {
      this.#held.text += text;
      this.#held.logprobs.push(...logprobs);
      if (this.#held.text.trim() === "") return [];
      events.push(...this.#openMessage());
    }
    const held = this.#held;
    this.#held = { text: "", logprobs: [] };
    const isHeld = events.length > 0;
    return [...events, ...this.#appendText(isHeld ? held : { text, logprobs: [...logprobs] })];
  }

  #openMessage(): ResponseEvent[] {
    return this.#begin({ kind: "message", id: this.#nextId("message"), text: "", logprobs: [] });
  }

  #appendText({ text, logprobs }: HeldText): ResponseEvent[] {
    const open = this.#open;
    if (open?.kind !== "message" || text === "") return [];
    open.text += text;
    open.logprobs.push(...logprobs);
    return [
      this.#event("response.output_text.delta", { ...this.#contentAt(open.id), delta: text, logprobs }),
    ];
  }

  #openReasoning(): ResponseEvent[] {
    if (this.#open?.kind === "reasoning") return [];
    return this.#begin({ kind: "reasoning", id: this.#nextId("reasoning"), text: "" });
  }

  #pushReasoning(text: string): ResponseEvent[] {
    const open = this.#open;
    if (open?.kind !== "reasoning") return [];
    open.text += text;
    return this.#head.style.summary
      ? [this.#event("response.reasoning_summary_text.delta", { ...this.#summaryAt(open.id), delta: text })]
      : [this.#event("response.reasoning_text.delta", { ...this.#contentAt(open.id), delta: text })];
  }

  #pushArguments(text: string): ResponseEvent[] {
    const open = this.#open;
    if (open?.kind !== "call" || text === "") return [];
    open.text += text;
    const type = open.custom
      ? "response.custom_tool_call_input.delta"
      : "response.function_call_arguments.delta";
    return [this.#event(type, { ...this.#itemAt(open.id), delta: text })];
  }

  #finish(event: EndEvent): ResponseEvent[] {
    const events: ResponseEvent[] = [];
    // An answer of nothing, or of white space alone, is an answer all the same.
    const silent = !this.#output.some(({ type }) => type !== "reasoning");
    if (event.kind === "end" && event.reason === "stop" && silent && isNoAnswer(this.#open)) {
      events.push(...this.#openMessage(), ...this.#appendText(this.#held));
    }
    const cut = event.kind !== "end" || event.reason === "length";
    events.push(...this.#close(cut ? "incomplete" : "completed"));
    // Of one that ended in another way OpenAI has no time.
    if (!cut) this.#completedAt = event.at;
    if (event.kind === "failed") return [...events, ...this.#fail(event.error)];
    if (event.kind === "end") this.#usage = event.usage;
    this.#cutOff = event.kind === "end" && cut;
    if (event.kind === "cancelled") this.#status = "cancelled";
    else this.#status = cut ? "incomplete" : "completed";
    // There is no event for a cancelled response; its status tells it from one that ran into a limit.
    const type = cut ? "response.incomplete" : "response.completed";
    return [...events, this.#event(type, { response: this.response })];
  }

  /** Clients look for the error in one of two shapes, or in the response. */
  #fail(error: Extract<EndEvent, { kind: "failed" }>["error"]): ResponseEvent[] {
    const { type, code, message, param } = error;
    this.#status = "failed";
    this.#error = { code: "server_error", message };
    return [
      this.#event("error", { code, message, param, error: { type, code, message, param } }),
      this.#event("response.failed", { response: this.response }),
    ];
  }

  #begin(item: OpenItem): ResponseEvent[] {
    const events = this.#close("completed");
    this.#held = item.kind === "message" ? this.#held : { text: "", logprobs: [] };
    this.#open = item;
    events.push(
      this.#event("response.output_item.added", {
        output_index: this.#output.length,
        item: this.#emptyItem(item),
      }),
    );
    if (item.kind === "message") events.push(this.#partEvent("added", item.id, outputText("", [])));
    if (item.kind === "reasoning") events.push(...this.#reasoningPart("added", item.id, ""));
    return events;
  }

  /** Ends the item that is being written. */
  #close(status: ItemStatus): ResponseEvent[] {
    const open = this.#open;
    if (open === undefined) return [];
    const events = this.#contentDone(open);
    const item = this.#item(open, status);
    events.push(this.#event("response.output_item.done", { output_index: this.#output.length, item }));
    this.#output = [...this.#output, item];
    this.#open = undefined;
    return events;
  }

  #contentDone(open: OpenItem): ResponseEvent[] {
    const { id, text } = open;
    switch (open.kind) {
      case "message": {
        const { logprobs } = open;
        const done = this.#event("response.output_text.done", { ...this.#contentAt(id), text, logprobs });
        return [done, this.#partEvent("done", id, outputText(text, logprobs))];
      }
      case "reasoning": {
        const done = this.#head.style.summary
          ? this.#event("response.reasoning_summary_text.done", { ...this.#summaryAt(id), text })
          : this.#event("response.reasoning_text.done", { ...this.#contentAt(id), text });
        return [done, ...this.#reasoningPart("done", id, text)];
      }
      case "call":
        return [
          open.custom
            ? this.#event("response.custom_tool_call_input.done", { ...this.#itemAt(id), input: text })
            : this.#event("response.function_call_arguments.done", {
                ...this.#itemAt(id),
                name: open.name,
                arguments: text,
              }),
        ];
    }
  }

  #reasoningPart(change: "added" | "done", id: string, text: string): ResponseEvent[] {
    if (!this.#head.style.summary) return [this.#partEvent(change, id, { type: "reasoning_text", text })];
    const part = { type: "summary_text", text };
    return [this.#event(`response.reasoning_summary_part.${change}`, { ...this.#summaryAt(id), part })];
  }

  #partEvent(change: "added" | "done", id: string, part: object): ResponseEvent {
    return this.#event(`response.content_part.${change}`, { ...this.#contentAt(id), part });
  }

  /** The item as it is announced, before it has any content. */
  #emptyItem(open: OpenItem): object {
    const item = this.#item(open, "in_progress");
    if (item.type === "message") return { ...item, content: [] };
    if (item.type !== "reasoning") return item;
    const { id, type, status } = item;
    return { id, type, status, summary: [], ...(this.#head.style.summary ? {} : { content: [] }) };
  }

  #item(open: OpenItem, status: ItemStatus): OutputItem {
    const { id, text } = open;
    switch (open.kind) {
      case "message":
        return { id, type: "message", status, role: "assistant", content: [outputText(text, open.logprobs)] };
      case "reasoning": {
        const packed = this.#head.style.packed ? { encrypted_content: packReasoning(text) } : {};
        return this.#head.style.summary
          ? { id, type: "reasoning", status, summary: [{ type: "summary_text", text }], ...packed }
          : {
              id,
              type: "reasoning",
              status,
              summary: [],
              content: [{ type: "reasoning_text", text }],
              ...packed,
            };
      }
      case "call": {
        const { callId: call_id, name } = open;
        return open.custom
          ? { id, type: "custom_tool_call", status, call_id, name, input: text }
          : { id, type: "function_call", status, call_id, name, arguments: text };
      }
    }
  }

  #nextId(type: OutputItem["type"]): string {
    return outputItemId(this.#head.id, type, this.#output.length + (this.#open === undefined ? 0 : 1));
  }

  #itemAt(item_id: string): Payload {
    return { item_id, output_index: this.#output.length };
  }

  #contentAt(id: string): Payload {
    return { ...this.#itemAt(id), content_index: 0 };
  }

  #summaryAt(id: string): Payload {
    return { ...this.#itemAt(id), summary_index: 0 };
  }

  #event(type: string, payload: Payload): ResponseEvent {
    return { type, ...payload, sequence_number: this.#sequence++ };
  }
}

/** The whole response that came of these events. */
export function foldResponse(head: ResponseHead, events: Iterable<OutputEvent>): ResponseJson {
  const machine = new ResponseEvents(head);
  for (const event of events) machine.push(event);
  return machine.response;
}

function isNoAnswer(open: OpenItem | undefined): boolean {
  return open === undefined || open.kind === "reasoning";
}

function outputText(text: string, logprobs: readonly ChatTokenJson[]): OutputTextPart {
  return { type: "output_text", text, annotations: [], logprobs: [...logprobs] };
}
