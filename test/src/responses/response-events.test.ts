/** The events of a response, for every order in which a model may think, speak and call. */
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { GenerationEvent } from "../../../src/generation-events.ts";
import { TokenTable } from "../../../models/text/token-table.ts";
import { OutputReader } from "../../../src/openai/responses/output-events.ts";
import type { EndEvent, OutputEvent } from "../../../src/openai/responses/output-events.ts";
import { foldResponse, ResponseEvents } from "../../../src/openai/responses/response-events.ts";
import type { ResponseEvent } from "../../../src/openai/responses/response-events.ts";
import type { ResponseHead, ResponseJson } from "../../../src/openai/responses/response-object.ts";
import { tinyFacts } from "../../support/tiny-vocabulary.ts";

const HEAD: ResponseHead = {
  id: "resp_9",
  createdAt: 5,
  background: false,
  echo: { model: "m" },
  style: { summary: false, packed: false },
};
const USAGE = {
  input_tokens: 1,
  input_tokens_details: { cached_tokens: 0, cache_write_tokens: 0 },
  output_tokens: 2,
  output_tokens_details: { reasoning_tokens: 0 },
  total_tokens: 3,
};
const END: EndEvent = { kind: "end", reason: "stop", usage: USAGE, at: 6 };

function eventsOf(log: readonly OutputEvent[], head: ResponseHead = HEAD): ResponseEvent[] {
  const machine = new ResponseEvents(head);
  return [...machine.begin(), ...log.flatMap((event) => machine.push(event))];
}

const types = (events: readonly ResponseEvent[]): string[] =>
  events.map(({ type }) => type.replace("response.", ""));

describe("a function call", () => {
  const log: OutputEvent[] = [
    { kind: "call", custom: false, callId: "call_1", name: "get_weather" },
    { kind: "arguments", text: '{"city":' },
    { kind: "arguments", text: '"Paris"}' },
    END,
  ];

  it("T40: is added with empty arguments, which come in deltas and once more when done", () => {
    const call = { id: "fc_9_0", type: "function_call", call_id: "call_1", name: "get_weather" };
    const at = { item_id: "fc_9_0", output_index: 0 };
    const args = '{"city":"Paris"}';
    const done = { ...call, status: "completed", arguments: args };
    expect(eventsOf(log).slice(2)).toEqual([
      {
        type: "response.output_item.added",
        output_index: 0,
        item: { ...call, status: "in_progress", arguments: "" },
        sequence_number: 2,
      },
      { type: "response.function_call_arguments.delta", ...at, delta: '{"city":', sequence_number: 3 },
      { type: "response.function_call_arguments.delta", ...at, delta: '"Paris"}', sequence_number: 4 },
      {
        type: "response.function_call_arguments.done",
        ...at,
        name: "get_weather",
        arguments: args,
        sequence_number: 5,
      },
      { type: "response.output_item.done", output_index: 0, item: done, sequence_number: 6 },
      {
        type: "response.completed",
        response: expect.objectContaining({ status: "completed", output: [done], usage: USAGE }),
        sequence_number: 7,
      },
    ]);
  });

  it("has no message of white space beside it", () => {
    const blank: OutputEvent = { kind: "text", text: "\n" };
    const { output } = foldResponse(HEAD, [blank, ...log.slice(0, 3), blank, ...log.slice(0, 3), blank, END]);
    expect(output.map(({ id }) => id)).toEqual(["fc_9_0", "fc_9_1"]);
  });

  it("keeps the white space of a text before it", () => {
    const said: OutputEvent[] = [
      { kind: "text", text: "\n" },
      { kind: "text", text: " Let me see.\n" },
    ];
    const { output } = foldResponse(HEAD, [...said, ...log]);
    expect(output).toMatchObject([
      { id: "msg_9_0", content: [{ text: "\n Let me see.\n" }] },
      { id: "fc_9_1" },
    ]);
  });

  it("is incomplete with the arguments so far when it is cut off", () => {
    const cut: EndEvent = { ...END, reason: "length" };
    const events = eventsOf([...log.slice(0, 2), cut]);
    expect(types(events.slice(-3))).toEqual([
      "function_call_arguments.done",
      "output_item.done",
      "incomplete",
    ]);
    expect(foldResponse(HEAD, [...log.slice(0, 2), cut])).toMatchObject({
      completed_at: null,
      status: "incomplete",
      incomplete_details: { reason: "max_output_tokens" },
      output: [{ status: "incomplete", arguments: '{"city":' }],
    });
  });

  it("of a custom tool has an input in place of arguments", () => {
    const custom: OutputEvent[] = [
      { kind: "call", custom: true, callId: "call_1", name: "patch" },
      { kind: "arguments", text: "a" },
      { kind: "arguments", text: "b" },
      END,
    ];
    const events = eventsOf(custom);
    expect(types(events.slice(2))).toEqual([
      "output_item.added",
      "custom_tool_call_input.delta",
      "custom_tool_call_input.delta",
      "custom_tool_call_input.done",
      "output_item.done",
      "completed",
    ]);
    expect(events[5]).toMatchObject({ item_id: "ctc_9_0", output_index: 0, input: "ab" });
    expect(events[6]).toMatchObject({
      item: { id: "ctc_9_0", type: "custom_tool_call", call_id: "call_1", name: "patch", input: "ab" },
    });
  });
});

describe("reading a generation", () => {
  const progress = {
    tokenIds: [],
    promptLogprobs: undefined,
    usage: {
      promptTokens: 1,
      cachedTokens: 0,
      completionTokens: 2,
      reasoningTokens: 0,
      guessesRight: 0,
      guessesWrong: 0,
      predictionsRight: 0,
      predictionsWrong: 0,
    },
    timings: { prefillMs: 0, decodeMs: 0 },
  };
  const read = (events: readonly GenerationEvent[], customTools: readonly string[] = []): OutputEvent[] => {
    const reader = new OutputReader({
      table: new TokenTable(tinyFacts()),
      logprobs: false,
      timed: false,
      customTools: new Set(customTools),
      epochSeconds: () => 6,
    });
    return events.flatMap((event) => reader.read(event));
  };
  const call = (index: number, name: string): GenerationEvent => ({
    ...progress,
    kind: "tool_call",
    index,
    id: `call_${index}`,
    name,
  });
  const args = (index: number, text: string): GenerationEvent => ({
    ...progress,
    kind: "tool_arguments",
    index,
    text,
  });
  const finish: GenerationEvent = {
    ...progress,
    kind: "finish",
    reason: "tool_calls",
    stopReason: undefined,
    endToken: undefined,
  };

  it("gives functions their arguments and custom tools their input", () => {
    expect(
      read(
        [
          call(0, "f"),
          args(0, '{"input":"a"}'),
          call(1, "patch"),
          args(1, '{"input":"a'),
          args(1, '\\n"}'),
          finish,
        ],
        ["patch"],
      ),
    ).toEqual([
      { kind: "call", custom: false, callId: "call_0", name: "f" },
      { kind: "arguments", text: '{"input":"a"}' },
      { kind: "call", custom: true, callId: "call_1", name: "patch" },
      { kind: "arguments", text: "a" },
      { kind: "arguments", text: "\n" },
      END,
    ]);
  });

  it("gives the input of a custom tool before what follows the call, wherever it stands in the arguments", () => {
    const patch = [call(0, "patch"), args(0, '{"x":1,"in'), args(0, 'put":"b"}')];
    const told = [
      { kind: "call", custom: true, callId: "call_0", name: "patch" },
      { kind: "arguments", text: "b" },
    ];
    expect(read([...patch, finish], ["patch"])).toEqual([...told, END]);
    expect(read([...patch, call(1, "f"), finish], ["patch"])).toEqual([
      ...told,
      { kind: "call", custom: false, callId: "call_1", name: "f" },
      END,
    ]);
  });

  it("unpacks any input, however its arguments are cut, in order", () => {
    fc.assert(
      fc.property(
        fc.string({ unit: "grapheme" }),
        fc.array(fc.nat(40)),
        fc.boolean(),
        (input, cuts, spaced) => {
          const json = JSON.stringify({ input }, undefined, spaced ? 1 : undefined);
          // Every character as an escape, as some models write them.
          const text = cuts.length % 2 === 0 ? json : escaped(input);
          const pieces: GenerationEvent[] = [];
          let start = 0;
          for (const cut of cuts) {
            pieces.push(args(0, text.slice(start, start + cut)));
            start += cut;
          }
          pieces.push(args(0, text.slice(start)));
          const out = read([call(0, "patch"), ...pieces, finish], ["patch"]);
          const joined = out.flatMap((event) => (event.kind === "arguments" ? event.text : [])).join("");
          expect(joined).toBe(input);
        },
      ),
    );
  });

  it("hands on arguments of another form as they are", () => {
    const of = (text: string): OutputEvent[] =>
      read([call(0, "patch"), args(0, text), finish], ["patch"]).slice(1, -1);
    expect(of('{"patch":"x"}')).toEqual([{ kind: "arguments", text: '{"patch":"x"}' }]);
    expect(of('{"inp')).toEqual([]);
    expect(of('{"input":"a\\u00')).toEqual([{ kind: "arguments", text: "a" }]);
  });

  function escaped(text: string): string {
    const units = Array.from({ length: text.length }, (_, i) =>
      text.charCodeAt(i).toString(16).padStart(4, "0"),
    );
    return `{"input":"${units.map((unit) => `\\u${unit}`).join("")}"}`;
  }
});

/** What a client makes of the events, by the rules of the official helpers. */
function replayed(events: readonly ResponseEvent[]): unknown {
  const items: Record<string, unknown>[] = [];
  let last: unknown;
  const itemAt = (event: ResponseEvent): Record<string, unknown> => {
    const item = items[Number(event["output_index"])];
    if (item === undefined) throw new Error(`No item for ${JSON.stringify(event)}`);
    if (event["item_id"] !== undefined && event["item_id"] !== item["id"]) throw new Error("Another id.");
    return item;
  };
  const partsOf = (event: ResponseEvent, list: string, index: string): Record<string, unknown> => {
    const parts = itemAt(event)[list] as Record<string, unknown>[];
    const part = parts[Number(event[index])];
    if (part === undefined) throw new Error(`No part for ${JSON.stringify(event)}`);
    return part;
  };
  for (const event of events) {
    const payload = structuredClone(event) as Record<string, unknown>;
    switch (event.type.replace("response.", "")) {
      case "output_item.added":
        expect(event["output_index"]).toBe(items.length);
        items.push(payload["item"] as Record<string, unknown>);
        break;
      case "output_item.done":
        expect(itemAt(event)).toEqual({
          ...(payload["item"] as object),
          status: "in_progress",
          ...(itemAt(event)["encrypted_content"] === undefined ? { encrypted_content: undefined } : {}),
        });
        items[Number(event["output_index"])] = payload["item"] as Record<string, unknown>;
        break;
      case "content_part.added":
        (itemAt(event)["content"] as unknown[]).push(payload["part"]);
        break;
      case "reasoning_summary_part.added":
        (itemAt(event)["summary"] as unknown[]).push(payload["part"]);
        break;
      case "output_text.delta": {
        const part = partsOf(event, "content", "content_index");
        part["text"] = String(part["text"]) + String(event["delta"]);
        break;
      }
      case "reasoning_text.delta": {
        const part = partsOf(event, "content", "content_index");
        part["text"] = String(part["text"]) + String(event["delta"]);
        break;
      }
      case "reasoning_summary_text.delta": {
        const part = partsOf(event, "summary", "summary_index");
        part["text"] = String(part["text"]) + String(event["delta"]);
        break;
      }
      case "content_part.done":
        expect(partsOf(event, "content", "content_index")).toEqual(payload["part"]);
        break;
      case "reasoning_summary_part.done":
        expect(partsOf(event, "summary", "summary_index")).toEqual(payload["part"]);
        break;
      case "output_text.done":
      case "reasoning_text.done":
        expect(partsOf(event, "content", "content_index")["text"]).toBe(event["text"]);
        break;
      case "function_call_arguments.delta": {
        const item = itemAt(event);
        item["arguments"] = String(item["arguments"]) + String(event["delta"]);
        break;
      }
      case "function_call_arguments.done":
        expect(itemAt(event)["arguments"]).toBe(event["arguments"]);
        break;
      case "custom_tool_call_input.delta": {
        const item = itemAt(event);
        item["input"] = String(item["input"]) + String(event["delta"]);
        break;
      }
      case "custom_tool_call_input.done":
        expect(itemAt(event)["input"]).toBe(event["input"]);
        break;
    }
    last = event["response"] ?? last;
  }
  return { ...(last as object), output: items };
}

function spoken({ output }: ResponseJson): string {
  const parts = output.flatMap((item) => (item.type === "message" ? item.content : []));
  return parts.map((part) => (part.type === "refusal" ? "" : part.text)).join("");
}

function thought({ output }: ResponseJson): string {
  const items = output.flatMap((item) => (item.type === "reasoning" ? item : []));
  return items.flatMap(({ content, summary }) => (content ?? summary).map((part) => part.text)).join("");
}

function textOf(log: readonly OutputEvent[], kind: "text" | "reasoning"): string {
  return log.map((event) => (event.kind === kind ? event.text : "")).join("");
}

const text = fc.constantFrom("", " ", "\n", "a", "Hello", "é", '"');
const step: fc.Arbitrary<OutputEvent> = fc.oneof(
  fc.record({ kind: fc.constant("text" as const), text }),
  fc.record({ kind: fc.constant("reasoning" as const), text }),
  fc.record({
    kind: fc.constant("call" as const),
    custom: fc.boolean(),
    callId: fc.constantFrom("call_1", "call_2"),
    name: fc.constantFrom("f", "g"),
  }),
  fc.record({ kind: fc.constant("arguments" as const), text }),
);
const end: fc.Arbitrary<EndEvent> = fc.constantFrom<EndEvent>(
  END,
  { ...END, reason: "length" },
  { kind: "cancelled", at: 6 },
  { kind: "failed", error: { type: "server_error", code: "c", message: "m", param: null }, at: 6 },
);
const head: fc.Arbitrary<ResponseHead> = fc.record({
  id: fc.constant("resp_9"),
  createdAt: fc.constant(5),
  background: fc.boolean(),
  echo: fc.constant({}),
  style: fc.record({ summary: fc.boolean(), packed: fc.boolean() }),
});

describe("whatever the model does", () => {
  it("the events build the response that the last one holds, numbered without gaps, and no text is lost", () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 25 }), end, head, (steps, ending, made) => {
        const log = [...steps, ending];
        const events = eventsOf(log, made);
        expect(events.map(({ sequence_number }) => sequence_number)).toEqual(events.map((_, i) => i));
        const final = foldResponse(made, log);
        expect(replayed(events)).toEqual(final);
        expect(events.at(-1)?.["response"]).toEqual(final);
        expect(new Set(final.output.map(({ id }) => id)).size).toBe(final.output.length);
        expect(eventsOf(structuredClone(log), made)).toEqual(events);
        // White space alone may be left out, between calls.
        expect(spoken(final).replaceAll(/\s/g, "")).toBe(textOf(log, "text").replaceAll(/\s/g, ""));
        expect(thought(final)).toBe(textOf(log, "reasoning"));
      }),
      { numRuns: 500 },
    );
  });

  it("a finished response has a message or a call", () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 25 }), (steps) => {
        const { output } = foldResponse(HEAD, [...steps, END]);
        expect(output.some(({ type }) => type !== "reasoning")).toBe(true);
        expect(output.every(({ status }) => status === "completed")).toBe(true);
      }),
    );
  });
});
