/** LoRA adapters on the wire: listed as models, asked for by name or in `lora`, and what the engine is told. */
import { describe, expect, it } from "vitest";
import type { AdapterUse } from "../../engine/adapters.ts";
import type { LoadedModel } from "../../models/loaded-model.ts";
import { AdaptedModel } from "../../src/adapted-models.ts";
import type { ModelDirectory, ServedModel } from "../../src/model-directory.ts";
import { sayThenStop } from "../support/scripted-engine.ts";
import { createTestApp, MODEL_ID } from "../support/test-app.ts";
import { EOS } from "../support/tiny-vocabulary.ts";

const ADAPTERS = [
  { name: "org/pirate", fileName: "pirate.gguf", scale: 1 },
  { name: "robot", fileName: "robot.gguf", scale: 0.5 },
];
const FINGERPRINTS = [{ fingerprint: "1111111111" }, { fingerprint: "2222222222" }];

function createAdapted() {
  const loaded: Partial<LoadedModel> = { adapters: ADAPTERS };
  const base = createTestApp({ loaded, facts: { adapters: FINGERPRINTS } });
  const served: ServedModel = {
    id: MODEL_ID,
    aliases: ["tiny"],
    createdSeconds: 1_700_000_000,
    state: "ready",
    loaded: base.loaded,
    detail: undefined,
    parent: undefined,
    adapted: [],
  };
  const adapted = ADAPTERS.map(
    (adapter, i) =>
      new AdaptedModel(served, { ...adapter, path: "/x", createdSeconds: 1_710_000_000 + i }, i),
  );
  const all = [{ ...served, adapted }, ...adapted];
  const models: ModelDirectory = {
    served: all.slice(0, 1),
    find: (name) => all.find(({ id, aliases }) => id === name || aliases.includes(name)),
  };
  const app = createTestApp({ models });
  // The engine that the models are served by.
  base.engine.script = sayThenStop("Hello", EOS);
  const get = async (path: string): Promise<unknown> =>
    (await app.app.request(path, { headers: { host: "localhost" } })).json();
  const ask = async (path: string, body: object): Promise<[number, Record<string, unknown>]> => {
    const response = await app.post(path, body);
    return [response.status, (await response.json()) as Record<string, unknown>];
  };
  return { get, ask, engine: base.engine };
}

const CHAT = { messages: [{ role: "user", content: "hi" }] };

describe("adapters", () => {
  it("are models with a parent", async () => {
    const { get } = createAdapted();
    const model = (id: string, created: number, parent: string | null): object => ({
      id,
      object: "model",
      created,
      owned_by: "weft",
      root: parent ?? id,
      parent,
      status: "ready",
      max_model_len: 256,
    });
    expect(await get("/v1/models")).toMatchObject({
      object: "list",
      data: [
        model(MODEL_ID, 1_700_000_000, null),
        model("org/pirate", 1_710_000_000, MODEL_ID),
        model("robot", 1_710_000_001, MODEL_ID),
      ],
    });
    expect(await get("/v1/models/org%2Fpirate")).toMatchObject({ id: "org/pirate", parent: MODEL_ID });
  });

  it("are listed as llama.cpp's clients read them, with the scales at which the model itself has them", async () => {
    const { get } = createAdapted();
    const listed = [
      { id: 0, name: "org/pirate", path: "pirate.gguf", scale: 0 },
      { id: 1, name: "robot", path: "robot.gguf", scale: 0 },
    ];
    expect(await get("/lora-adapters")).toEqual(listed);
    expect(await get("/v1/lora-adapters?model=tiny")).toEqual(listed);
    const { app } = createTestApp();
    const response = await app.request("/lora-adapters", { headers: { host: "localhost" } });
    expect([response.status, await response.json()]).toEqual([200, []]);
  });

  it.each<[fields: object, applied: readonly AdapterUse[] | undefined]>([
    [{ model: MODEL_ID }, undefined],
    [{ model: "org/pirate" }, [{ adapter: 0, scale: 1 }]],
    [{ model: "robot" }, [{ adapter: 1, scale: 0.5 }]],
    [{ model: MODEL_ID, lora: [{ id: 1, scale: 2 }] }, [{ adapter: 1, scale: 2 }]],
    [{ model: MODEL_ID, lora: [{ id: 1 }] }, [{ adapter: 1, scale: 0.5 }]],
    [{ model: MODEL_ID, lora: [{ name: "org/pirate", scale: -1 }] }, [{ adapter: 0, scale: -1 }]],
    [{ model: MODEL_ID, lora: [{ id: 0, name: "org/pirate", scale: null }] }, [{ adapter: 0, scale: 1 }]],
    [{ model: MODEL_ID, lora: [] }, undefined],
    [{ model: "org/pirate", lora: [] }, undefined],
    [{ model: "org/pirate", lora: null }, [{ adapter: 0, scale: 1 }]],
    [{ model: "org/pirate", lora: [{ id: 0, scale: 0 }] }, undefined],
    [{ model: "org/pirate", lora: [{ id: 1, scale: 0.25 }] }, [{ adapter: 1, scale: 0.25 }]],
    [
      { model: "tiny", lora: [{ id: 1 }, { id: 0, scale: 0.75 }] },
      [
        { adapter: 0, scale: 0.75 },
        { adapter: 1, scale: 0.5 },
      ],
    ],
  ])("are applied as %j asks", async (fields, applied) => {
    const { ask, engine } = createAdapted();
    expect((await ask("/v1/chat/completions", { ...CHAT, ...fields }))[0]).toBe(200);
    expect((await ask("/v1/completions", { prompt: "hi", ...fields }))[0]).toBe(200);
    expect((await ask("/v1/responses", { input: "hi", store: false, ...fields }))[0]).toBe(200);
    expect((await ask("/completion", { prompt: "hi", ...fields }))[0]).toBe(200);
    expect((await ask("/infill", { input_prefix: "a", input_suffix: "b", ...fields }))[0]).toBe(400);
    expect(engine.submits.map(({ adapters }) => adapters)).toEqual([applied, applied, applied, applied]);
  });

  it("have answers under the name that was asked for, and fingerprints of their own", async () => {
    const { ask } = createAdapted();
    const seen: unknown[] = [];
    for (const fields of [
      { model: "tiny" },
      { model: "org/pirate" },
      { model: "robot" },
      { model: "tiny", lora: [{ id: 0 }] },
      { model: "robot", lora: [{ id: 0, scale: 0 }] },
    ]) {
      const [, body] = await ask("/v1/chat/completions", { ...CHAT, ...fields });
      seen.push([body["model"], body["system_fingerprint"]]);
    }
    const [own, pirate, robot] = seen.map((pair) => (pair as string[])[1]);
    expect(new Set([own, pirate, robot]).size).toBe(3);
    expect(seen).toEqual([
      [MODEL_ID, own],
      ["org/pirate", pirate],
      ["robot", robot],
      [MODEL_ID, pirate],
      ["robot", own],
    ]);
  });

  it.each<[lora: unknown, param: string, code: string]>([
    [[{ id: 2, scale: 1 }], "lora[0]", "invalid_value"],
    [[{ id: 0 }, { name: "nobody" }], "lora[1]", "invalid_value"],
    [[{ id: 0, name: "robot" }], "lora[0]", "invalid_value"],
    [[{ id: 0 }, { name: "org/pirate" }], "lora[1]", "invalid_value"],
    [[{ scale: 1 }], "lora[0].id", "missing_required_parameter"],
    [[{ id: 0, scale: 4.5 }], "lora[0].scale", "invalid_value"],
    [[{ id: 0, scale: -1e9 }], "lora[0].scale", "decimal_below_min_value"],
    [[{ id: 0, scale: "1" }], "lora[0].scale", "invalid_type"],
    [[{ id: -1 }], "lora[0].id", "integer_below_min_value"],
    [[{ id: 0.5 }], "lora[0].id", "invalid_type"],
    [["robot"], "lora[0]", "invalid_type"],
    [{ id: 0 }, "lora", "invalid_type"],
    ["robot", "lora", "invalid_type"],
    [Array.from({ length: 65 }, () => ({ id: 0 })), "lora", "array_above_max_length"],
  ])("that are asked for by %j are refused", async (lora, param, code) => {
    const { ask, engine } = createAdapted();
    for (const [path, body] of [
      ["/v1/chat/completions", CHAT],
      ["/v1/completions", { prompt: "hi" }],
      ["/v1/responses", { input: "hi" }],
      ["/completion", { prompt: "hi" }],
    ] as const) {
      const [status, answer] = await ask(path, { model: MODEL_ID, lora, ...body });
      expect([path, status, answer]).toMatchObject([path, 400, { error: { param, code } }]);
    }
    expect(engine.commands).toEqual([]);
  });

  it("make no vectors and no scores", async () => {
    const { ask } = createAdapted();
    const error = { error: { param: "model", code: "unsupported_value" } };
    expect(await ask("/v1/embeddings", { model: "robot", input: "hi" })).toMatchObject([400, error]);
    expect(await ask("/v1/rerank", { model: "robot", query: "a", documents: ["b"] })).toMatchObject([
      400,
      error,
    ]);
  });

  it("that nobody has are no models", async () => {
    const { ask } = createAdapted();
    expect((await ask("/v1/chat/completions", { ...CHAT, model: "pirates" }))[0]).toBe(404);
  });
});

describe("POST /lora-adapters", () => {
  const appliedTo = async (
    { ask, engine }: ReturnType<typeof createAdapted>,
    fields: object,
  ): Promise<readonly AdapterUse[] | undefined> => {
    const [status] = await ask("/v1/chat/completions", { ...CHAT, model: "tiny", ...fields });
    expect(status).toBe(200);
    return engine.submits.at(-1)?.adapters;
  };

  it("sets what the model is served with where a request says nothing of adapters", async () => {
    const adapted = createAdapted();
    expect(await adapted.ask("/lora-adapters", [{ id: 1, scale: 2 }, { name: "org/pirate" }])).toEqual([
      200,
      { success: true },
    ]);
    const both = [
      { adapter: 0, scale: 1 },
      { adapter: 1, scale: 2 },
    ];
    expect(await appliedTo(adapted, {})).toEqual(both);
    expect(await appliedTo(adapted, { lora: null })).toEqual(both);
    expect(await appliedTo(adapted, { lora: [] })).toBeUndefined();
    expect(await appliedTo(adapted, { lora: [{ id: 1, scale: 0.25 }] })).toEqual([
      { adapter: 1, scale: 0.25 },
    ]);
    expect(await appliedTo(adapted, { lora: [{ id: 0, scale: 0 }] })).toBeUndefined();
    expect(await appliedTo(adapted, { model: "robot" })).toEqual([{ adapter: 1, scale: 0.5 }]);
    expect(await adapted.get("/lora-adapters?model=robot")).toMatchObject([{ scale: 1 }, { scale: 2 }]);
  });

  it("is what is set last, those that are not listed being off", async () => {
    const adapted = createAdapted();
    await adapted.ask("/lora-adapters", [{ id: 1, scale: 2 }]);
    await adapted.ask("/v1/lora-adapters?model=robot", [{ id: 0, scale: 0.5 }]);
    expect(await appliedTo(adapted, {})).toEqual([{ adapter: 0, scale: 0.5 }]);
    expect(await adapted.get("/lora-adapters")).toMatchObject([{ scale: 0.5 }, { scale: 0 }]);
    await adapted.ask("/lora-adapters", []);
    expect(await appliedTo(adapted, {})).toBeUndefined();
    expect(await adapted.get("/lora-adapters")).toMatchObject([{ scale: 0 }, { scale: 0 }]);
  });

  it.each<[body: unknown, param: string | null, code: string | null]>([
    [{ id: 0, scale: 1 }, null, null],
    [[{ id: 7, scale: 1 }], "lora[0]", "invalid_value"],
    [[{ id: 0 }, { id: 0 }], "lora[1]", "invalid_value"],
    [[{ id: 0, scale: 99 }], "lora[0].scale", "invalid_value"],
    [[{ id: 0, scale: "1" }], "lora[0].scale", "invalid_type"],
    [[0], "lora[0]", "invalid_type"],
    [Array.from({ length: 65 }, () => ({ id: 0 })), "lora", "array_above_max_length"],
  ])("refuses %j, and changes nothing", async (body, param, code) => {
    const adapted = createAdapted();
    expect(await adapted.ask("/lora-adapters", body as object)).toMatchObject([
      400,
      { error: { param, code, type: "invalid_request_error" } },
    ]);
    expect(await appliedTo(adapted, {})).toBeUndefined();
  });

  it("does not make vectors impossible", async () => {
    const { ask, engine } = createAdapted();
    engine.vectorOf = () => new Float32Array(2);
    await ask("/lora-adapters", [{ id: 0 }]);
    const [, body] = await ask("/v1/embeddings", { model: MODEL_ID, input: "hi" });
    expect(JSON.stringify(body)).not.toContain("adapter");
  });
});
