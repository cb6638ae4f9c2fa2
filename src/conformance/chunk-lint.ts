/** Judges the recorded stream of a chat or legacy completion against what OpenAI's clients rely on. */
import { isObject } from "../http/json.ts";
import { hasHalfCharacter, jsonObject } from "./json-text.ts";
import type { Json } from "./json-text.ts";
import { readSse, shorten } from "./sse-grammar.ts";

export type ChunkKind = "chat.completion.chunk" | "text_completion";

const FINISH_REASONS: ReadonlySet<unknown> = new Set([
  "stop",
  "length",
  "tool_calls",
  "content_filter",
  "function_call",
]);

/** What was seen of one choice. */
interface ChoiceState {
  finished: boolean;
  calls: number;
}

/**
 * @param text The whole body of the response.
 * @returns One sentence for each thing that some client cannot read; empty for a faultless stream.
 */
export function lintChunks(text: string, kind: ChunkKind): readonly string[] {
  const reading = readSse(text);
  const linter = new ChunkLinter(kind);
  const { events } = reading;
  for (const { event, data } of events.slice(0, -1)) {
    if (event !== undefined) linter.report(`an event line: ${shorten(event)}`);
    linter.take(data);
  }
  if (events.at(-1)?.data !== "[DONE]") linter.report("the last event is not [DONE]");
  linter.end();
  return [...reading.problems, ...linter.problems];
}

class ChunkLinter {
  readonly problems: string[] = [];
  readonly #kind: ChunkKind;
  readonly #choices = new Map<number, ChoiceState>();
  #head: Json | undefined;
  #over: "usage" | "error" | undefined;

  constructor(kind: ChunkKind) {
    this.#kind = kind;
  }

  report(problem: string): void {
    // A fault repeats in every chunk; once is enough.
    if (!this.problems.includes(problem)) this.problems.push(problem);
  }

  take(data: string): void {
    const chunk = jsonObject(data);
    if (chunk === undefined) return this.report(`a frame that is no JSON object: ${shorten(data)}`);
    if (this.#over !== undefined) this.report(`a frame between the ${this.#over} frame and [DONE]`);
    if (Object.hasOwn(chunk, "error")) return this.#takeError(chunk["error"]);
    this.#takeHead(chunk);
    const { choices } = chunk;
    if (!Array.isArray(choices)) return this.report("a chunk without an array of choices");
    for (const choice of choices as unknown[]) this.#takeChoice(choice);
    if (choices.length > 0) return;
    if (isUsage(chunk["usage"])) this.#over = "usage";
    else this.report("a chunk without choices that carries no usage");
  }

  end(): void {
    if (this.#over === "error") return;
    if (this.#choices.size === 0) this.report("no choice at all");
    for (const [index, { finished }] of this.#choices) {
      if (!finished) this.report(`choice ${index} has no finish_reason`);
    }
  }

  #takeError(error: unknown): void {
    this.#over = "error";
    if (!isObject(error)) return this.report("a key named error that is no error");
    for (const key of ["message", "type", "param", "code"]) {
      if (!Object.hasOwn(error, key)) this.report(`an error without ${key}`);
    }
  }

  #takeHead(chunk: Json): void {
    const { id, object, created, model } = chunk;
    if (object !== this.#kind) this.report(`object is ${JSON.stringify(object)} instead of "${this.#kind}"`);
    if (typeof id !== "string" || id === "") this.report("a chunk without an id");
    if (!Number.isInteger(created)) this.report("created is no whole number of seconds");
    if (typeof model !== "string" || model === "") this.report("a chunk without a model");
    this.#head ??= chunk;
    for (const key of ["id", "created", "model"]) {
      if (chunk[key] !== this.#head[key]) this.report(`${key} changes during the stream`);
    }
  }

  #takeChoice(choice: unknown): void {
    if (!isObject(choice)) return this.report("a choice that is no object");
    const { index, finish_reason: finish } = choice;
    if (typeof index !== "number") return this.report("a choice without an index");
    const known = this.#choices.get(index);
    if (known === undefined && index !== this.#choices.size) {
      this.report(`choice ${index} begins before choice ${this.#choices.size}`);
    }
    const state = known ?? { finished: false, calls: 0 };
    this.#choices.set(index, state);
    if (state.finished) this.report(`choice ${index} goes on after its finish_reason`);
    if (this.#kind === "text_completion") this.#takeText(choice["text"]);
    else this.#takeDelta(choice["delta"], state, known === undefined);
    if (finish === null || finish === undefined) {
      if (finish === undefined) this.report("a choice without the key finish_reason");
      return;
    }
    if (!FINISH_REASONS.has(finish)) this.report(`an unknown finish_reason: ${JSON.stringify(finish)}`);
    state.finished = true;
  }

  #takeText(text: unknown): void {
    if (typeof text !== "string") return this.report("a choice without a text");
    this.#checkText(text, "text");
  }

  #takeDelta(delta: unknown, state: ChoiceState, first: boolean): void {
    if (!isObject(delta)) return this.report("a choice without a delta");
    if (first && delta["role"] !== "assistant") this.report("the first delta of a choice has no role");
    if (!first && Object.hasOwn(delta, "role")) this.report("a role in a later delta");
    for (const [key, value] of Object.entries(delta)) {
      if (typeof value === "string") this.#checkText(value, key);
      else if (value !== null && key !== "tool_calls" && key !== "function_call") {
        // Python's helper adds numbers up and cannot merge objects.
        this.report(`delta.${key} is neither a string nor null`);
      }
    }
    const calls = delta["tool_calls"];
    if (calls === undefined) return;
    if (!Array.isArray(calls) || calls.length === 0) return this.report("tool_calls is no array of calls");
    for (const call of calls as unknown[]) this.#takeCall(call, state);
  }

  #takeCall(call: unknown, state: ChoiceState): void {
    if (!isObject(call)) return this.report("a tool call that is no object");
    const { index, id, type } = call;
    const own: Json = isObject(call["function"]) ? call["function"] : {};
    if (index === state.calls) {
      state.calls++;
      if (typeof id !== "string" || id === "") this.report("the first delta of a tool call has no id");
      if (type !== "function") this.report("the first delta of a tool call has no type");
      if (typeof own["name"] !== "string") this.report("the first delta of a tool call has no name");
    } else if (index === state.calls - 1) {
      if (["id", "type"].some((key) => Object.hasOwn(call, key)) || Object.hasOwn(own, "name")) {
        this.report("id, type or name in a later delta of a tool call");
      }
    } else this.report("the indices of tool calls are not 0, 1, 2 and so on");
    if (typeof own["arguments"] !== "string") this.report("a tool call delta without arguments");
  }

  #checkText(text: string, key: string): void {
    if (hasHalfCharacter(text)) this.report(`half a character in ${key}`);
  }
}

function isUsage(usage: unknown): boolean {
  return (
    isObject(usage) &&
    ["prompt_tokens", "completion_tokens", "total_tokens"].every((key) => Number.isInteger(usage[key]))
  );
}
