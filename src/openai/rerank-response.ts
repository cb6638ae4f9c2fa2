/** A ranking on the wire: documents by relevance, in the shape that Jina, Cohere and llama-server share. */
import type { RerankRequest } from "./rerank-request.ts";

/** @param scores One per document, in order; higher is more relevant. */
export function rerankBody(
  scores: readonly number[],
  { documents, topN, returnDocuments }: RerankRequest,
  { id, model, promptTokens }: { readonly id: string; readonly model: string; readonly promptTokens: number },
): object {
  const ranked = scores
    .map((score, index) => ({ index, score }))
    .toSorted((a, b) => b.score - a.score)
    .slice(0, topN);
  return {
    id,
    object: "list",
    model,
    results: ranked.map(({ index, score }) => ({
      index,
      relevance_score: score,
      ...(returnDocuments ? { document: { text: documents[index] ?? "" } } : {}),
    })),
    usage: { prompt_tokens: promptTokens, total_tokens: promptTokens },
  };
}
