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
import { textOf } from "../token-texts.ts";
import { biasConfig, biasOf, lifted, withoutSequences, withPenalties } from "./bias.ts";
import type { Bias } from "./bias.ts";
import { DrawnChances } from "./drawn-chances.ts";
import { GrammarGuide, nothingLeft } from "./grammar.ts";
import { leastChance } from "./least-chance.ts";
import { LlamaLogprobReader } from "./logprobs.ts";
import type { LogitsHandle, Sampled, Sampler } from "../backend.ts";
import type { GenerationParams, TokenId } from "../protocol.ts";
import type { AddonBindings, AddonContext, AddonModel, AddonSampler, AddonSamplerConfig } from "./addon.ts";
import type { GrammarCache } from "./grammar.ts";
import type { SamplerLease, SharedSamplers } from "./shared-samplers.ts";
import type { Vocabulary } from "./vocabulary.ts";

/** Each takes as long as a draw without a grammar, the runtime's own way about eight times as long. */
const MOST_REDRAWS = 2;

/** Where samplers are made. */
export interface SamplerHost {
  readonly bindings: AddonBindings;
  readonly model: AddonModel;
  readonly context: AddonContext;
  readonly vocabulary: Vocabulary;
  readonly grammars: GrammarCache;
  readonly contextTokens: number;
  /** Undefined where several draws may be made at once. */
  readonly sharedSamplers: SharedSamplers | undefined;
}

/** XTC with a higher threshold does nothing. */
const MOST_XTC_THRESHOLD = 0.5;

const NO_PROMPT = new Uint32Array(0);
const NO_PENALTIES: ReadonlyMap<TokenId, number> = new Map();

/** What is drawn from. */
interface Draw {
  readonly logits: LogitsHandle;
  readonly position: number;
  readonly output: readonly TokenId[];
  readonly bias: Bias;
}

export class LlamaSampler implements Sampler {
  readonly #host: SamplerHost;
  readonly #params: GenerationParams;
  readonly #sampler: AddonSampler;
  /** Of a native sampler that others draw with, too. */
  readonly #lease: SamplerLease | undefined;
  readonly #observer: LlamaLogprobReader | undefined;
  /** Draws in place of the plain call where the chances are wanted that draws gave. */
  readonly #chances: DrawnChances | undefined;
  readonly #bias: Bias;
  readonly #biasBeforeMinTokens: Bias;
  readonly #dry: DryPenalties | undefined;
  readonly #guide: GrammarGuide | undefined;
  /** Whether the options change from draw to draw. */
  readonly #varies: boolean;
  #configured = false;
  #drawnPosition = -1;
  #disposed = false;

  /** @throws {EngineError} `grammar_rejected`; `no_token_allowed` when not even the first draw can bring a token. */
  constructor(host: SamplerHost, params: GenerationParams, prompt: Uint32Array = NO_PROMPT) {
    this.#host = host;
    this.#params = params;
    const { sampling, stopTokenIds, ignoreEos, minTokens, grammar } = params;
    const { endTokens, vocabSize } = host.vocabulary;
    this.#bias = biasOf(params, ignoreEos ? endTokens : [], vocabSize);
    this.#biasBeforeMinTokens = biasOf(params, [...endTokens, ...stopTokenIds], vocabSize);
    const { banned } = this.#biasAt([]);
    if (banned.size >= vocabSize) throw nothingLeft();
    this.#guide = grammar === undefined ? undefined : new GrammarGuide(host.grammars, grammar, banned);
    if (params.topLogprobs !== undefined) {
      const { logprobsOfDraws = false, topLogprobs } = params;
      if (logprobsOfDraws) this.#chances = new DrawnChances(topLogprobs, sampling.temperature <= 0);
      else this.#observer = new LlamaLogprobReader(host, topLogprobs);
    }
    if (sampling.dry !== undefined)
      this.#dry = new DryPenalties(sampling.dry, [...prompt], (token) => textOf(host.vocabulary, token));
    this.#varies =
      sampling.temperature > 0 ||
      minTokens > 0 ||
      usesPenalties(params) ||
      usesXtc(params) ||
      sampling.badSequences !== undefined ||
      sampling.dry !== undefined;
    // A grammar changes the options where it refuses a token.
    if (!this.#varies && this.#guide === undefined)
      this.#lease = host.sharedSamplers?.take({ temperature: 0, ...biasConfig(this.#bias) });
    this.#configured = this.#lease !== undefined;
    this.#sampler = this.#lease?.sampler ?? new host.bindings.AddonSampler(host.model);
  }

  async sample(logits: LogitsHandle, position: number, output: readonly TokenId[]): Promise<Sampled> {
    // Made before the draw, not behind it: until then the device computes.
    this.#guide?.stateAfter(output);
    const draw = { logits, position, output, bias: this.#biasAt(output) };
    const token = this.#prescribed(draw) ?? (await this.#drawAllowed(draw));
    return { token, logprobs: this.#chances?.take(token) ?? (await this.#observer?.read(logits, token)) };
  }

  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    if (this.#lease === undefined) this.#sampler.dispose();
    else this.#lease.release();
    this.#observer?.dispose();
    this.#guide?.dispose();
  }

  /** @param more Options of this draw alone. */
  #configure({ position, output, bias }: Draw, more?: AddonSamplerConfig): void {
    if (!this.#varies && this.#configured && more === undefined) return;
    const config = { ...this.#config(position, output), ...biasConfig(bias), ...more };
    // The addon keeps its generator, used up as it is, when the seed is the same as before: a draw that is made
    // again after a failed call would come out differently.
    if (position === this.#drawnPosition && config.seed !== undefined)
      this.#sampler.applyConfig({ ...config, seed: (config.seed ^ 1) >>> 0 });
    this.#sampler.applyConfig(config);
    this.#configured = more === undefined;
    this.#drawnPosition = position;
  }

  /** What the grammar leaves no choice about, and nothing needs to be drawn for; it is what the draws would bring. */
  #prescribed({ output, bias }: Draw): TokenId | undefined {
    const token = this.#guide?.only(output);
    if (token === undefined || bias.banned.has(token)) return undefined;
    this.#guide?.take(token);
    return token;
  }

  async #drawAllowed(draw: Draw): Promise<TokenId> {
    this.#configure(draw);
    const drawn = await this.#draw(draw);
    return this.#guide === undefined ? drawn : this.#hold(this.#guide, drawn, draw);
  }

  /**
   * The drawn token if the grammar allows it, else another draw from what it allows.
   *
   * The runtime's own way for that goes through the whole vocabulary with the grammar. Where the grammar leaves few
   * tokens, as between the values of a JSON object, they are found out and lifted above all others instead; where it
   * leaves many, the next draws may well bring one of them.
   */
  async #hold(guide: GrammarGuide, drawn: TokenId, draw: Draw): Promise<TokenId> {
    if (guide.allows(drawn)) {
      guide.take(drawn);
      return drawn;
    }
    // A repeat penalty divides what has been lifted.
    const choices = this.#params.sampling.repeatPenalty === 1 ? guide.choices(draw.output) : undefined;
    if (choices === undefined) return this.#drawAgain(guide, drawn, draw);
    const { bias } = draw;
    const free = new Set(choices.filter((token) => !bias.banned.has(token)));
    if (free.size === 0) throw nothingLeft();
    this.#configure({ ...draw, bias: lifted(bias, free) }, {});
    const token = await this.#draw(draw);
    // Where a penalty has raised another token as much.
    if (!free.has(token) || !guide.allows(token)) return this.#drawWithState(guide, draw);
    guide.take(token);
    return token;
  }

  /** From what is left without the refused tokens, which is soon one of the many that are allowed. */
  async #drawAgain(guide: GrammarGuide, refused: TokenId, draw: Draw): Promise<TokenId> {
    const values = new Map(draw.bias.values);
    values.set(refused, -Infinity);
    for (let draws = 0; draws < MOST_REDRAWS; draws++) {
      this.#configure({ ...draw, bias: { ...draw.bias, values } }, {});
      const token = await this.#draw(draw);
      if (guide.allows(token)) {
        guide.take(token);
        return token;
      }
      values.set(token, -Infinity);
    }
    return this.#drawWithState(guide, draw);
  }

  async #drawWithState(guide: GrammarGuide, draw: Draw): Promise<TokenId> {
    this.#configure(draw, { grammarEvaluationState: guide.stateAfter(draw.output) });
    guide.drawing();
    const token = await this.#draw(draw);
    if (this.#breaksGrammar(guide, token)) throw nothingLeft();
    guide.drawn(draw.output.length);
    return token;
  }

  /** @throws {EngineError} `no_token_allowed` when every token is ruled out, `decode_failed`. */
  async #draw({ logits, bias }: Draw): Promise<TokenId> {
    if (bias.banned.size >= this.#host.vocabulary.vocabSize) throw nothingLeft();
    const token = await this.#drawAny(logits);
    if (token < 0) throw new EngineError("decode_failed", "The runtime has no logits to draw a token from.");
    // Nothing but the lack of any other can have brought it.
    if (bias.banned.has(token)) throw nothingLeft();
    return token;
  }

  async #drawAny(logits: LogitsHandle): Promise<TokenId> {
    const { context } = this.#host;
    try {
      if (this.#chances !== undefined) return await this.#chances.draw(context, logits, this.#sampler);
      return await context.sampleToken(logits, this.#sampler);
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      // Where every token is ruled out the runtime draws one of them, which its grammar then does not take.
      if (this.#guide !== undefined && reason.includes("empty grammar stack")) throw nothingLeft();
      throw new EngineError("decode_failed", `The runtime could not draw a token: ${reason}.`);
    }
  }

  /** Whether the grammar was given a token that it forbids, for lack of any other. */
  #breaksGrammar(guide: GrammarGuide, token: TokenId): boolean {
    const { endTokens, tokenBytes, tokenOffsets } = this.#host.vocabulary;
    // An end does not move the state.
    if (endTokens.includes(token)) return !guide.allows(token);
    // Grammars forbid tokens without a text, but take them all the same.
    const start = tokenOffsets[token] ?? 0;
    return start === tokenOffsets[token + 1] || tokenBytes[start] === 0;
  }

  #biasAfter(output: readonly TokenId[]): Bias {
    return output.length < this.#params.minTokens ? this.#biasBeforeMinTokens : this.#bias;
  }

  #config(position: number, output: readonly TokenId[]): AddonSamplerConfig {
    const { sampling } = this.#params;
    const penalties = usesPenalties(this.#params) ? this.#penalties(output) : {};
    const xtc = this.#xtc(position);
    // Whoever reads the chances is shown those of hopeless tokens, too, and XTC goes by chances before the temperature.
    const looksAtChances = this.#chances !== undefined || usesXtc(this.#params);
    const minP = looksAtChances ? sampling.minP : leastChance(sampling, this.#host.vocabulary.vocabSize);
    if (sampling.temperature <= 0) return { temperature: 0, ...penalties, ...xtc };
    return {
      temperature: sampling.temperature,
      seed: drawSeed(sampling.seed, position),
      ...(sampling.topK > 0 ? { topK: sampling.topK } : {}),
      ...(sampling.topP < 1 ? { topP: sampling.topP } : {}),
      ...(minP > 0 ? { minP } : {}),
      ...penalties,
      ...xtc,
    };
  }

  /** With what DRY takes from tokens that would repeat something, and without the ends of bad sequences. */
  #biasAt(output: readonly TokenId[]): Bias {
    const { badSequences = [] } = this.#params.sampling;
    const penalties = this.#dry?.after(output) ?? NO_PENALTIES;
    return withoutSequences(withPenalties(this.#biasAfter(output), penalties), badSequences, output);
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
