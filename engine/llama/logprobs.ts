/**
 * Reads log probabilities of the model's own distribution, before any sampling option.
 *
 * Two samplers look at the logits: one draws the most likely token, which brings the sum over the vocabulary and
 * single logits without a sort; the other cuts to the most likely few, which is all that then gets sorted.
 */
import type { LogitsHandle, LogprobReader } from "../backend.ts";
import type { TokenId, TokenLogprobs } from "../protocol.ts";
import type { AddonBindings, AddonContext, AddonModel, AddonSampler, LogitsFilter } from "./addon.ts";

/** What "very unlikely" is reported as: JSON has no infinity. */
const LOWEST_LOGPROB = -9999;

/** As a number that JSON has, and no more than certain. */
export function reportedLogprob(logprob: number): number {
  return Number.isFinite(logprob) ? Math.min(0, Math.max(LOWEST_LOGPROB, logprob)) : LOWEST_LOGPROB;
}

export interface LogprobHost {
  readonly bindings: AddonBindings;
  readonly model: AddonModel;
  readonly context: AddonContext;
}

export class LlamaLogprobReader implements LogprobReader {
  readonly #host: LogprobHost;
  readonly #top: number;
  readonly #whole: AddonSampler;
  readonly #few: AddonSampler | undefined;
  #disposed = false;

  constructor(host: LogprobHost, top: number) {
    this.#host = host;
    this.#top = top;
    this.#whole = new host.bindings.AddonSampler(host.model);
    this.#whole.applyConfig({ temperature: 0 });
    if (top === 0) return;
    this.#few = new host.bindings.AddonSampler(host.model);
    // A temperature of 1 leaves the logits as they are; greedy draws know no top-k.
    this.#few.applyConfig({ temperature: 1, topK: top, seed: 0 });
  }

  async read(logits: LogitsHandle, token: TokenId): Promise<TokenLogprobs> {
    const ofToken = [[token], false, false, true, 0] as const;
    const ofTop = [[], false, false, false, this.#top] as const;
    const [whole, few] = await Promise.all([
      this.#look(logits, this.#whole, ofToken),
      this.#few === undefined ? undefined : this.#look(logits, this.#few, ofTop),
    ]);
    // "Selected" is the most likely token here.
    const normalizer = (whole.logitOf.get(whole.selected) ?? 0) + Math.log(whole.totalWeight);
    const logprobOf = (logit = -Infinity): number => reportedLogprob(logit - normalizer);
    const ranked = [...(few?.logitOf ?? [])].sort((a, b) => b[1] - a[1]);
    return {
      logprob: logprobOf(whole.logitOf.get(token)),
      top: ranked.map(([id, logit]) => [id, logprobOf(logit)] as const),
    };
  }

  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.#whole.dispose();
    this.#few?.dispose();
  }

  async #look(logits: LogitsHandle, sampler: AddonSampler, filter: LogitsFilter): Promise<Look> {
    const { context } = this.#host;
    const drawn = await context.sampleToken(logits, sampler, false, false, filter, true);
    const [selected, , , pairs = [], totalWeight = 1] = drawn;
    const logitOf = new Map<TokenId, number>();
    for (let i = 0; i + 1 < pairs.length; i += 2) logitOf.set(pairs[i] ?? -1, pairs[i + 1] ?? -Infinity);
    return { selected, logitOf, totalWeight };
  }
}

interface Look {
  readonly selected: TokenId;
  readonly logitOf: ReadonlyMap<TokenId, number>;
  /** Sum over the sampler's candidates of `exp(logit - largest logit)`. */
  readonly totalWeight: number;
}
