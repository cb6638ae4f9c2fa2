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
    return this.#count(this.#parser.push(text));
  }

  flush(complete: boolean): ToolPiece[] {
    const pieces = this.#parser.flush(complete);
    if (complete) return pieces;
    const said = this.#said;
    const kept: ToolPiece[] = [];
    let isCallDue = this.#held.triggers === undefined && this.#begun;
    for (const piece of this.#count(pieces)) {
      if (piece.kind !== "content") {
        kept.push(piece);
        continue;
      }
      const text = this.#textBeforeCall(piece.text, said);
      isCallDue ||= this.#held.triggers !== undefined && text.length < piece.text.length;
      if (text !== "") kept.push({ kind: "content", text });
    }
    const [name, ...others] = this.#held.names;
    if (isCallDue && this.#calls === 0 && name !== undefined && others.length === 0)
      kept.push({ kind: "call", index: 0, name });
    return kept;
  }

  #count(pieces: ToolPiece[]): ToolPiece[] {
    for (const { kind } of pieces) {
      if (kind === "call") this.#calls++;
      this.#said ||= kind === "content";
    }
    return pieces;
  }

  /**
   * Behind a call there are only further ones.
   * @param said Whether other text came before this one.
   */
  #textBeforeCall(text: string, said: boolean): string {
    const { triggers, atStart = false } = this.#held;
    if (triggers === undefined || this.#calls > 0) return "";
    if (atStart) {
      const start = text.trimStart();
      const isCall = triggers.some((trigger) => start.startsWith(trigger) || trigger.startsWith(start));
      return isCall && !said ? "" : text;
    }
    const starts = triggers.map((trigger) => text.indexOf(trigger)).filter((at) => at !== -1);
    return starts.length === 0 ? text : text.slice(0, Math.min(...starts)).trimEnd();
  }
}
