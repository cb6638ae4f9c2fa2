/** `POST /v1/embeddings`. */
import type { AppDeps } from "../deps.ts";
import { embed } from "../embed.ts";
import { jsonReply } from "../http/reply.ts";
import { readEmbeddingRequest } from "../openai/embedding-request.ts";
import { embeddingBody } from "../openai/embedding-response.ts";
import { checkMaximum } from "../openai/validation.ts";
import { ignoredHeader } from "./answer.ts";
import type { AppContext } from "./env.ts";
import { assertOpen, findModel } from "./find-model.ts";
import { readRequestBody } from "./request-body.ts";

export async function embeddings(c: AppContext, deps: AppDeps): Promise<Response> {
  const notes = c.get("notes");
  notes.endpoint = "embeddings";
  const request = readEmbeddingRequest(await readRequestBody(c, deps), deps.config);
  assertOpen(deps);
  const model = findModel(deps, request.model);
  notes.model = model.id;
  const { dimensions, base64 } = request;
  const own = model.facts.embeddings?.dimensions ?? Number.POSITIVE_INFINITY;
  checkMaximum(dimensions ?? 1, own, "dimensions");
  const { vectors, tokenCounts, work } = await embed(model, request.inputs, c.get("scope").signal);
  const promptTokens = tokenCounts.reduce((sum, count) => sum + count, 0);
  notes.promptTokens = promptTokens;
  deps.metrics.observeInputs(model.id, promptTokens, work);
  return jsonReply(
    embeddingBody(vectors, { model: model.id, base64, dimensions, promptTokens }),
    200,
    ignoredHeader(request.ignoredFields),
  );
}
