/** The OpenAPI description follows from the schemas that read the requests. */
import { expect, it } from "vitest";
import { createTestApp } from "../support/test-app.ts";

interface Document {
  readonly openapi: string;
  readonly paths: Readonly<Record<string, Readonly<Record<string, { requestBody?: unknown }>>>>;
  readonly components: {
    readonly schemas: Readonly<Record<string, { readonly properties: Readonly<Record<string, unknown>> }>>;
  };
}

it("/openapi.json has the fields that are read as the properties of each body", async () => {
  const { app } = createTestApp();
  const { openapi, components, paths } = (await (await app.request("/openapi.json")).json()) as Document;
  expect(openapi).toBe("3.1.0");
  expect(Object.keys(components.schemas["EmbeddingRequest"]?.properties ?? {})).toEqual([
    "model",
    "input",
    "encoding_format",
    "dimensions",
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
  const text = JSON.stringify({ components, paths });
  for (const [, name] of text.matchAll(/"#\/components\/schemas\/(\w+)"/g))
    expect(Object.keys(components.schemas)).toContain(name);
});
