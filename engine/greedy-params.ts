/** The most likely tokens of the model itself, to the end: what requests without wishes are made from. */
import type { GenerationParams } from "./protocol.ts";

export const GREEDY_PARAMS: GenerationParams = {
  sampling: {
    temperature: 0,
    topP: 1,
    topK: 0,
    minP: 0,
    frequencyPenalty: 0,
    presencePenalty: 0,
    repeatPenalty: 1,
    repeatLastTokens: 0,
    xtcProbability: 0,
    xtcThreshold: 0.1,
    dry: undefined,
    logitBias: [],
    seed: 0,
  },
  maxTokens: undefined,
  minTokens: 0,
  ignoreEos: false,
  stopTokenIds: [],
  grammar: undefined,
  topLogprobs: undefined,
  reusePrefix: true,
};
