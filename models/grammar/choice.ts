/** One of several texts, as guided decoding asks for. */
import { GrammarError } from "./grammar-error.ts";
import { oneOfTexts } from "./expressions.ts";
import type { Expr } from "./expressions.ts";
import type { GrammarBuilder } from "./grammar.ts";

const MAX_CHOICES = 10_000;
/** In all. */
const MAX_CHARACTERS = 100_000;

/** @throws GrammarError when there are none, too many, or one cannot be written. */
export function grammarForChoice(builder: GrammarBuilder, choices: readonly string[]): Expr {
  if (choices.length === 0) throw new GrammarError("There are no choices.");
  if (choices.length > MAX_CHOICES) throw new GrammarError(`There are more than ${MAX_CHOICES} choices.`);
  if (choices.reduce((sum, choice) => sum + choice.length, 0) > MAX_CHARACTERS)
    throw new GrammarError(`The choices have more than ${MAX_CHARACTERS} characters.`);
  return builder.rule("choice", oneOfTexts(choices));
}
