/** The OpenAPI description of the server, its request bodies taken from the schemas that read them. */
import { z } from "zod";
import { messageRequestSchema } from "../anthropic/message-request.ts";
import { nativeEmbeddingSchema } from "../llama-cpp/native-embedding.ts";
import { infillBodySchema, nativeBodySchema } from "../llama-cpp/native-request.ts";
import { loraField } from "../openai/lora-field.ts";
import { ENDPOINT_FIELDS } from "../openai/request-fields.ts";
import { requestChangeSchema } from "./requests.ts";
import { detokenizeSchema, tokenizeSchema } from "./tokenize.ts";

/** By their names in the document. */
const BODIES = {
  ChatCompletionRequest: ENDPOINT_FIELDS.chat.schema,
  CompletionRequest: ENDPOINT_FIELDS.completions.schema,
  NativeCompletionRequest: nativeBodySchema,
  InfillRequest: infillBodySchema,
  MessageRequest: messageRequestSchema,
  ResponseRequest: ENDPOINT_FIELDS.responses.schema,
  NativeEmbeddingRequest: nativeEmbeddingSchema,
  EmbeddingRequest: ENDPOINT_FIELDS.embeddings.schema,
  RerankRequest: ENDPOINT_FIELDS.rerank.schema,
  TokenizeRequest: tokenizeSchema,
  DetokenizeRequest: detokenizeSchema,
  RequestChange: requestChangeSchema,
  DefaultAdapters: loraField,
} as const;

interface Operation {
  readonly summary: string;
  readonly body?: keyof typeof BODIES;
  /** Whether it can answer with a stream of events. */
  readonly streams?: boolean;
  /** Where the answer is not JSON. */
  readonly type?: string;
}

/** By method and path; every route has one. */
const OPERATIONS: Readonly<Record<string, Operation>> = {
  "POST /chat/completions": { summary: "Answers a chat.", body: "ChatCompletionRequest", streams: true },
  "POST /chat/completions/input_tokens": {
    summary: "Counts the tokens of a chat's prompt.",
    body: "ChatCompletionRequest",
  },
  "POST /completions": { summary: "Continues a text.", body: "CompletionRequest", streams: true },
  "POST /completion": {
    summary: "Continues a text, in llama.cpp's own dialect.",
    body: "NativeCompletionRequest",
    streams: true,
  },
  "POST /infill": {
    summary: "Writes the middle of a file, in llama.cpp's own dialect.",
    body: "InfillRequest",
    streams: true,
  },
  "POST /messages": {
    summary: "Answers a chat, in the dialect of Anthropic's Messages API.",
    body: "MessageRequest",
    streams: true,
  },
  "POST /messages/count_tokens": {
    summary: "Counts the tokens of a message's prompt.",
    body: "MessageRequest",
  },
  "POST /responses": { summary: "Makes a response.", body: "ResponseRequest", streams: true },
  "POST /responses/input_tokens": {
    summary: "Counts the tokens of a response's input.",
    body: "ResponseRequest",
  },
  "GET /responses/{id}": { summary: "A stored response, or its events again.", streams: true },
  "DELETE /responses/{id}": { summary: "Deletes a stored response." },
  "POST /responses/{id}/cancel": { summary: "Cancels a background response." },
  "GET /responses/{id}/input_items": { summary: "Lists the items that a response was made from." },
  "POST /embeddings": { summary: "Makes vectors of texts.", body: "EmbeddingRequest" },
  "POST /embedding": {
    summary: "Makes vectors of texts, in llama.cpp's own dialect.",
    body: "NativeEmbeddingRequest",
  },
  "POST /deployments/{deployment}/chat/completions": {
    summary: "The same as /chat/completions; the deployment is the model, as with Azure.",
    body: "ChatCompletionRequest",
    streams: true,
  },
  "POST /deployments/{deployment}/completions": {
    summary: "The same as /completions; the deployment is the model, as with Azure.",
    body: "CompletionRequest",
    streams: true,
  },
  "POST /deployments/{deployment}/embeddings": {
    summary: "The same as /embeddings; the deployment is the model, as with Azure.",
    body: "EmbeddingRequest",
  },
  "POST /deployments/{deployment}/responses": {
    summary: "The same as /responses; the deployment is the model.",
    body: "ResponseRequest",
    streams: true,
  },
  "POST /engines/{deployment}/chat/completions": {
    summary: "The same as /chat/completions; the engine is the model, as with OpenAI's first API.",
    body: "ChatCompletionRequest",
    streams: true,
  },
  "POST /engines/{deployment}/completions": {
    summary: "The same as /completions; the engine is the model, as with OpenAI's first API.",
    body: "CompletionRequest",
    streams: true,
  },
  "POST /engines/{deployment}/embeddings": {
    summary: "The same as /embeddings; the engine is the model, as with OpenAI's first API.",
    body: "EmbeddingRequest",
  },
  "POST /rerank": { summary: "Orders documents by their relevance to a query.", body: "RerankRequest" },
  "POST /reranking": { summary: "The same as /rerank.", body: "RerankRequest" },
  "GET /models": { summary: "Lists the models." },
  "GET /models/{id}": { summary: "Tells about one model." },
  "GET /lora-adapters": { summary: "Lists the LoRA adapters of a model, as llama.cpp's clients read them." },
  "POST /lora-adapters": {
    summary: "Sets the adapters that a model is served with where requests say nothing of them.",
    body: "DefaultAdapters",
  },
  "POST /tokenize": { summary: "Tokens of a text or of a chat.", body: "TokenizeRequest" },
  "POST /detokenize": { summary: "Text of tokens.", body: "DetokenizeRequest" },
  "GET /tokenizer_info": {
    summary: "Special tokens and chat template of a model, as vLLM's clients read them.",
  },
  "POST /apply-template": { summary: "The prompt of a chat.", body: "ChatCompletionRequest" },
  "GET /requests": { summary: "Lists the requests of this key that are being answered." },
  "GET /requests/{id}": { summary: "Tells about a request that is being answered." },
  "PATCH /requests/{id}": { summary: "Pauses, resumes or reprioritises a request.", body: "RequestChange" },
  "DELETE /requests/{id}": { summary: "Cancels a request." },
  "GET /slots": { summary: "What each slot does." },
  "POST /slots/{id}": { summary: "Refused: slots are not saved, restored or erased by request." },
  "GET /props": { summary: "The settings, as llama.cpp's clients read them." },
  "GET /metrics": { summary: "Prometheus metrics.", type: "text/plain" },
  "GET /debug/pins": {
    summary: "What is pinned with --pin-prompt, in tokens and bytes, and how often it was read.",
  },
  "GET /debug/timeline": { summary: "The last steps of a model's engine; ?format=trace for Perfetto." },
  "GET /": { summary: "What this server is, and where to go on." },
  "GET /version": { summary: "The version." },
  "GET /openapi.json": { summary: "This description." },
  "GET /health": { summary: "Whether the server answers requests." },
  "GET /healthz": { summary: "The same as /health." },
  "GET /livez": { summary: "Whether the process lives." },
  "GET /ready": { summary: "Whether a model answers and new requests are welcome." },
  "GET /readyz": { summary: "The same as /ready." },
};

const ERROR = z.object({
  error: z.looseObject({
    message: z.string(),
    type: z.string(),
    param: z.string().nullable(),
    code: z.string().nullable(),
  }),
});

/** Paths as the router has them, without the `/v1` or `/openai` that every path may begin with. */
export function openApiDocument(version: string): object {
  const paths: Record<string, Record<string, object>> = {};
  for (const [route, operation] of Object.entries(OPERATIONS)) {
    const [method = "", path = ""] = route.split(" ");
    paths[path] = { ...paths[path], [method.toLowerCase()]: operationJson(path, operation) };
  }
  return {
    openapi: "3.1.0",
    info: {
      title: "Weft",
      version,
      description:
        "Explicit null is the same as an absent field. Fields that are not described here are accepted without " +
        "effect and listed in the header x-weft-ignored-params.",
    },
    servers: [{ url: "/v1" }, { url: "/" }, { url: "/openai" }, { url: "/openai/v1" }],
    security: [{}, { bearer: [] }, { azureKey: [] }],
    paths,
    components: {
      securitySchemes: {
        bearer: { type: "http", scheme: "bearer" },
        azureKey: { type: "apiKey", in: "header", name: "api-key" },
      },
      schemas: Object.fromEntries(
        Object.entries({ ...BODIES, Error: ERROR }).map(([name, schema]) => [name, schemaJson(schema)]),
      ),
    },
  };
}

function operationJson(path: string, { summary, body, streams, type }: Operation): object {
  const answer =
    type === undefined
      ? { "application/json": { schema: { type: "object" } } }
      : { [type]: { schema: { type: "string" } } };
  const stream = streams === true ? { "text/event-stream": { schema: { type: "string" } } } : {};
  const parameters = [...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => ({
    name,
    in: "path",
    required: true,
    schema: { type: "string" },
  }));
  return {
    summary,
    ...(parameters.length === 0 ? {} : { parameters }),
    ...(body === undefined ? {} : { requestBody: { required: true, content: jsonOf(body) } }),
    responses: {
      "200": { description: "The answer.", content: { ...answer, ...stream } },
      default: { description: "An error.", content: jsonOf("Error") },
    },
  };
}

function jsonOf(name: string): object {
  return { "application/json": { schema: { $ref: `#/components/schemas/${name}` } } };
}

/** As clients send it; the dialect is the document's own. */
function schemaJson(schema: z.ZodType): object {
  const { $schema: _dialect, ...json } = z.toJSONSchema(schema, { io: "input", unrepresentable: "any" });
  return json;
}
