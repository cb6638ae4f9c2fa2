/** Whatever a client sends is answered, refused with a field's name, or ignored; it is never the server's fault. */
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { createResponsesApp, errorOf } from "./response-client.ts";

const FIELDS = [
  "model", "input", "instructions", "previous_response_id", "store", "stream", "background", "include",
  "max_output_tokens", "max_tool_calls", "parallel_tool_calls", "temperature", "top_p", "top_logprobs", "tools",
  "tool_choice", "text", "reasoning", "truncation", "metadata", "user", "stop", "seed", "logit_bias",
  "chat_template_kwargs", "constructor", "__proto__",
]; // prettier-ignore
const KEYS = [
  "type", "role", "content", "text", "id", "call_id", "name", "arguments", "output", "summary", "status",
  "encrypted_content", "format", "schema", "effort", "parameters", "mode", "tools", "strict", "syntax", "definition",
]; // prettier-ignore
const WORDS = [
  "message", "user", "assistant", "input_text", "output_text", "function_call", "function_call_output", "reasoning",
  "item_reference", "custom_tool_call", "function", "custom", "allowed_tools", "auto", "required", "json_schema",
  "json_object", "grammar", "lark", "web_search", "resp_2", "msg_2_0", "{}", "",
]; // prettier-ignore

const value = fc.letrec<{ any: unknown }>((tie) => ({
  any: fc.oneof(
    { depthSize: "medium", withCrossShrink: true },
    fc.constantFrom<unknown>(...WORDS),
    fc.constantFrom<unknown>(null, true, false, 0, 1, -1, 0.5, 1e9),
    fc.array(tie("any"), { maxLength: 3 }),
    fc.dictionary(fc.constantFrom(...KEYS), tie("any"), { maxKeys: 4, noNullPrototype: true }),
  ),
})).any;
const valid = fc.constantFrom<object>(
  { input: "hi" },
  { input: [{ role: "user", content: "hi" }], stream: true },
  {
    input: [
      { type: "reasoning", summary: [] },
      { role: "user", content: "hi" },
    ],
    background: true,
  },
);
const body = fc
  .tuple(valid, fc.array(fc.tuple(fc.constantFrom(...FIELDS), value), { maxLength: 3 }))
  .map(([base, changes]) => ({ ...base, ...Object.fromEntries(changes) }));

describe("a request with any fields", () => {
  it("gets an answer below 500, and an error with all four keys", async () => {
    const { ask, call } = createResponsesApp();
    let answered = 0;
    await fc.assert(
      fc.asyncProperty(body, async (fields) => {
        const reply = await ask(fields);
        if (reply.status === 200) {
          answered++;
          await reply.text();
          return;
        }
        const { status, message, type, param, code } = await errorOf(reply);
        expect([status, type]).toEqual([status === 404 ? 404 : 400, "invalid_request_error"]);
        expect([typeof message, typeof code]).toEqual(["string", "string"]);
        // OpenAI names no field for a model that is not there.
        expect(param).toEqual(status === 404 ? null : expect.any(String));
      }),
      { numRuns: 400 },
    );
    expect(answered).toBeGreaterThan(20);
    // Nothing that was stored on the way is unreadable.
    for (let i = 0; i < 1500; i++) {
      const { status } = await call("GET", `resp_${i}?stream=true`);
      expect([200, 404]).toContain(status);
    }
  });
});
