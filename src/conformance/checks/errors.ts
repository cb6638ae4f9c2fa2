/** Checks of what a wrong request is told. */
import type { ConformanceCheck } from "../check.ts";
import { NotOffered } from "../check.ts";
import { isObject } from "../../http/json.ts";
import { itemOf, mustBeError, okJson } from "../probe.ts";
import type { ExpectedError, Probe } from "../probe.ts";
import type { Json } from "../json-text.ts";

const REFUSED: readonly (readonly [name: string, fields: Json, expected: ExpectedError])[] = [
  ["temperature out of range", { temperature: 9 }, { status: 400, param: "temperature" }],
  ["temperature of a wrong type", { temperature: "hot" }, { status: 400, param: "temperature" }],
  ["messages missing", { messages: undefined }, { status: 400, param: "messages" }],
  ["messages empty", { messages: [] }, { status: 400, param: "messages" }],
  ["messages of a wrong type", { messages: 3 }, { status: 400, param: "messages" }],
  ["an unknown role", { messages: [{ role: "judge", content: "hi" }] }, { status: 400 }],
  ["a message without content", { messages: [{ role: "user" }] }, { status: 400 }],
  ["a number as content", { messages: [{ role: "user", content: 3 }] }, { status: 400 }],
  ["top_logprobs without logprobs", { top_logprobs: 2 }, { status: 400 }],
  ["top_logprobs above 20", { logprobs: true, top_logprobs: 200 }, { status: 400 }],
  ["n of 0", { n: 0 }, { status: 400 }],
  ["stop of a wrong type", { stop: 3 }, { status: 400 }],
  ["logit_bias with a key that is no token", { logit_bias: { "no token": 1 } }, { status: 400 }],
  ["an unknown response_format", { response_format: { type: "yaml" } }, { status: 400 }],
  ["an unknown model", { model: "no-such-model" }, { status: 404, code: "model_not_found" }],
];

export const errorChecks: readonly ConformanceCheck[] = [
  {
    name: "errors: body that is no JSON",
    run: async (probe) => mustBeError(await probe.post("/v1/chat/completions", '{"model":'), { status: 400 }),
  },
  ...REFUSED.map(([name, fields, expected]) => ({
    name: `errors: ${name}`,
    run: async (probe: Probe) => mustBeError(await probe.chat(fields), expected),
  })),
  {
    name: "errors: a prompt longer than the context",
    run: async (probe) => {
      const context = await contextOf(probe);
      const messages = [{ role: "user", content: "hello ".repeat(context + 100) }];
      const expected = { status: 400, code: "context_length_exceeded" };
      mustBeError(await probe.chat({ messages, stream: true }), expected);
    },
  },
];

/** A larger context would take too long to overflow. */
const MAX_CONTEXT = 131_072;

/** Tokens; servers tell it under different names. @throws {NotOffered} when the server does not tell it. */
async function contextOf(probe: Probe): Promise<number> {
  const model = itemOf(okJson(await probe.request("/v1/models")), "data");
  const meta = isObject(model["meta"]) ? model["meta"] : {};
  const told = [model["max_model_len"], model["context_length"], meta["n_ctx"], meta["n_ctx_train"]];
  const context = told.find((value) => typeof value === "number" && value <= MAX_CONTEXT);
  if (typeof context !== "number") throw new NotOffered("the model list tells no context length");
  return context;
}
