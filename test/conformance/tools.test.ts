/** Tool calls: forced, forbidden, in parallel, cut off, streamed delta by delta. */
import { describe, expect, test } from "vitest";
import { createTestApp } from "../support/test-app.ts";
import { sayThenStop } from "../support/scripted-engine.ts";
import { EOS } from "../support/tiny-vocabulary.ts";
import {
  asking,
  callsOf,
  chat,
  chatStream,
  dataOf,
  found,
  functionCalls,
  MODEL,
  MUST_CALL,
  POCKET,
  said,
  TIME,
  WEATHER,
} from "./harness.ts";
import type { Chat, ChatChunk, ChatRecording } from "./harness.ts";

const PARIS = { ...asking("What is the weather in Paris?"), tools: [WEATHER], ...MUST_CALL };
const BOTH = { ...asking("What is the weather in Paris and Rome?"), tools: [WEATHER], ...MUST_CALL };
const GREETING = { ...asking("Hello"), tools: [WEATHER] };
const HELLO = { ...asking("Say hello, do not call tools."), tools: [WEATHER, TIME] };
const PING = { type: "function", function: { name: "ping", description: "Check that the server is up" } };
const only = (name: string): object => ({ type: "function", function: { name } });

const finishOf = (answer: Chat): string | undefined => answer.choices[0]?.finish_reason;
const unnamed = (calls: readonly { readonly name: string; readonly arguments: string }[]): object[] =>
  calls.map(({ name, arguments: text }) => ({ name, arguments: text }));

/** The tool_calls of each delta that has some. */
const callDeltas = ({ chunks }: ChatRecording): object[] =>
  chunks.flatMap(({ choices }) => choices[0]?.delta.tool_calls ?? []);

describe("tool_choice", () => {
  test("T09 required is a valid call, always", async () => {
    for (const temperature of [0, 1]) {
      const ask = { ...HELLO, tool_choice: "required", temperature, seed: 5, max_tokens: 300 };
      for (const calls of [functionCalls(await chat(ask)), callsOf(await chatStream(ask))]) {
        expect(calls.length).toBeGreaterThan(0);
        for (const { name, arguments: text } of calls) {
          expect(["get_weather", "get_time"]).toContain(name);
          const key = name === "get_weather" ? "city" : "timezone";
          expect(JSON.parse(text)).toMatchObject({ [key]: expect.any(String) });
        }
      }
    }
  });

  test("T10 with a name is exactly one call of that tool", async () => {
    const ask = { ...PARIS, tools: [WEATHER, TIME], tool_choice: only("get_time"), max_tokens: 300 };
    for (const calls of [functionCalls(await chat(ask)), callsOf(await chatStream(ask))]) {
      expect(calls.map(({ name }) => name)).toEqual(["get_time"]);
      expect(JSON.parse(calls[0]?.arguments ?? "")).toMatchObject({ timezone: expect.any(String) });
    }
    expect((await chat(ask)).choices[0]?.message.content).toBeNull();
  });

  test("T11 none is no call and no call syntax, whatever the prompt begs for", async () => {
    const ask = { ...PARIS, tool_choice: "none", max_tokens: 60 };
    const { message } = (await chat(ask)).choices[0] ?? {};
    expect(message).not.toHaveProperty("tool_calls");
    expect(message?.content).not.toMatch(/tool_call|"arguments"/);
    const streamed = await chatStream(ask);
    expect(callDeltas(streamed)).toEqual([]);
    expect(streamed.content).toBe(message?.content);
  });
});

describe("streamed calls", () => {
  test("T12 two calls have the indices 0 and 1, distinct ids, and their names once", async () => {
    const recording = await chatStream(BOTH);
    const calls = callsOf(recording).map(({ name, arguments: text }) => [name, JSON.parse(text) as object]);
    const pinned = [
      ["get_weather", { city: "Paris" }],
      ["get_weather", { city: "Rome" }],
    ];
    expect(calls).toEqual(
      found(
        pinned,
        calls.map(() => ["get_weather", expect.objectContaining({ city: expect.any(String) }) as unknown]),
      ),
    );
    expect(new Set(callsOf(recording).map(({ id }) => id)).size).toBe(calls.length);
    const names = callDeltas(recording).filter((delta) => "id" in delta);
    expect(names).toHaveLength(calls.length);
  });

  test("T13 later deltas of a call have no id, type or name", async () => {
    const deltas = callDeltas(await chatStream(PARIS));
    expect(deltas[0]).toEqual({
      index: 0,
      id: expect.stringMatching(/^call_\w{24,}$/),
      type: "function",
      function: { name: "get_weather", arguments: "" },
    });
    expect(deltas.length).toBeGreaterThan(2);
    for (const delta of deltas.slice(1)) {
      expect(delta).toEqual({ index: 0, function: { arguments: expect.any(String) } });
    }
  });

  test("a call stream is role with null content, the call's head, its arguments, finish, key by key", async () => {
    const { text } = await chatStream(PARIS);
    const pinned = text
      .replaceAll(/"id":"chatcmpl-\w{20,}"/g, '"id":ID')
      .replaceAll(/"id":"call_\w+"/g, '"id":CALL')
      .replaceAll(/"created":1\d{9},/g, '"created":TIME,')
      .replaceAll(/"system_fingerprint":"fp_\w{10}"/g, '"system_fingerprint":FP')
      .replaceAll(/,"timings":\{[^}]*\}/g, "");
    const head =
      '"id":ID,"object":"chat.completion.chunk","created":TIME,"model":' +
      `"${MODEL}","system_fingerprint":FP`;
    const delta = (json: string): string =>
      `data: {${head},"choices":[{"index":0,"delta":${json},"logprobs":null,"finish_reason":null}]}\n\n`;
    const frames = pinned.split(/(?<=\n\n)/);
    expect(frames.slice(0, 2)).toEqual([
      delta('{"role":"assistant","content":null,"refusal":null}'),
      delta(
        '{"tool_calls":[{"index":0,"id":CALL,"type":"function","function":{"name":"get_weather","arguments":""}}]}',
      ),
    ]);
    for (const frame of frames.slice(2, -2)) {
      expect(frame).toMatch(/"delta":\{"tool_calls":\[\{"index":0,"function":\{"arguments":"[^]*"\}\}\]\}/);
    }
    expect(frames.slice(-2)).toEqual([
      `data: {${head},"choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"tool_calls","stop_reason":null}]}\n\n`,
      "data: [DONE]\n\n",
    ]);
  });

  test("T14 a tool without parameters has the arguments {} in both modes", async () => {
    const ask = { ...asking("Hello"), tools: [PING], tool_choice: only("ping") };
    expect(unnamed(functionCalls(await chat(ask)))).toEqual([{ name: "ping", arguments: "{}" }]);
    expect(unnamed(callsOf(await chatStream(ask)))).toEqual([{ name: "ping", arguments: "{}" }]);
  });

  test("T15 the arguments of a stream are those of the whole answer, as valid JSON", async () => {
    for (const ask of [
      PARIS,
      BOTH,
      { ...asking("What time is it in Tokyo?"), tools: [TIME, WEATHER], ...MUST_CALL },
    ]) {
      const whole = unnamed(functionCalls(await chat(ask)));
      expect(whole.length).toBeGreaterThan(0);
      const streamed = callsOf(await chatStream(ask));
      expect(unnamed(streamed)).toEqual(whole);
      for (const { arguments: text } of streamed) expect(JSON.parse(text)).toBeTypeOf("object");
    }
  });
});

describe("the end of a call", () => {
  test("T16 at max_tokens is length, and the arguments are left as they are", async () => {
    for (const tokens of [12, 14]) {
      const ask = { ...PARIS, tool_choice: "required", max_tokens: tokens };
      const whole = await chat(ask);
      expect(finishOf(whole)).toBe("length");
      const streamed = await chatStream(ask);
      expect(streamed.finish).toBe("length");
      const [call] = callsOf(streamed);
      const begun = (call?.arguments ?? "").replaceAll(" ", "");
      expect((POCKET ? '{"city":"Paris"}' : '{"city":"').startsWith(begun.slice(0, POCKET ? 99 : 9))).toBe(
        true,
      );
      expect(unnamed(functionCalls(whole))).toEqual(unnamed(callsOf(streamed)));
    }
  });

  test("T17 that the model chose to make is tool_calls", async () => {
    expect(finishOf(await chat(PARIS))).toBe("tool_calls");
    expect((await chatStream(PARIS)).finish).toBe("tool_calls");
    expect(finishOf(await chat(GREETING))).toEqual(found("stop", expect.any(String)));
  });

  test("T18 with parallel_tool_calls false there is exactly one", async () => {
    const ask = { ...BOTH, parallel_tool_calls: false };
    expect(functionCalls(await chat(ask))).toHaveLength(1);
    expect(callsOf(await chatStream(ask))).toHaveLength(1);
  });
});

test("T53 a text answer has no key tool_calls, also when tools were offered", async () => {
  const ask = { ...GREETING, ...(found({}, { tool_choice: "none" }) as object) };
  const answer = await chat(ask);
  expect(answer.choices[0]?.message).not.toHaveProperty("tool_calls");
  expect(answer.choices[0]?.message.content).toEqual(said("Hello! How can I help you?"));
  expect((await chatStream(ask)).text).not.toContain("tool_calls");
});

test("T55 the ids of twenty turns are all distinct and never empty", async () => {
  const ids: string[] = [];
  for (let turn = 0; turn < 20; turn++) {
    const calls = turn % 2 === 0 ? functionCalls(await chat(PARIS)) : callsOf(await chatStream(PARIS));
    ids.push(...calls.map(({ id }) => id));
  }
  if (POCKET) expect(ids).toHaveLength(20);
  expect(ids.length).toBeGreaterThanOrEqual(20);
  expect(new Set(ids).size).toBe(20);
  expect(ids).not.toContain("");
});

test("T56 markup that is no call is content, and the answer ends with stop", async () => {
  for (const output of ['<tool_call>{"name": broken</tool_call>', "<tool_call>", '{"name": "get_weather"']) {
    for (const stream of [false, true]) {
      const { engine, chat: ask } = createTestApp();
      engine.script = sayThenStop(output, EOS);
      const response = await ask({ tools: [WEATHER], stream });
      expect(response.status).toBe(200);
      const text = await response.text();
      expect(text).toContain('"finish_reason":"stop"');
      expect(text).not.toContain('"error"');
      expect(text).not.toContain('"tool_calls"');
      const content = stream
        ? dataOf<ChatChunk>(text).map(({ choices }) => choices[0]?.delta.content ?? "")
        : [(JSON.parse(text) as Chat).choices[0]?.message.content];
      expect(content.join("")).toBe(output);
    }
  }
});

test("T85 a strict tool may take a record of any keys", async () => {
  const tool = {
    type: "function",
    function: {
      name: "score",
      strict: true,
      parameters: {
        type: "object",
        properties: { points: { type: "object", additionalProperties: { type: "number" } } },
        required: ["points"],
        additionalProperties: false,
      },
    },
  };
  const keys = new Set<string>();
  for (const seed of [1, 2, 3]) {
    const ask = {
      ...asking("Extract name and age as JSON: Bob is 42 years old."),
      tools: [tool],
      tool_choice: "required",
      temperature: 1,
      seed,
      max_tokens: 400,
    };
    const answer = await chat(ask);
    const [call] = functionCalls(answer);
    if (finishOf(answer) === "length") continue;
    const { points } = JSON.parse(call?.arguments ?? "") as { points: Record<string, number> };
    for (const [key, value] of Object.entries(points)) {
      expect(typeof value).toBe("number");
      keys.add(key);
    }
  }
  if (POCKET) expect(keys.size).toBeGreaterThan(1);
});
