/** The way of one choice from tokens to visible output: bytes, characters, reasoning, tool calls, stop strings. */
import type { TokenId, TokenLogprobs } from "../../engine/protocol.ts";
import { Detokenizer } from "./detokenizer.ts";
import { ReasoningSplitter } from "./reasoning-splitter.ts";
import type { ReasoningMarkers, TextKind } from "./reasoning-splitter.ts";
import { StopMatcher } from "./stop-matcher.ts";
import type { TokenTable } from "./token-table.ts";

export type { ReasoningMarkers } from "./reasoning-splitter.ts";

export interface DeltaToken {
  readonly token: TokenId;
  readonly logprobs: TokenLogprobs | undefined;
}

/**
 * One piece of visible output; `tokens` are the tokens whose text it completes, in order. In no list are end
 * tokens, hidden control tokens, tokens of markers and tokens that a stop string cuts.
 */
export interface TextDelta {
  readonly kind: TextKind;
  readonly text: string;
  readonly tokens: readonly DeltaToken[];
}

/** What a parser of tool calls makes of the content that it is given. */
export type ParsedPiece =
  /** Text that belongs to no call, word for word. */
  | { readonly kind: "content"; readonly text: string }
  | { readonly kind: "call"; readonly index: number; readonly name: string }
  | { readonly kind: "arguments"; readonly index: number; readonly text: string };

/** Finds tool calls in content. Text that proves to be no call comes back as content. */
export interface OutputParser {
  push(text: string): ParsedPiece[];
  /** @param complete False when the output was cut off by a limit. */
  flush(complete: boolean): ParsedPiece[];
}

export interface CallOptions {
  readonly parser: OutputParser;
  /** Names of control tokens that the parser looks for. */
  readonly markers: readonly string[];
}

/** The beginning of a call, or a further stretch of its arguments, which are JSON text. */
export type CallDelta =
  | { readonly kind: "tool_call"; readonly index: number; readonly name: string }
  | ArgumentsDelta;

interface ArgumentsDelta {
  readonly kind: "tool_arguments";
  readonly index: number;
  readonly text: string;
}

export type OutputDelta = TextDelta | CallDelta;

export interface TextPipelineOptions {
  readonly table: TokenTable;
  /** Looked for in content, not in reasoning and not in tool calls. */
  readonly stops: readonly string[];
  readonly includeStop: boolean;
  /** Hides the names of control tokens. */
  readonly skipControl: boolean;
  /** The text of this many first tokens is not searched for stop strings. */
  readonly minTokens: number;
  readonly reasoning: (ReasoningMarkers & { readonly opened: boolean }) | undefined;
  /** Undefined leaves everything that is no reasoning in the content. */
  readonly calls: CallOptions | undefined;
}

interface GrowingDelta extends TextDelta {
  text: string;
  readonly tokens: DeltaToken[];
}

/** Offsets count UTF-16 units of the decoded output, markers and hidden parts included. */
interface WaitingToken {
  readonly delta: DeltaToken;
  /** The token's text is complete when the output is visible up to here. */
  readonly end: number;
}

type Deltas = (GrowingDelta | CallDelta)[];
type CallPiece = Exclude<ParsedPiece, { kind: "content" }>;

export class TextPipeline {
  readonly #detokenizer: Detokenizer;
  readonly #splitter: ReasoningSplitter | undefined;
  readonly #parser: OutputParser | undefined;
  readonly #matcher: StopMatcher | undefined;
  readonly #minTokens: number;
  #waiting: WaitingToken[] = [];
  #seen = 0;
  #decoded = 0;
  /** Content before this offset is not searched for stop strings. */
  #unsearchedEnd: number;
  /** Offset up to which content is visible; undefined before the first content. */
  #visibleEnd: number | undefined;
  #stopString: string | undefined;
  #reasoningTokens = 0;
  /** Text that the parser was given and of which it has not said yet what it is; its last part ends at `#parsedEnd`. */
  #unparsed = "";
  #parsedEnd = 0;
  #afterCall = false;

  constructor(options: TextPipelineOptions) {
    const { table, stops, skipControl, reasoning } = options;
    this.#detokenizer = new Detokenizer(table, {
      skipControl,
      // A model may have control tokens for its markers; splitter and parser have to see them.
      keepControl: [
        ...(reasoning === undefined ? [] : [reasoning.start, reasoning.end, ...(reasoning.controls ?? [])]),
        ...(options.calls?.markers ?? []),
      ],
    });
    this.#splitter = reasoning === undefined ? undefined : new ReasoningSplitter(reasoning);
    this.#parser = options.calls?.parser;
    this.#matcher = stops.length === 0 ? undefined : new StopMatcher(stops, { include: options.includeStop });
    this.#minTokens = options.minTokens;
    this.#unsearchedEnd = options.minTokens > 0 ? Infinity : 0;
  }

  /** The stop string that ended the text: cancel the request and push no more. */
  get stopString(): string | undefined {
    return this.#stopString;
  }

  /** Whether the output goes on inside its reasoning block. */
  get thinking(): boolean {
    return this.#splitter?.inReasoning ?? false;
  }

  /** Tokens of the reasoning block, markers included. */
  get reasoningTokens(): number {
    return this.#reasoningTokens;
  }

  /**
   * What these tokens make visible: no delta while all of it is held back; text of one kind is one delta.
   * @param logprobs One per token.
   */
  push(tokens: readonly TokenId[], logprobs: readonly TokenLogprobs[] | undefined): OutputDelta[] {
    const deltas: Deltas = [];
    for (const [index, token] of tokens.entries()) {
      if (this.#stopString !== undefined) break;
      this.#take({ token, logprobs: logprobs?.[index] }, deltas);
    }
    return deltas;
  }

  /**
   * What was held back. Call once, when the generation ended without a stop string.
   * @param complete False when a limit cut the output off.
   */
  flush(complete: boolean): OutputDelta[] {
    const deltas: Deltas = [];
    if (this.#stopString !== undefined) return deltas;
    const tail = this.#detokenizer.flush();
    this.#decoded += tail.length;
    this.#split(tail, deltas);
    for (const piece of this.#splitter?.flush() ?? [])
      this.#show(piece.kind, piece.text, piece.start, deltas);
    if (this.#parser !== undefined) this.#showParsed(this.#parser.flush(complete), "", deltas);
    this.#showHeld(deltas);
    if (this.#splitter !== undefined && !this.#splitter.inContent) this.#countReasoning(Infinity);
    return deltas;
  }

  #take(delta: DeltaToken, deltas: Deltas): void {
    const text = this.#detokenizer.push(delta.token);
    this.#decoded += text.length;
    if (this.#detokenizer.shows(delta.token)) {
      // The rest of an open character comes with a later token; its first unit is never visible without its last.
      this.#waiting.push({ delta, end: this.#detokenizer.pending ? this.#decoded + 1 : this.#decoded });
    }
    this.#seen++;
    if (this.#seen === this.#minTokens) this.#unsearchedEnd = this.#decoded;
    if (text !== "") this.#split(text, deltas);
  }

  #split(text: string, deltas: Deltas): void {
    if (this.#splitter === undefined) {
      this.#show("content", text, this.#decoded - text.length, deltas);
      return;
    }
    for (const piece of this.#splitter.push(text)) this.#show(piece.kind, piece.text, piece.start, deltas);
  }

  #show(kind: TextKind, text: string, start: number, deltas: Deltas): void {
    if (kind === "reasoning") {
      this.#emit(kind, text, start, deltas);
      return;
    }
    if (this.#visibleEnd === undefined) {
      this.#visibleEnd = start;
      if (this.#splitter !== undefined) this.#countReasoning(start);
    }
    if (this.#parser === undefined) this.#search(text, start, deltas);
    else {
      this.#unparsed += text;
      this.#parsedEnd = start + text.length;
      this.#showParsed(this.#parser.push(text), text, deltas);
    }
  }

  /** @param last The text that the parser was given last. */
  #showParsed(pieces: readonly ParsedPiece[], last: string, deltas: Deltas): void {
    for (const piece of pieces) {
      if (this.#stopString !== undefined) return;
      if (piece.kind === "content") {
        this.#search(piece.text, this.#placeOf(piece.text), deltas);
        continue;
      }
      // A stop string cannot begin before a call and end after it.
      this.#showHeld(deltas);
      this.#afterCall = true;
      // What a call has read is of no use any more; what follows it is at the end of the newest text.
      if (this.#unparsed.length > last.length) this.#unparsed = last;
      showCall(piece, deltas);
    }
  }

  /** Where the parser found this content; what stands before it has been read. */
  #placeOf(text: string): number {
    const found = this.#unparsed.indexOf(text);
    const at = found === -1 ? Math.max(0, this.#unparsed.length - text.length) : found;
    const start = this.#parsedEnd - this.#unparsed.length + at;
    this.#unparsed = this.#unparsed.slice(at + text.length);
    return start;
  }

  #search(text: string, start: number, deltas: Deltas): void {
    if (this.#afterCall) {
      this.#visibleEnd = start;
      this.#afterCall = false;
    }
    if (this.#matcher === undefined) {
      this.#showContent(text, deltas);
      return;
    }
    if (this.#stopString !== undefined) return;
    const unsearched = Math.min(Math.max(this.#unsearchedEnd - start, 0), text.length);
    this.#showContent(text.slice(0, unsearched), deltas);
    this.#showContent(this.#matcher.push(text.slice(unsearched)), deltas);
    this.#stopString = this.#matcher.matched;
  }

  /** What may have become a stop string and did not. */
  #showHeld(deltas: Deltas): void {
    if (this.#matcher !== undefined) this.#showContent(this.#matcher.flush(), deltas);
  }

  /** Content has no gaps but the calls, so its offset follows from what is visible already. */
  #showContent(text: string, deltas: Deltas): void {
    if (text === "") return;
    const start = this.#visibleEnd ?? 0;
    this.#visibleEnd = start + text.length;
    this.#emit("content", text, start, deltas);
  }

  #emit(kind: TextKind, text: string, start: number, deltas: Deltas): void {
    const delta = openDelta(kind, deltas);
    delta.text += text;
    const tokens = this.#completed(start + text.length);
    if (kind === "reasoning") this.#reasoningTokens += tokens.length;
    for (const token of tokens) if (token.end > start) delta.tokens.push(token.delta);
  }

  #countReasoning(end: number): void {
    this.#reasoningTokens += this.#completed(end).length;
  }

  /** Takes the tokens whose text ends at `end` or before. */
  #completed(end: number): WaitingToken[] {
    const open = this.#waiting.findIndex((token) => token.end > end);
    if (open === -1) {
      const all = this.#waiting;
      this.#waiting = [];
      return all;
    }
    return this.#waiting.splice(0, open);
  }
}

/** The delta that text of this kind goes into. */
function openDelta(kind: TextKind, deltas: Deltas): GrowingDelta {
  const last = deltas.at(-1);
  if (last?.kind === kind) return last;
  const delta: GrowingDelta = { kind, text: "", tokens: [] };
  deltas.push(delta);
  return delta;
}

function showCall(piece: CallPiece, deltas: Deltas): void {
  const { index } = piece;
  if (piece.kind === "call") {
    deltas.push({ kind: "tool_call", index, name: piece.name });
    return;
  }
  const last = deltas.at(-1);
  const joined = last?.kind === "tool_arguments" && last.index === index ? last : undefined;
  if (joined !== undefined) deltas.pop();
  deltas.push({ kind: "tool_arguments", index, text: (joined?.text ?? "") + piece.text });
}
