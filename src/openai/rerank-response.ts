/** A ranking on the wire: documents by relevance, in the shape that Jina, Cohere and llama-server share, or as Text Embeddings Inference has it. */
import type { RerankRequest } from "./rerank-request.ts";

/** @param scores One per document, in order; higher is more relevant. */
export function rerankBody(
  scores: readonly number[],
  { documents, listedAs, topN, returnDocuments }: RerankRequest,
  { id, model, promptTokens }: { readonly id: string; readonly model: string; readonly promptTokens: number },
): object {
  const ranked = scores
    .map((score, index) => ({ index, score }))
    .toSorted((a, b) => b.score - a.score)
    .slice(0, topN);
  const textOf = (index: number): string => documents[index] ?? "";
  if (listedAs === "texts")
    return ranked.map(({ index, score }) => ({
      index,
      score,
      ...(returnDocuments ? { text: textOf(index) } : {}),
    }));
  return {
    id,
    object: "list",
    model,
    results: ranked.map(({ index, score }) => ({
      index,
      relevance_score: score,
      ...(returnDocuments ? { document: { text: textOf(index) } } : {}),
    })),
    usage: { prompt_tokens: promptTokens, total_tokens: promptTokens },
  };
}
