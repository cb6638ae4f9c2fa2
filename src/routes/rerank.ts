/** `POST /v1/rerank`. */
import type { AppDeps } from "../deps.ts";
import { rank } from "../embed.ts";
import { readJsonObject } from "../http/body.ts";
import { jsonReply } from "../http/reply.ts";
import { readRerankRequest } from "../openai/rerank-request.ts";
import { rerankBody } from "../openai/rerank-response.ts";
import { ignoredHeader } from "./answer.ts";
import type { AppContext } from "./env.ts";
import { assertOpen, findModel } from "./find-model.ts";
import { readAsker } from "./inputs-asker.ts";

export async function rerank(c: AppContext, deps: AppDeps): Promise<Response> {
  const notes = c.get("notes");
  notes.endpoint = "rerank";
  const request = readRerankRequest(await readJsonObject(c.req.raw, deps.config.limits), deps.config);
  const asker = readAsker(c, deps, request.priority);
  assertOpen(deps);
  // The clients of `texts` name no model.
  const unnamed = request.listedAs === "texts" ? deps.models.served[0]?.id : undefined;
  const model = findModel(deps, request.model ?? unnamed);
  notes.model = model.id;
  const { scores, tokenCounts, work, allowance } = await rank(model, request, asker);
  notes.allowance = allowance;
  const promptTokens = tokenCounts.reduce((sum, count) => sum + count, 0);
  notes.promptTokens = promptTokens;
  deps.metrics.observeInputs(model.id, promptTokens, work);
  const head = { id: deps.ids.next("rerank-"), model: model.id, promptTokens };
  return jsonReply(
    rerankBody(scores, request, head),
    200,
    ignoredHeader([...asker.vain, ...request.ignoredFields]),
  );
}
