/** Draws what one entry of a decode call brings: a token, and one more behind each guess that proves right. */
import { EngineError, asEngineError } from "./errors.ts";
import type { LogitsHandle, Sampled, Sampler } from "./backend.ts";
import type { PlannedEntry, ScheduledRequest } from "./scheduler/types.ts";

export type Draws = readonly [Sampled, ...Sampled[]] | EngineError;

/** Tokens of all of them. */
export function countDrawn(draws: readonly Draws[]): number {
  return draws.reduce((sum, drawn) => sum + (drawn instanceof EngineError ? 0 : drawn.length), 0);
}

/**
 * The tokens are those of decoding one by one.
 * @param logits Of each token of the entry.
 */
export async function drawTokens(
  { position, tokens }: PlannedEntry,
  logits: readonly LogitsHandle[],
  request: ScheduledRequest,
  { sampler, stopTokens }: { readonly sampler: Sampler; readonly stopTokens: ReadonlySet<number> },
): Promise<Draws> {
  const [first] = logits;
  if (first === undefined) return new EngineError("internal", "A decoded entry has no logits.");
  const most = request.maxNew - request.output.length;
  try {
    const draws: [Sampled, ...Sampled[]] = [await sampler.sample(first, position + 1, request.output)];
    const output = logits.length > 1 ? [...request.output] : [];
    for (let i = 1; i < logits.length && draws.length < most; i++) {
      const { token } = draws[i - 1] ?? draws[0];
      const handle = logits[i];
      if (token !== tokens[i] || stopTokens.has(token) || handle === undefined) break;
      output.push(token);
      draws.push(await sampler.sample(handle, position + 1 + i, output));
    }
    return draws;
  } catch (error) {
    return asEngineError(error);
  }
}
