/** `GET /lora-adapters`: the adapters that requests may ask for, as llama.cpp's clients read them. */
import type { AppDeps } from "../deps.ts";
import { jsonReply } from "../http/reply.ts";
import type { AppContext } from "./env.ts";
import { findModel } from "./find-model.ts";

export function loraAdapters(c: AppContext, deps: AppDeps): Response {
  const { adapters } = findModel(deps, c.req.query("model") ?? deps.models.served[0]?.id);
  return jsonReply(adapters.map(({ name, fileName, scale }, id) => ({ id, name, path: fileName, scale })));
}
