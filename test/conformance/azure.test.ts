/** OpenAI's client for Azure, both majors in use: deployments in the path, keys in a header of their own. */
import { createHash } from "node:crypto";
import * as sdk6 from "openai";
import { describe, expect, test, vi } from "vitest";
import { listenTestApp } from "../support/listen.ts";
import { asking, MODEL, said, server } from "./harness.ts";

// Its types are not those of version 6; what is used of it here is the same.
const sdk7 = await vi.importActual<typeof sdk6>("openai7");

const FRANCE = { temperature: 0, max_tokens: 40, ...asking("What is the capital of France?") };
const ANSWER = "The capital of France is Paris.";

const majors = [
  { name: "openai 6", AzureOpenAI: sdk6.AzureOpenAI },
  { name: "openai 7", AzureOpenAI: sdk7.AzureOpenAI },
];

describe.each(majors)("AzureOpenAI of $name", ({ AzureOpenAI }) => {
  const options = { apiKey: "none", apiVersion: "2024-10-21", maxRetries: 0 };
  const client = new AzureOpenAI({ ...options, endpoint: server.url, deployment: MODEL });

  test("asks its deployment, whatever model the request names", async () => {
    const answer = await client.chat.completions.create({ ...FRANCE, model: "gpt-4o" });
    expect([answer.model, answer.choices[0]?.message.content]).toEqual([MODEL, said(ANSWER)]);
  });

  test("iterates a stream to its end", async () => {
    const stream = await client.chat.completions.create({ ...FRANCE, model: "gpt-4o", stream: true });
    let text = "";
    for await (const chunk of stream) text += chunk.choices[0]?.delta.content ?? "";
    expect(text).toEqual(said(ANSWER));
  });

  test("without a deployment names the model of the request in the path", async () => {
    const named = new AzureOpenAI({ ...options, endpoint: server.url });
    const { choices } = await named.completions.create({
      model: MODEL,
      prompt: "The capital of France",
      max_tokens: 4,
    });
    expect(choices[0]?.text).toEqual(expect.any(String));
    const { data } = await named.embeddings.create({ model: MODEL, input: ["red", "blue"] });
    expect(data.map(({ embedding }) => embedding.length)).toEqual([
      expect.any(Number),
      data[0]?.embedding.length,
    ]);
  });

  test("asks for what knows no deployments at the same place", async () => {
    const response = await client.responses.create({ model: MODEL, input: "Hello", max_output_tokens: 16 });
    expect(response.output_text).toEqual(expect.any(String));
    const { data } = await client.models.list();
    expect(data.map(({ id }) => id)).toEqual([MODEL]);
  });

  test("is told which deployment there is not, and reaches one with a slash in its name with its key", async () => {
    const sha256 = createHash("sha256").update("secret").digest("hex");
    const app = await listenTestApp({ config: { apiKeys: [{ name: "ann", sha256 }] } });
    app.engine.script = {
      kind: "answer",
      steps: [{ tokens: [2], finish: { reason: "length", stopToken: undefined } }],
    };
    const ask = (deployment: string, apiKey = "secret") =>
      new AzureOpenAI({ ...options, endpoint: app.baseURL, deployment, apiKey }).chat.completions.create({
        ...FRANCE,
        model: "gpt-4o",
      });
    expect((await ask("org/tiny")).model).toBe("org/tiny");
    expect(app.engine.submits[0]?.owner).toBe("ann");
    await expect(ask("none")).rejects.toMatchObject({ status: 404, code: "model_not_found", param: null });
    await expect(ask("org/tiny", "other")).rejects.toMatchObject({ status: 401, code: "invalid_api_key" });
    await app.close();
  });
});

test("a response is made at a deployment too, where the AI SDK asks for it", async () => {
  const answer = await server.post(`/openai/deployments/${MODEL}/responses?api-version=v1`, {
    model: "gpt-4o",
    input: "Hello",
    max_output_tokens: 16,
  });
  expect(await answer.json()).toMatchObject({ object: "response", model: MODEL });
});
