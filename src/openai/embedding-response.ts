/** Embeddings on the wire: vectors of unit length, as numbers or as base64. */

/**
 * @param vectors One per input, in order, all of the model's size and of length 1.
 * @param answer `dimensions` keeps that many of the first numbers, at most the model's size; `promptTokens` are
 * of all inputs.
 */
export function embeddingBody(
  vectors: readonly Float32Array[],
  answer: {
    readonly model: string;
    readonly base64: boolean;
    readonly dimensions: number | undefined;
    readonly promptTokens: number;
  },
): object {
  const { model, base64, dimensions, promptTokens } = answer;
  return {
    object: "list",
    data: vectors.map((vector, index) => {
      const shown = dimensions === undefined ? vector : toUnitLength(vector.subarray(0, dimensions));
      return { object: "embedding", index, embedding: base64 ? toBase64(shown) : [...shown] };
    }),
    model,
    usage: { prompt_tokens: promptTokens, total_tokens: promptTokens },
  };
}

/** Clients compare vectors by their dot product, so a part of one has length 1 too. Zeros stay zeros. */
function toUnitLength(vector: Float32Array): Float32Array {
  let squares = 0;
  for (const value of vector) squares += value * value;
  const length = Math.sqrt(squares);
  return length === 0 ? vector : vector.map((value) => value / length);
}

/** Little-endian float32, whatever the machine. */
function toBase64(vector: Float32Array): string {
  const bytes = Buffer.allocUnsafe(vector.length * Float32Array.BYTES_PER_ELEMENT);
  for (const [i, value] of vector.entries()) bytes.writeFloatLE(value, i * Float32Array.BYTES_PER_ELEMENT);
  return bytes.toString("base64");
}
