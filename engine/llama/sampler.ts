/**
 * Draws one request's tokens with llama.cpp's samplers.
 *
 * Every draw gets its own seed and the output so far, so nothing but the tokens has to be restored to continue
 * a request elsewhere. The order: bias and DRY, penalties, top-k, top-p, min-p, XTC, temperature. DRY and the chance
 * of XTC are worked out here, because the runtime's are no functions of the tokens and the position.
 */
import { DryPenalties } from "../dry.ts";
import { EngineError } from "../errors.ts";
import { drawSeed, xtcHappens } from "../sampling-seed.ts";
import { GrammarGuide, nothingLeft } from "./grammar.ts";
import { LlamaLogprobReader } from "./logprobs.ts";
import type { LogitsHandle, Sampled, Sampler } from "../backend.ts";
import type { GenerationParams, TokenId } from "../protocol.ts";
import type {
  AddonBindings,
  AddonContext,
  AddonGrammarState,
  AddonModel,
  AddonSampler,
  AddonSamplerConfig,
} from "./addon.ts";
import type { GrammarCache } from "./grammar.ts";
import type { Vocabulary } from "./vocabulary.ts";

/** OpenAI's -100 and 100 mean "never" and "only this". */
const BIAS_LIMIT = 100;
/** Above any difference of two logits, and small enough to keep their order in single precision. */
const FORCING_BIAS = 1e4;

/** Where samplers are made. */
export interface SamplerHost {
  readonly bindings: AddonBindings;
  readonly model: AddonModel;
  readonly context: AddonContext;
  readonly vocabulary: Vocabulary;
  readonly grammars: GrammarCache;
  readonly contextTokens: number;
}

/** XTC with a higher threshold does nothing. */
const MOST_XTC_THRESHOLD = 0.5;

const NO_PROMPT = new Uint32Array(0);

/** Tokens and biases of a draw, in all of the forms that are needed. */
interface Bias {
  readonly values: ReadonlyMap<TokenId, number>;
  readonly config: AddonSamplerConfig;
  readonly banned: ReadonlySet<TokenId>;
}

export class LlamaSampler implements Sampler {
  readonly #host: SamplerHost;
  readonly #params: GenerationParams;
  readonly #sampler: AddonSampler;
  readonly #observer: LlamaLogprobReader | undefined;
  readonly #bias: Bias;
  readonly #biasBeforeMinTokens: Bias;
  readonly #dry: DryPenalties | undefined;
  readonly #guide: GrammarGuide | undefined;
  /** Whether the options change from draw to draw. */
  readonly #varies: boolean;
  #configured = false;
  /** What the sampler was given last. */
  #grammarState: AddonGrammarState | undefined;
  #drawnPosition = -1;
  #disposed = false;

  /** @throws {EngineError} `grammar_rejected`; `no_token_allowed` when not even the first draw can bring a token. */
  constructor(host: SamplerHost, params: GenerationParams, prompt: Uint32Array = NO_PROMPT) {
    this.#host = host;
    this.#params = params;
    const { sampling, stopTokenIds, ignoreEos, minTokens, grammar } = params;
    const { endTokens, vocabSize } = host.vocabulary;
    this.#bias = biasOf(sampling.logitBias, ignoreEos ? endTokens : []);
    this.#biasBeforeMinTokens = biasOf(sampling.logitBias, [...endTokens, ...stopTokenIds]);
    const { banned } = this.#biasAfter([]);
    if (banned.size >= vocabSize) throw nothingLeft();
    this.#guide = grammar === undefined ? undefined : new GrammarGuide(host.grammars, grammar, banned);
    this.#sampler = new host.bindings.AddonSampler(host.model);
    if (params.topLogprobs !== undefined) this.#observer = new LlamaLogprobReader(host, params.topLogprobs);
    if (sampling.dry !== undefined)
      this.#dry = new DryPenalties(sampling.dry, [...prompt], (token) => textOf(host.vocabulary, token));
    this.#varies =
      sampling.temperature > 0 ||
      minTokens > 0 ||
      usesPenalties(params) ||
      usesXtc(params) ||
      sampling.dry !== undefined;
  }

  async sample(logits: LogitsHandle, position: number, output: readonly TokenId[]): Promise<Sampled> {
    this.#configure(position, output);
    this.#guide?.drawing();
    const token = await this.#draw(logits);
    if (token < 0) throw new EngineError("decode_failed", "The runtime has no logits to draw a token from.");
    if (this.#isRuledOut(token, output)) throw nothingLeft();
    this.#guide?.drawn(output.length);
    return { token, logprobs: await this.#observer?.read(logits, token) };
  }

  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.#sampler.dispose();
    this.#observer?.dispose();
    this.#guide?.dispose();
    this.#grammarState = undefined;
  }

  #configure(position: number, output: readonly TokenId[]): void {
    const state = this.#guide?.stateAfter(output);
    if (!this.#varies && this.#configured && state === this.#grammarState) return;
    const options = this.#config(position, output);
    const config = state === undefined ? options : { ...options, grammarEvaluationState: state };
    // The addon keeps its generator, used up as it is, when the seed is the same as before: a draw that is made
    // again after a failed call would come out differently.
    if (position === this.#drawnPosition && config.seed !== undefined)
      this.#sampler.applyConfig({ ...config, seed: (config.seed ^ 1) >>> 0 });
    this.#sampler.applyConfig(config);
    this.#configured = true;
    this.#grammarState = state;
    this.#drawnPosition = position;
  }

  async #draw(logits: LogitsHandle): Promise<TokenId> {
    try {
      return await this.#host.context.sampleToken(logits, this.#sampler);
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      // Where every token is ruled out the runtime draws one of them, which its grammar then does not take.
      if (this.#guide !== undefined && reason.includes("empty grammar stack")) throw nothingLeft();
      throw new EngineError("decode_failed", `The runtime could not draw a token: ${reason}.`);
    }
  }

  /** Whether the runtime drew a token that nothing but the lack of any other can have brought. */
  #isRuledOut(token: TokenId, output: readonly TokenId[]): boolean {
    if (this.#biasAfter(output).banned.has(token)) return true;
    if (this.#guide === undefined) return false;
    const { endTokens, tokenBytes, tokenOffsets } = this.#host.vocabulary;
    if (endTokens.includes(token)) return !this.#guide.allowsEnd(token);
    // Grammars forbid tokens without a text, but take them all the same.
    const start = tokenOffsets[token] ?? 0;
    return start === tokenOffsets[token + 1] || tokenBytes[start] === 0;
  }

  #biasAfter(output: readonly TokenId[]): Bias {
    return output.length < this.#params.minTokens ? this.#biasBeforeMinTokens : this.#bias;
  }

  #config(position: number, output: readonly TokenId[]): AddonSamplerConfig {
    const { sampling } = this.#params;
    const bias = this.#biasWithDry(output);
    const penalties = usesPenalties(this.#params) ? this.#penalties(output) : {};
    const xtc = this.#xtc(position);
    if (sampling.temperature <= 0) return { temperature: 0, ...bias, ...penalties, ...xtc };
    return {
      temperature: sampling.temperature,
      seed: drawSeed(sampling.seed, position),
      ...(sampling.topK > 0 ? { topK: sampling.topK } : {}),
      ...(sampling.topP < 1 ? { topP: sampling.topP } : {}),
      ...(sampling.minP > 0 ? { minP: sampling.minP } : {}),
      ...bias,
      ...penalties,
      ...xtc,
    };
  }

  #biasWithDry(output: readonly TokenId[]): AddonSamplerConfig {
    const { values, config } = this.#biasAfter(output);
    const penalties = this.#dry?.after(output);
    if (penalties === undefined || penalties.size === 0) return config;
    const lowered = new Map(values);
    for (const [token, penalty] of penalties) lowered.set(token, (lowered.get(token) ?? 0) - penalty);
    return biasConfig(lowered);
  }

  #xtc(position: number): AddonSamplerConfig {
    const { xtcProbability, xtcThreshold, seed } = this.#params.sampling;
    if (!usesXtc(this.#params) || !xtcHappens(xtcProbability, seed, position)) return {};
    return { xtcProbability: 1, xtcThreshold };
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
}

function usesPenalties({ sampling }: GenerationParams): boolean {
  return sampling.frequencyPenalty !== 0 || sampling.presencePenalty !== 0 || sampling.repeatPenalty !== 1;
}

function usesXtc({ sampling }: GenerationParams): boolean {
  return sampling.xtcProbability > 0 && sampling.xtcThreshold <= MOST_XTC_THRESHOLD;
}

function textOf({ tokenBytes, tokenOffsets }: Vocabulary, token: TokenId): Uint8Array {
  return tokenBytes.subarray(tokenOffsets[token], tokenOffsets[token + 1]);
}

function biasOf(logitBias: readonly (readonly [TokenId, number])[], ends: readonly TokenId[]): Bias {
  const bias = new Map(logitBias);
  for (const token of ends) bias.set(token, -BIAS_LIMIT);
  const banned = new Set([...bias.keys()].filter((token) => (bias.get(token) ?? 0) <= -BIAS_LIMIT));
  const values = new Map([...bias].map(([token, value]) => [token, nativeBias(value)]));
  return { values, config: biasConfig(values), banned };
}

function biasConfig(values: ReadonlyMap<TokenId, number>): AddonSamplerConfig {
  if (values.size === 0) return {};
  return {
    tokenBiasKeys: Uint32Array.from(values.keys()),
    tokenBiasValues: Float32Array.from(values.values()),
  };
}

function nativeBias(bias: number): number {
  if (bias <= -BIAS_LIMIT) return -Infinity;
  return bias >= BIAS_LIMIT ? FORCING_BIAS : bias;
}
