/** Bits of `ModelFacts.tokenAttributes` (llama.h `llama_token_attr`). */
export const TokenAttribute = {
  unknown: 1,
  unused: 2,
  normal: 4,
  control: 8,
  userDefined: 16,
  byte: 32,
  normalized: 64,
  lstrip: 128,
  rstrip: 256,
  singleWord: 512,
} as const;
