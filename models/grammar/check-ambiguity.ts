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
/** Many short ones find more than a few long ones, and a crowd of a schema's keys is long. */
const TEXTS = { written: { count: 16, length: 64 }, made: { count: 4, length: 160 } } as const;
/** Of the matcher, for all texts; a character of an ordinary grammar takes about twenty. Nothing is found where it ends. */
const STEPS = 300_000;

/**
 * @param origin Whether a person wrote it, or it was made of a schema.
 * @throws GrammarError
 */
export function checkAmbiguity(grammar: Grammar, origin: keyof typeof MOST_CHARACTERS): void {
  const budget = { left: STEPS };
  const most = MOST_CHARACTERS[origin];
  const { count, length } = TEXTS[origin];
  for (let text = 0; text < count; text++) {
    const crowd = crowdOf(new GrammarMatcher(grammar, budget), turnsOf(text, length), most);
    if (crowd.characters > most || (crowd.grows && crowd.characters > most * SOME))
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
  /** Whether it could not be followed because there were ever more ways: wide is not ambiguous. */
  readonly grows: boolean;
}

/** Follows a text to its end, or to where it has been crowded for too long. */
function crowdOf(matcher: GrammarMatcher, turns: Iterable<number>, most: number): Crowd {
  let characters = 0;
  let length = 0;
  let [first, last] = [0, 0];
  try {
    for (const turn of turns) {
      if (characters > most) break;
      const next = matcher.continuation(turn);
      length += 1;
      if (next === undefined) break;
      matcher.push(next);
      last = matcher.ways;
      characters = last > MOST_WAYS ? characters + 1 : 0;
      if (characters === 1) first = last;
    }
    return { length, characters, isWhole: true, grows: false };
  } catch (error) {
    if (!(error instanceof StepsUsedUp)) throw error;
    return { length, characters, isWhole: false, grows: last > 2 * first };
  }
}

/** The same texts each time, whose turns have nothing to do with each other. */
function* turnsOf(text: number, length: number): Iterable<number> {
  for (let at = 1; at <= length; at++) {
    let turn = Math.imul(text + 1, 0x9e3779b1) ^ Math.imul(at, 0x85ebca6b);
    turn = Math.imul(turn ^ (turn >>> 15), 0x2c1b3c6d);
    turn = Math.imul(turn ^ (turn >>> 12), 0x297a2d39);
    yield (turn ^ (turn >>> 15)) >>> 0;
  }
}
