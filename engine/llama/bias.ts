/** What is added to the logits of a draw, and which tokens it may not bring, in the forms that the runtime takes. */
import type { GenerationParams, TokenId } from "../protocol.ts";
import type { AddonSamplerConfig } from "./addon.ts";

/** OpenAI's -100 and 100 mean "never" and "only this". */
const BIAS_LIMIT = 100;
/** Above any difference of two logits, and small enough to keep their order in single precision. */
const FORCING_BIAS = 1e4;

/** Above what a bias can force, too; single precision keeps differences of 0.002 there. */
const LIFT = 2 * FORCING_BIAS;

/** Tokens that may not be drawn. */
export interface Bans {
  has(token: TokenId): boolean;
  readonly size: number;
}

/** Tokens and biases of a draw, in all of the forms that are needed. */
export interface Bias {
  readonly values: ReadonlyMap<TokenId, number>;
  /** Tokens of the vocabulary where those without a value are banned from the draw itself, 0 where not. */
  readonly othersBanned: number;
  readonly banned: Bans;
}

type Params = Pick<GenerationParams, "sampling" | "grammar">;

/** @param ends Banned as well. */
export function biasOf(params: Params, ends: readonly TokenId[], vocabSize: number): Bias {
  const { logitBias, allowedTokens } = params.sampling;
  const bias = new Map(logitBias);
  for (const token of ends) bias.set(token, -BIAS_LIMIT);
  if (spoilsLifts(params)) {
    const values = keptOf(params, bias);
    if (values !== undefined)
      return { values, othersBanned: vocabSize, banned: othersThan(values, vocabSize) };
  }
  if (allowedTokens === undefined) {
    const banned = new Set([...bias.keys()].filter((token) => (bias.get(token) ?? 0) <= -BIAS_LIMIT));
    const values = new Map([...bias].map(([token, value]) => [token, nativeBias(value)]));
    return { values, othersBanned: 0, banned };
  }
  // To lift some is far less than to ban all others; that none of those is drawn for lack of any, the bans tell.
  const values = biasesOf(allowedTokens, bias, FORCING_BIAS);
  return { values, othersBanned: 0, banned: othersThan(values, vocabSize) };
}

/** A repeat penalty divides what has been lifted, and what a frequency takes has no end. */
function spoilsLifts({ sampling }: Params): boolean {
  return sampling.repeatPenalty !== 1 || sampling.frequencyPenalty !== 0;
}

/** The tokens beside which all others can be banned for good, with their biases. */
function keptOf(
  { sampling: { allowedTokens, badSequences }, grammar }: Params,
  bias: ReadonlyMap<TokenId, number>,
): ReadonlyMap<TokenId, number> | undefined {
  const allowed = allowedTokens === undefined ? undefined : new Set(allowedTokens);
  // What a bias forces gives way to others where it is refused.
  if (grammar === undefined && badSequences === undefined) {
    const forced = [...bias].filter(([token, value]) => value >= BIAS_LIMIT && (allowed?.has(token) ?? true));
    if (forced.length > 0) return new Map(forced.map(([token]) => [token, 0]));
  }
  return allowed && biasesOf(allowed, bias, 0);
}

/** Of those among the tokens that are not banned, so much higher. */
function biasesOf(
  tokens: Iterable<TokenId>,
  bias: ReadonlyMap<TokenId, number>,
  lift: number,
): Map<TokenId, number> {
  const values = new Map<TokenId, number>();
  for (const token of tokens) {
    const value = nativeBias(bias.get(token) ?? 0);
    if (value !== -Infinity) values.set(token, value + lift);
  }
  return values;
}

function othersThan(values: ReadonlyMap<TokenId, number>, vocabSize: number): Bans {
  return { has: (token) => !values.has(token), size: vocabSize - values.size };
}

/** With the last tokens of those sequences banned that the output has come to. */
export function withoutSequences(
  bias: Bias,
  sequences: readonly (readonly TokenId[])[],
  output: readonly TokenId[],
): Bias {
  const hit = new Set(
    sequences.flatMap((sequence) => {
      const start = output.length - sequence.length + 1;
      const begun =
        start >= 0 && sequence.slice(0, -1).every((token, index) => output[start + index] === token);
      return begun ? sequence.slice(-1) : [];
    }),
  );
  if (hit.size === 0) return bias;
  const values = new Map(bias.values);
  for (const token of hit) values.set(token, -Infinity);
  const { banned } = bias;
  return {
    ...bias,
    values,
    banned: {
      has: (token) => hit.has(token) || banned.has(token),
      size: banned.size + [...hit].filter((token) => !banned.has(token)).length,
    },
  };
}

/** With what is to be taken from tokens. */
export function withPenalties(bias: Bias, penalties: ReadonlyMap<TokenId, number>): Bias {
  if (penalties.size === 0) return bias;
  const values = new Map(bias.values);
  for (const [token, penalty] of penalties) values.set(token, valueIn(bias, token) - penalty);
  return { ...bias, values };
}

export function biasConfig({ values, othersBanned }: Bias): AddonSamplerConfig {
  if (othersBanned > 0) {
    const biases = new Float32Array(othersBanned).fill(-Infinity);
    for (const [token, value] of values) biases[token] = value;
    return { tokenBiasKeys: new Uint32Array(othersBanned).map((_, token) => token), tokenBiasValues: biases };
  }
  if (values.size === 0) return {};
  return {
    tokenBiasKeys: Uint32Array.from(values.keys()),
    tokenBiasValues: Float32Array.from(values.values()),
  };
}

/** Biases that put these tokens above all others and leave their order among each other. */
export function lifted(bias: Bias, tokens: ReadonlySet<TokenId>): Bias {
  const values = new Map(bias.values);
  for (const token of tokens) values.set(token, valueIn(bias, token) + LIFT);
  return { ...bias, values };
}

function valueIn({ values, othersBanned }: Bias, token: TokenId): number {
  return values.get(token) ?? (othersBanned > 0 ? -Infinity : 0);
}

function nativeBias(bias: number): number {
  if (bias <= -BIAS_LIMIT) return -Infinity;
  return bias >= BIAS_LIMIT ? FORCING_BIAS : bias;
}
