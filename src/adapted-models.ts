/** What a hosted model is with one of its adapters: served by its engine, under a name of its own. */
import type { LoadedModel } from "../models/loaded-model.ts";
import { withAdapters } from "../models/adapted-model.ts";
import type { ResolvedAdapter } from "../models/resolve.ts";
import type { ServedModel, ServedModelState } from "./model-directory.ts";

export class AdaptedModel implements ServedModel {
  readonly id: string;
  readonly aliases: readonly string[] = [];
  readonly createdSeconds: number;
  readonly adapted: readonly ServedModel[] = [];
  readonly #base: ServedModel;
  readonly #adapter: number;
  readonly #scale: number;
  /** As it was made of what was loaded last. */
  #made: { readonly of: LoadedModel; readonly model: LoadedModel } | undefined;

  /** @param adapter Index in the base's `LoadedModel.adapters`. */
  constructor(base: ServedModel, { name, scale, createdSeconds }: ResolvedAdapter, adapter: number) {
    this.id = name;
    this.createdSeconds = createdSeconds;
    this.#base = base;
    this.#adapter = adapter;
    this.#scale = scale;
  }

  get parent(): string {
    return this.#base.id;
  }

  get state(): ServedModelState {
    return this.#base.state;
  }

  get detail(): string | undefined {
    return this.#base.detail;
  }

  get loaded(): LoadedModel | undefined {
    const { loaded } = this.#base;
    if (loaded === undefined) return undefined;
    if (this.#made?.of !== loaded) {
      const applied = [{ adapter: this.#adapter, scale: this.#scale }];
      this.#made = { of: loaded, model: withAdapters(loaded, this.id, applied) };
    }
    return this.#made.model;
  }
}
