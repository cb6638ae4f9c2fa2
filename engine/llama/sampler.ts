/**
 * Draws one request's tokens with llama.cpp's samplers.
 *
 * Every draw gets its own seed and the output so far, so nothing but the tokens has to be restored to continue
 * a request elsewhere. The order is llama.cpp's: bias, penalties, top-k, top-p, min-p, temperature.
 */
import { EngineError } from "../errors.ts";
import { drawSeed } from "../sampling-seed.ts";
import type { LogitsHandle, Sampled, Sampler } from "../backend.ts";
import type { GenerationParams, TokenId, TokenLogprobs } from "../protocol.ts";
import type { AddonBindings, AddonContext, AddonModel, AddonSampler, AddonSamplerConfig } from "./addon.ts";

/** OpenAI's -100 and 100 mean "never" and "only this". */
const BIAS_LIMIT = 100;
/** Above any difference of two logits, and small enough to keep their order in single precision. */
const FORCING_BIAS = 1e4;
/** What "very unlikely" is reported as: JSON has no infinity. */
const LOWEST_LOGPROB = -9999;

/** Where samplers are made. */
export interface SamplerHost {
  readonly bindings: AddonBindings;
  readonly model: AddonModel;
  readonly context: AddonContext;
  readonly endTokens: readonly TokenId[];
  readonly contextTokens: number;
}

export class LlamaSampler implements Sampler {
  readonly #host: SamplerHost;
  readonly #params: GenerationParams;
  readonly #sampler: AddonSampler;
  /** Greedy and without options: sees the model's own distribution. */
  readonly #observer: AddonSampler | undefined;
  readonly #bias: AddonSamplerConfig;
  readonly #biasBeforeMinTokens: AddonSamplerConfig;
  /** Whether the options change from draw to draw. */
  readonly #varies: boolean;
  #configured = false;
  #disposed = false;

  constructor(host: SamplerHost, params: GenerationParams) {
    this.#host = host;
    this.#params = params;
    this.#sampler = new host.bindings.AddonSampler(host.model);
    if (params.topLogprobs !== undefined) {
      this.#observer = new host.bindings.AddonSampler(host.model);
      this.#observer.applyConfig({ temperature: 0 });
    }
    const { sampling, stopTokenIds, ignoreEos, minTokens } = params;
    const banned = ignoreEos ? host.endTokens : [];
    this.#bias = biasConfig(sampling.logitBias, banned);
    this.#biasBeforeMinTokens = biasConfig(sampling.logitBias, [...host.endTokens, ...stopTokenIds]);
    this.#varies = sampling.temperature > 0 || minTokens > 0 || usesPenalties(params);
  }

  async sample(logits: LogitsHandle, position: number, output: readonly TokenId[]): Promise<Sampled> {
    if (this.#varies || !this.#configured) {
      this.#sampler.applyConfig(this.#config(position, output));
      this.#configured = true;
    }
    const token = await this.#host.context.sampleToken(logits, this.#sampler);
    if (token < 0) throw new EngineError("decode_failed", "The runtime has no logits to draw a token from.");
    return { token, logprobs: await this.#logprobs(logits, token) };
  }

  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.#sampler.dispose();
    this.#observer?.dispose();
  }

  #config(position: number, output: readonly TokenId[]): AddonSamplerConfig {
    const { sampling, minTokens } = this.#params;
    const bias = output.length < minTokens ? this.#biasBeforeMinTokens : this.#bias;
    const penalties = usesPenalties(this.#params) ? this.#penalties(output) : {};
    if (sampling.temperature <= 0) return { temperature: 0, ...bias, ...penalties };
    return {
      temperature: sampling.temperature,
      seed: drawSeed(sampling.seed, position),
      ...(sampling.topK > 0 ? { topK: sampling.topK } : {}),
      ...(sampling.topP < 1 ? { topP: sampling.topP } : {}),
      ...(sampling.minP > 0 ? { minP: sampling.minP } : {}),
      ...bias,
      ...penalties,
    };
  }

  #penalties(output: readonly TokenId[]): AddonSamplerConfig {
    const { repeatPenalty, frequencyPenalty, presencePenalty, repeatLastTokens } = this.#params.sampling;
    // Native code allocates a buffer of this size; no output is longer than the context.
    const most = this.#host.contextTokens;
    const window = repeatLastTokens > 0 ? Math.min(repeatLastTokens, most) : most;
    return {
      repeatPenalty,
      repeatPenaltyFrequencyPenalty: frequencyPenalty,
      repeatPenaltyPresencePenalty: presencePenalty,
      repeatPenaltyMaxTokens: window,
      repeatPenaltyTokens: Uint32Array.from(output.slice(-window)),
    };
  }

  async #logprobs(logits: LogitsHandle, token: TokenId): Promise<TokenLogprobs | undefined> {
    const top = this.#params.topLogprobs;
    if (top === undefined || this.#observer === undefined) return undefined;
    // The observer draws the most likely token, so "selected" brings the largest logit without a sort.
    const filter = [[token], false, false, true, top] as const;
    const drawn = await this.#host.context.sampleToken(logits, this.#observer, false, false, filter, true);
    const [mostLikely, , , pairs = [], totalWeight = 1] = drawn;
    const logitOf = new Map<TokenId, number>();
    for (let i = 0; i + 1 < pairs.length; i += 2) logitOf.set(pairs[i] ?? -1, pairs[i + 1] ?? -Infinity);
    const normalizer = (logitOf.get(mostLikely) ?? 0) + Math.log(totalWeight);
    const logprobOf = (id: TokenId): number => {
      const logprob = (logitOf.get(id) ?? -Infinity) - normalizer;
      return Number.isFinite(logprob) ? Math.min(0, Math.max(LOWEST_LOGPROB, logprob)) : LOWEST_LOGPROB;
    };
    const ranked = [...logitOf.entries()].sort((a, b) => b[1] - a[1]).slice(0, top);
    return { logprob: logprobOf(token), top: ranked.map(([id]) => [id, logprobOf(id)] as const) };
  }
}

function usesPenalties({ sampling }: GenerationParams): boolean {
  return sampling.frequencyPenalty !== 0 || sampling.presencePenalty !== 0 || sampling.repeatPenalty !== 1;
}

function biasConfig(
  logitBias: readonly (readonly [TokenId, number])[],
  banned: readonly TokenId[],
): AddonSamplerConfig {
  const bias = new Map(logitBias);
  for (const token of banned) bias.set(token, -BIAS_LIMIT);
  if (bias.size === 0) return {};
  return {
    tokenBiasKeys: Uint32Array.from(bias.keys()),
    tokenBiasValues: Float32Array.from(bias.values(), nativeBias),
  };
}

function nativeBias(bias: number): number {
  if (bias <= -BIAS_LIMIT) return -Infinity;
  return bias >= BIAS_LIMIT ? FORCING_BIAS : bias;
}
