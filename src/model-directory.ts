/** Which models this server offers and how each of them is; the routes' only view of model life. */
import type { LoadedModel } from "../models/loaded-model.ts";

/** `restarting`: requests are taken and wait for the engine. `failed`: it will not come back without help. */
export type ServedModelState = "loading" | "ready" | "restarting" | "failed";

export interface ServedModel {
  readonly id: string;
  /** Other names that resolve to it. */
  readonly aliases: readonly string[];
  /** Unix time in seconds, of the model file. */
  readonly createdSeconds: number;
  readonly state: ServedModelState;
  /** Set exactly while requests are taken: `ready` or `restarting`. */
  readonly loaded: LoadedModel | undefined;
  /** Why it is not ready, in words for an operator. */
  readonly detail: string | undefined;
}

export interface ModelDirectory {
  /** The first one is the default. */
  readonly served: readonly ServedModel[];
  /** By id or alias. */
  find(name: string): ServedModel | undefined;
}
