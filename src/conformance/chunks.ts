/** The chunks of a recorded stream, and what they add up to. */
import { isObject } from "../http/json.ts";
import { CheckFailure, must } from "./check.ts";
import { jsonObject } from "./json-text.ts";
import type { Json } from "./json-text.ts";
import { readSse } from "./sse-grammar.ts";

export interface StreamedCall {
  name: string;
  arguments: string;
}

/** @throws {CheckFailure} for a frame that is no chunk. */
export function chunksOf(text: string): readonly Json[] {
  return readSse(text)
    .events.filter(({ data }) => data !== "[DONE]")
    .map(({ data }) => {
      const chunk = jsonObject(data);
      if (chunk === undefined || !Array.isArray(chunk["choices"])) {
        throw new CheckFailure(`a frame that is no chunk: ${data.slice(0, 80)}`);
      }
      return chunk;
    });
}

/** The content of choice 0. */
export function textOf(text: string): string {
  return deltasOf(text)
    .map(({ content }) => (typeof content === "string" ? content : ""))
    .join("");
}

/** The finish reason of choice 0. */
export function finishOf(text: string): unknown {
  return choicesOf(text).findLast(({ finish_reason: reason }) => reason !== null)?.["finish_reason"];
}

/** The tool calls of choice 0, in the order of their indices. */
export function streamedCalls(text: string): readonly StreamedCall[] {
  const calls: StreamedCall[] = [];
  for (const { tool_calls: list } of deltasOf(text)) {
    for (const item of Array.isArray(list) ? (list as unknown[]) : []) {
      if (!isObject(item) || typeof item["index"] !== "number") continue;
      const call = (calls[item["index"]] ??= { name: "", arguments: "" });
      const own = isObject(item["function"]) ? item["function"] : {};
      call.name += typeof own["name"] === "string" ? own["name"] : "";
      call.arguments += typeof own["arguments"] === "string" ? own["arguments"] : "";
    }
  }
  return calls;
}

function deltasOf(text: string): readonly Json[] {
  return choicesOf(text).map(({ delta }) => {
    must(isObject(delta), "a choice without a delta");
    return delta;
  });
}

function choicesOf(text: string): readonly Json[] {
  return chunksOf(text).flatMap(({ choices }) =>
    (choices as unknown[]).filter(isObject).filter(({ index }) => index === 0),
  );
}
