/** `POST /embedding`, in llama.cpp's own dialect: a list with the vector of each input. */
import { z } from "zod";
import { MOST_INPUTS } from "../../engine/protocol.ts";
import type { PriorityClass } from "../../engine/sharing.ts";
import { ApiError, emptyPrompt } from "../openai/api-error.ts";
import { prepareBody } from "../openai/generation-fields.ts";
import type { RequestLimits } from "../openai/generation-fields.ts";
import { priorityField, readPriority } from "../openai/priority-field.ts";
import { isEmptyInput, namedInputs, readNamedInputs } from "../openai/text-inputs.ts";
import type { NamedInput } from "../openai/text-inputs.ts";
import { unreadFields } from "../openai/unsupported.ts";
import { integer, parseWith } from "../openai/validation.ts";

/** llama.cpp's number of the Euclidean norm. */
const EUCLIDEAN = 2;

export const nativeEmbeddingSchema = z.object({
  model: z.string().optional(),
  content: namedInputs.optional(),
  input: namedInputs.optional(),
  embd_normalize: integer(-1).optional(),
  priority: priorityField.optional(),
});

const KNOWN: ReadonlySet<string> = new Set(Object.keys(nativeEmbeddingSchema.shape));

/** Only one of the two is read. */
const BESIDE_INPUT: ReadonlySet<string> = new Set([...KNOWN].filter((field) => field !== "content"));

export interface NativeEmbeddingRequest {
  readonly model: string | undefined;
  readonly field: "input" | "content";
  /** None of them is only empty texts. */
  readonly inputs: readonly NamedInput[];
  readonly priority: PriorityClass | undefined;
  readonly ignoredFields: readonly string[];
}

/** @throws {ApiError} 400 for what is wrong, and for vectors of another length than 1. */
export function readNativeEmbeddingRequest(
  body: Readonly<Record<string, unknown>>,
  { strictParams, limits }: RequestLimits,
): NativeEmbeddingRequest {
  const present = prepareBody(body, limits);
  const { model, embd_normalize: norm = EUCLIDEAN, priority } = parseWith(nativeEmbeddingSchema, present);
  if (norm !== EUCLIDEAN) {
    throw new ApiError(
      "unsupported_value",
      `Unsupported value: 'embd_normalize' is ${EUCLIDEAN} with this server, whose vectors have the length 1.`,
      "embd_normalize",
    );
  }
  const field = present["input"] === undefined ? "content" : "input";
  const ignored = unreadFields(present, field === "input" ? BESIDE_INPUT : KNOWN, strictParams);
  const inputs = readNamedInputs(present[field], field, MOST_INPUTS);
  for (const input of inputs) if (isEmptyInput(input)) throw emptyPrompt(input.param);
  return { model, field, inputs, priority: readPriority(priority), ignoredFields: ignored };
}

/** An input has several vectors where its tokens are not pooled into one, which they are here. */
export function nativeEmbeddingBody(vectors: readonly Float32Array[]): object {
  return vectors.map((vector, index) => ({ index, embedding: [[...vector]] }));
}
