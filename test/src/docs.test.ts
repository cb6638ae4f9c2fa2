/** What is published about requests follows from the code that reads them. */
import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { ROUTES } from "../../src/app.ts";
import { ENDPOINT_FIELDS, fieldSupport } from "../../src/openai/request-fields.ts";
import type { DescribedEndpoint } from "../../src/openai/request-fields.ts";
import { withTables } from "../support/readme.ts";
import { createTestApp, MODEL_ID } from "../support/test-app.ts";

interface Document {
  readonly openapi: string;
  readonly paths: Readonly<Record<string, Readonly<Record<string, { requestBody?: unknown }>>>>;
  readonly components: {
    readonly schemas: Readonly<Record<string, { readonly properties: Readonly<Record<string, unknown>> }>>;
  };
}

const PATHS: Readonly<Record<DescribedEndpoint, string>> = {
  chat: "/v1/chat/completions",
  completions: "/v1/completions",
  responses: "/v1/responses",
  embeddings: "/v1/embeddings",
  rerank: "/v1/rerank",
};

const MINIMAL: Readonly<Record<DescribedEndpoint, object>> = {
  chat: { messages: [{ role: "user", content: "hi" }] },
  completions: { prompt: "hi" },
  responses: { input: "hi" },
  embeddings: { input: "hi" },
  rerank: { query: "hi", documents: ["a"] },
};

const endpoints = Object.keys(ENDPOINT_FIELDS) as DescribedEndpoint[];

function createApp(strictParams: boolean) {
  const app = createTestApp({
    config: { strictParams },
    facts: {
      fim: { prefix: 2, suffix: 3, middle: 4 },
      ranking: true,
      embeddings: { dimensions: 1, pooling: "mean", contextTokens: 64 },
    },
  });
  app.engine.vectorOf = () => Float32Array.of(1);
  app.engine.scoreOf = () => 0.5;
  app.engine.script = {
    kind: "answer",
    steps: [{ tokens: [2], finish: { reason: "length", stopToken: undefined } }],
  };
  const ask = (endpoint: DescribedEndpoint, fields: object): Promise<Response> =>
    app.post(PATHS[endpoint], { model: MODEL_ID, ...MINIMAL[endpoint], ...fields });
  return { ...app, ask };
}

/** Undefined for an answer, which may be a stream. */
async function codeOf(response: Response): Promise<string | null | undefined> {
  if (response.status === 200) return undefined;
  return ((await response.json()) as { error: { code: string | null } }).error.code;
}

async function documentOf(): Promise<Document> {
  return (await (await createApp(false).app.request("/openapi.json")).json()) as Document;
}

describe("the README", () => {
  it("has the request fields, the limits and the metrics as they are; `npm run docs` writes them", () => {
    const readme = readFileSync("README.md", "utf8");
    expect(readme).toBe(withTables(readme));
  });
});

describe.each(endpoints)("what is said about the fields of %s", (endpoint) => {
  const support = fieldSupport(endpoint);
  const named = (word: string): string[] =>
    [...support].flatMap(([field, said]) => (said === word ? [field] : []));

  it("is true for fields without effect, which are listed in the header and never refused", async () => {
    for (const strict of [false, true]) {
      const { ask } = createApp(strict);
      for (const field of named("ignored")) {
        const answers = await Promise.all(["x", 1, {}].map((value) => ask(endpoint, { [field]: value })));
        const accepted = answers.filter(({ status }) => status === 200);
        // Where the type of such a field is judged, one of these has it.
        expect([field, accepted.length > 0]).toEqual([field, true]);
        for (const { headers } of accepted) expect(headers.get("x-weft-ignored-params")).toBe(field);
      }
    }
  });

  it("is true for refused fields, which are named", async () => {
    const { ask } = createApp(false);
    for (const field of named("no")) {
      const response = await ask(endpoint, { [field]: { x: 1 } });
      expect([field, response.status]).toEqual([field, 400]);
      expect(await response.json()).toMatchObject({ error: { param: field } });
    }
  });

  it("is true for partly supported ones, of which some value is refused by name", async () => {
    const { ask } = createApp(false);
    for (const field of named("partly")) {
      const response = await ask(endpoint, { [field]: 99 });
      expect([field, response.status]).toEqual([field, 400]);
      expect(await response.json()).toMatchObject({ error: { param: field } });
    }
  });

  it("is true for the others, none of which is refused as unsupported whatever it holds", async () => {
    const { ask } = createApp(false);
    for (const field of named("yes")) {
      for (const value of ["x", 1, true, {}, ["x"], [1], [{}]]) {
        const response = await ask(endpoint, { [field]: value });
        expect([field, value, await codeOf(response)]).not.toEqual([field, value, "unsupported_parameter"]);
      }
    }
  });

  it("leaves out unknown fields, which are reported or, when strict, refused", async () => {
    const response = await createApp(false).ask(endpoint, { something_new: 1 });
    expect([response.status, response.headers.get("x-weft-ignored-params")]).toEqual([200, "something_new"]);
    const strict = await createApp(true).ask(endpoint, { something_new: 1 });
    expect(strict.status).toBe(400);
    expect(await strict.json()).toMatchObject({
      error: { param: "something_new", code: "unknown_parameter" },
    });
  });
});

describe("/openapi.json", () => {
  it("describes every route and no other", async () => {
    const { openapi, paths } = await documentOf();
    expect(openapi).toBe("3.1.0");
    const described = Object.entries(paths).flatMap(([path, methods]) =>
      Object.keys(methods).map((method) => `${method.toUpperCase()} ${path}`),
    );
    const routes = ROUTES.map(
      ([method, path]) => `${method} ${path.replaceAll(/:(\w+)(\{[^}]*\})?/g, "{$1}")}`,
    );
    expect(described.toSorted((a, b) => (a < b ? -1 : 1))).toEqual(
      routes.toSorted((a, b) => (a < b ? -1 : 1)),
    );
  });

  it("has the fields that are read as the properties of each body", async () => {
    const { components, paths } = await documentOf();
    expect(Object.keys(components.schemas["EmbeddingRequest"]?.properties ?? {})).toEqual([
      "model",
      "input",
      "encoding_format",
      "dimensions",
      "truncate_prompt_tokens",
      "priority",
    ]);
    expect(components.schemas["CompletionRequest"]?.properties["temperature"]).toEqual({
      type: "number",
      minimum: 0,
      maximum: 2,
    });
    expect(paths["/rerank"]?.["post"]?.requestBody).toEqual({
      required: true,
      content: { "application/json": { schema: { $ref: "#/components/schemas/RerankRequest" } } },
    });
    // Every reference leads somewhere.
    const text = JSON.stringify({ components, paths });
    for (const [, name] of text.matchAll(/"#\/components\/schemas\/(\w+)"/g))
      expect(Object.keys(components.schemas)).toContain(name);
  });
});
