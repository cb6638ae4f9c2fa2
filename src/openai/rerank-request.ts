/** What a rerank request asks for, in the shape of Jina and Cohere, or of Text Embeddings Inference. */
import { z } from "zod";
import { MOST_INPUTS } from "../../engine/protocol.ts";
import type { PriorityClass } from "../../engine/sharing.ts";
import { emptyPrompt } from "./api-error.ts";
import { prepareBody } from "./generation-fields.ts";
import type { RequestLimits } from "./generation-fields.ts";
import { priorityField, readPriority } from "./priority-field.ts";
import { ignoredFields } from "./unsupported.ts";
import { checkLength, emptyArray, integer, missing, parseWith } from "./validation.ts";

const text = z.union([z.string(), z.object({ text: z.string() })], "a string or an object with a text");

export const rerankSchema = z.object({
  model: z.string().optional(),
  query: text,
  documents: z.array(text).optional(),
  texts: z.array(text).optional(),
  top_n: integer(1).optional(),
  return_documents: z.boolean().optional(),
  return_text: z.boolean().optional(),
  priority: priorityField.optional(),
});

const KNOWN: ReadonlySet<string> = new Set(Object.keys(rerankSchema.shape));

export interface RerankRequest {
  readonly model: string | undefined;
  readonly query: string;
  readonly documents: readonly string[];
  /** The field they came in: `texts` is how Text Embeddings Inference has it, whose clients read another answer. */
  readonly listedAs: "documents" | "texts";
  /** How many of the best are wanted; undefined is all. */
  readonly topN: number | undefined;
  readonly returnDocuments: boolean;
  readonly priority: PriorityClass | undefined;
  readonly ignoredFields: readonly string[];
}

/** @throws {ApiError} 400 for what is wrong. */
export function readRerankRequest(
  body: Readonly<Record<string, unknown>>,
  { strictParams, limits }: RequestLimits,
): RerankRequest {
  const present = prepareBody(body, limits);
  const listedAs =
    present["documents"] === undefined && present["texts"] !== undefined ? "texts" : "documents";
  checkLength(present[listedAs], MOST_INPUTS, listedAs);
  const fields = parseWith(rerankSchema, present);
  const ignored = ignoredFields(present, KNOWN, { endpoint: "rerank", strict: strictParams });
  const documents = fields[listedAs];
  if (documents === undefined) throw missing(listedAs);
  if (documents.length === 0) throw emptyArray(listedAs);
  const query = textOf(fields.query);
  if (query === "") throw emptyPrompt("query");
  return {
    model: fields.model,
    query,
    documents: documents.map(textOf),
    listedAs,
    topN: fields.top_n,
    returnDocuments: (listedAs === "texts" ? fields.return_text : fields.return_documents) ?? false,
    priority: readPriority(fields.priority),
    ignoredFields: ignored,
  };
}

function textOf(value: z.infer<typeof text>): string {
  return typeof value === "string" ? value : value.text;
}
