/** The way of one choice from tokens to visible text: bytes, characters, reasoning, stop strings. */
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

export interface TextPipelineOptions {
  readonly table: TokenTable;
  /** Looked for in content, not in reasoning. */
  readonly stops: readonly string[];
  readonly includeStop: boolean;
  /** Hides the names of control tokens. */
  readonly skipControl: boolean;
  /** The text of this many first tokens is not searched for stop strings. */
  readonly minTokens: number;
  readonly reasoning: (ReasoningMarkers & { readonly opened: boolean }) | undefined;
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

export class TextPipeline {
  readonly #detokenizer: Detokenizer;
  readonly #splitter: ReasoningSplitter | undefined;
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

  constructor(options: TextPipelineOptions) {
    const { table, stops, skipControl, reasoning } = options;
    this.#detokenizer = new Detokenizer(table, {
      skipControl,
      // A model may have control tokens for its markers; the splitter has to see them.
      keepControl: reasoning === undefined ? [] : [reasoning.start, reasoning.end],
    });
    this.#splitter = reasoning === undefined ? undefined : new ReasoningSplitter(reasoning);
    this.#matcher = stops.length === 0 ? undefined : new StopMatcher(stops, { include: options.includeStop });
    this.#minTokens = options.minTokens;
    this.#unsearchedEnd = options.minTokens > 0 ? Infinity : 0;
  }

  /** The stop string that ended the text: cancel the request and push no more. */
  get stopString(): string | undefined {
    return this.#stopString;
  }

  /** Tokens of the reasoning block, markers included. */
  get reasoningTokens(): number {
    return this.#reasoningTokens;
  }

  /**
   * The text that these tokens make visible: no delta while all of it is held back, else one per kind.
   * @param logprobs One per token.
   */
  push(tokens: readonly TokenId[], logprobs: readonly TokenLogprobs[] | undefined): TextDelta[] {
    const deltas: GrowingDelta[] = [];
    for (const [index, token] of tokens.entries()) {
      if (this.#stopString !== undefined) break;
      this.#take({ token, logprobs: logprobs?.[index] }, deltas);
    }
    return deltas;
  }

  /** What was held back. Call once, when the generation ended without a stop string. */
  flush(): TextDelta[] {
    const deltas: GrowingDelta[] = [];
    if (this.#stopString !== undefined) return deltas;
    const tail = this.#detokenizer.flush();
    this.#decoded += tail.length;
    this.#split(tail, deltas);
    for (const piece of this.#splitter?.flush() ?? [])
      this.#show(piece.kind, piece.text, piece.start, deltas);
    if (this.#matcher !== undefined) this.#showContent(this.#matcher.flush(), deltas);
    if (this.#splitter !== undefined && !this.#splitter.inContent) this.#countReasoning(Infinity);
    return deltas;
  }

  #take(delta: DeltaToken, deltas: GrowingDelta[]): void {
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

  #split(text: string, deltas: GrowingDelta[]): void {
    if (this.#splitter === undefined) {
      this.#show("content", text, this.#decoded - text.length, deltas);
      return;
    }
    for (const piece of this.#splitter.push(text)) this.#show(piece.kind, piece.text, piece.start, deltas);
  }

  #show(kind: TextKind, text: string, start: number, deltas: GrowingDelta[]): void {
    if (kind === "reasoning") {
      this.#emit(kind, text, start, deltas);
      return;
    }
    if (this.#visibleEnd === undefined) {
      this.#visibleEnd = start;
      if (this.#splitter !== undefined) this.#countReasoning(start);
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

  /** Content has no gaps, so its offset follows from what is visible already. */
  #showContent(text: string, deltas: GrowingDelta[]): void {
    if (text === "") return;
    const start = this.#visibleEnd ?? 0;
    this.#visibleEnd = start + text.length;
    this.#emit("content", text, start, deltas);
  }

  #emit(kind: TextKind, text: string, start: number, deltas: GrowingDelta[]): void {
    let delta = deltas.at(-1);
    if (delta?.kind !== kind) {
      delta = { kind, text: "", tokens: [] };
      deltas.push(delta);
    }
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
