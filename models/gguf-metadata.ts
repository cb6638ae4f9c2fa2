/**
 * Checks what a GGUF header says of its model. The native loader believes most of it: it reads a vocabulary's scores
 * without asking how many there are, and sizes tables by the numbers of layers and experts.
 */
import { GGUF_FLOAT32, GGUF_INT32, GGUF_STRING, GGUF_UINT32 } from "./gguf-types.ts";

/** Arrays are passed over; their length and type are kept. Numbers of types that nobody looks for are NaN. */
export type GgufValue = string | number | { readonly length: number; readonly elementType: number };

/** Numbers after the architecture's name, with the least and the most that any model could mean. */
const HYPERPARAMETERS: Readonly<Record<string, readonly [least: number, most: number]>> = {
  // llama.cpp's own bound is 512, which it asserts.
  block_count: [1, 512],
  context_length: [1, 2 ** 31 - 1],
  embedding_length: [1, 2 ** 20],
  // 0 where there is none, as in recurrent models.
  feed_forward_length: [0, 2 ** 24],
  "attention.head_count": [0, 2 ** 16],
  "attention.head_count_kv": [0, 2 ** 16],
  "attention.key_length": [0, 2 ** 16],
  "attention.value_length": [0, 2 ** 16],
  "rope.dimension_count": [0, 2 ** 16],
  expert_count: [0, 1024],
  expert_used_count: [0, 1024],
  vocab_size: [1, 2 ** 24],
};

/** Arrays with a value for each token, and the types they may have: any other would be read past its end. */
const PER_TOKEN: Readonly<Record<string, readonly number[]>> = {
  "tokenizer.ggml.scores": [GGUF_FLOAT32],
  "tokenizer.ggml.token_type": [GGUF_INT32, GGUF_UINT32],
};

const TOKENS = "tokenizer.ggml.tokens";
const STRING_ARRAYS = [TOKENS, "tokenizer.ggml.merges"];

/**
 * @param vocabularyRows Rows of the token embeddings; undefined without them.
 * @returns What is wrong, in words; undefined when nothing is.
 */
export function checkMetadata(
  values: ReadonlyMap<string, GgufValue>,
  architecture: string,
  vocabularyRows: number | undefined,
): string | undefined {
  return wrongNumber(values, architecture) ?? wrongArray(values) ?? wrongVocabulary(values, vocabularyRows);
}

function wrongNumber(values: ReadonlyMap<string, GgufValue>, architecture: string): string | undefined {
  for (const [name, [least, most]] of Object.entries(HYPERPARAMETERS)) {
    const key = `${architecture}.${name}`;
    const value = values.get(key);
    if (typeof value === "number" && (value < least || value > most)) {
      return `${key} is ${value}, which is not from ${least} to ${most}`;
    }
  }
  const experts = values.get(`${architecture}.expert_count`);
  const used = values.get(`${architecture}.expert_used_count`);
  if (typeof experts === "number" && typeof used === "number" && used > experts) {
    return `${architecture}.expert_used_count is ${used}, of ${experts} experts`;
  }
  return undefined;
}

function wrongArray(values: ReadonlyMap<string, GgufValue>): string | undefined {
  for (const key of STRING_ARRAYS) {
    const array = values.get(key);
    if (array !== undefined && (typeof array !== "object" || array.elementType !== GGUF_STRING)) {
      return `${key} is no array of strings`;
    }
  }
  const tokens = lengthOf(values.get(TOKENS)) ?? 0;
  for (const [key, types] of Object.entries(PER_TOKEN)) {
    const array = values.get(key);
    if (array === undefined) continue;
    if (typeof array !== "object" || !types.includes(array.elementType)) {
      return `${key} has values of the wrong type`;
    }
    if (array.length !== tokens) return `${key} has ${array.length} values for ${tokens} tokens`;
  }
  return undefined;
}

function wrongVocabulary(
  values: ReadonlyMap<string, GgufValue>,
  vocabularyRows: number | undefined,
): string | undefined {
  const tokens = lengthOf(values.get(TOKENS));
  if (tokens === undefined || vocabularyRows === undefined || vocabularyRows === tokens) return undefined;
  return `the embeddings have ${vocabularyRows} rows and the vocabulary has ${tokens} tokens`;
}

function lengthOf(value: GgufValue | undefined): number | undefined {
  return typeof value === "object" ? value.length : undefined;
}
