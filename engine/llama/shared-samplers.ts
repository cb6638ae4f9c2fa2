/**
 * Native samplers that several requests draw with, one for each set of options.
 *
 * Each has room for the whole vocabulary, which a draw fills and goes through: half a megabyte that is in no cache
 * when it is a request's own. Only for options that never change from draw to draw, and only where draws follow
 * each other: two at once would write to the same room.
 */
import type { AddonSampler, AddonSamplerConfig } from "./addon.ts";

/** One pool thread works through what it is given in order; several would draw at once, and while a batch computes. */
export const DRAWS_IN_ORDER = process.env["UV_THREADPOOL_SIZE"] === "1";

interface Shared {
  readonly sampler: AddonSampler;
  users: number;
}

/** What a request draws with. */
export interface SamplerLease {
  readonly sampler: AddonSampler;
  /** Once; frees it when nobody else has it. */
  readonly release: () => void;
}

export class SharedSamplers {
  readonly #create: () => AddonSampler;
  readonly #shared = new Map<string, Shared>();

  constructor(create: () => AddonSampler) {
    this.#create = create;
  }

  /** One with these options, which its users must not change. */
  take(config: AddonSamplerConfig): SamplerLease {
    const key = keyOf(config);
    let shared = this.#shared.get(key);
    if (shared === undefined) {
      shared = { sampler: this.#configured(config), users: 0 };
      this.#shared.set(key, shared);
    }
    const taken = shared;
    taken.users++;
    return { sampler: taken.sampler, release: () => this.#release(key, taken) };
  }

  #configured(config: AddonSamplerConfig): AddonSampler {
    const sampler = this.#create();
    try {
      sampler.applyConfig(config);
      return sampler;
    } catch (error) {
      sampler.dispose();
      throw error;
    }
  }

  #release(key: string, shared: Shared): void {
    shared.users--;
    if (shared.users > 0) return;
    this.#shared.delete(key);
    shared.sampler.dispose();
  }
}

/** JSON has no word for infinity. */
function keyOf(config: AddonSamplerConfig): string {
  return JSON.stringify(config, (_name, value: unknown) =>
    typeof value === "number" ? value.toString() : value,
  );
}
