/** Collects the pieces of an output; white space directly before a call is dropped. */
import type { ToolPiece } from "./tool-format.ts";

/** White space held back at most, so that a model that writes only spaces fills no buffer. */
const SPACE_LIMIT = 64;

const TRAILING_SPACE = /[ \t\r\n]+$/;

export class PieceSink {
  #pieces: ToolPiece[] = [];
  #space = "";
  #calls = 0;
  /** Only white space has come since a call ended. */
  #afterCall = false;

  content(text: string): void {
    let whole = this.#space + text;
    if (this.#afterCall) whole = whole.replace(/^[ \t\r\n]+/, "");
    if (whole === "") return;
    this.#afterCall = false;
    const space = (TRAILING_SPACE.exec(whole)?.[0] ?? "").slice(-SPACE_LIMIT);
    this.#space = space;
    this.#add({ kind: "content", text: whole.slice(0, whole.length - space.length) });
  }

  call(name: string): void {
    this.#space = "";
    this.#pieces.push({ kind: "call", index: this.#calls, name });
    this.#calls++;
  }

  /** Of the call that began last. */
  arguments(text: string): void {
    this.#add({ kind: "arguments", index: this.#calls - 1, text });
  }

  endCall(): void {
    this.#afterCall = true;
  }

  /** The pieces since the last time. */
  take(): ToolPiece[] {
    const pieces = this.#pieces;
    this.#pieces = [];
    return pieces;
  }

  /** The pieces since the last time, with white space that no call follows. */
  finish(): ToolPiece[] {
    const space = this.#space;
    this.#space = "";
    this.#add({ kind: "content", text: space });
    return this.take();
  }

  #add(piece: Extract<ToolPiece, { text: string }>): void {
    if (piece.text === "") return;
    const last = this.#pieces.at(-1);
    if (last?.kind !== piece.kind) this.#pieces.push(piece);
    else this.#pieces[this.#pieces.length - 1] = { ...piece, text: last.text + piece.text };
  }
}
