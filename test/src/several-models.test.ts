/** What is told of several models where a request names none of them. */
import { expect, test } from "vitest";
import type { ModelDirectory, ServedModel } from "../../src/model-directory.ts";
import { createTestApp } from "../support/test-app.ts";

const ADAPTER = { name: "pirate", fileName: "pirate.gguf", scale: 1 };

function createPair(second: Partial<ServedModel> = {}) {
  const one = createTestApp({ loaded: { id: "one" } });
  const two = createTestApp({
    loaded: { id: "two", adapters: [ADAPTER] },
    facts: { adapters: [{ fingerprint: "1111111111" }] },
  });
  const served = [one, two].map(({ loaded }, index): ServedModel => ({
    id: loaded.id,
    aliases: [],
    createdSeconds: 1_700_000_000,
    state: "ready",
    loaded,
    detail: undefined,
    parent: undefined,
    adapted: [],
    ...(index === 1 ? second : {}),
  }));
  const models: ModelDirectory = { served, find: (name) => served.find(({ id }) => id === name) };
  const { app, post } = createTestApp({ models });
  const get = async (path: string): Promise<unknown> => (await app.request(path)).json();
  return { app, get, post, engines: [one.engine, two.engine] as const };
}

test("/slots lists those of all models, each with its model; of one as llama.cpp's clients read them", async () => {
  const { get } = createPair();
  expect(await get("/slots")).toMatchObject([
    { id: 0, model: "one" },
    { id: 0, model: "two" },
  ]);
  const of = (await get("/slots?model=two")) as object[];
  expect(of).toMatchObject([{ id: 0 }]);
  expect(of[0]).not.toHaveProperty("model");
});

test("/slots leaves out models that cannot answer, and fails where none can", async () => {
  const loading = createPair({ state: "loading", loaded: undefined });
  expect(await loading.get("/slots")).toMatchObject([{ id: 0, model: "one" }]);
  expect((await loading.app.request("/slots?model=two")).status).toBe(503);
  expect((await loading.app.request("/slots?model=three")).status).toBe(404);
  const { get, app, engines } = createPair();
  engines[0].die();
  expect(await get("/slots")).toMatchObject([{ id: 0, model: "two" }]);
  engines[1].die();
  const response = await app.request("/slots");
  expect([response.status, await response.json()]).toMatchObject([
    503,
    { error: { code: "engine_restarting" } },
  ]);
});

test("/lora-adapters lists those of all models, with what each is served with", async () => {
  const { get, post } = createPair();
  const off = { id: 0, name: "pirate", path: "pirate.gguf", scale: 0, model: "two" };
  expect(await get("/lora-adapters")).toEqual([off]);
  expect((await post("/lora-adapters?model=two", [{ id: 0, scale: 0.5 }])).status).toBe(200);
  expect(await get("/lora-adapters")).toEqual([{ ...off, scale: 0.5 }]);
  const { model: _, ...bare } = { ...off, scale: 0.5 };
  expect(await get("/lora-adapters?model=two")).toEqual([bare]);
  expect(await get("/lora-adapters?model=one")).toEqual([]);
});

test("an adapter that is asked of the wrong model is refused with how to find it", async () => {
  const { post } = createPair();
  const response = await post("/lora-adapters", [{ id: 0, scale: 1 }]);
  expect([response.status, await response.json()]).toEqual([
    400,
    {
      error: {
        message:
          "Invalid 'lora[0]': there is no such adapter of the model 'one'; GET /lora-adapters lists those of every model.",
        type: "invalid_request_error",
        param: "lora[0]",
        code: "invalid_value",
      },
    },
  ]);
});
