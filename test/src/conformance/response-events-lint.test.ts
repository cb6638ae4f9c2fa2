/** The lint of Responses streams: silent on OpenAI's sequence, and one sentence for each way to break a client. */
import { describe, expect, it } from "vitest";
import { lintResponseEvents } from "../../../src/conformance/response-events-lint.ts";

type Event = Record<string, unknown> & { readonly type: string };

const PART = { type: "output_text", text: "", annotations: [], logprobs: [] };
const WHOLE = { ...PART, text: "Hello" };
const AT = { item_id: "msg_1", output_index: 0, content_index: 0 };
const message = (status: string, content: object[]): object => ({
  id: "msg_1",
  type: "message",
  status,
  role: "assistant",
  content,
});
const response = (status: string, output: object[]): object => ({
  id: "resp_1",
  object: "response",
  status,
  output,
});

const TEXT: readonly Event[] = [
  { type: "response.created", response: response("in_progress", []) },
  { type: "response.in_progress", response: response("in_progress", []) },
  { type: "response.output_item.added", output_index: 0, item: message("in_progress", []) },
  { type: "response.content_part.added", ...AT, part: PART },
  { type: "response.output_text.delta", ...AT, delta: "Hel", logprobs: [] },
  { type: "response.output_text.delta", ...AT, delta: "lo", logprobs: [] },
  { type: "response.output_text.done", ...AT, text: "Hello", logprobs: [] },
  { type: "response.content_part.done", ...AT, part: WHOLE },
  { type: "response.output_item.done", output_index: 0, item: message("completed", [WHOLE]) },
  { type: "response.completed", response: response("completed", [message("completed", [WHOLE])]) },
];

const CALL_AT = { item_id: "fc_1", output_index: 1 };
const call = (status: string, args: string): object => ({
  id: "fc_1",
  type: "function_call",
  status,
  call_id: "call_1",
  name: "get_weather",
  arguments: args,
});
const TEXT_AND_CALL: readonly Event[] = [
  ...TEXT.slice(0, -1),
  { type: "response.output_item.added", output_index: 1, item: call("in_progress", "") },
  { type: "response.function_call_arguments.delta", ...CALL_AT, delta: '{"city":' },
  { type: "response.function_call_arguments.delta", ...CALL_AT, delta: '"Paris"}' },
  { type: "response.function_call_arguments.done", ...CALL_AT, arguments: '{"city":"Paris"}' },
  { type: "response.output_item.done", output_index: 1, item: call("completed", '{"city":"Paris"}') },
  {
    type: "response.completed",
    response: response("completed", [message("completed", [WHOLE]), call("completed", '{"city":"Paris"}')]),
  },
];

const stream = (events: readonly Event[]): string =>
  events
    .map((event, i) => `event: ${event.type}\ndata: ${JSON.stringify({ ...event, sequence_number: i })}\n\n`)
    .join("");
const without = (type: string): Event[] => TEXT.filter((event) => event.type !== type);
const changed = (change: (event: Event) => Event): Event[] => TEXT.map(change);

it("says nothing about text, text and a call, and an answer that was cut off or failed", () => {
  const cut = [
    ...TEXT.slice(0, -1),
    { type: "response.incomplete", response: response("incomplete", [message("incomplete", [WHOLE])]) },
  ];
  const failed = [...TEXT.slice(0, 5), { type: "response.failed", response: response("failed", []) }];
  for (const events of [TEXT, TEXT_AND_CALL, cut, failed])
    expect(lintResponseEvents(stream(events))).toEqual([]);
});

it("says nothing about keepalive events, whatever their number", () => {
  const beat = 'event: keepalive\ndata: {"type":"keepalive","sequence_number":0}\n\n';
  expect(lintResponseEvents(stream(TEXT).replace("event: response.output_item", `${beat}${beat}$&`))).toEqual(
    [],
  );
});

describe("a stream that some client cannot read", () => {
  const bad: [string, string, string][] = [
    ["no created", stream(without("response.created")), "the first event is not response.created"],
    ["no in_progress", stream(without("response.in_progress")), "no response.in_progress"],
    [
      "no item",
      stream(without("response.output_item.added")),
      "response.content_part.added before its output_item.added",
    ],
    [
      "no part",
      stream(without("response.content_part.added")),
      "response.output_text.delta has the index 0 of another part",
    ],
    ["no item done", stream(without("response.output_item.done")), "an item without output_item.done"],
    [
      "no last event",
      stream(TEXT.slice(0, -1)),
      "the last event is none of response.completed, response.incomplete, response.failed",
    ],
    [
      "another item_id",
      stream(changed((event) => ("item_id" in event ? { ...event, item_id: "msg_x" } : event))),
      "response.output_text.delta without the item_id of its item",
    ],
    [
      "no output_index",
      stream(
        changed((event) => (event.type.endsWith("delta") ? { ...event, output_index: undefined } : event)),
      ),
      "response.output_text.delta without output_index",
    ],
    [
      "a content_index that goes on in the next item",
      stream(changed((event) => ("content_index" in event ? { ...event, content_index: 1 } : event))),
      "response.output_text.delta has the index 1 of another part",
    ],
    [
      "a text that is not its deltas",
      stream(changed((event) => ("text" in event ? { ...event, text: "Hullo" } : event))),
      "response.output_text.done is not the sum of its deltas",
    ],
    [
      "an empty output at the end",
      stream([...TEXT.slice(0, -1), { type: "response.completed", response: response("completed", []) }]),
      "the output of the last event is not the streamed items in their order",
    ],
    [
      "no event lines",
      stream(TEXT).replaceAll(/event: .*\n/g, ""),
      "the event line undefined does not name the type response.created",
    ],
    [
      "no sequence numbers",
      stream(TEXT).replaceAll("sequence_number", "number"),
      "sequence_number does not count 0, 1, 2 and so on",
    ],
    [
      "a comment in the middle",
      stream(TEXT).replace("event: response.in", ": x\n\nevent: response.in"),
      "a comment between events",
    ],
  ];

  it.each(bad)("%s", (_name, text, problem) => {
    expect(lintResponseEvents(text)).toContain(problem);
  });
});
