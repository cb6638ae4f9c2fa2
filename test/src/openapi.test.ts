/** The OpenAPI description as others read it: valid, typed, and true of requests that the server takes. */
import { Ajv2020 } from "ajv/dist/2020.js";
import { describe, expect, it } from "vitest";
import { createTestApp, MODEL_ID } from "../support/test-app.ts";
import { REQUEST_BODIES } from "../support/request-bodies.ts";

type Schema = Readonly<Record<string, unknown>>;

interface Document {
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>;
  readonly components: { readonly schemas: Readonly<Record<string, Schema>> };
}

interface Operation {
  readonly requestBody?: {
    readonly content: Readonly<Record<string, { readonly schema: { $ref: string } }>>;
  };
}

const reference = { $ref: { type: "string", pattern: "^#/components/schemas/\\w+$" } };
const content = {
  type: "object",
  minProperties: 1,
  propertyNames: { pattern: "^[a-z]+/[a-z-]+$" },
  additionalProperties: {
    type: "object",
    required: ["schema"],
    properties: { schema: { type: ["object", "boolean"], properties: reference } },
    additionalProperties: false,
  },
};

/** What OpenAPI 3.1 says of those parts of a document that this one has. */
const OPENAPI = {
  type: "object",
  required: ["openapi", "info", "paths"],
  properties: {
    openapi: { const: "3.1.0" },
    info: {
      type: "object",
      required: ["title", "version"],
      properties: { title: { type: "string" }, version: { type: "string" }, description: { type: "string" } },
      additionalProperties: false,
    },
    servers: { type: "array", items: { type: "object", required: ["url"] } },
    security: { type: "array", items: { type: "object", additionalProperties: { type: "array" } } },
    paths: {
      type: "object",
      propertyNames: { pattern: "^/" },
      additionalProperties: {
        type: "object",
        propertyNames: { enum: ["get", "put", "post", "delete", "options", "head", "patch", "trace"] },
        additionalProperties: {
          type: "object",
          required: ["responses"],
          properties: {
            summary: { type: "string", minLength: 1 },
            parameters: {
              type: "array",
              items: {
                type: "object",
                required: ["name", "in", "schema"],
                properties: {
                  name: { type: "string" },
                  in: { enum: ["query", "header", "path", "cookie"] },
                  required: { type: "boolean" },
                  schema: { type: "object" },
                },
                anyOf: [
                  { properties: { in: { enum: ["query", "header", "cookie"] } } },
                  { required: ["required"], properties: { required: { const: true } } },
                ],
                additionalProperties: false,
              },
            },
            requestBody: {
              type: "object",
              required: ["content"],
              properties: { required: { type: "boolean" }, content },
              additionalProperties: false,
            },
            responses: {
              type: "object",
              minProperties: 1,
              propertyNames: { pattern: "^([1-5](\\d\\d|XX)|default)$" },
              additionalProperties: {
                type: "object",
                required: ["description"],
                properties: { description: { type: "string" }, content, headers: { type: "object" } },
                additionalProperties: false,
              },
            },
          },
          additionalProperties: false,
        },
      },
    },
    components: {
      type: "object",
      properties: {
        schemas: { type: "object", propertyNames: { pattern: "^[\\w.-]+$" } },
        securitySchemes: {
          type: "object",
          additionalProperties: {
            type: "object",
            required: ["type"],
            oneOf: [
              { properties: { type: { const: "http" } }, required: ["scheme"] },
              { properties: { type: { const: "apiKey" } }, required: ["name", "in"] },
            ],
          },
        },
      },
      additionalProperties: false,
    },
  },
  additionalProperties: false,
};

async function readDocument(): Promise<Document> {
  return (await (await createTestApp().app.request("/openapi.json")).json()) as Document;
}

const { paths, components } = await readDocument();
// Unknown keywords are errors.
const ajv = new Ajv2020({ strict: true, strictTypes: false, strictRequired: false });
const compiled = new Map(
  Object.entries(components.schemas).map(([name, schema]) => [name, ajv.compile(schema)]),
);

/** What the description of the body finds wrong with it. */
function wrongWith(path: string, body: unknown): string | undefined {
  const described = paths[path.replace(/^\/v1/, "")]?.["post"]?.requestBody;
  const name = described?.content["application/json"]?.schema.$ref.replace("#/components/schemas/", "");
  const validate = compiled.get(name ?? "");
  if (validate === undefined) throw new Error(`${path} has no body`);
  return validate(body) ? undefined : ajv.errorsText(validate.errors);
}

describe("the document", () => {
  it("is what OpenAPI 3.1 wants", async () => {
    const valid = ajv.compile(OPENAPI);
    expect([valid(await readDocument()), ajv.errorsText(valid.errors)]).toEqual([true, "No errors"]);
  });

  it("has valid JSON Schemas, none of which says nothing of a field", () => {
    for (const [name, schema] of Object.entries(components.schemas)) {
      expect([name, ajv.validateSchema(schema)]).toEqual([name, true]);
      // A body may be a list of what has fields.
      const fields = (schema["items"] ?? schema) as { readonly properties: Readonly<Record<string, object>> };
      const untyped = Object.entries(fields.properties).filter(
        ([, field]) => Object.keys(field).length === 0,
      );
      expect([name, untyped]).toEqual([name, []]);
    }
  });
});

describe("the description of a body", () => {
  it.each(REQUEST_BODIES)("is true of what the server takes: %s %#", (path, body) => {
    expect(wrongWith(path, body)).toBeUndefined();
  });

  const MESSAGES = [{ role: "user", content: "hi" }];
  const CHAT = "/v1/chat/completions";
  const FUNCTION = { name: "f", parameters: null };
  const TOOLS = [{ type: "function", function: FUNCTION }];

  it.each<[string, object]>([
    [
      CHAT,
      {
        tools: [{ function: FUNCTION }, { type: "custom", custom: { name: "c", format: { type: "text" } } }],
      },
    ],
    [CHAT, { tools: TOOLS, tool_choice: "any" }],
    [CHAT, { tools: TOOLS, tool_choice: { type: "function", function: { name: "f" } } }],
    [CHAT, { tools: TOOLS, tool_choice: { type: "function", name: "f" } }],
    [CHAT, { tools: TOOLS, tool_choice: { type: "allowed_tools", allowed_tools: { tools: TOOLS } } }],
    [CHAT, { functions: [FUNCTION], function_call: { name: "f" } }],
    [CHAT, { response_format: { type: "json_object" } }],
    [CHAT, { response_format: { type: "json_schema", schema: true } }],
    [CHAT, { guided_json: '{"type":"object"}' }],
    [CHAT, { structured_outputs: { choice: ["a", "b"], json: null } }],
    [CHAT, { messages: [{ role: "user", content: [{ type: "text", text: "hi" }] }] }],
    ["/v1/responses", { input: [{ type: "message", role: "user", content: "hi" }] }],
    ["/v1/responses", { input: "hi", tools: [{ type: "custom", name: "c" }, { type: "web_search" }] }],
  ])("takes what the server takes: %s %j", async (path, fields) => {
    const { post, engine } = createTestApp();
    engine.script = {
      kind: "answer",
      steps: [{ tokens: [2], finish: { reason: "length", stopToken: undefined } }],
    };
    const body = { model: MODEL_ID, ...(path === CHAT ? { messages: MESSAGES } : {}), ...fields };
    expect((await post(path, body)).status).toBe(200);
    expect(wrongWith(path, body)).toBeUndefined();
  });

  it.each<[string, object]>([
    [CHAT, { tools: [{}] }],
    [CHAT, { tools: [{ type: "function", function: { name: "a b" } }] }],
    [CHAT, { tools: [{ type: "web_search" }] }],
    [CHAT, { tools: TOOLS, tool_choice: "maybe" }],
    [CHAT, { tools: TOOLS, tool_choice: { type: "function" } }],
    [CHAT, { tools: TOOLS, parallel_tool_calls: 1 }],
    [CHAT, { functions: [{}] }],
    [CHAT, { response_format: { type: "xml" } }],
    [CHAT, { response_format: "json_object" }],
    [CHAT, { json_schema: "x" }],
    [CHAT, { guided_choice: "a" }],
    [CHAT, { structured_outputs: { regex: 1 } }],
    [CHAT, { messages: [{ role: "user", content: [{ type: "text" }] }] }],
    [CHAT, { messages: [{ role: "user", content: [{ type: "image_url", image_url: { url: "x" } }] }] }],
    ["/v1/responses", { input: [{ role: "judge", content: "hi" }] }],
    ["/v1/responses", { input: [{ type: "function_call", name: "f" }] }],
    ["/v1/responses", { input: "hi", tools: [{ type: "function" }] }],
  ])("refuses what the server refuses: %s %j", async (path, fields) => {
    const body = { model: MODEL_ID, ...(path === CHAT ? { messages: MESSAGES } : {}), ...fields };
    expect((await createTestApp().post(path, body)).status).toBe(400);
    expect(wrongWith(path, body)).toEqual(expect.any(String));
  });
});
