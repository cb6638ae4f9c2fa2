/** `/lora-adapters`, as llama.cpp's clients use it: the adapters of a model, and those that it is served with by default. */
import { z } from "zod";
import { withAdapters } from "../../models/adapted-model.ts";
import type { LoadedModel } from "../../models/loaded-model.ts";
import type { AppDeps } from "../deps.ts";
import { readJsonArray } from "../http/body.ts";
import { MAX_LORAS } from "../http/limits.ts";
import { jsonReply } from "../http/reply.ts";
import { mayActForAll } from "../middleware/authenticate.ts";
import { ApiError } from "../openai/api-error.ts";
import { applyRequested, loraField } from "../openai/lora-field.ts";
import { checkLength, parseWith } from "../openai/validation.ts";
import type { AppContext } from "./env.ts";
import { findModel, listOfModels } from "./find-model.ts";

/** What the body, which is a list, is called in errors. */
const bodySchema = z.object({ lora: loraField });

/** With the scales at which the model itself is served with them: 0 until somebody says otherwise. */
export async function listAdapters(c: AppContext, deps: AppDeps): Promise<Response> {
  const list = await listOfModels(deps, c.req.query("model"), (found) => {
    const model = baseOf(found, deps);
    const { applied } = applyRequested(model, deps.defaultAdapters.of(model.id) ?? []);
    const scaleOf = (id: number): number => applied.find(({ adapter }) => adapter === id)?.scale ?? 0;
    return model.adapters.map(({ name, fileName }, id) => ({ id, name, path: fileName, scale: scaleOf(id) }));
  });
  return jsonReply(list);
}

/** For requests that come from now on, ask for the model by its own name, and say nothing of adapters. */
export async function setDefaultAdapters(c: AppContext, deps: AppDeps): Promise<Response> {
  if (!mayActForAll(deps.config)) {
    throw new ApiError(
      "key_not_allowed",
      "This would change the answers of every key. Where there are several, only an admin key (--admin-key) may; " +
        "'lora' in a request changes its own answer.",
    );
  }
  const body = await readJsonArray(c.req.raw, deps.config.limits);
  checkLength(body, MAX_LORAS, "lora");
  const { lora } = parseWith(bodySchema, { lora: body });
  const model = baseOf(findModel(deps, c.req.query("model") ?? deps.models.served[0]?.id), deps);
  // Throws for what no request could ask for.
  applyRequested(model, lora);
  deps.defaultAdapters.set(model.id, lora);
  deps.log.info({ model: model.id, lora }, "default adapters changed");
  return jsonReply({ success: true });
}

/** The model itself, whichever of its names is given. */
function baseOf(model: LoadedModel, deps: AppDeps): LoadedModel {
  const base = deps.models.find(model.id)?.parent ?? model.id;
  return withAdapters(model, base, []);
}
