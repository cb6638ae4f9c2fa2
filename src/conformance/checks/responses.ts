/** Checks of the Responses API. */
import { isObject } from "../../http/json.ts";
import { CheckFailure, must, mustBe, mustBeClean, NotOffered, show } from "../check.ts";
import type { ConformanceCheck } from "../check.ts";
import { jsonObject } from "../json-text.ts";
import type { Json } from "../json-text.ts";
import { itemOf, jsonValue, mustBeError, objectOf, okJson, okStream, stringOf } from "../probe.ts";
import type { Probe } from "../probe.ts";
import { lintResponseEvents } from "../response-events-lint.ts";
import { readSse } from "../sse-grammar.ts";
import { refused } from "./completions.ts";

const WEATHER = {
  type: "function",
  name: "get_weather",
  description: "Get the weather for a city",
  strict: true,
  parameters: {
    type: "object",
    properties: { city: { type: "string", enum: ["Paris", "Rome"] } },
    required: ["city"],
    additionalProperties: false,
  },
};
const CALLING = { tools: [WEATHER], tool_choice: "required" };

export const responseChecks: readonly ConformanceCheck[] = [
  {
    name: "responses: body of an answer",
    run: async (probe) => {
      const body = await respond(probe);
      mustBe("object", body["object"], "response");
      must(stringOf(body, "id").startsWith("resp_"), `id is ${show(body["id"])}`);
      mustBe("status", body["status"], "completed");
      mustBe("error", body["error"], null);
      const part = itemOf(messageItem(body), "content");
      mustBe("content[0].type", part["type"], "output_text");
      must(Array.isArray(part["annotations"]), "content[0] without annotations");
      stringOf(part, "text");
    },
  },
  {
    name: "responses: usage",
    run: async (probe) => {
      const usage = objectOf(await respond(probe), "usage");
      const [input, output] = [usage["input_tokens"], usage["output_tokens"]].map(Number);
      mustBe("total_tokens", usage["total_tokens"], (input ?? 0) + (output ?? 0));
      objectOf(usage, "input_tokens_details");
      objectOf(usage, "output_tokens_details");
    },
  },
  {
    name: "responses: input as items without a type, developer and parts",
    run: async (probe) => {
      const input = [
        { role: "developer", content: "Be brief." },
        { role: "user", content: [{ type: "input_text", text: "Hello" }] },
      ];
      messageItem(await respond(probe, { input }));
    },
  },
  {
    name: "responses: events of a text",
    run: async (probe) => {
      mustBeClean(lintResponseEvents(await events(probe)));
    },
  },
  {
    name: "responses: function call",
    run: async (probe) => mustBeWeather(await respond(probe, CALLING)),
  },
  {
    name: "responses: events of a function call",
    run: async (probe) => {
      const text = await events(probe, CALLING);
      mustBeClean(lintResponseEvents(text));
      const last = jsonObject(readSse(text).events.at(-1)?.data ?? "") ?? {};
      mustBeWeather(objectOf(last, "response"));
    },
  },
  {
    name: "responses: a call and its output as input",
    run: async (probe) => {
      const call = { type: "function_call", call_id: "call_1", name: "get_weather", arguments: "{}" };
      const output = { type: "function_call_output", call_id: "call_1", output: "sunny" };
      const input = [{ role: "user", content: "What is the weather?" }, call, output];
      messageItem(await respond(probe, { input }));
    },
  },
  {
    name: "responses: text.format json_schema",
    run: async (probe) => {
      const schema = {
        type: "object",
        properties: { color: { enum: ["red", "blue"] } },
        required: ["color"],
        additionalProperties: false,
      };
      const text = { format: { type: "json_schema", name: "answer", strict: true, schema } };
      const part = itemOf(messageItem(await respond(probe, { text })), "content");
      const value = jsonValue("text", stringOf(part, "text"));
      must(isObject(value) && ["red", "blue"].includes(String(value["color"])), `text is ${show(value)}`);
    },
  },
  {
    name: "responses: max_output_tokens makes it incomplete",
    run: async (probe) => {
      const body = await respond(probe, { input: "Count from 1 to 100.", max_output_tokens: 16 });
      mustBe("status", body["status"], "incomplete");
      mustBe("reason", objectOf(body, "incomplete_details")["reason"], "max_output_tokens");
    },
  },
  {
    name: "responses: stored, read again, deleted",
    run: async (probe) => {
      const id = stringOf(await respond(probe), "id");
      mustBe("id", okJson(await probe.request(`/v1/responses/${id}`))["id"], id);
      const deleted = await probe.request(`/v1/responses/${id}`, { method: "DELETE" });
      mustBe("status of DELETE", deleted.status, 200);
      mustBeError(await probe.request(`/v1/responses/${id}`), 404);
    },
  },
  {
    name: "responses: store false is not stored",
    run: async (probe) => {
      const id = stringOf(await respond(probe, { store: false }), "id");
      mustBeError(await probe.request(`/v1/responses/${id}`), 404);
    },
  },
  {
    name: "responses: previous_response_id goes on with the conversation",
    run: async (probe) => {
      const first = await respond(probe, { input: "My name is Bob." });
      const usage = objectOf(first, "usage");
      const next = await respond(probe, { input: "Hello", previous_response_id: stringOf(first, "id") });
      mustBe("previous_response_id", next["previous_response_id"], first["id"]);
      const tokens = Number(objectOf(next, "usage")["input_tokens"]);
      must(tokens > Number(usage["input_tokens"]), `input_tokens is ${tokens}, as if nothing came before`);
    },
  },
  {
    name: "responses: an unknown tool type is refused",
    run: async (probe) => {
      await respond(probe);
      mustBeError(await probe.respond({ tools: [{ type: "no_such_tool" }] }), 400);
    },
  },
];

async function respond(probe: Probe, fields: Json = {}): Promise<Json> {
  const answer = await probe.respond({ max_output_tokens: 200, ...fields });
  if (refused(answer)) await assertOffered(probe);
  return okJson(answer);
}

async function events(probe: Probe, fields: Json = {}): Promise<string> {
  const answer = await probe.respond({ max_output_tokens: 200, ...fields, stream: true });
  if (refused(answer)) await assertOffered(probe);
  return okStream(answer);
}

/** @throws {NotOffered} unless the endpoint answers a plain question. */
async function assertOffered(probe: Probe): Promise<void> {
  if (refused(await probe.respond())) throw new NotOffered("no Responses API");
}

function items(body: Json): readonly Json[] {
  const { output } = body;
  if (!Array.isArray(output)) throw new CheckFailure(`output is ${show(output)}`);
  return (output as unknown[]).filter(isObject);
}

function messageItem(body: Json): Json {
  const item = items(body).find(({ type }) => type === "message");
  if (item === undefined) throw new CheckFailure(`no message in ${show(body["output"])}`);
  return item;
}

function mustBeWeather(body: Json): void {
  const call = items(body).find(({ type }) => type === "function_call");
  if (call === undefined) throw new CheckFailure(`no function_call in ${show(body["output"])}`);
  mustBe("name", call["name"], "get_weather");
  stringOf(call, "call_id");
  const args = jsonValue("arguments", stringOf(call, "arguments"));
  must(isObject(args) && ["Paris", "Rome"].includes(String(args["city"])), `arguments are ${show(args)}`);
}
