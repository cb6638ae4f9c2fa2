/** Parts an output into what the model thought and what it says, at markers such as `<think>` and `</think>`. */
import { openLength } from "./marks.ts";

export interface ReasoningMarkers {
  readonly start: string;
  readonly end: string;
  /** Names of control tokens of which a marker is made up, where it is more than one token. */
  readonly controls?: readonly string[];
}

export type TextKind = "content" | "reasoning";

/** A stretch of the output; markers and the white space around them are in none. */
export interface SplitPiece {
  readonly kind: TextKind;
  readonly text: string;
  /** Offset of `text` in everything pushed, in UTF-16 units. */
  readonly start: number;
}

export interface ReasoningSplitterOptions extends ReasoningMarkers {
  /** The prompt already ends inside the reasoning block. */
  readonly opened: boolean;
}

/** White space dropped at a marker at most, so that a model that writes only spaces fills no buffer. */
export const MARKER_SPACE_LIMIT = 64;

const SPACE = " \t\r\n";
const NEWLINE = "\r\n";

/**
 * Reasoning begins where the output begins, after optional white space; a start marker further on is content.
 * Dropped are the newlines after the start marker and the white space before and after the end marker.
 * Reasoning without an end marker lasts to the end of the output.
 */
export class ReasoningSplitter {
  readonly #markers: ReasoningSplitterOptions;
  #state: "opening" | "after-start" | "reasoning" | "after-end" | "content" = "opening";
  #held = "";
  /** Offset of `#held`. */
  #offset = 0;

  constructor(options: ReasoningSplitterOptions) {
    this.#markers = options;
  }

  /** Whether the output has left its reasoning block, or never had one. */
  get inContent(): boolean {
    return this.#state === "content";
  }

  /** Whether what comes next is reasoning, as far as is known. */
  get inReasoning(): boolean {
    if (this.#state === "opening") return this.#markers.opened;
    return this.#state === "after-start" || this.#state === "reasoning";
  }

  push(text: string): SplitPiece[] {
    this.#held += text;
    const pieces: SplitPiece[] = [];
    while (this.#step(pieces));
    return pieces;
  }

  /** What was held back, when no more text comes. */
  flush(): SplitPiece[] {
    const pieces: SplitPiece[] = [];
    if (this.#state === "opening") this.#leaveOpening();
    while (this.#step(pieces));
    this.#emit(this.#state === "content" ? "content" : "reasoning", this.#held.length, pieces);
    return pieces;
  }

  /** One change of state or one piece; false when more text is needed. */
  #step(pieces: SplitPiece[]): boolean {
    switch (this.#state) {
      case "opening":
        return this.#open();
      case "after-start":
        this.#drop(leading(this.#held, NEWLINE));
        if (this.#held === "") return false;
        this.#state = "reasoning";
        return true;
      case "reasoning":
        return this.#reason(pieces);
      case "after-end":
        this.#drop(leading(this.#held, SPACE));
        if (this.#held === "") return false;
        this.#state = "content";
        return true;
      case "content":
        this.#emit("content", this.#held.length, pieces);
        return false;
    }
  }

  #open(): boolean {
    const { start } = this.#markers;
    const space = leading(this.#held, SPACE);
    if (space <= MARKER_SPACE_LIMIT) {
      if (this.#held.startsWith(start, space)) {
        this.#drop(space + start.length);
        this.#state = "after-start";
        return true;
      }
      if (start.startsWith(this.#held.slice(space))) return false;
    }
    this.#leaveOpening();
    return true;
  }

  #leaveOpening(): void {
    this.#state = this.#markers.opened ? "after-start" : "content";
  }

  #reason(pieces: SplitPiece[]): boolean {
    const { end } = this.#markers;
    const found = this.#held.indexOf(end);
    const marker = found === -1 ? this.#held.length - openLength(this.#held, [{ text: end }]) : found;
    const text = marker - trailingSpace(this.#held, marker);
    this.#emit("reasoning", text, pieces);
    if (found === -1) return false;
    this.#drop(found - text + end.length);
    this.#state = "after-end";
    return true;
  }

  #emit(kind: TextKind, length: number, pieces: SplitPiece[]): void {
    if (length > 0) pieces.push({ kind, text: this.#held.slice(0, length), start: this.#offset });
    this.#drop(length);
  }

  #drop(length: number): void {
    this.#held = this.#held.slice(length);
    this.#offset += length;
  }
}

function leading(text: string, characters: string): number {
  let length = 0;
  while (length < text.length && characters.includes(text.charAt(length))) length++;
  return length;
}

/** White space that ends at `end`, counted up to the limit. */
function trailingSpace(text: string, end: number): number {
  let length = 0;
  while (length < Math.min(end, MARKER_SPACE_LIMIT) && SPACE.includes(text.charAt(end - length - 1)))
    length++;
  return length;
}
