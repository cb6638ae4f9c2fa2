/** What a rerank request asks for, in the shape of Jina and Cohere. */
import { z } from "zod";
import { MOST_INPUTS } from "../../engine/protocol.ts";
import { emptyPrompt } from "./api-error.ts";
import { prepareBody } from "./generation-fields.ts";
import type { RequestLimits } from "./generation-fields.ts";
import { ignoredFields } from "./unsupported.ts";
import { checkLength, emptyArray, integer, parseWith } from "./validation.ts";

const text = z.union([z.string(), z.object({ text: z.string() })], "a string or an object with a text");

export const rerankSchema = z.object({
  model: z.string().optional(),
  query: text,
  documents: z.array(text),
  top_n: integer(1).optional(),
  return_documents: z.boolean().optional(),
});

const KNOWN: ReadonlySet<string> = new Set(Object.keys(rerankSchema.shape));

export interface RerankRequest {
  readonly model: string | undefined;
  readonly query: string;
  readonly documents: readonly string[];
  /** How many of the best are wanted; undefined is all. */
  readonly topN: number | undefined;
  readonly returnDocuments: boolean;
  readonly ignoredFields: readonly string[];
}

/** @throws {ApiError} 400 for what is wrong. */
export function readRerankRequest(
  body: Readonly<Record<string, unknown>>,
  { strictParams, limits }: RequestLimits,
): RerankRequest {
  const present = prepareBody(body, limits);
  checkLength(present["documents"], MOST_INPUTS, "documents");
  const fields = parseWith(rerankSchema, present);
  const ignored = ignoredFields(present, KNOWN, { endpoint: "rerank", strict: strictParams });
  if (fields.documents.length === 0) throw emptyArray("documents");
  const query = textOf(fields.query);
  if (query === "") throw emptyPrompt("query");
  return {
    model: fields.model,
    query,
    documents: fields.documents.map(textOf),
    topN: fields.top_n,
    returnDocuments: fields.return_documents ?? false,
    ignoredFields: ignored,
  };
}

function textOf(value: z.infer<typeof text>): string {
  return typeof value === "string" ? value : value.text;
}
