/**
 * Draws tokens and reports the chances that the draw gave them: behind all sampling options, among what these have left.
 *
 * Looking and drawing are one native call, since the runtime's generator moves on with each.
 */
import type { LogitsHandle } from "../backend.ts";
import type { TokenId, TokenLogprobs } from "../protocol.ts";
import type { AddonContext, AddonSampler, LogitsFilter } from "./addon.ts";
import { reportedLogprob } from "./logprobs.ts";

export class DrawnChances {
  readonly #top: number;
  readonly #certain: boolean;
  readonly #filter: LogitsFilter;
  #seen: { readonly logitOf: ReadonlyMap<TokenId, number>; readonly totalWeight: number } | undefined;

  /** @param certain Whether draws leave nothing but the most likely token: greedy ones do. */
  constructor(top: number, certain: boolean) {
    this.#top = top;
    this.#certain = certain;
    // The most likely one is what the weights are relative to.
    this.#filter = [[], false, false, true, Math.max(1, top)];
  }

  /** @returns As `AddonContext.sampleToken`. */
  async draw(context: AddonContext, logits: LogitsHandle, sampler: AddonSampler): Promise<number> {
    if (this.#certain) return context.sampleToken(logits, sampler);
    const drawn = await context.sampleToken(logits, sampler, false, false, this.#filter, true);
    const [token, , , pairs = [], totalWeight = 1] = drawn;
    const logitOf = new Map<TokenId, number>();
    for (let i = 0; i + 1 < pairs.length; i += 2) logitOf.set(pairs[i] ?? -1, pairs[i + 1] ?? -Infinity);
    this.#seen = { logitOf, totalWeight };
    return token;
  }

  /** Of the token that the last draw has brought. One for which nothing was drawn was the only one. */
  take(token: TokenId): TokenLogprobs {
    const seen = this.#seen;
    this.#seen = undefined;
    if (seen === undefined) return { logprob: 0, top: this.#top === 0 ? [] : [[token, 0]] };
    const { logitOf, totalWeight } = seen;
    const ranked = [...logitOf].sort((a, b) => b[1] - a[1]);
    const normalizer = (ranked[0]?.[1] ?? 0) + Math.log(totalWeight);
    return {
      logprob: reportedLogprob((logitOf.get(token) ?? -Infinity) - normalizer),
      top: ranked
        .slice(0, this.#top)
        .map(([id, logit]) => [id, reportedLogprob(logit - normalizer)] as const),
    };
  }
}
