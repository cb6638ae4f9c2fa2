/** Judges the recorded stream of `POST /v1/responses` against what OpenAI's clients rely on. */
import { isObject } from "../http/json.ts";
import { hasHalfCharacter, jsonObject } from "./json-text.ts";
import type { Json } from "./json-text.ts";
import { readSse, shorten } from "./sse-grammar.ts";

const TERMINAL: ReadonlySet<unknown> = new Set([
  "response.completed",
  "response.incomplete",
  "response.failed",
]);

interface ItemState {
  readonly id: unknown;
  /** Content or summary parts begun so far. */
  parts: number;
  /** Text or arguments since the part began. */
  text: string;
  done: Json | undefined;
}

/**
 * @param text The whole body of the response.
 * @returns One sentence for each thing that some client cannot read; empty for a faultless stream.
 */
export function lintResponseEvents(text: string): readonly string[] {
  const reading = readSse(text);
  const linter = new EventLinter();
  const events = reading.events.filter(({ data }) => data !== "[DONE]");
  for (const { event, data } of events) linter.take(event, data);
  linter.end();
  return [...reading.problems, ...linter.problems];
}

class EventLinter {
  readonly problems: string[] = [];
  readonly #types: unknown[] = [];
  readonly #items: ItemState[] = [];
  #last: Json = {};

  take(event: string | undefined, data: string): void {
    const value = jsonObject(data);
    if (value === undefined) return this.#report(`a frame that is no JSON object: ${shorten(data)}`);
    const { type, sequence_number: sequence } = value;
    if (event !== type)
      this.#report(`the event line ${String(event)} does not name the type ${String(type)}`);
    // No event of the response: it may come at any time, and has no number of its own.
    if (type === "keepalive") return;
    if (sequence !== this.#types.length) this.#report("sequence_number does not count 0, 1, 2 and so on");
    if (TERMINAL.has(this.#types.at(-1))) this.#report("an event after the last one");
    this.#types.push(type);
    this.#last = value;
    if (type === "response.output_item.added") this.#addItem(value);
    else if (Object.hasOwn(value, "output_index")) this.#takeOfItem(String(type), value);
    else if (Object.hasOwn(value, "item_id")) this.#report(`${String(type)} without output_index`);
  }

  end(): void {
    if (this.#types[0] !== "response.created") this.#report("the first event is not response.created");
    if (!this.#types.includes("response.in_progress") && !this.#types.includes("response.queued")) {
      this.#report("no response.in_progress");
    }
    if (!TERMINAL.has(this.#types.at(-1))) {
      this.#report("the last event is none of response.completed, response.incomplete, response.failed");
      return;
    }
    if (this.#types.at(-1) === "response.failed") return;
    const response = this.#last["response"];
    const output: unknown = isObject(response) ? response["output"] : undefined;
    const ids = Array.isArray(output)
      ? (output as unknown[]).map((item) => (isObject(item) ? item["id"] : undefined))
      : [];
    if (JSON.stringify(ids) !== JSON.stringify(this.#items.map(({ id }) => id))) {
      this.#report("the output of the last event is not the streamed items in their order");
    }
    if (this.#items.some(({ done }) => done === undefined)) this.#report("an item without output_item.done");
  }

  #addItem(value: Json): void {
    const item = isObject(value["item"]) ? value["item"] : {};
    if (value["output_index"] !== this.#items.length) {
      this.#report("the output_index of items does not count 0, 1, 2 and so on");
    }
    if (typeof item["id"] !== "string" || item["id"] === "") this.#report("an item without an id");
    this.#items.push({ id: item["id"], parts: 0, text: "", done: undefined });
  }

  #takeOfItem(type: string, value: Json): void {
    const item = this.#items[Number(value["output_index"])];
    if (item === undefined) return this.#report(`${type} before its output_item.added`);
    if (item.done !== undefined) this.#report(`${type} after output_item.done`);
    if (type === "response.output_item.done") {
      const done = isObject(value["item"]) ? value["item"] : {};
      if (done["id"] !== item.id) this.#report("an item changes its id");
      item.done = done;
      return;
    }
    if (value["item_id"] !== item.id) this.#report(`${type} without the item_id of its item`);
    if (type.endsWith("_part.added")) {
      item.parts++;
      item.text = "";
    }
    const index = value["content_index"] ?? value["summary_index"];
    const needsPart = /_part\.|_text\.|refusal\./.test(type);
    if (needsPart && index !== item.parts - 1) {
      this.#report(`${type} has the index ${JSON.stringify(index)} of another part`);
    }
    if (type.endsWith(".delta")) this.#takeDelta(item, type, value["delta"]);
    else if (!type.includes("_part.") && type.endsWith(".done")) this.#takeDone(item, type, value);
  }

  #takeDelta(item: ItemState, type: string, delta: unknown): void {
    if (typeof delta !== "string") return this.#report(`${type} without a delta`);
    if (hasHalfCharacter(delta)) this.#report(`half a character in ${type}`);
    item.text += delta;
  }

  #takeDone(item: ItemState, type: string, value: Json): void {
    const whole = value["text"] ?? value["arguments"] ?? value["input"] ?? value["refusal"];
    if (whole !== item.text) this.#report(`${type} is not the sum of its deltas`);
  }

  #report(problem: string): void {
    if (!this.problems.includes(problem)) this.problems.push(problem);
  }
}
