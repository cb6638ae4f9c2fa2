/** Tool calls of an answer on the wire: the deltas of a stream, and the keys of a whole message. */
import type { FinishReason, GenerationEvent } from "../generation-events.ts";
import { CustomInput, customInput } from "./custom-input.ts";

/** How the client wants to be told of calls. */
export interface CallStyle {
  /** Names of custom tools, whose one argument `input` is delivered as plain text, as far as there is of it. */
  readonly custom: ReadonlySet<string>;
  /** The deprecated `function_call` instead of `tool_calls`. */
  readonly legacy: boolean;
  /** The client named the tool, which OpenAI finishes with `stop`. */
  readonly named: boolean;
}

interface Call {
  readonly id: string;
  readonly name: string;
  arguments: string;
}

/** Writes the call events of one choice as `delta` objects: mostly one, none for other events. */
export class CallDeltas {
  readonly #style: CallStyle;
  /** Of the call that is being read, if its tool is a custom one. */
  #custom: { readonly index: number; readonly input: CustomInput } | undefined;

  constructor(style: CallStyle) {
    this.#style = style;
  }

  next(event: GenerationEvent): object[] {
    switch (event.kind) {
      case "tool_call": {
        const { index, id, name } = event;
        if (this.#style.legacy) return [{ function_call: { name, arguments: "" } }];
        const ended = this.#endCustom();
        this.#custom = this.#style.custom.has(name) ? { index, input: new CustomInput() } : undefined;
        return [
          ...ended,
          callDelta(
            this.#custom === undefined
              ? { index, id, type: "function", function: { name, arguments: "" } }
              : { index, id, type: "custom", custom: { name, input: "" } },
          ),
        ];
      }
      case "tool_arguments":
        if (this.#custom !== undefined) return customDeltas(event.index, this.#custom.input.push(event.text));
        if (this.#style.legacy) return [{ function_call: { arguments: event.text } }];
        return [callDelta({ index: event.index, function: { arguments: event.text } })];
      case "finish":
        return this.#endCustom();
      case "prefill":
      case "content":
      case "reasoning":
        return [];
    }
  }

  #endCustom(): object[] {
    const custom = this.#custom;
    this.#custom = undefined;
    return custom === undefined ? [] : customDeltas(custom.index, custom.input.end());
  }
}

/** The `tool_calls` or `function_call` key of a whole message; no key without calls. */
export function callsJson(events: readonly GenerationEvent[], style: CallStyle): object {
  const calls: Call[] = [];
  for (const event of events) {
    if (event.kind === "tool_call") calls.push({ id: event.id, name: event.name, arguments: "" });
    const last = calls.at(-1);
    if (event.kind === "tool_arguments" && last !== undefined) last.arguments += event.text;
  }
  const [first] = calls;
  if (first === undefined) return {};
  if (style.legacy) return { function_call: { name: first.name, arguments: first.arguments } };
  return {
    tool_calls: calls.map(({ id, name, arguments: text }) =>
      style.custom.has(name)
        ? { id, type: "custom", custom: { name, input: customInput(text) } }
        : { id, type: "function", function: { name, arguments: text } },
    ),
  };
}

export function finishReasonJson(reason: FinishReason, style: CallStyle): string {
  if (reason !== "tool_calls") return reason;
  if (style.named) return "stop";
  return style.legacy ? "function_call" : reason;
}

function customDeltas(index: number, input: string): object[] {
  return input === "" ? [] : [callDelta({ index, custom: { input } })];
}

function callDelta(call: object): object {
  return { tool_calls: [call] };
}
