/** `GET /v1/models` and `GET /v1/models/{id}`: answered while models load, without asking an engine. */
import type { AppDeps } from "../deps.ts";
import { jsonReply } from "../http/reply.ts";
import type { ServedModel } from "../model-directory.ts";
import type { AppContext } from "./env.ts";
import { unlistedModel } from "./find-model.ts";

export function listModels(_c: AppContext, deps: AppDeps): Response {
  const all = deps.models.served.flatMap((model) => [model, ...model.adapted]);
  return jsonReply({ object: "list", data: all.map(modelJson) });
}

export function getModel(c: AppContext, deps: AppDeps): Response {
  const name = c.req.param("id") ?? "";
  const served = deps.models.find(name);
  if (served === undefined) throw unlistedModel(name);
  return jsonReply(modelJson(served));
}

/** Tools look for the context length under different names; all of them mean what one request can use. */
function modelJson(served: ServedModel): object {
  const facts = served.loaded?.facts;
  const length = facts?.contextTokens;
  return {
    id: served.id,
    object: "model",
    created: served.createdSeconds,
    owned_by: "weft",
    root: served.parent ?? served.id,
    parent: served.parent ?? null,
    aliases: served.aliases,
    status: served.state,
    ...(facts === undefined
      ? {}
      : {
          max_model_len: length,
          context_length: length,
          max_context_length: length,
          capabilities: served.loaded?.template === undefined ? ["completion"] : ["completion", "chat"],
          meta: {
            n_ctx: length,
            n_ctx_train: facts.trainContextTokens,
            n_vocab: facts.vocabSize,
            n_embd: facts.embeddingLength,
            n_params: facts.parameters,
            size: facts.sizeBytes,
          },
        }),
  };
}
