/** Log probabilities as llama.cpp's and vLLM's clients ask for them. */
import { describe, expect, it } from "vitest";
import type { PromptLogprobs } from "../../engine/protocol.ts";
import type { Script } from "../support/scripted-engine.ts";
import { createTestApp, MODEL_ID } from "../support/test-app.ts";
import { EOS, idsOf } from "../support/tiny-vocabulary.ts";

const [HEL = 0, LO = 0] = idsOf("Hello");
const [h = 0, i = 0] = idsOf("hi");

const END = { tokens: [EOS], finish: { reason: "stop", stopToken: EOS } } as const;
const ANSWER: Script = {
  kind: "answer",
  steps: [{ tokens: [HEL], logprobs: [{ logprob: -1, top: [[LO, -0.5]] }] }, END],
};

/** Of "hi", with one alternative: "Hel" and then, for "i", itself. */
const OF_PROMPT: PromptLogprobs = {
  logprobs: Float32Array.of(0, -0.5),
  top: 1,
  topTokens: Uint32Array.of(h, HEL),
  topLogprobs: Float32Array.of(-9, -0.25),
};

interface Body {
  readonly choices: readonly { readonly logprobs: unknown; readonly prompt_logprobs?: unknown }[];
  readonly prompt_logprobs?: unknown;
}

async function ask(path: "chat/completions" | "completions", fields: object, script: Script = ANSWER) {
  const app = createTestApp();
  app.engine.script = script;
  const asked = path === "completions" ? { prompt: "hi" } : { messages: [{ role: "user", content: "hi" }] };
  const response = await app.post(`/v1/${path}`, { model: MODEL_ID, ...asked, ...fields });
  const body = (await response.json()) as Body & { error?: { param: string | null; code: string | null } };
  return { body, status: response.status, submit: app.engine.submits[0], headers: response.headers };
}

describe("n_probs", () => {
  it("asks for logprobs with so many alternatives, in OpenAI's shape", async () => {
    const chat = await ask("chat/completions", { n_probs: 1 });
    expect(chat.submit?.params.topLogprobs).toBe(1);
    expect(chat.body.choices[0]?.logprobs).toMatchObject({
      content: [{ token: "Hel", logprob: -1, top_logprobs: [{ token: "lo", logprob: -0.5 }] }],
    });
    const legacy = await ask("completions", { n_probs: 1 });
    expect(legacy.body.choices[0]?.logprobs).toMatchObject({
      tokens: ["Hel"],
      top_logprobs: [{ lo: -0.5, Hel: -1 }],
    });
    expect(legacy.headers.get("x-weft-ignored-params")).toBeNull();
  });

  it("is off with 0, and gives way to OpenAI's fields", async () => {
    for (const path of ["chat/completions", "completions"] as const) {
      const { body, submit } = await ask(path, { n_probs: 0 });
      expect([submit?.params.topLogprobs, body.choices[0]?.logprobs]).toEqual([undefined, null]);
    }
    const both = await ask("chat/completions", { n_probs: 4, logprobs: true, top_logprobs: 2 });
    expect(both.submit?.params.topLogprobs).toBe(2);
    expect((await ask("chat/completions", { n_probs: 4, logprobs: true })).submit?.params.topLogprobs).toBe(
      4,
    );
    expect((await ask("completions", { n_probs: 4, logprobs: 1 })).submit?.params.topLogprobs).toBe(1);
  });
});

describe("return_tokens_as_token_ids", () => {
  it("names tokens by their ids, with their bytes as they are", async () => {
    const fields = { n_probs: 1, return_tokens_as_token_ids: true };
    expect((await ask("chat/completions", fields)).body.choices[0]?.logprobs).toEqual({
      content: [
        {
          token: `token_id:${HEL}`,
          logprob: -1,
          bytes: [...Buffer.from("Hel")],
          top_logprobs: [{ token: `token_id:${LO}`, logprob: -0.5, bytes: [...Buffer.from("lo")] }],
        },
      ],
      refusal: null,
    });
    expect((await ask("completions", fields)).body.choices[0]?.logprobs).toEqual({
      tokens: [`token_id:${HEL}`],
      token_logprobs: [-1],
      top_logprobs: [{ [`token_id:${LO}`]: -0.5, [`token_id:${HEL}`]: -1 }],
      text_offset: [2],
    });
  });
});

describe("prompt_logprobs", () => {
  const script: Script = {
    kind: "answer",
    steps: [{ tokens: [HEL], logprobs: [], promptLogprobs: OF_PROMPT }, END],
  };
  const shown = [
    null,
    {
      [HEL]: { logprob: -0.25, rank: 1, decoded_token: "Hel" },
      [i]: { logprob: -0.5, rank: null, decoded_token: "i" },
    },
  ];

  it("are vLLM's: of each token of the prompt itself and the alternatives", async () => {
    const chat = await ask("chat/completions", { prompt_logprobs: 1 }, script);
    expect([chat.submit?.promptLogprobs, chat.body.prompt_logprobs]).toEqual([1, shown]);
    const legacy = await ask("completions", { prompt_logprobs: 1 }, script);
    expect([legacy.submit?.promptLogprobs, legacy.body.choices[0]?.prompt_logprobs]).toEqual([1, shown]);
  });

  it("are left out unless they are asked for", async () => {
    for (const path of ["chat/completions", "completions"] as const) {
      const { body, submit } = await ask(path, {}, script);
      expect(submit?.promptLogprobs).toBeUndefined();
      expect(JSON.stringify(body)).not.toContain("prompt_logprobs");
    }
  });
});

describe("what cannot be given", () => {
  it.each([
    ["chat/completions", { n_probs: 21 }, "n_probs", "integer_above_max_value"],
    ["completions", { n_probs: -1 }, "n_probs", "integer_below_min_value"],
    ["chat/completions", { prompt_logprobs: 21 }, "prompt_logprobs", "integer_above_max_value"],
    ["chat/completions", { prompt_logprobs: -1 }, "prompt_logprobs", "integer_below_min_value"],
    ["chat/completions", { prompt_logprobs: 0, stream: true }, "prompt_logprobs", "invalid_value"],
    ["completions", { prompt_logprobs: 1, echo: true, logprobs: 1 }, "prompt_logprobs", "invalid_value"],
    ["completions", { return_tokens_as_token_ids: 1 }, "return_tokens_as_token_ids", "invalid_type"],
  ] as const)("%s %j is a 400", async (path, fields, param, code) => {
    const { status, body, submit } = await ask(path, fields);
    expect([status, body.error?.param, body.error?.code, submit]).toEqual([400, param, code, undefined]);
  });
});
