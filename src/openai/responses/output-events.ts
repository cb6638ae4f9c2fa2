/**
 * What a generation brought, reduced to what a response is made of: plain data that can be kept, replayed and
 * written to a file.
 */
import type { TokenTable } from "../../../models/text/token-table.ts";
import type { GenerationEvent, GenerationUsage } from "../../generation-events.ts";
import { CustomInput } from "../custom-input.ts";
import { eventTimingsJson, promptProgressJson } from "../usage.ts";
import { chatLogprobs } from "../logprobs.ts";
import type { ChatTokenJson } from "../logprobs.ts";

export interface ResponseUsageJson {
  readonly input_tokens: number;
  readonly input_tokens_details: { readonly cached_tokens: number; readonly cache_write_tokens: number };
  readonly output_tokens: number;
  readonly output_tokens_details: { readonly reasoning_tokens: number };
  readonly total_tokens: number;
}

export interface FailureJson {
  readonly type: string;
  readonly code: string | null;
  readonly message: string;
  readonly param: string | null;
}

/** `at` is in Unix seconds. */
export type EndEvent =
  | {
      readonly kind: "end";
      readonly reason: "stop" | "length";
      readonly usage: ResponseUsageJson;
      readonly at: number;
    }
  | { readonly kind: "failed"; readonly error: FailureJson; readonly at: number }
  | { readonly kind: "cancelled"; readonly at: number };

type OutputPiece =
  | { readonly kind: "text"; readonly text: string; readonly logprobs?: readonly ChatTokenJson[] }
  | { readonly kind: "reasoning"; readonly text: string }
  | { readonly kind: "call"; readonly custom: boolean; readonly callId: string; readonly name: string }
  /** Of the last call: JSON text of a function's arguments, or the plain input of a custom tool. */
  | { readonly kind: "arguments"; readonly text: string }
  /** How far the prompt is, as llama.cpp tells it. */
  | { readonly kind: "progress"; readonly prompt: object }
  | EndEvent;

/** With the times so far, where each piece is to have them. */
export type OutputEvent = OutputPiece & { readonly timings?: object };

export interface OutputReaderOptions {
  readonly table: TokenTable;
  readonly logprobs: boolean;
  /** Whether pieces have the times so far. */
  readonly timed: boolean;
  /** Names of the tools whose input is plain text. */
  readonly customTools: ReadonlySet<string>;
  readonly epochSeconds: () => number;
}

/** Reads the events of one generation in order. */
export class OutputReader {
  readonly #options: OutputReaderOptions;
  /** The custom call that is being read. */
  #custom: CustomInput | undefined;

  constructor(options: OutputReaderOptions) {
    this.#options = options;
  }

  read(event: GenerationEvent): OutputEvent[] {
    const outputs = [...this.#endCustom(event), ...this.#read(event)];
    const last = this.#options.timed ? outputs.pop() : undefined;
    return last === undefined ? outputs : [...outputs, { ...last, timings: eventTimingsJson(event) }];
  }

  /** Before what follows a custom call. */
  #endCustom({ kind }: GenerationEvent): OutputEvent[] {
    if (this.#custom === undefined || kind === "prefill" || kind === "tool_arguments") return [];
    const rest = this.#custom.end();
    this.#custom = undefined;
    return argumentsEvents(rest);
  }

  #read(event: GenerationEvent): OutputEvent[] {
    switch (event.kind) {
      case "prefill":
        return [{ kind: "progress", prompt: promptProgressJson(event) }];
      case "tool_call": {
        const custom = this.#options.customTools.has(event.name);
        this.#custom = custom ? new CustomInput() : undefined;
        return [{ kind: "call", custom, callId: event.id, name: event.name }];
      }
      case "tool_arguments":
        return argumentsEvents(this.#custom === undefined ? event.text : this.#custom.push(event.text));
      case "content":
        return [
          {
            kind: "text",
            text: event.text,
            ...(this.#options.logprobs
              ? { logprobs: chatLogprobs(event.tokens, { table: this.#options.table, asIds: false }) }
              : {}),
          },
        ];
      case "reasoning":
        return [{ kind: "reasoning", text: event.text }];
      case "finish":
        return [
          {
            kind: "end",
            reason: event.reason === "length" ? "length" : "stop",
            usage: responseUsage(event.usage),
            at: this.#options.epochSeconds(),
          },
        ];
    }
  }
}

function argumentsEvents(text: string): OutputEvent[] {
  return text === "" ? [] : [{ kind: "arguments", text }];
}

function responseUsage(usage: GenerationUsage): ResponseUsageJson {
  const { promptTokens, cachedTokens, completionTokens, reasoningTokens } = usage;
  return {
    input_tokens: promptTokens,
    input_tokens_details: { cached_tokens: cachedTokens, cache_write_tokens: 0 },
    output_tokens: completionTokens,
    output_tokens_details: { reasoning_tokens: reasoningTokens },
    total_tokens: promptTokens + completionTokens,
  };
}
