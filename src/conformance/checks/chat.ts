/** Checks of whole chat completions: the body, lengths, stops, choices, log probabilities. */
import { isObject } from "../../http/json.ts";
import { CheckFailure, must, mustBe, show } from "../check.ts";
import type { ConformanceCheck } from "../check.ts";
import type { Json } from "../json-text.ts";
import { contentOf, itemOf, messageOf, objectOf, stringOf } from "../probe.ts";

const FINISH_REASONS = ["stop", "length", "tool_calls", "content_filter", "function_call"];
const QUESTION = [{ role: "user", content: "Count from 1 to 10." }];

export const chatChecks: readonly ConformanceCheck[] = [
  {
    name: "chat: body of an answer",
    run: async (probe) => {
      const body = await probe.chatJson();
      mustBe("object", body["object"], "chat.completion");
      must(stringOf(body, "id").startsWith("chatcmpl-"), `id is ${show(body["id"])}`);
      must(Number.isInteger(body["created"]), `created is ${show(body["created"])}`);
      stringOf(body, "model");
      const choice = itemOf(body, "choices");
      mustBe("choices[0].index", choice["index"], 0);
      must(
        FINISH_REASONS.includes(String(choice["finish_reason"])),
        `finish ${show(choice["finish_reason"])}`,
      );
      mustBe("message.role", messageOf(body)["role"], "assistant");
      contentOf(body);
    },
  },
  {
    name: "chat: required keys refusal and logprobs are there",
    run: async (probe) => {
      const body = await probe.chatJson();
      mustBe("message.refusal", messageOf(body)["refusal"], null);
      mustBe("choices[0].logprobs", itemOf(body, "choices")["logprobs"], null);
    },
  },
  {
    name: "chat: no key tool_calls in a text answer",
    run: async (probe) => {
      const message = messageOf(await probe.chatJson());
      must(!Object.hasOwn(message, "tool_calls"), `tool_calls is ${show(message["tool_calls"])}`);
    },
  },
  {
    name: "chat: usage adds up",
    run: async (probe) => {
      const usage = objectOf(await probe.chatJson(), "usage");
      const [prompt, completion, total] = ["prompt_tokens", "completion_tokens", "total_tokens"].map((key) =>
        Number(usage[key]),
      );
      must(Number.isInteger(prompt) && (prompt ?? 0) > 0, `prompt_tokens is ${show(usage["prompt_tokens"])}`);
      mustBe("total_tokens", total, (prompt ?? 0) + (completion ?? 0));
    },
  },
  ...["max_tokens", "max_completion_tokens"].map(
    (field) =>
      ({
        name: `chat: ${field}`,
        run: async (probe) => {
          const body = await probe.chatJson({ messages: QUESTION, max_tokens: null, [field]: 5 });
          mustBe("completion_tokens", objectOf(body, "usage")["completion_tokens"], 5);
          mustBe("finish_reason", itemOf(body, "choices")["finish_reason"], "length");
        },
      }) satisfies ConformanceCheck,
  ),
  {
    name: "chat: null is absent",
    run: async (probe) => {
      const nulls = Object.fromEntries(
        "top_p stop tools tool_choice response_format seed logit_bias stream_options n logprobs user"
          .split(" ")
          .map((field) => [field, null]),
      );
      contentOf(await probe.chatJson(nulls));
    },
  },
  {
    name: "chat: unknown fields are accepted",
    run: async (probe) => {
      contentOf(await probe.chatJson({ no_such_field: 1, user: "u", metadata: { a: "b" }, store: false }));
    },
  },
  {
    name: "chat: stop string, never shown, nothing lost before it",
    run: async (probe) => {
      const whole = contentOf(await probe.chatJson({ messages: QUESTION }));
      const stop = whole.slice(3, 6);
      must(stop.length === 3, `the answer is too short to be stopped: ${show(whole)}`);
      const body = await probe.chatJson({ messages: QUESTION, stop: ["no such text", stop] });
      mustBe("content", contentOf(body), whole.slice(0, whole.indexOf(stop)));
      mustBe("finish_reason", itemOf(body, "choices")["finish_reason"], "stop");
    },
  },
  {
    name: "chat: empty stop stops nothing",
    run: async (probe) => {
      const whole = contentOf(await probe.chatJson({ messages: QUESTION }));
      for (const stop of ["", []]) {
        mustBe("content", contentOf(await probe.chatJson({ messages: QUESTION, stop })), whole);
      }
    },
  },
  {
    name: "chat: the same seed draws the same text",
    run: async (probe) => {
      const ask = { messages: QUESTION, temperature: 1, seed: 42 };
      mustBe("content", contentOf(await probe.chatJson(ask)), contentOf(await probe.chatJson(ask)));
    },
  },
  {
    name: "chat: n choices with the indices 0 to n-1",
    run: async (probe) => {
      const body = await probe.chatJson({ n: 2, temperature: 1 });
      const choices = body["choices"];
      mustBe("choices", Array.isArray(choices) ? choices.length : choices, 2);
      for (const index of [0, 1])
        mustBe(`choices[${index}].index`, itemOf(body, "choices", index)["index"], index);
    },
  },
  {
    name: "chat: logprobs",
    run: async (probe) => {
      const body = await probe.chatJson({ logprobs: true, top_logprobs: 3 });
      const tokens = logprobsOf(body);
      const bytes = tokens.flatMap(({ bytes: own }) => (Array.isArray(own) ? (own as number[]) : []));
      mustBe("the text of all bytes", Buffer.from(bytes).toString(), contentOf(body));
      for (const token of tokens) {
        must(Number.isFinite(token["logprob"]), `a logprob is ${show(token["logprob"])}`);
        const top = token["top_logprobs"];
        mustBe("the number of top_logprobs", Array.isArray(top) ? top.length : top, 3);
      }
    },
  },
  {
    name: "chat: logprobs without top_logprobs have empty lists",
    run: async (probe) => {
      const [first] = logprobsOf(await probe.chatJson({ logprobs: true }));
      must(Array.isArray(first?.["top_logprobs"]), `top_logprobs is ${show(first?.["top_logprobs"])}`);
      mustBe("the number of top_logprobs", (first["top_logprobs"] as unknown[]).length, 0);
    },
  },
];

const text = (value: string): object[] => [{ type: "text", text: value }];

const CALL = {
  id: "call_1",
  type: "function",
  function: { name: "get_weather", arguments: '{"city":"Paris"}' },
};

const HISTORIES: readonly (readonly [name: string, messages: readonly object[]])[] = [
  [
    "content parts in every role",
    [
      { role: "system", content: text("Be brief.") },
      { role: "user", content: text("Hello") },
      { role: "assistant", content: text("Hello!") },
      { role: "user", content: [...text("How are "), ...text("you?")] },
    ],
  ],
  [
    "role developer",
    [
      { role: "developer", content: "Be brief." },
      { role: "user", content: "Hello" },
    ],
  ],
  [
    "a second system message in the middle",
    [
      { role: "system", content: "Be brief." },
      { role: "user", content: "Hello" },
      { role: "system", content: "Be kind." },
      { role: "user", content: "How are you?" },
    ],
  ],
  [
    "an assistant message with tool_calls []",
    [
      { role: "user", content: "Hello" },
      { role: "assistant", content: "Hello!", tool_calls: [] },
      { role: "user", content: "How are you?" },
    ],
  ],
  [
    "a call with null content and its result",
    [
      { role: "user", content: "What is the weather in Paris?" },
      { role: "assistant", content: null, tool_calls: [CALL] },
      { role: "tool", tool_call_id: "call_1", content: '{"temperature": 21}' },
    ],
  ],
  [
    "a call whose arguments are no JSON",
    [
      { role: "user", content: "What is the weather in Paris?" },
      {
        role: "assistant",
        content: null,
        tool_calls: [{ ...CALL, function: { name: "get_weather", arguments: '{"city":' } }],
      },
      { role: "tool", tool_call_id: "call_1", content: "error" },
    ],
  ],
];

export const historyChecks: readonly ConformanceCheck[] = HISTORIES.map(([name, messages]) => ({
  name: `history: ${name}`,
  run: async (probe) => {
    const body = await probe.chatJson({ messages });
    mustBe("message.role", messageOf(body)["role"], "assistant");
  },
}));

function logprobsOf(body: Json): readonly Json[] {
  const { content } = objectOf(itemOf(body, "choices"), "logprobs");
  must(Array.isArray(content) && content.length > 0, `logprobs.content is ${show(content)}`);
  return (content as unknown[]).map((token) => {
    if (!isObject(token)) throw new CheckFailure(`a token of the logprobs is ${show(token)}`);
    for (const key of ["token", "logprob", "bytes", "top_logprobs"]) {
      must(Object.hasOwn(token, key), `a token of the logprobs has no ${key}`);
    }
    return token;
  });
}
