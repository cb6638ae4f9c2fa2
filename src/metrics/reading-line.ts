/**
 * How evenly an answer came, for somebody who reads along: 1 where they never waited for a word behind the first token.
 *
 * The line is where the reader would be who never waits: so many tokens a second from the first one on. What they are behind
 * it, over the time until they have read everything, is the delayed area; the measure is 1 less that over the whole area
 * under the line.
 */

/** What people read, in tokens of text. */
export const READING_TOKENS_PER_SECOND = 6;
const TOKEN_MS = 1000 / READING_TOKENS_PER_SECOND;

export class ReadingLine {
  #tokens = 0;
  /** When the last one that has come has been read, and where the line has it, from the first one's coming on. */
  #readMs = 0;
  #lineMs = 0;
  /** Sums over the tokens. */
  #lateMs = 0;
  #lineSumMs = 0;

  /** @param sinceFirstMs From the first token to these. */
  add(tokens: number, sinceFirstMs: number): void {
    for (let i = 0; i < tokens; i++) {
      this.#tokens += 1;
      this.#lineMs += TOKEN_MS;
      this.#readMs = Math.max(this.#readMs, sinceFirstMs) + TOKEN_MS;
      this.#lateMs += this.#readMs - this.#lineMs;
      this.#lineSumMs += this.#lineMs;
    }
  }

  /** 0 to 1; undefined of one token, or none. */
  get quality(): number | undefined {
    if (this.#tokens < 2) return undefined;
    return 1 - this.#lateMs / (this.#tokens * this.#readMs - this.#lineSumMs);
  }
}
