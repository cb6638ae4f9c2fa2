/** `best_of`: of several generated choices the ones that the model itself finds most likely. */
import type { FinishedAnswer, FinishedChoice } from "../choices.ts";
import { isTextEvent } from "../generation-events.ts";
import type { GenerationEvent } from "../generation-events.ts";

/**
 * Of each prompt's `generated` choices the best `shown`, best first, numbered anew. The usage stays that of all.
 * The choices must have log probabilities unless all of them are shown.
 */
export function bestOf(answer: FinishedAnswer, generated: number, shown: number): FinishedAnswer {
  if (generated === shown) return answer;
  const best: FinishedChoice[] = [];
  for (let first = 0; first < answer.choices.length; first += generated) {
    const ranked = answer.choices
      .slice(first, first + generated)
      .map((choice) => ({ choice, score: meanLogprob(choice.events) }))
      .toSorted((a, b) => b.score - a.score);
    for (const { choice } of ranked.slice(0, shown)) best.push({ ...choice, index: best.length });
  }
  return { ...answer, choices: best };
}

/** Over the tokens of the text and the one that ended it; a choice without any comes last. */
function meanLogprob(events: readonly GenerationEvent[]): number {
  let [sum, count] = [0, 0];
  for (const event of events) {
    const tokens = event.kind === "finish" ? [event.endToken] : isTextEvent(event) ? event.tokens : [];
    for (const token of tokens) {
      if (token?.logprobs === undefined) continue;
      sum += token.logprobs.logprob;
      count++;
    }
  }
  return count === 0 ? Number.NEGATIVE_INFINITY : sum / count;
}
