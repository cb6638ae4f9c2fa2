/** Which loaded model a request means. */
import type { LoadedModel } from "../../models/loaded-model.ts";
import type { AppDeps } from "../deps.ts";
import { ApiError } from "../openai/api-error.ts";
import { applyRequested } from "../openai/lora-field.ts";
import type { RequestedAdapters } from "../openai/lora-field.ts";
import { missing } from "../openai/validation.ts";
import type { ServedModel } from "../model-directory.ts";

/** Longest part of a client's model name that an error repeats. */
const SHOWN_NAME = 200;

/** @throws {ApiError} 503 once the server takes no new work. */
export function assertOpen({ lifecycle }: AppDeps): void {
  if (!lifecycle.draining) return;
  throw new ApiError("server_draining", "The server is shutting down and takes no new requests.");
}

/**
 * The model with the adapters that it is to generate with.
 *
 * @param lora What the request says of adapters.
 * @throws {ApiError} What `findModel` throws, and 400 for no such adapter.
 */
export function findGenerator(
  deps: AppDeps,
  name: string | undefined,
  lora: RequestedAdapters | undefined,
): LoadedModel {
  const model = findModel(deps, name);
  // There are none for an adapter's own name, which says more than what is usual.
  return applyRequested(model, lora ?? deps.defaultAdapters.of(model.id));
}

/** @throws {ApiError} 400, 404 or 503: no name, no such model, a model that cannot answer now. */
export function findModel(deps: AppDeps, name: string | undefined): LoadedModel {
  const served = findServed(deps, name);
  if (served.loaded !== undefined) return served.loaded;
  if (served.state === "failed") {
    throw new ApiError(
      "model_failed",
      `The model '${served.id}' could not be loaded. The server's log says why.`,
    );
  }
  const doing = served.state === "restarting" ? "being restarted" : "still loading";
  throw new ApiError("model_loading", `The model '${served.id}' is ${doing}. Please try again later.`);
}

/**
 * What each model has to list; the model's name is at each entry where several are served.
 *
 * @param name The only one that is wanted; undefined is every one that can answer now.
 * @param entriesOf Undefined where its engine does not answer.
 * @throws {ApiError} What `findModel` throws, and 503 where no engine answers.
 */
export async function listOfModels(
  deps: AppDeps,
  name: string | undefined,
  entriesOf: (model: LoadedModel) => readonly object[] | undefined | Promise<readonly object[] | undefined>,
): Promise<object[]> {
  const { served } = deps.models;
  const loaded = served.flatMap((model) => model.loaded ?? []);
  const wanted = name === undefined && loaded.length > 0 ? loaded : [findModel(deps, name ?? served[0]?.id)];
  const lists = await Promise.all(wanted.map(async (model) => entriesOf(model)));
  if (lists.every((list) => list === undefined))
    throw new ApiError("engine_restarting", "The model's engine did not answer.");
  const several = name === undefined && served.length > 1;
  return lists.flatMap((list = [], index) =>
    several ? list.map((entry) => ({ ...entry, model: wanted[index]?.id })) : list,
  );
}

function findServed({ models, config }: AppDeps, name: string | undefined): ServedModel {
  const named = name === undefined || name === "" ? undefined : models.find(name);
  const served = named ?? (config.anyModel ? models.served[0] : undefined);
  if (served !== undefined) return served;
  if (name === undefined) throw missing("model");
  throw new ApiError(
    "model_not_found",
    `The model \`${name.slice(0, SHOWN_NAME)}\` does not exist or you do not have access to it.`,
  );
}

/** What the list of models says of one that it does not have, in OpenAI's words, which are others there. */
export function unlistedModel(name: string): ApiError {
  const message = `The model '${name.slice(0, SHOWN_NAME)}' does not exist`;
  return new ApiError("model_not_found", message, "model");
}
