/** Which adapters each model is served with where a request says nothing of them: none, until somebody says so. */
import type { RequestedAdapters } from "./openai/lora-field.ts";

/** Outlives engines and loads; ends with the server. */
export class DefaultAdapters {
  readonly #byModel = new Map<string, RequestedAdapters>();

  /** @param adapters Those that the model has; others of it are not applied. */
  set(model: string, adapters: RequestedAdapters): void {
    this.#byModel.set(model, adapters);
  }

  /** Undefined where nobody has said anything. */
  of(model: string): RequestedAdapters | undefined {
    return this.#byModel.get(model);
  }
}
