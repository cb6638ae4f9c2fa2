/** Parts an output into content and tool calls, by the syntax of the calls, while it is being written. */
import { findMark, openLength } from "../text/marks.ts";
import { callEnds, leadingMark } from "./call-syntax.ts";
import type { CallEnds, CallSyntax } from "./call-syntax.ts";
import { readBody } from "./call-body.ts";
import type { BodyContext } from "./call-body.ts";
import { PieceSink } from "./content-sink.ts";
import { NotACall, TextReader } from "./text-reader.ts";
import type { Step } from "./text-reader.ts";
import type { ParsedTool, ToolCallParser, ToolPiece } from "./tool-format.ts";

/** A text at which calls may begin, and what must follow before the first body. */
export interface CallStart {
  readonly text: string;
  readonly rest: string;
}

const BRACE = "{";

/** Models that write an object without markup sometimes put this control token before it. */
const BARE_MARK = "<|python_tag|>";

/** The starts of a syntax, the one that models are trained to write first. */
export function callStarts(syntax: CallSyntax): CallStart[] {
  const before = syntax.before.trim();
  if (isBare(syntax)) {
    const starts = [before === "" ? BRACE : before, ...(syntax.body.kind === "object" ? [BARE_MARK] : [])];
    return starts.map((text) => ({ text, rest: "" }));
  }
  const mark = leadingMark(before);
  if (mark === "") return [{ text: before, rest: "" }];
  const rest = before.slice(before.indexOf(mark) + mark.length).trim();
  // Models leave out the outer one of two tags.
  const inner = syntax.body.kind === "tagged" && rest.startsWith("<") ? [{ text: rest, rest: "" }] : [];
  return [{ text: mark, rest }, ...inner];
}

/** Whether nothing but the body says that something is a call: marks this short occur in any text. */
export function isBare({ before }: CallSyntax): boolean {
  return before.trim().length < SHORTEST_MARK && leadingMark(before) === "";
}

const SHORTEST_MARK = 4;

/**
 * At a start the parser reads on until it has the name of a tool and the beginning of its arguments; what does
 * not go on like a call up to there is content, all of it. From there on the arguments are handed on as they
 * arrive.
 */
export class SyntaxParser implements ToolCallParser {
  readonly #syntax: CallSyntax;
  readonly #ends: CallEnds;
  readonly #starts: readonly CallStart[];
  readonly #bare: boolean;
  readonly #reader = new TextReader();
  readonly #sink = new PieceSink();
  readonly #context: BodyContext;
  readonly #run: Step<void>;
  #complete = true;

  /** @param held Whether a grammar sees to it that what begins like a call is one. */
  constructor(syntax: CallSyntax, tools: readonly ParsedTool[], held: boolean) {
    this.#syntax = syntax;
    this.#ends = callEnds(syntax);
    this.#starts = callStarts(syntax);
    this.#bare = isBare(syntax);
    this.#context = {
      reader: this.#reader,
      sink: this.#sink,
      bare: this.#bare,
      held,
      tools: new Map(tools.map((tool) => [tool.name, tool])),
      callEnd: this.#ends.call,
      cutOff: () => this.#reader.ended && !this.#complete,
    };
    this.#run = this.#parse();
  }

  push(text: string): ToolPiece[] {
    this.#reader.push(text);
    this.#run.next();
    return this.#sink.take();
  }

  flush(complete: boolean): ToolPiece[] {
    this.#complete = complete;
    this.#reader.end();
    this.#run.next();
    return this.#sink.finish();
  }

  *#parse(): Step<void> {
    for (;;) {
      const start = yield* this.#content();
      if (start === undefined) return;
      yield* this.#calls(start);
    }
  }

  /** Hands on content up to the next start, which is left unread; undefined at the end of the output. */
  *#content(): Step<CallStart | undefined> {
    for (;;) {
      const rest = this.#reader.rest();
      const first = findMark(rest, this.#starts);
      const held = this.#reader.ended ? 0 : openLength(rest, this.#starts);
      const certain = first?.at ?? rest.length - held;
      this.#sink.content(this.#reader.take(certain));
      this.#reader.mark();
      if (first !== undefined) return first.mark;
      if (this.#reader.ended) return undefined;
      yield;
    }
  }

  *#calls(start: CallStart): Step<void> {
    const reader = this.#reader;
    let from = reader.mark();
    try {
      // An object is read with the brace with which it begins.
      if (start.text !== BRACE) reader.take(start.text.length);
      yield* reader.expect(start.rest);
      do {
        yield* readBody(this.#syntax.body, this.#context);
        this.#sink.endCall();
        from = reader.mark();
      } while (yield* this.#another());
    } catch (error) {
      if (!(error instanceof NotACall)) throw error;
      this.#sink.content(reader.since(from));
    }
    reader.mark();
  }

  /** Reads what stands behind a body; whether a further body follows. */
  *#another(): Step<boolean> {
    const { call, next, all } = this.#ends;
    if ((yield* this.#matchOrStay(call)) !== "yes") return false;
    this.#reader.mark();
    if (next === undefined) return this.#bare && (yield* this.#matchOrStay(";")) === "yes";
    // What begins with a start is found as content is.
    const found = findMark(next.trimStart(), this.#starts)?.at === 0;
    if (all.trim() !== "" && (yield* this.#matchOrStay(all)) !== "no") return false;
    if (found) return false;
    if (next.trim() !== "") return (yield* this.#matchOrStay(next)) === "yes";
    return this.#syntax.body.kind === "object" && (yield* this.#reader.skipSpace()) === BRACE;
  }

  /** Reads a fixed text if it is there. The beginning of one at the end of the output is dropped. */
  *#matchOrStay(text: string): Step<"yes" | "no" | "cut"> {
    const from = this.#reader.position;
    const result = yield* this.#reader.match(text);
    if (result === "no") this.#reader.rewind(from);
    return result;
  }
}
