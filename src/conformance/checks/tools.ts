/** Checks of tool calls, streamed and not. */
import { isObject } from "../../http/json.ts";
import { lintChunks } from "../chunk-lint.ts";
import { CheckFailure, must, mustBe, mustBeClean, show } from "../check.ts";
import type { ConformanceCheck } from "../check.ts";
import { finishOf, streamedCalls } from "../chunks.ts";
import type { StreamedCall } from "../chunks.ts";
import type { Json } from "../json-text.ts";
import { itemOf, jsonValue, messageOf, mustBeError, stringOf } from "../probe.ts";

const CITIES = ["Paris", "Rome"];
const WEATHER = {
  type: "function",
  function: {
    name: "get_weather",
    description: "Get the weather for a city",
    parameters: {
      type: "object",
      properties: { city: { type: "string", enum: CITIES } },
      required: ["city"],
      additionalProperties: false,
    },
  },
};
const PING = { type: "function", function: { name: "ping", description: "Check that the server is up" } };
const PING_CHOICE = { type: "function", function: { name: "ping" } };

/** A question that no small model takes for one about the weather: the call comes by force. */
const FORCED = { messages: [{ role: "user", content: "Hello" }], max_tokens: 200 };
/** Small models that may call again do so until they are cut off; what is checked is the server, not when they end. */
const FORCED_ONCE = { ...FORCED, tools: [WEATHER], tool_choice: "required", parallel_tool_calls: false };

export const toolChecks: readonly ConformanceCheck[] = [
  {
    name: "tools: required forces a call with valid arguments",
    run: async (probe) => {
      const body = await probe.chatJson(FORCED_ONCE);
      for (const call of callsOf(body)) mustBeWeather(call);
      mustBe("finish_reason", itemOf(body, "choices")["finish_reason"], "tool_calls");
    },
  },
  {
    name: "tools: calls have distinct ids and the type function",
    run: async (probe) => {
      const ask = { ...FORCED, tools: [WEATHER], tool_choice: "required" };
      const ids: string[] = [];
      for (const body of [await probe.chatJson(ask), await probe.chatJson(ask)]) {
        const call = itemOf(messageOf(body), "tool_calls");
        mustBe("type", call["type"], "function");
        ids.push(stringOf(call, "id"));
      }
      must(ids.every((id) => id !== "") && new Set(ids).size === 2, `ids are ${show(ids)}`);
    },
  },
  {
    name: "tools: a named tool is called, once, and no other",
    run: async (probe) => {
      const ask = { ...FORCED, tools: [WEATHER, PING], tool_choice: PING_CHOICE };
      const names = callsOf(await probe.chatJson(ask)).map(({ name }) => name);
      mustBe("the names of the calls", names.join(), "ping");
    },
  },
  {
    name: "tools: none forbids calls",
    run: async (probe) => {
      const messages = [{ role: "user", content: "What is the weather in Paris?" }];
      const message = messageOf(await probe.chatJson({ messages, tools: [WEATHER], tool_choice: "none" }));
      must(!Object.hasOwn(message, "tool_calls"), "a call");
      must(
        !/tool_call|"arguments"/.test(stringOf(message, "content")),
        `content ${show(message["content"])}`,
      );
    },
  },
  {
    name: "tools: a tool without parameters has the arguments {}",
    run: async (probe) => {
      const [call] = callsOf(await probe.chatJson({ ...FORCED, tools: [PING], tool_choice: PING_CHOICE }));
      mustBe("arguments", call?.arguments, "{}");
    },
  },
  {
    name: "tools: parallel_tool_calls false allows one call",
    run: async (probe) => {
      const messages = [{ role: "user", content: "What is the weather in Paris and Rome?" }];
      const ask = {
        ...FORCED,
        messages,
        tools: [WEATHER],
        tool_choice: "required",
        parallel_tool_calls: false,
      };
      mustBe("the number of calls", callsOf(await probe.chatJson(ask)).length, 1);
    },
  },
  {
    name: "tools: streamed calls, delta by delta",
    run: async (probe) => {
      const text = await probe.chatStream(FORCED_ONCE);
      mustBeClean(lintChunks(text, "chat.completion.chunk"));
      const calls = streamedCalls(text);
      must(calls.length > 0, "no call");
      for (const call of calls) mustBeWeather(call);
      mustBe("finish_reason", finishOf(text), "tool_calls");
    },
  },
  {
    name: "tools: a streamed call is the whole call",
    run: async (probe) => {
      const ask = { ...FORCED, tools: [WEATHER], tool_choice: "required" };
      const streamed = streamedCalls(await probe.chatStream(ask));
      mustBe("the calls", JSON.stringify(streamed), JSON.stringify(callsOf(await probe.chatJson(ask))));
    },
  },
  {
    name: "tools: a streamed call without parameters has the arguments {}",
    run: async (probe) => {
      const text = await probe.chatStream({ ...FORCED, tools: [PING], tool_choice: PING_CHOICE });
      mustBe("arguments", streamedCalls(text)[0]?.arguments, "{}");
    },
  },
  {
    name: "tools: a call cut off by max_tokens finishes with length",
    run: async (probe) => {
      const ask = { ...FORCED, tools: [WEATHER], tool_choice: "required", max_tokens: 4 };
      mustBe("finish_reason", itemOf(await probe.chatJson(ask), "choices")["finish_reason"], "length");
      mustBe("streamed finish_reason", finishOf(await probe.chatStream(ask)), "length");
    },
  },
  {
    name: "tools: an empty list is no tools",
    run: async (probe) => {
      stringOf(messageOf(await probe.chatJson({ tools: [] })), "content");
    },
  },
  {
    name: "tools: a choice of an unknown tool is refused",
    run: async (probe) => {
      const choice = { type: "function", function: { name: "no_such_tool" } };
      mustBeError(await probe.chat({ tools: [WEATHER], tool_choice: choice }), 400);
    },
  },
];

function callsOf(body: Json): readonly StreamedCall[] {
  const calls = messageOf(body)["tool_calls"];
  must(Array.isArray(calls) && calls.length > 0, `tool_calls is ${show(calls)}`);
  return (calls as unknown[]).map((call) => {
    const own = isObject(call) ? call["function"] : undefined;
    if (!isObject(own)) throw new CheckFailure(`a call is ${show(call)}`);
    return { name: stringOf(own, "name"), arguments: stringOf(own, "arguments") };
  });
}

function mustBeWeather({ name, arguments: text }: StreamedCall): void {
  mustBe("name", name, "get_weather");
  const args = jsonValue("arguments", text);
  const city = isObject(args) ? args["city"] : undefined;
  must(typeof city === "string" && CITIES.includes(city), `arguments are ${show(text)}`);
}
