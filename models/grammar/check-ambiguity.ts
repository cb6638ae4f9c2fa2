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
/** Of those, the share after which a grammar is ambiguous whose ways are too many to be followed any further. */
const SOME = 1 / 4;
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
  const most = MOST_CHARACTERS[origin];
  for (let text = 0; text < TEXTS; text++) {
    const crowd = crowdOf(new GrammarMatcher(grammar, budget), text, most);
    // Wide is not ambiguous.
    if (crowd.characters > (crowd.isWhole ? most : most * SOME))
      throw new GrammarError(
        `The grammar is too ambiguous: there are more than ${MOST_WAYS} ways of reading a text of ${crowd.length} characters.`,
      );
    if (!crowd.isWhole) return;
  }
}

interface Crowd {
  /** Of the text. */
  readonly length: number;
  /** The last characters in a row with too many ways. */
  readonly characters: number;
  /** False where there were no steps left to follow it. */
  readonly isWhole: boolean;
}

/** Follows a text to its end, or to where it has been crowded for too long. */
function crowdOf(matcher: GrammarMatcher, text: number, most: number): Crowd {
  let characters = 0;
  let length = 0;
  try {
    while (length < TEXT_LENGTH && characters <= most) {
      length += 1;
      // The same texts each time, with turns of their own.
      const next = matcher.continuation((length * (2 * text + 1) * 7919 + text) % 1009);
      if (next === undefined) break;
      matcher.push(next);
      characters = matcher.ways > MOST_WAYS ? characters + 1 : 0;
    }
    return { length, characters, isWhole: true };
  } catch (error) {
    if (!(error instanceof StepsUsedUp)) throw error;
    return { length, characters, isWhole: false };
  }
}
