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
/**
 * Characters in a row with more ways than that: of a grammar or pattern as it was written, and of one made of a schema, whose
 * keys may begin alike.
 */
const MOST_CHARACTERS = { written: 16, made: 64 } as const;
const TEXTS = 4;
const TEXT_LENGTH = 160;
/** Of the matcher, for all texts; a character of an ordinary grammar takes about twenty. Nothing is found where it ends. */
const STEPS = 300_000;

/**
 * @param origin Whether a person wrote it, or it was made of a schema.
 * @throws GrammarError
 */
export function checkAmbiguity(grammar: Grammar, origin: keyof typeof MOST_CHARACTERS): void {
  const budget = { left: STEPS };
  try {
    for (let text = 0; text < TEXTS; text++) {
      const length = crowdedAt(new GrammarMatcher(grammar, budget), text, MOST_CHARACTERS[origin]);
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
function crowdedAt(matcher: GrammarMatcher, text: number, most: number): number | undefined {
  let crowded = 0;
  for (let length = 1; length <= TEXT_LENGTH; length++) {
    // The same texts each time, with turns of their own.
    const next = matcher.continuation((length * (2 * text + 1) * 7919 + text) % 1009);
    if (next === undefined) return undefined;
    matcher.push(next);
    crowded = matcher.ways > MOST_WAYS ? crowded + 1 : 0;
    if (crowded > most) return length;
  }
  return undefined;
}
