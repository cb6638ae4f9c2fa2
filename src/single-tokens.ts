/**
 * An output of several tokens as if they had come one by one: what ends at a token ends there, whatever was guessed
 * behind it, and a client sees one piece of text for each.
 */
import type { StepOutput } from "../engine/protocol.ts";

export function singleTokens(output: StepOutput): readonly StepOutput[] {
  const { tokens, logprobs, start, finish } = output;
  if (tokens.length <= 1) return [output];
  return tokens.map((token, i) => ({
    id: output.id,
    tokens: [token],
    logprobs: logprobs?.slice(i, i + 1),
    start: i === 0 ? start : undefined,
    finish: i === tokens.length - 1 ? finish : undefined,
  }));
}
