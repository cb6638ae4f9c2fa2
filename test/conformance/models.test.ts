/** The model list and what a browser asks first. */
import OpenAI from "openai";
import { describe, expect, test } from "vitest";
import { eventsOf } from "../support/sse-reader.ts";
import { createTestApp, MODEL_ID } from "../support/test-app.ts";
import { asking, baseURL, bodyOf, MODEL, server } from "./harness.ts";
import { CONTEXT, SLOTS } from "./server-setup.ts";

interface ModelJson {
  readonly id: string;
  readonly [key: string]: unknown;
}

const get = (path: string): Promise<Response> => fetch(server.url + path);

describe("the model list", () => {
  test("T61 is answered while all slots generate, and while the model loads", async () => {
    const controllers = Array.from({ length: SLOTS }, () => new AbortController());
    const body = { model: MODEL, ...asking("Count from 1 to 100."), ignore_eos: true, stream: true };
    const streams = await Promise.all(
      controllers.map(async ({ signal }) =>
        eventsOf(await server.post("/v1/chat/completions", body, signal)),
      ),
    );
    const { data } = await bodyOf<{ data: ModelJson[] }>(await get("/v1/models"));
    expect(data.map(({ id }) => id)).toEqual([MODEL]);
    // All streams still ran when the list came.
    for (const stream of streams) expect((await stream.next()).done).toBe(false);
    for (const controller of controllers) controller.abort();
    await server.loadThat("an idle server", ({ running }) => running === 0);
    const loading = createTestApp({ model: { state: "loading", loaded: undefined } });
    const list = await loading.app.request("/v1/models", { headers: { host: "localhost" } });
    expect([list.status, await list.json()]).toMatchObject([
      200,
      { data: [{ id: MODEL_ID, status: "loading" }] },
    ]);
    expect(loading.engine.commands).toEqual([]);
  });

  test("T62 tells the usable context under every name that tools look for", async () => {
    const { data } = await bodyOf<{ object: string; data: ModelJson[] }>(await get("/v1/models"));
    expect(data[0]).toMatchObject({
      id: MODEL,
      object: "model",
      max_model_len: CONTEXT,
      context_length: CONTEXT,
      max_context_length: CONTEXT,
      meta: { n_ctx: CONTEXT },
    });
    expect(data[0]).not.toHaveProperty("max_tokens");
    expect(Number.isInteger(data[0]?.["created"])).toBe(true);
  });

  test("T63 finds a name with a slash, encoded and raw", async () => {
    const { app } = createTestApp();
    for (const path of ["/v1/models/org%2Ftiny", "/v1/models/org/tiny", "/models/org/tiny"]) {
      const response = await app.request(path, { headers: { host: "localhost" } });
      expect([path, response.status, await response.json()]).toMatchObject([path, 200, { id: "org/tiny" }]);
    }
    const client = new OpenAI({ baseURL, apiKey: "none" });
    expect((await client.models.retrieve(MODEL)).id).toBe(MODEL);
  });
});

test("T39 a browser's first question is answered without a key, and every header it names is allowed", async () => {
  const { app } = createTestApp({
    config: { apiKeys: [{ name: "k", sha256: "0".repeat(64) }], corsOrigins: ["https://chat.example"] },
  });
  const asked = "authorization,content-type,x-stainless-os,x-stainless-lang,x-stainless-retry-count";
  const response = await app.request("/v1/chat/completions", {
    method: "OPTIONS",
    headers: {
      host: "localhost",
      origin: "https://chat.example",
      "access-control-request-method": "POST",
      "access-control-request-headers": asked,
    },
  });
  expect(response.status).toBe(200);
  const allowed = response.headers.get("access-control-allow-headers")?.toLowerCase().split(/, */) ?? [];
  expect(allowed).toEqual(expect.arrayContaining(asked.split(",")));
  expect(response.headers.get("access-control-allow-origin")).toBe("https://chat.example");
  const real = await fetch(`${server.url}/v1/chat/completions`, {
    method: "OPTIONS",
    headers: {
      origin: "http://localhost:3000",
      "access-control-request-method": "POST",
      "access-control-request-headers": asked,
    },
  });
  expect(real.status).toBe(200);
});
