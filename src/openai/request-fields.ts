/** Every request field of every endpoint and how far it is honoured, derived from what reads and what refuses them. */
import type { z } from "zod";
import { chatSchema } from "./chat-request.ts";
import { completionSchema } from "./completion-request.ts";
import { embeddingSchema } from "./embedding-request.ts";
import { rerankSchema } from "./rerank-request.ts";
import { fieldRules } from "./unsupported.ts";
import type { FieldRules } from "./unsupported.ts";

/** `partly`: some values are refused; `ignored`: accepted, reported in a header, without effect. */
export type FieldSupport = "yes" | "partly" | "no" | "ignored";

export interface EndpointFields extends FieldRules {
  /** What reads the body. */
  readonly schema: z.ZodObject;
}

export const ENDPOINT_FIELDS = {
  chat: { schema: chatSchema, ...fieldRules("chat") },
  completions: { schema: completionSchema, ...fieldRules("completions") },
  embeddings: { schema: embeddingSchema, ...fieldRules("embeddings") },
  rerank: { schema: rerankSchema, ...fieldRules("rerank") },
} as const satisfies Readonly<Record<string, EndpointFields>>;

export type DescribedEndpoint = keyof typeof ENDPOINT_FIELDS;

/** Fields that are not in it are unknown. */
export function fieldSupport(endpoint: DescribedEndpoint): ReadonlyMap<string, FieldSupport> {
  const { schema, refused, refusedValues, withoutEffect }: EndpointFields = ENDPOINT_FIELDS[endpoint];
  const support = new Map<string, FieldSupport>();
  for (const field of withoutEffect) support.set(field, "ignored");
  for (const field of Object.keys(schema.shape)) support.set(field, "yes");
  for (const field of refusedValues) support.set(field, "partly");
  for (const field of refused) support.set(field, "no");
  return support;
}
