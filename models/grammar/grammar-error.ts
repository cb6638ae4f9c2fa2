/** A grammar, regular expression or GBNF text that cannot be used, in words for the one who wrote it. */

export class GrammarError extends Error {
  override readonly name = "GrammarError";
  /** Line of the source text, counted from 1; absent where the source is not a text of lines. */
  readonly line: number | undefined;

  constructor(message: string, line?: number) {
    super(message);
    this.line = line;
  }
}
