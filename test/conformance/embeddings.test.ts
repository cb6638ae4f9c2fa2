/** Embeddings as numbers and as bytes, of texts and of tokens. */
import { OpenAIEmbeddings } from "@langchain/openai";
import * as sdk6 from "openai";
import { describe, expect, test, vi } from "vitest";
import { baseURL, bodyOf, MODEL, server } from "./harness.ts";

const sdk7 = await vi.importActual<typeof sdk6>("openai7");

interface Embeddings {
  readonly object: string;
  readonly model: string;
  readonly data: readonly {
    readonly object: string;
    readonly index: number;
    readonly embedding: number[] | string;
  }[];
  readonly usage: { readonly prompt_tokens: number; readonly total_tokens: number };
}

async function embed(fields: object): Promise<Embeddings> {
  return bodyOf<Embeddings>(await server.post("/v1/embeddings", { model: MODEL, ...fields }));
}

/** Compared by value: a base64 answer carries 32-bit floats, and so does JSON here. */
function vectorOf(embedding: number[] | string | undefined): number[] {
  if (typeof embedding !== "string") return embedding ?? [];
  const bytes = Buffer.from(embedding, "base64");
  return Array.from({ length: bytes.length / 4 }, (_, i) => bytes.readFloatLE(4 * i));
}

describe("embeddings", () => {
  test("T34 are floats by default and for float, little-endian bytes for base64, and right in the SDK", async () => {
    const input = "red";
    const floats = await embed({ input });
    expect(floats).toMatchObject({ object: "list", data: [{ object: "embedding", index: 0 }] });
    const vector = vectorOf(floats.data[0]?.embedding);
    expect(vector.length).toBeGreaterThan(8);
    expect(Math.hypot(...vector)).toBeCloseTo(1, 4);
    expect((await embed({ input, encoding_format: "float" })).data[0]?.embedding).toEqual(vector);
    const coded = (await embed({ input, encoding_format: "base64" })).data[0]?.embedding;
    expect(coded).toBeTypeOf("string");
    expect(vectorOf(coded).map((value) => value.toFixed(5))).toEqual(vector.map((value) => value.toFixed(5)));
    for (const { OpenAI } of [sdk6, sdk7]) {
      const client = new OpenAI({ baseURL, apiKey: "none", maxRetries: 0 });
      const { data } = await client.embeddings.create({ model: MODEL, input });
      expect(data[0]?.embedding.map((value) => value.toFixed(5))).toEqual(
        vector.map((value) => value.toFixed(5)),
      );
    }
    const langchain = new OpenAIEmbeddings({ model: MODEL, apiKey: "none", configuration: { baseURL } });
    expect((await langchain.embedQuery(input)).map((value) => value.toFixed(4))).toEqual(
      vector.map((value) => value.toFixed(4)),
    );
  });

  test("T35 take a text, texts, tokens and lists of tokens, in order and counted", async () => {
    const one = await embed({ input: "a" });
    expect(one.usage).toEqual({
      prompt_tokens: one.usage.total_tokens,
      total_tokens: one.usage.total_tokens,
    });
    const two = await embed({ input: ["a", "blue"] });
    expect(two.data.map(({ index }) => index)).toEqual([0, 1]);
    expect(vectorOf(two.data[0]?.embedding).map((x) => x.toFixed(3))).toEqual(
      vectorOf(one.data[0]?.embedding).map((x) => x.toFixed(3)),
    );
    const tokens = await embed({ input: [300, 301, 302] });
    expect(tokens.data).toHaveLength(1);
    const lists = await embed({ input: [[300, 301, 302], [303]] });
    expect(lists.data.map(({ index }) => index)).toEqual([0, 1]);
    expect(lists.usage.prompt_tokens).toBeGreaterThan(tokens.usage.prompt_tokens);
  });
});
