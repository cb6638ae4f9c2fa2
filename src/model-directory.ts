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
  /** The model that this one is with an adapter applied; undefined for a model of its own. */
  readonly parent: string | undefined;
  /** This model with one adapter or another; they come and go with it. */
  readonly adapted: readonly ServedModel[];
}

export interface ModelDirectory {
  /** Each with an engine of its own. The first one is the default. */
  readonly served: readonly ServedModel[];
  /** By id or alias, adapted ones as well. */
  find(name: string): ServedModel | undefined;
}
