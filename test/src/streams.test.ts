/** The exact bytes of streams, as clients parse them. */
import { describe, expect, it } from "vitest";
import { sayThenStop } from "../support/scripted-engine.ts";
import { createTestApp, MODEL_ID } from "../support/test-app.ts";
import { byteIds, EOS, idsOf } from "../support/tiny-vocabulary.ts";

const HEAD =
  '"id":"chatcmpl-2","object":"chat.completion.chunk","created":1730000000,"model":"org/tiny","system_fingerprint":"fp_0123456789"';
const TEXT_HEAD =
  '"id":"cmpl-2","object":"text_completion","created":1730000000,"model":"org/tiny","system_fingerprint":"fp_0123456789"';
const ROLE =
  '{"index":0,"delta":{"role":"assistant","content":"","refusal":null},"logprobs":null,"finish_reason":null}';

const timings = (predicted: number): string =>
  `"timings":{"cache_n":1,"prompt_n":1,"prompt_ms":10,"prompt_per_token_ms":10,"prompt_per_second":100,"predicted_n":${predicted},"predicted_ms":0,"predicted_per_token_ms":0,"predicted_per_second":0}`;

const usage = (completion: number, reasoning = 0): string =>
  `{"prompt_tokens":2,"completion_tokens":${completion},"total_tokens":${2 + completion},"prompt_tokens_details":{"cached_tokens":1,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":${reasoning},"audio_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}`;

const frames = (...data: string[]): string => data.map((text) => `data: ${text}\n\n`).join("");

describe("a chat stream", () => {
  it("is role, deltas, finish, [DONE], and nothing else", async () => {
    const { engine, chat } = createTestApp();
    engine.script = sayThenStop("Hello", EOS);
    const response = await chat({ stream: true });
    expect(await response.text()).toBe(
      frames(
        `{${HEAD},"choices":[${ROLE}]}`,
        `{${HEAD},"choices":[{"index":0,"delta":{"content":"Hel"},"logprobs":null,"finish_reason":null}]}`,
        `{${HEAD},"choices":[{"index":0,"delta":{"content":"lo"},"logprobs":null,"finish_reason":null}]}`,
        `{${HEAD},"choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop","stop_reason":null}],${timings(3)}}`,
        "[DONE]",
      ),
    );
    expect(Object.fromEntries(response.headers)).toMatchObject({
      "content-type": "text/event-stream; charset=utf-8",
      "cache-control": "no-cache",
      "x-accel-buffering": "no",
      "x-request-id": "req_1",
      "openai-version": "2020-10-01",
    });
  });

  it("writes the role in the same write as the first content", async () => {
    const { engine, chat } = createTestApp();
    engine.script = sayThenStop("Hello", EOS);
    const reader = (await chat({ stream: true })).body?.getReader();
    const first = new TextDecoder().decode((await reader?.read())?.value);
    expect(first.match(/"role"/g)).toHaveLength(1);
    expect(first).toContain('"content":"Hel"');
    await reader?.cancel();
  });

  it("has usage null on every chunk and one usage chunk before [DONE] when usage is asked for", async () => {
    const { engine, chat } = createTestApp();
    engine.script = sayThenStop("Hel", EOS);
    const response = await chat({ stream: true, stream_options: { include_usage: true } });
    expect(await response.text()).toBe(
      frames(
        `{${HEAD},"choices":[${ROLE}],"usage":null}`,
        `{${HEAD},"choices":[{"index":0,"delta":{"content":"Hel"},"logprobs":null,"finish_reason":null}],"usage":null}`,
        `{${HEAD},"choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop","stop_reason":null}],"usage":null,${timings(2)}}`,
        `{${HEAD},"choices":[],"usage":${usage(2)}}`,
        "[DONE]",
      ),
    );
  });

  it("counts up in every chunk with continuous_usage_stats", async () => {
    const { engine, chat } = createTestApp();
    engine.script = sayThenStop("Hello", EOS);
    const response = await chat({
      stream: true,
      stream_options: { include_usage: true, continuous_usage_stats: true },
    });
    const counts = [...(await response.text()).matchAll(/"completion_tokens":(\d+)/g)].map(
      (match) => match[1],
    );
    expect(counts).toEqual(["0", "1", "2", "3", "3"]);
  });

  it("sends reasoning before content under the configured name", async () => {
    for (const field of ["reasoning_content", "reasoning"] as const) {
      const { engine, chat } = createTestApp({ config: { reasoningField: field } });
      engine.script = sayThenStop("<think>lo</think>Hel", EOS);
      const response = await chat({ stream: true, stream_options: { include_usage: true } });
      expect(await response.text()).toBe(
        frames(
          `{${HEAD},"choices":[${ROLE}],"usage":null}`,
          `{${HEAD},"choices":[{"index":0,"delta":{"${field}":"lo"},"logprobs":null,"finish_reason":null}],"usage":null}`,
          `{${HEAD},"choices":[{"index":0,"delta":{"content":"Hel"},"logprobs":null,"finish_reason":null}],"usage":null}`,
          `{${HEAD},"choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop","stop_reason":null}],"usage":null,${timings(5)}}`,
          `{${HEAD},"choices":[],"usage":${usage(5, 3)}}`,
          "[DONE]",
        ),
      );
    }
  });

  it("leaves the markers in the content with reasoning_format none", async () => {
    const { engine, chat } = createTestApp();
    engine.script = sayThenStop("<think>lo</think>Hel", EOS);
    const body = (await (await chat({ reasoning_format: "none" })).json()) as {
      choices: { message: { content: string } }[];
    };
    expect(body.choices[0]?.message.content).toBe("<think>lo</think>Hel");
  });

  it("carries each token id once, the end token on the finish chunk", async () => {
    const { engine, chat } = createTestApp();
    engine.script = sayThenStop("Hello", EOS);
    const text = await (await chat({ stream: true, return_token_ids: true })).text();
    const ids = [...text.matchAll(/"token_ids":\[([\d,]*)\]/g)].map((match) => match[1]);
    expect(ids).toEqual(["2", "3", "1"]);
    expect(text).toContain(`"prompt_token_ids":[${idsOf("hi").join(",")}]`);
  });

  it("ends at a stop string, says which, and frees the slot", async () => {
    const { engine, chat } = createTestApp();
    engine.script = { kind: "answer", steps: idsOf("HelENDlo").map((token) => ({ tokens: [token] })) };
    const text = await (await chat({ stream: true, stop: ["END"] })).text();
    expect(text).toContain('"finish_reason":"stop","stop_reason":"END"');
    expect(text).not.toContain('"content":"lo"');
    expect(engine.cancels).toEqual(["chatcmpl-2"]);
  });

  it("names the stop token that ended it, and leaves its text out", async () => {
    const [word] = idsOf("END");
    const { engine, chat } = createTestApp();
    engine.script = sayThenStop("Hel", word ?? 0);
    const text = await (await chat({ stream: true, stop_token_ids: [word] })).text();
    expect(text).toContain(`"finish_reason":"stop","stop_reason":${word}`);
    expect(text).not.toContain("END");
  });

  it("finishes with length at the engine's limit", async () => {
    const { engine, chat } = createTestApp();
    engine.script = {
      kind: "answer",
      steps: [{ tokens: idsOf("Hel"), finish: { reason: "length", stopToken: undefined } }],
    };
    expect(await (await chat({ stream: true })).text()).toContain('"finish_reason":"length"');
  });

  it("has a role also when there is no text at all", async () => {
    const { engine, chat } = createTestApp();
    engine.script = sayThenStop("", EOS);
    const text = await (await chat({ stream: true })).text();
    expect(text.indexOf('"role"')).toBeGreaterThan(0);
    expect(text.match(/"role"/g)).toHaveLength(1);
    expect(text.endsWith("data: [DONE]\n\n")).toBe(true);
  });

  it("never splits a character over two deltas", async () => {
    const { engine, chat } = createTestApp();
    engine.script = {
      kind: "answer",
      steps: [...byteIds("é😀"), EOS].map((token) => ({
        tokens: [token],
        ...(token === EOS ? { finish: { reason: "stop" as const, stopToken: EOS } } : {}),
      })),
    };
    const text = await (await chat({ stream: true })).text();
    const contents = [...text.matchAll(/"delta":\{"content":"([^"]*)"\}/g)].map((match) => match[1]);
    expect(contents).toEqual(["é", "😀"]);
  });

  it("has timings beside the usage where they are asked for with each token", async () => {
    const { engine, chat } = createTestApp();
    engine.script = sayThenStop("Hello", EOS);
    const last = async (timings_per_token: boolean): Promise<object> => {
      const asked = { stream: true, stream_options: { include_usage: true }, timings_per_token };
      const text = await (await chat(asked)).text();
      return JSON.parse(text.split("\n\n").at(-3)?.slice("data: ".length) ?? "") as object;
    };
    expect(await last(true)).toMatchObject({ choices: [], timings: { predicted_n: 3 } });
    expect(await last(false)).not.toHaveProperty("timings");
  });

  it("tells how far the prompt is where that is asked for, and never that it is back where it was", async () => {
    const { engine, chat } = createTestApp();
    engine.script = { kind: "accept" };
    const response = await chat({ stream: true, return_progress: true, timings_per_token: true });
    const [submit] = engine.submits;
    if (submit === undefined) throw new Error("nothing was submitted");
    expect(submit.reportsPrefill).toBe(true);
    // Another engine begins the prompt anew.
    for (const computed of [1, 0, 1]) engine.reportPrefill(submit, computed, computed * 40);
    engine.step(submit, { tokens: idsOf("Hel"), finish: { reason: "length", stopToken: undefined } }, true);
    const progress = (processed: number, ms: number, prompt: string): string =>
      `{${HEAD},"choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":null}],"timings":{"cache_n":1,${prompt},"predicted_n":0,"predicted_ms":0,"predicted_per_token_ms":0,"predicted_per_second":0},"prompt_progress":{"total":2,"cache":1,"processed":${processed},"time_ms":${ms}}}`;
    const opening = frames(
      progress(1, 40, '"prompt_n":0,"prompt_ms":40,"prompt_per_token_ms":0,"prompt_per_second":0'),
      progress(2, 40, '"prompt_n":1,"prompt_ms":40,"prompt_per_token_ms":40,"prompt_per_second":25'),
      `{${HEAD},"choices":[${ROLE}]}`,
    );
    expect((await response.text()).slice(0, opening.length)).toBe(opening);
  });

  it("tells in the end what the model read and wrote, where that is asked for", async () => {
    const { engine, chat } = createTestApp();
    engine.script = sayThenStop("Hello", EOS);
    const told = {
      __verbose: {
        prompt: "hi",
        content: expect.stringContaining("Hello"),
        tokens: [...idsOf("Hello"), EOS],
        tokens_evaluated: 2,
        tokens_predicted: 3,
      },
    };
    expect(await (await chat({ verbose: true })).json()).toMatchObject(told);
    const text = await (await chat({ verbose: true, stream: true })).text();
    expect(JSON.parse(text.split("\n\n").at(-3)?.slice("data: ".length) ?? "")).toMatchObject(told);
    expect(text.match(/__verbose/g)).toHaveLength(1);
    expect(await (await chat({ verbose: false })).json()).not.toHaveProperty("__verbose");
  });

  it("tells of the first choice's prompt alone, and nothing where the answer is no stream", async () => {
    const { engine, chat } = createTestApp();
    engine.script = sayThenStop("Hel", EOS);
    await (await chat({ stream: true, n: 2, return_progress: true })).text();
    await (await chat({ return_progress: true })).text();
    await (await chat({ stream: true })).text();
    expect(engine.submits.map(({ reportsPrefill = false }) => reportsPrefill)).toEqual([
      true,
      false,
      false,
      false,
    ]);
  });

  it("shows a failure as an error frame before [DONE], without a finish reason", async () => {
    const { engine, chat, log } = createTestApp();
    engine.script = { kind: "accept" };
    const response = await chat({ stream: true });
    const [submit] = engine.submits;
    if (submit === undefined) throw new Error("nothing was submitted");
    engine.step(submit, { tokens: idsOf("Hel") }, true);
    engine.fail(submit, "decode_failed");
    expect(await response.text()).toBe(
      frames(
        `{${HEAD},"choices":[${ROLE}]}`,
        `{${HEAD},"choices":[{"index":0,"delta":{"content":"Hel"},"logprobs":null,"finish_reason":null}]}`,
        '{"error":{"message":"The model\'s engine failed to compute this request.","type":"server_error","param":null,"code":"engine_error"}}',
        "[DONE]",
      ),
    );
    expect(log.at(-1)?.fields).toMatchObject({ outcome: "server_error", error: "engine_error" });
  });

  it("shows the death of the engine as an error frame", async () => {
    const { engine, chat } = createTestApp();
    engine.script = { kind: "accept" };
    const response = await chat({ stream: true });
    engine.die();
    expect(await response.text()).toBe(
      frames(
        '{"error":{"message":"The model\'s engine stopped. Please try again.","type":"server_error","param":null,"code":"engine_restarting"}}',
        "[DONE]",
      ),
    );
  });
});

describe("log probabilities", () => {
  it("come with the chunk that carries their text", async () => {
    const { engine, chat } = createTestApp();
    const [hel, lo] = [idsOf("Hel")[0] ?? 0, idsOf("lo")[0] ?? 0];
    const [byte] = byteIds("é");
    engine.script = {
      kind: "answer",
      steps: [
        {
          tokens: [hel, EOS],
          logprobs: [
            {
              logprob: -0.5,
              top: [
                [hel, -0.5],
                [byte ?? 0, -1],
              ],
            },
            { logprob: -0.1, top: [[lo, -9999]] },
          ],
          finish: { reason: "stop", stopToken: EOS },
        },
      ],
    };
    const text = await (await chat({ stream: true, logprobs: true, top_logprobs: 2 })).text();
    expect(text).toContain(
      '"logprobs":{"content":[{"token":"Hel","logprob":-0.5,"bytes":[72,101,108],"top_logprobs":[{"token":"Hel","logprob":-0.5,"bytes":[72,101,108]},{"token":"bytes:\\\\xc3","logprob":-1,"bytes":[195]}]}],"refusal":null}',
    );
    expect(text).not.toContain("</s>");
  });
});

describe("a legacy completion stream", () => {
  it("has text deltas under the name text_completion", async () => {
    const { engine, post } = createTestApp();
    engine.script = sayThenStop("Hello", EOS);
    const response = await post("/v1/completions", { model: MODEL_ID, prompt: "hi", stream: true });
    expect(await response.text()).toBe(
      frames(
        `{${TEXT_HEAD},"choices":[{"text":"Hel","index":0,"logprobs":null,"finish_reason":null}]}`,
        `{${TEXT_HEAD},"choices":[{"text":"lo","index":0,"logprobs":null,"finish_reason":null}]}`,
        `{${TEXT_HEAD},"choices":[{"text":"","index":0,"logprobs":null,"finish_reason":"stop","stop_reason":null}],${timings(3)}}`,
        "[DONE]",
      ),
    );
  });
});

describe("whole bodies", () => {
  it("of chat are OpenAI's, with timings", async () => {
    const { engine, chat } = createTestApp();
    engine.script = sayThenStop("<think>lo</think>Hel", EOS);
    expect(await (await chat()).text()).toBe(
      `{"id":"chatcmpl-2","object":"chat.completion","created":1730000000,"model":"org/tiny","choices":[{"index":0,"message":{"role":"assistant","content":"Hel","reasoning_content":"lo","refusal":null,"annotations":[]},"logprobs":null,"finish_reason":"stop","stop_reason":null}],"usage":${usage(5, 3)},"service_tier":"default","system_fingerprint":"fp_0123456789",${timings(5)}}`,
    );
  });

  it("of completions have legacy logprobs with offsets from the start of the prompt", async () => {
    const { engine, post } = createTestApp();
    const [hel, lo] = [idsOf("Hel")[0] ?? 0, idsOf("lo")[0] ?? 0];
    engine.script = {
      kind: "answer",
      steps: [
        {
          tokens: [hel, lo],
          logprobs: [
            { logprob: -0.5, top: [[hel, -0.5]] },
            { logprob: -1.5, top: [[lo, -1.5]] },
          ],
          finish: { reason: "length", stopToken: undefined },
        },
      ],
    };
    const body = (await (
      await post("/completions", { model: "tiny", prompt: "hé", logprobs: 1 })
    ).json()) as object;
    expect(body).toMatchObject({
      object: "text_completion",
      choices: [
        {
          text: "Hello",
          finish_reason: "length",
          logprobs: {
            tokens: ["Hel", "lo"],
            token_logprobs: [-0.5, -1.5],
            top_logprobs: [{ Hel: -0.5 }, { lo: -1.5 }],
            text_offset: [2, 5],
          },
        },
      ],
    });
  });
});

describe("the keep-alive comment", () => {
  it("comes before the first token only", async () => {
    const { engine, chat } = createTestApp({ config: { sseKeepAliveSeconds: 0.005 } });
    engine.script = { kind: "accept" };
    const reader = (await chat({ stream: true })).body?.getReader();
    const decoder = new TextDecoder();
    expect(decoder.decode((await reader?.read())?.value)).toBe(": keep-alive\n\n");
    const [submit] = engine.submits;
    if (submit === undefined) throw new Error("nothing was submitted");
    engine.step(submit, { tokens: idsOf("Hel") }, true);
    let text = "";
    while (!text.includes("Hel")) text += decoder.decode((await reader?.read())?.value);
    engine.step(submit, { tokens: [EOS], finish: { reason: "stop", stopToken: EOS } }, false);
    let rest = "";
    for (let next = await reader?.read(); next?.done === false; next = await reader?.read()) {
      rest += decoder.decode(next.value);
    }
    expect(rest).not.toContain("keep-alive");
  });
});
