/**
 * Refuses grammars of which ever more ways of reading a text stay alive: llama.cpp follows all of them for every
 * character that a token could bring, and compares each with each other one, while every stream waits.
 *
 * Found by following a few texts of the grammar. One that hides it well is left to the watch on silent engines.
 */
import { GrammarError } from "./grammar-error.ts";
import { GrammarMatcher } from "./matcher.ts";
import type { Grammar } from "./grammar.ts";

/** An object with a thousand optional keys has as many ways to go on, but not for long. */
const MOST_WAYS = 400;
/** Characters in a row with more ways than that. */
const MOST_CHARACTERS = 12;
const TEXTS = 4;
const TEXT_LENGTH = 96;
/** Of the matcher, for all texts; a character of an ordinary grammar takes about twenty. */
const STEPS = 500_000;

/** @throws GrammarError */
export function checkAmbiguity(grammar: Grammar): void {
  const budget = { left: STEPS };
  for (let text = 0; text < TEXTS; text++) {
    const matcher = new GrammarMatcher(grammar, budget);
    let crowded = 0;
    for (let length = 0; length < TEXT_LENGTH; length++) {
      // Short texts come first, then those that keep on turning; the same ones each time.
      const next = matcher.continuation((length * (2 * text + 1) * 7919 + text) % 1009);
      if (next === undefined) break;
      matcher.push(next);
      crowded = matcher.ways > MOST_WAYS ? crowded + 1 : 0;
      if (crowded > MOST_CHARACTERS)
        throw new GrammarError(
          `The grammar is too ambiguous: there are more than ${MOST_WAYS} ways of reading a text of ${length} characters.`,
        );
    }
  }
}
