/** Checks of what a wrong request is told. */
import { isObject } from "../../http/json.ts";
import { must, mustBe, NotOffered, show } from "../check.ts";
import type { ConformanceCheck } from "../check.ts";
import type { Json } from "../json-text.ts";
import { itemOf, mustBeError, okJson } from "../probe.ts";
import type { Probe } from "../probe.ts";

const REFUSED: readonly (readonly [name: string, fields: Json])[] = [
  ["temperature out of range", { temperature: 9 }],
  ["temperature of a wrong type", { temperature: "hot" }],
  ["messages missing", { messages: undefined }],
  ["messages empty", { messages: [] }],
  ["messages of a wrong type", { messages: 3 }],
  ["an unknown role", { messages: [{ role: "judge", content: "hi" }] }],
  ["a message without content", { messages: [{ role: "user" }] }],
  ["a number as content", { messages: [{ role: "user", content: 3 }] }],
  ["top_logprobs without logprobs", { top_logprobs: 2 }],
  ["top_logprobs above 20", { logprobs: true, top_logprobs: 200 }],
  ["n of 0", { n: 0 }],
  ["stop of a wrong type", { stop: 3 }],
  ["logit_bias with a key that is no token", { logit_bias: { "no token": 1 } }],
  ["an unknown response_format", { response_format: { type: "yaml" } }],
];

export const errorChecks: readonly ConformanceCheck[] = [
  {
    name: "errors: body that is no JSON",
    run: async (probe) => void mustBeError(await probe.post("/v1/chat/completions", '{"model":'), 400),
  },
  ...REFUSED.map(([name, fields]) => ({
    name: `errors: ${name}`,
    run: async (probe: Probe) => void mustBeError(await probe.chat(fields), 400),
  })),
  {
    name: "errors: param and code are there, strings or null",
    run: async (probe) => {
      const error = mustBeError(await probe.chat({ messages: 3 }), 400);
      for (const key of ["param", "code"]) {
        const value = error[key];
        must(value === null || typeof value === "string", `error.${key} is ${show(value)}`);
      }
    },
  },
  {
    name: "errors: param names the field",
    run: async (probe) => {
      mustBe(
        "error.param",
        mustBeError(await probe.chat({ temperature: "hot" }), 400)["param"],
        "temperature",
      );
    },
  },
  {
    name: "errors: an unknown model is 404 model_not_found",
    run: async (probe) => {
      const error = mustBeError(await probe.chat({ model: "no-such-model" }), 404);
      mustBe("error.code", error["code"], "model_not_found");
    },
  },
  ...[false, true].map((stream) => ({
    name: `errors: a prompt longer than the context${stream ? ", streamed" : ""}`,
    run: async (probe: Probe) => {
      const content = "hello ".repeat((await contextOf(probe)) + 100);
      mustBeError(await probe.chat({ messages: [{ role: "user", content }], stream }), 400);
    },
  })),
  {
    name: "errors: the code context_length_exceeded",
    run: async (probe) => {
      const content = "hello ".repeat((await contextOf(probe)) + 100);
      const error = mustBeError(await probe.chat({ messages: [{ role: "user", content }] }), 400);
      mustBe("error.code", error["code"], "context_length_exceeded");
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
