/** Every request field of every endpoint and how far it is honoured, derived from what reads and what refuses them. */
import type { z } from "zod";
import { chatSchema } from "./chat-request.ts";
import { completionSchema } from "./completion-request.ts";
import { embeddingSchema } from "./embedding-request.ts";
import { rerankSchema } from "./rerank-request.ts";
import { RESPONSE_FIELD_RULES } from "./responses/fields.ts";
import { responseSchema } from "./responses/request.ts";
import { fieldRules } from "./unsupported.ts";
import type { FieldRules } from "./unsupported.ts";

/** `partly`: some values are refused; `ignored`: accepted, reported in a header, without effect. */
export type FieldSupport = "yes" | "partly" | "no" | "ignored";

export interface EndpointFields extends FieldRules {
  /** Has every field that is read. */
  readonly schema: z.ZodObject;
  /** Those of them that are honoured. */
  readonly read: readonly string[];
}

export const ENDPOINT_FIELDS = {
  chat: { ...reads(chatSchema), ...fieldRules("chat") },
  completions: { ...reads(completionSchema), ...fieldRules("completions") },
  responses: {
    ...reads(responseSchema, RESPONSE_FIELD_RULES.withoutEffect),
    ...RESPONSE_FIELD_RULES,
  },
  embeddings: { ...reads(embeddingSchema), ...fieldRules("embeddings") },
  rerank: { ...reads(rerankSchema), ...fieldRules("rerank") },
} as const satisfies Readonly<Record<string, EndpointFields>>;

export type DescribedEndpoint = keyof typeof ENDPOINT_FIELDS;

/** Fields that are not in it are unknown. */
export function fieldSupport(endpoint: DescribedEndpoint): ReadonlyMap<string, FieldSupport> {
  const { read, refused, refusedValues, withoutEffect }: EndpointFields = ENDPOINT_FIELDS[endpoint];
  const support = new Map<string, FieldSupport>();
  for (const field of withoutEffect) support.set(field, "ignored");
  for (const field of read) support.set(field, "yes");
  for (const field of refusedValues) support.set(field, "partly");
  for (const field of refused) support.set(field, "no");
  return support;
}

/** @param judged Fields whose type is judged and that have no effect all the same. */
function reads(schema: z.ZodObject, judged: readonly string[] = []): Pick<EndpointFields, "schema" | "read"> {
  return { schema, read: Object.keys(schema.shape).filter((field) => !judged.includes(field)) };
}
