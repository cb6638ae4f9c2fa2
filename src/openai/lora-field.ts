/** `lora`, as llama.cpp's clients ask for adapters: those that are listed are applied, and no others. */
import { z } from "zod";
import type { AdapterUse } from "../../engine/adapters.ts";
import { withAdapters } from "../../models/adapted-model.ts";
import type { LoadedModel } from "../../models/loaded-model.ts";
import { ApiError } from "./api-error.ts";
import { decimal, integer, missing } from "./validation.ts";

/**
 * Far beyond what it was trained for an adapter overflows F16, and what does cannot be taken back: the runtime's kernels
 * read a slot's unused cells as well, and not all of them bear it when these are no numbers.
 */
const MOST_TIMES_STRONGER = 4;

export const loraField = z.array(
  z.object({
    id: integer(0).nullish(),
    name: z.string().nullish(),
    scale: decimal(-1000, 1000).nullish(),
  }),
);

export type RequestedAdapters = z.infer<typeof loraField>;

/**
 * @param requested In place of what is applied to `model`, so that an empty list turns that off; undefined leaves it.
 * @throws {ApiError} 400 for an adapter that is not there or listed twice, and for too large a scale.
 */
export function applyRequested(model: LoadedModel, requested: RequestedAdapters | undefined): LoadedModel {
  if (requested === undefined) return model;
  const applied: AdapterUse[] = [];
  for (const [i, { id, name, scale }] of requested.entries()) {
    const param = `lora[${i}]`;
    if ((id ?? name ?? undefined) === undefined) throw missing(`${param}.id`);
    const adapter = name == null ? (id ?? -1) : model.adapters.findIndex((known) => known.name === name);
    const known = model.adapters[adapter];
    if (known === undefined || (id != null && id !== adapter)) {
      throw invalid(
        param,
        `there is no such adapter of the model '${model.id}'; GET /lora-adapters lists those of every model`,
      );
    }
    if (applied.some((use) => use.adapter === adapter))
      throw invalid(param, "this adapter is listed already");
    const most = MOST_TIMES_STRONGER * Math.max(1, Math.abs(known.scale));
    if (Math.abs(scale ?? 0) > most) throw invalid(`${param}.scale`, `it must be from -${most} to ${most}`);
    applied.push({ adapter, scale: scale ?? known.scale });
  }
  return withAdapters(model, model.id, applied);
}

function invalid(param: string, reason: string): ApiError {
  return new ApiError("invalid_value", `Invalid '${param}': ${reason}.`, param);
}
