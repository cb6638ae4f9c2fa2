/**
 * Refuses grammars of which ever more ways of reading a text stay alive: llama.cpp follows all of them for every
 * character that a token could bring, and compares each with each other one, while every stream waits.
 *
 * Found by following a few texts of the grammar. One that hides it well is left to the watch on silent engines.
 */
import { GrammarError } from "./grammar-error.ts";
import { GrammarMatcher, StepsUsedUp } from "./matcher.ts";
import type { Grammar } from "./grammar.ts";

/** Of wide grammars, such as objects of a thousand optional keys, as many ways are alive, but not for long. */
const MOST_WAYS = 400;
/** Characters in a row with more ways than that; what keys have in common is shorter. */
const MOST_CHARACTERS = 64;
const TEXTS = 4;
const TEXT_LENGTH = 160;
/** Of the matcher, for all texts; a character of an ordinary grammar takes about twenty. Nothing is found where it ends. */
const STEPS = 300_000;

/** @throws GrammarError */
export function checkAmbiguity(grammar: Grammar): void {
  const budget = { left: STEPS };
  try {
    for (let text = 0; text < TEXTS; text++) {
      const length = crowdedAt(new GrammarMatcher(grammar, budget), text);
      if (length !== undefined)
        throw new GrammarError(
          `The grammar is too ambiguous: there are more than ${MOST_WAYS} ways of reading a text of ${length} characters.`,
        );
    }
  } catch (error) {
    // Wide is not ambiguous.
    if (!(error instanceof StepsUsedUp)) throw error;
  }
}

/** The length at which a text has been crowded for too long; undefined where it has not. */
function crowdedAt(matcher: GrammarMatcher, text: number): number | undefined {
  let crowded = 0;
  for (let length = 1; length <= TEXT_LENGTH; length++) {
    // The same texts each time, with turns of their own.
    const next = matcher.continuation((length * (2 * text + 1) * 7919 + text) % 1009);
    if (next === undefined) return undefined;
    matcher.push(next);
    crowded = matcher.ways > MOST_WAYS ? crowded + 1 : 0;
    if (crowded > MOST_CHARACTERS) return length;
  }
  return undefined;
}
