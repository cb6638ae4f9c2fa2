/** Text that arrives in chunks of any cut, read by generators that pause (`yield`) where more is needed. */

export type Step<T> = Generator<undefined, T, undefined>;

/** Thrown where the text read so far cannot be a call; never leaves the parser. */
export class NotACall extends Error {}

/** The only one: text full of braces throws at each of them, and a stack costs more than all the rest. */
export const NOT_A_CALL = new NotACall("not a call");

const SPACE = " \t\r\n";

/** White space of a model that writes nothing else ends somewhere. */
export const SPACE_LIMIT = 256;

/** Positions are UTF-16 offsets in everything pushed. */
export class TextReader {
  #text = "";
  /** Position of `#text`. */
  #base = 0;
  #at = 0;
  /** Text from here on is kept. */
  #mark = 0;
  #ended = false;

  push(text: string): void {
    const keep = Math.min(this.#mark, this.#at) - this.#base;
    this.#text = this.#text.slice(keep) + text;
    this.#base += keep;
  }

  end(): void {
    this.#ended = true;
  }

  get ended(): boolean {
    return this.#ended;
  }

  get position(): number {
    return this.#at;
  }

  /** Text from the position on is kept until the next mark, so that the reader can go back to it. */
  mark(): number {
    this.#mark = this.#at;
    return this.#at;
  }

  /** The text from a position since the last mark to here. */
  since(position: number): string {
    return this.#text.slice(position - this.#base, this.#at - this.#base);
  }

  /** @param position Not before the last mark. */
  rewind(position: number): void {
    this.#at = position;
  }

  /** What has arrived and is not read yet. */
  rest(): string {
    return this.#text.slice(this.#at - this.#base);
  }

  take(length: number): string {
    this.#at += length;
    return this.since(this.#at - length);
  }

  /** The next character, unread; "" at the end of the output. */
  *peek(): Step<string> {
    while (this.#at - this.#base >= this.#text.length) {
      if (this.#ended) return "";
      yield;
    }
    return this.#text.charAt(this.#at - this.#base);
  }

  /** Skips white space and returns the character after it, unread. */
  *skipSpace(): Step<string> {
    for (let count = 0; ; count++) {
      const next = yield* this.peek();
      if (next === "" || !SPACE.includes(next) || count === SPACE_LIMIT) return next;
      this.#at++;
    }
  }

  /**
   * Reads a fixed text, in which white space may be more, less or absent, and white space before it. On "no" it
   * stands at the first character that differs; "cut" means that the output ends within the text.
   */
  *match(text: string): Step<"yes" | "no" | "cut"> {
    for (const part of text.split(/\s+/)) {
      if (part === "") continue;
      yield* this.skipSpace();
      for (const expected of part.split("")) {
        const next = yield* this.peek();
        if (next === "") return "cut";
        if (next !== expected) return "no";
        this.#at++;
      }
    }
    return "yes";
  }

  /** @throws {NotACall} */
  *expect(text: string): Step<void> {
    if ((yield* this.match(text)) !== "yes") throw NOT_A_CALL;
  }

  /**
   * Text up to a fixed one, which is read too. At the end of the output `found` is false.
   * @param end Not empty, without white space.
   */
  *until(end: string): Step<{ readonly text: string; readonly found: boolean }> {
    let from = 0;
    for (;;) {
      const rest = this.rest();
      const found = rest.indexOf(end, from);
      if (found !== -1) {
        const text = this.take(found);
        this.#at += end.length;
        return { text, found: true };
      }
      if (this.#ended) return { text: this.take(rest.length), found: false };
      from = Math.max(0, rest.length - end.length + 1);
      yield;
    }
  }
}
