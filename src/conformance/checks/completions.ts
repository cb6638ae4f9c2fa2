/** Checks of legacy completions and of embeddings. */
import { isObject } from "../../http/json.ts";
import { lintChunks } from "../chunk-lint.ts";
import { CheckFailure, must, mustBe, mustBeClean, NotOffered, show } from "../check.ts";
import type { ConformanceCheck } from "../check.ts";
import { chunksOf } from "../chunks.ts";
import { itemOf, mustBeError, objectOf, okJson, okStream, stringOf } from "../probe.ts";
import type { Answer, Probe } from "../probe.ts";

const PROMPT = "1, 2, 3,";

export const completionChecks: readonly ConformanceCheck[] = [
  {
    name: "completions: body of an answer",
    run: async (probe) => {
      const body = okJson(await probe.complete());
      mustBe("object", body["object"], "text_completion");
      must(stringOf(body, "id").startsWith("cmpl-"), `id is ${show(body["id"])}`);
      const choice = itemOf(body, "choices");
      stringOf(choice, "text");
      mustBe("choices[0].index", choice["index"], 0);
      must(["stop", "length"].includes(String(choice["finish_reason"])), show(choice["finish_reason"]));
      must(Number.isInteger(objectOf(body, "usage")["total_tokens"]), "usage without total_tokens");
    },
  },
  {
    name: "completions: at most 16 tokens by default",
    run: async (probe) => {
      const body = okJson(await probe.complete({ max_tokens: null }));
      const count = objectOf(body, "usage")["completion_tokens"];
      must(typeof count === "number" && count <= 16, `completion_tokens is ${show(count)}`);
    },
  },
  {
    name: "completions: stream",
    run: async (probe) => {
      const text = okStream(await probe.complete({ stream: true }));
      mustBeClean(lintChunks(text, "text_completion"));
      const pieces = chunksOf(text).flatMap(({ choices }) =>
        (choices as { text: string }[]).map((c) => c.text),
      );
      mustBe("the text", pieces.join(""), itemOf(okJson(await probe.complete()), "choices")["text"]);
    },
  },
  {
    name: "completions: several prompts",
    run: async (probe) => {
      const prompts = [PROMPT, "The capital of France is"];
      const together = okJson(await probe.complete({ prompt: prompts }));
      for (const [i, prompt] of prompts.entries()) {
        const alone = itemOf(okJson(await probe.complete({ prompt })), "choices")["text"];
        const choice = itemOf(together, "choices", i);
        mustBe(`choices[${i}].index`, choice["index"], i);
        mustBe(`choices[${i}].text`, choice["text"], alone);
      }
    },
  },
  {
    name: "completions: prompt as token ids",
    run: async (probe) => {
      const body = okJson(await probe.complete({ prompt: [5, 6, 7, 8], max_tokens: 2 }));
      mustBe("prompt_tokens", objectOf(body, "usage")["prompt_tokens"], 4);
    },
  },
  {
    name: "completions: n",
    run: async (probe) => {
      const body = okJson(await probe.complete({ n: 2, temperature: 1 }));
      mustBe("choices[1].index", itemOf(body, "choices", 1)["index"], 1);
    },
  },
  {
    name: "completions: echo",
    run: async (probe) => {
      const alone = stringOf(itemOf(okJson(await probe.complete()), "choices"), "text");
      const echoed = itemOf(okJson(await probe.complete({ echo: true })), "choices")["text"];
      mustBe("text", echoed, PROMPT + alone);
    },
  },
  {
    name: "completions: logprobs",
    run: async (probe) => {
      const choice = itemOf(okJson(await probe.complete({ logprobs: 2 })), "choices");
      const logprobs = objectOf(choice, "logprobs");
      const lists = ["tokens", "token_logprobs", "top_logprobs", "text_offset"].map((key) => logprobs[key]);
      const lengths = lists.map((list) => (Array.isArray(list) ? list.length : -1));
      must(new Set(lengths).size === 1 && lengths[0] !== -1, `the lengths of the lists are ${show(lengths)}`);
      mustBe("the text of all tokens", (logprobs["tokens"] as unknown[]).join(""), choice["text"]);
    },
  },
  {
    name: "completions: log probabilities of a prompt (echo, max_tokens 0)",
    run: async (probe) => {
      const ask = { echo: true, max_tokens: 0, logprobs: 1 };
      const choice = itemOf(okJson(await probe.complete(ask)), "choices");
      mustBe("text", choice["text"], PROMPT);
      const values = objectOf(choice, "logprobs")["token_logprobs"];
      must(Array.isArray(values), `token_logprobs is ${show(values)}`);
      mustBe("token_logprobs[0]", values[0], null);
      must(values.length > 1 && values.slice(1).every(Number.isFinite), `token_logprobs are ${show(values)}`);
    },
  },
];

export const embeddingChecks: readonly ConformanceCheck[] = [
  {
    name: "embeddings: floats",
    run: async (probe) => {
      const { body, vectors } = await embed(probe, { encoding_format: "float" });
      mustBe("object", body["object"], "list");
      mustBe("data[0].object", itemOf(body, "data")["object"], "embedding");
      must(vectors[0]?.every(Number.isFinite) === true, "an embedding is no list of numbers");
      must(Number.isInteger(objectOf(body, "usage")["prompt_tokens"]), "usage without prompt_tokens");
    },
  },
  {
    name: "embeddings: base64 is the floats, little-endian",
    run: async (probe) => {
      const { vectors } = await embed(probe, { encoding_format: "float" });
      const { body } = await embed(probe, { encoding_format: "base64" });
      const bytes = Buffer.from(stringOf(itemOf(body, "data"), "embedding"), "base64");
      const floats = Array.from({ length: bytes.length / 4 }, (_, i) => bytes.readFloatLE(i * 4));
      const [expected = []] = vectors;
      mustBe("dimensions", floats.length, expected.length);
      must(
        floats.every((value, i) => Math.abs(value - (expected[i] ?? 0)) < 1e-3),
        "other numbers",
      );
    },
  },
  {
    name: "embeddings: several inputs, in order",
    run: async (probe) => {
      const { body, vectors } = await embed(probe, { input: ["red", "blue"] });
      mustBe("the number of embeddings", vectors.length, 2);
      for (const i of [0, 1]) mustBe(`data[${i}].index`, itemOf(body, "data", i)["index"], i);
    },
  },
  {
    name: "embeddings: token ids",
    run: async (probe) => {
      const { vectors } = await embed(probe, {
        input: [
          [5, 6, 7],
          [8, 9],
        ],
      });
      mustBe("the number of embeddings", vectors.length, 2);
    },
  },
  {
    name: "embeddings: empty input is refused",
    run: async (probe) => {
      await embed(probe, {});
      mustBeError(await probe.post("/v1/embeddings", { model: probe.model, input: [] }), 400);
    },
  },
];

/** @throws {NotOffered} when the model makes no embeddings. */
async function embed(probe: Probe, fields: object) {
  const answer = await probe.post("/v1/embeddings", { model: probe.model, input: "red", ...fields });
  if (refused(answer)) throw new NotOffered("no embeddings from this model");
  const body = okJson(answer);
  const { data } = body;
  if (!Array.isArray(data)) throw new CheckFailure(`data is ${show(data)}`);
  const vectors = (data as unknown[]).map((item) => {
    const vector = isObject(item) ? item["embedding"] : undefined;
    return Array.isArray(vector) ? (vector as number[]) : [];
  });
  return { body, vectors };
}

/** An endpoint that is not there, or says that this model cannot. */
export function refused({ status, text }: Answer): boolean {
  return status === 404 || status === 405 || status === 501 || (status === 400 && /support/i.test(text));
}
