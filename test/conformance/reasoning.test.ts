/** Thinking, told apart from the answer, streamed and not, and given back in a history. */
import { describe, expect, test } from "vitest";
import { createTestApp } from "../support/test-app.ts";
import {
  asking,
  bodyOf,
  chat,
  chatStream,
  MODEL,
  POCKET,
  server,
  SHORT_THOUGHT,
  thinkingServer,
} from "./harness.ts";
import type { Chat } from "./harness.ts";

const THINKING = {
  ...asking("What is 7 + 5?"),
  chat_template_kwargs: { enable_thinking: true },
  ...SHORT_THOUGHT,
};

/** The official types do not know the field. */
function reasoningOf(part: object | undefined): string | undefined {
  return part !== undefined && "reasoning_content" in part ? String(part.reasoning_content) : undefined;
}

describe("a thinking model", () => {
  test("T45 streams its reasoning before the content, under the configured name, and never after it", async () => {
    const { chunks, content } = await chatStream(THINKING, thinkingServer);
    const kinds = chunks.flatMap(({ choices }) => {
      const delta = choices[0]?.delta;
      if (delta === undefined || "role" in delta) return [];
      const reasoning = reasoningOf(delta);
      // Never both in one delta.
      expect(reasoning !== undefined && "content" in delta).toBe(false);
      return reasoning === undefined ? (delta.content === undefined ? [] : ["content"]) : ["reasoning"];
    });
    expect(kinds.join(" ")).toMatch(/^(reasoning )+(content ?)+$/);
    const reasoning = chunks.map(({ choices }) => reasoningOf(choices[0]?.delta) ?? "").join("");
    const whole = await chat(THINKING, thinkingServer);
    expect([content, reasoning]).toEqual([
      whole.choices[0]?.message.content,
      reasoningOf(whole.choices[0]?.message),
    ]);
    // What is cached decides the last bits of an F16 model, and with them, at times, its sum; not where each text goes.
    if (!POCKET) return;
    const [, sum] = /^7 \+ 5 = (\d+)\.$/.exec(reasoning.trim()) ?? [];
    expect(sum).toBeDefined();
    expect(content.trim()).toBe(sum);
  });

  test("T47 that is cut off while it thinks has empty content, no null, and finishes with length", async () => {
    const cut = await chat({ ...THINKING, min_tokens: 0, max_tokens: 4 }, thinkingServer);
    expect(cut.choices[0]).toMatchObject({ message: { content: "" }, finish_reason: "length" });
    expect(reasoningOf(cut.choices[0]?.message)).toMatch(/\S/);
    const { content, finish } = await chatStream(
      { ...THINKING, min_tokens: 0, max_tokens: 4 },
      thinkingServer,
    );
    expect([content, finish]).toEqual(["", "length"]);
  });

  test("T48 counts its reasoning among the completion tokens, and the sum is the sum", async () => {
    const { usage } = await chat(THINKING, thinkingServer);
    const reasoning = usage?.completion_tokens_details?.reasoning_tokens ?? 0;
    expect(reasoning).toBeGreaterThan(0);
    expect(reasoning).toBeLessThan(usage?.completion_tokens ?? 0);
    expect(usage?.total_tokens).toBe((usage?.prompt_tokens ?? 0) + (usage?.completion_tokens ?? 0));
    const { chunks } = await chatStream(
      { ...THINKING, stream_options: { include_usage: true } },
      thinkingServer,
    );
    expect(chunks.at(-1)?.usage).toMatchObject({
      completion_tokens: usage?.completion_tokens,
      completion_tokens_details: { reasoning_tokens: reasoning },
    });
  });
});

test("T46 reasoning in a history is taken under both names, with and without calls, and reaches the template", async () => {
  const call = {
    id: "call_1",
    type: "function",
    function: { name: "get_weather", arguments: '{"city":"Paris"}' },
  };
  for (const thought of [
    { reasoning: "hm" },
    { reasoning_content: "hm" },
    { reasoning: "x", reasoning_content: "hm" },
  ]) {
    const messages = [
      { role: "user", content: "What is 7 + 5?" },
      { role: "assistant", content: "12", ...thought },
      { role: "user", content: "What is the weather in Paris?" },
      { role: "assistant", content: null, tool_calls: [call], ...thought },
      { role: "tool", tool_call_id: "call_1", content: '{"temperature": 21, "condition": "sunny"}' },
    ];
    const response = await server.post("/v1/chat/completions", {
      model: MODEL,
      messages,
      temperature: 0,
      max_tokens: 60,
    });
    const [choice] = (await bodyOf<Chat>(response)).choices;
    expect(choice?.finish_reason).toMatch(/^(stop|length)$/);
    const scripted = createTestApp();
    scripted.engine.script = { kind: "fail", code: "queue_full" };
    await scripted.chat({ messages: [...messages, { role: "user", content: "and now?" }] });
    const [request] = scripted.template.requests;
    expect(request?.messages.map((message) => message["reasoning_content"])).toEqual([
      undefined,
      "hm",
      undefined,
      "hm",
      undefined,
      undefined,
    ]);
  }
});
