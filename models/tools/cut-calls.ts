/** Reads outputs that a grammar holds to calls: what there is of a call at which a limit cuts one off is no content. */
import type { HeldCalls, ToolCallParser, ToolPiece } from "./tool-format.ts";

/**
 * The call that a limit cuts off before its name is known has that name where only one tool may be called, as at
 * OpenAI, whose models need not write it. Otherwise there is nothing that a client could do with it, and it is dropped.
 */
export class HeldCallParser implements ToolCallParser {
  readonly #parser: ToolCallParser;
  readonly #held: HeldCalls;
  #calls = 0;
  #begun = false;
  #said = false;

  constructor(parser: ToolCallParser, held: HeldCalls) {
    this.#parser = parser;
    this.#held = held;
  }

  push(text: string): ToolPiece[] {
    this.#begun ||= text.trim() !== "";
    const pieces = this.#parser.push(text);
    for (const piece of pieces) this.#note(piece);
    return pieces;
  }

  flush(complete: boolean): ToolPiece[] {
    const pieces = this.#parser.flush(complete);
    if (complete) return pieces;
    const kept: ToolPiece[] = [];
    let isCallDue = this.#held.triggers === undefined && this.#begun;
    for (const piece of pieces) {
      if (piece.kind === "content") {
        const text = this.#textBeforeCall(piece.text);
        isCallDue ||= this.#held.triggers !== undefined && text.length < piece.text.length;
        if (text !== "") kept.push({ kind: "content", text });
      } else kept.push(piece);
      this.#note(piece);
    }
    const [name, ...others] = this.#held.names;
    if (isCallDue && this.#calls === 0 && name !== undefined && others.length === 0)
      kept.push({ kind: "call", index: 0, name });
    return kept;
  }

  #note(piece: ToolPiece): void {
    if (piece.kind === "call") this.#calls++;
    this.#said ||= piece.kind === "content" && piece.text.trim() !== "";
  }

  /** Behind a call there are only further ones. */
  #textBeforeCall(text: string): string {
    const { triggers, atStart = false } = this.#held;
    if (triggers === undefined || this.#calls > 0) return "";
    if (atStart) {
      const start = text.trimStart();
      // White space may stand before anything.
      if (this.#said || start === "") return text;
      const isCall = triggers.some((trigger) => start.startsWith(trigger) || trigger.startsWith(start));
      return isCall ? "" : text;
    }
    const starts = triggers.map((trigger) => text.indexOf(trigger)).filter((at) => at !== -1);
    return starts.length === 0 ? text : text.slice(0, Math.min(...starts)).trimEnd();
  }
}
