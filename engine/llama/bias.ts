/** What is added to the logits of a draw, and which tokens it may not bring, in the forms that the runtime takes. */
import type { SamplingParams, TokenId } from "../protocol.ts";
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
  readonly config: AddonSamplerConfig;
  readonly banned: Bans;
}

/** @param ends Banned as well. */
export function biasOf(
  { logitBias, allowedTokens }: Pick<SamplingParams, "logitBias" | "allowedTokens">,
  ends: readonly TokenId[],
  vocabSize: number,
): Bias {
  const bias = new Map(logitBias);
  for (const token of ends) bias.set(token, -BIAS_LIMIT);
  if (allowedTokens === undefined) {
    const banned = new Set([...bias.keys()].filter((token) => (bias.get(token) ?? 0) <= -BIAS_LIMIT));
    return withValues(new Map([...bias].map(([token, value]) => [token, nativeBias(value)])), banned);
  }
  // To lift some is far less than to ban all others; that none of those is drawn for lack of any, the bans tell.
  const lifts = allowedTokens.flatMap((token): [TokenId, number][] => {
    const value = nativeBias(bias.get(token) ?? 0);
    return value === -Infinity ? [] : [[token, value + FORCING_BIAS]];
  });
  const values = new Map(lifts);
  const size = vocabSize - values.size;
  return withValues(values, { has: (token) => !values.has(token), size });
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
  return withValues(values, {
    has: (token) => hit.has(token) || banned.has(token),
    size: banned.size + [...hit].filter((token) => !banned.has(token)).length,
  });
}

/** With what is to be taken from tokens. */
export function withPenalties(bias: Bias, penalties: ReadonlyMap<TokenId, number>): Bias {
  if (penalties.size === 0) return bias;
  const values = new Map(bias.values);
  for (const [token, penalty] of penalties) values.set(token, (values.get(token) ?? 0) - penalty);
  return withValues(values, bias.banned);
}

function withValues(values: ReadonlyMap<TokenId, number>, banned: Bans): Bias {
  return { values, config: biasConfig(values), banned };
}

export function biasConfig(values: ReadonlyMap<TokenId, number>): AddonSamplerConfig {
  if (values.size === 0) return {};
  return {
    tokenBiasKeys: Uint32Array.from(values.keys()),
    tokenBiasValues: Float32Array.from(values.values()),
  };
}

/** Biases that put these tokens above all others and leave their order among each other. */
export function lifted(
  values: ReadonlyMap<TokenId, number>,
  tokens: ReadonlySet<TokenId>,
): AddonSamplerConfig {
  const above = new Map(values);
  for (const token of tokens) above.set(token, (above.get(token) ?? 0) + LIFT);
  return biasConfig(above);
}

function nativeBias(bias: number): number {
  if (bias <= -BIAS_LIMIT) return -Infinity;
  return bias >= BIAS_LIMIT ? FORCING_BIAS : bias;
}
