/** What a server is sent before anything is measured, so that what is done once is done by then. */
import type { PromptTokens, ScenarioTurn } from "./scenario.ts";

/**
 * One request after the other; whatever becomes of them.
 *
 * @param part Of the turn's prompts, and of no others of it.
 */
export async function warmUp(
  { target, send, prompts, seed, timeoutMs, warmup }: ScenarioTurn,
  part: number,
  lengths: PromptTokens,
  outputTokens: number,
): Promise<void> {
  if (warmup === 0) return;
  const source = await prompts(part, lengths, warmup);
  for (let index = 0; index < warmup; index++)
    await send(target, { prompt: source.prompt(index), outputTokens, seed: (seed + index) >>> 0, timeoutMs });
}
