/** `POST /v1/embeddings`, and `POST /embedding` in llama.cpp's own dialect. */
import type { LoadedModel } from "../../models/loaded-model.ts";
import type { AppDeps } from "../deps.ts";
import { embed } from "../embed.ts";
import type { EmbeddingInputs, InputsAsker } from "../embed.ts";
import { readJsonObject } from "../http/body.ts";
import { jsonReply } from "../http/reply.ts";
import { nativeEmbeddingBody, readNativeEmbeddingRequest } from "../llama-cpp/native-embedding.ts";
import { readEmbeddingRequest } from "../openai/embedding-request.ts";
import { embeddingBody } from "../openai/embedding-response.ts";
import { checkMaximum } from "../openai/validation.ts";
import { ignoredHeader } from "./answer.ts";
import type { AppContext } from "./env.ts";
import { assertOpen, findModel } from "./find-model.ts";
import { readAsker } from "./inputs-asker.ts";
import { readRequestBody } from "./request-body.ts";

export async function embeddings(c: AppContext, deps: AppDeps): Promise<Response> {
  c.get("notes").endpoint = "embeddings";
  const request = readEmbeddingRequest(await readRequestBody(c, deps), deps.config);
  const asker = readAsker(c, deps, request.priority);
  assertOpen(deps);
  const model = findModel(deps, request.model);
  const { dimensions, base64 } = request;
  const own = model.facts.embeddings?.dimensions ?? Number.POSITIVE_INFINITY;
  checkMaximum(dimensions ?? 1, own, "dimensions");
  const { vectors, promptTokens } = await vectorsOf({ c, deps, asker }, model, {
    field: "input",
    inputs: request.inputs,
    cut: request.cut,
  });
  return jsonReply(
    embeddingBody(vectors, { model: model.id, base64, dimensions, promptTokens }),
    200,
    ignoredHeader([...asker.vain, ...request.ignoredFields]),
  );
}

export async function nativeEmbedding(c: AppContext, deps: AppDeps): Promise<Response> {
  c.get("notes").endpoint = "embeddings";
  const body = await readJsonObject(c.req.raw, deps.config.limits);
  const request = readNativeEmbeddingRequest(body, deps.config);
  const asker = readAsker(c, deps, request.priority);
  assertOpen(deps);
  // llama.cpp's clients name no model.
  const model = findModel(deps, request.model ?? deps.models.served[0]?.id);
  const { vectors } = await vectorsOf({ c, deps, asker }, model, request);
  return jsonReply(
    nativeEmbeddingBody(vectors),
    200,
    ignoredHeader([...asker.vain, ...request.ignoredFields]),
  );
}

async function vectorsOf(
  { c, deps, asker }: { readonly c: AppContext; readonly deps: AppDeps; readonly asker: InputsAsker },
  model: LoadedModel,
  inputs: EmbeddingInputs,
): Promise<{ readonly vectors: readonly Float32Array[]; readonly promptTokens: number }> {
  const notes = c.get("notes");
  notes.model = model.id;
  const { vectors, tokenCounts, work, allowance } = await embed(model, inputs, asker);
  notes.allowance = allowance;
  const promptTokens = tokenCounts.reduce((sum, count) => sum + count, 0);
  notes.promptTokens = promptTokens;
  deps.metrics.observeInputs(model.id, promptTokens, work);
  return { vectors, promptTokens };
}
