/**
 * Grammars: each text is parsed once, each output has its own place in one.
 *
 * That place is a function of the output: after a failed call, or when a request is continued elsewhere, it is
 * made again from the tokens.
 */
import { EngineError } from "../errors.ts";
import { NativeGarbage } from "./native-garbage.ts";
import { KnownChoices, Walk } from "./known-choices.ts";
import { NextTokens } from "./next-tokens.ts";
import type { Bans } from "./bias.ts";
import type { TokenId } from "../protocol.ts";
import type { AddonBindings, AddonGrammarState, AddonModel } from "./addon.ts";
import type { Vocabulary } from "./vocabulary.ts";

/** Parsed grammars kept for the next request with the same text; together at most so many characters. */
const MOST_CACHED = 32;
const MOST_CACHED_CHARS = 1 << 20;

/** A longer text is refused. */
const MOST_GRAMMAR_CHARS = 1 << 20;

/** About what a parsed grammar takes, as measured: 12 to 23 bytes a character, and what repetitions unfold to. */
const BYTES_EACH = 16 << 10;
const BYTES_PER_CHAR = 24;
const BYTES_PER_REPETITION = 256;

export interface GrammarHost {
  readonly bindings: AddonBindings;
  readonly model: AddonModel;
  readonly vocabulary: Vocabulary;
}

/**
 * Questions for a first token, and characters of the grammar for all of them together: each question goes through
 * every way the grammar can begin, 70 ms in all at the worst.
 */
const MOST_QUESTIONS = 4096;
const MOST_QUESTIONED_CHARS = 1 << 20;

/**
 * Where a grammar leaves no more than so many tokens the runtime tells them in 0.2 to 1.7 ms, where it leaves more it is
 * seen soon; it takes 6 ms to go through a vocabulary of 49,000.
 */
const FEW_TOKENS = 16;
/** Each accepted token can be followed by up to 256 bytes, and beginnings that no token is alone cannot be pruned. */
const MOST_CHOICE_QUESTIONS = 768;
/** A question may go through as many ways to go on as the grammar has characters. */
const MOST_CHOICE_CHARS = 10 << 20;

/** What is known of all grammars together, in parts of about a hundred bytes; half of it may be their rules. */
const MOST_KNOWN = 1 << 18;
/** Of one grammar's rules. */
const MOST_POSITIONS = 1 << 14;

const NO_BANS: Bans = new Set();

interface Beginning {
  readonly state: AddonGrammarState;
  /** Once somebody has asked. */
  known: KnownChoices | undefined;
}

export class GrammarCache {
  readonly #host: GrammarHost;
  readonly #garbage = new NativeGarbage();
  readonly #nextTokens: NextTokens;
  /** Of each grammar, the least recently used first. */
  readonly #beginnings = new Map<string, Beginning>();
  readonly #endTokens: ReadonlySet<TokenId>;
  #chars = 0;

  constructor(host: GrammarHost) {
    this.#host = host;
    this.#nextTokens = new NextTokens(host.vocabulary);
    this.#endTokens = new Set(host.vocabulary.endTokens);
  }

  /**
   * A new state after these tokens. Give it to `discard` when it is no longer used.
   * @throws {EngineError} `grammar_rejected`; `invalid_request` for tokens that the grammar does not allow.
   */
  stateAfter(text: string, output: readonly TokenId[]): AddonGrammarState {
    const { AddonGrammarEvaluationState, AddonSampler } = this.#host.bindings;
    const state = new AddonGrammarEvaluationState(this.#beginningOf(text));
    try {
      for (const token of output) {
        // Draws leave end tokens out too; native code would end the process where the grammar is not complete.
        if (!this.#endTokens.has(token)) AddonSampler.acceptGrammarEvaluationStateToken(state, token);
      }
    } catch {
      this.discard(text);
      throw new EngineError("invalid_request", "The tokens so far do not follow the grammar.");
    }
    return state;
  }

  /** @throws {EngineError} `grammar_rejected`; `no_token_allowed` when every token it could begin with is banned. */
  check(text: string, banned: Bans): void {
    const beginning = this.#beginningOf(text);
    if (banned.size > 0) this.#checkFirst(text, beginning, banned);
  }

  /** Whether the output may end in this state, or go on with this token. */
  allows(state: AddonGrammarState, token: TokenId): boolean {
    return this.#host.bindings.AddonSampler.canBeNextTokenForGrammarEvaluationState(state, token);
  }

  /** All tokens that `allows` allows, end tokens included; undefined where there are too many. */
  choices(state: AddonGrammarState, text: string): readonly TokenId[] | undefined {
    return this.#nextTokens.few((token) => this.allows(state, token), FEW_TOKENS, questionsFor(text));
  }

  /**
   * What `choices` says of the state after this output, without the state.
   * @param walk Of the same output when it was shorter.
   * @returns "many" where there are too many; undefined where it is not known.
   */
  knownChoices(
    text: string,
    output: readonly TokenId[],
    walk: Walk,
  ): readonly TokenId[] | "many" | undefined {
    const beginning = this.#beginnings.get(text);
    if (beginning === undefined) return undefined;
    beginning.known ??= this.#newKnown(text);
    const before = beginning.known.size;
    const choices = beginning.known.after(output, walk);
    if (beginning.known.size > before) this.#boundKnown();
    return choices;
  }

  /** Moves the state behind a token that it allows. */
  take(state: AddonGrammarState, token: TokenId): void {
    // An end is no part of the grammar.
    if (this.#endTokens.has(token)) return;
    this.#host.bindings.AddonSampler.acceptGrammarEvaluationStateToken(state, token);
  }

  /** Tells that a state of this grammar is no longer used. */
  discard(text: string): void {
    this.#garbage.add(estimatedBytes(text));
  }

  #newKnown(text: string): KnownChoices {
    let positions = 0;
    for (const { known } of this.#beginnings.values()) positions += known?.positions ?? 0;
    const limits = {
      tokens: FEW_TOKENS,
      questions: questionsFor(text),
      positions: Math.min(MOST_POSITIONS, MOST_KNOWN / 2 - positions),
    };
    return new KnownChoices(text, limits, this.#host.vocabulary, this.#nextTokens);
  }

  /** Where most is known it is forgotten: it is that grammar which goes on to where nobody has been. */
  #boundKnown(): void {
    const all: KnownChoices[] = [];
    let size = 0;
    for (const { known } of this.#beginnings.values()) {
      if (known === undefined) continue;
      all.push(known);
      size += known.size;
    }
    if (size > MOST_KNOWN) all.reduce((most, known) => (known.places > most.places ? known : most)).forget();
  }

  #checkFirst(text: string, beginning: AddonGrammarState, banned: Bans): void {
    const most = Math.min(MOST_QUESTIONS, Math.ceil(MOST_QUESTIONED_CHARS / text.length));
    if (!this.#nextTokens.some((token) => this.allows(beginning, token), banned, most)) throw nothingLeft();
  }

  #beginningOf(text: string): AddonGrammarState {
    let beginning = this.#beginnings.get(text);
    if (beginning === undefined) {
      beginning = { state: this.#parse(text), known: undefined };
      this.#checkFirst(text, beginning.state, NO_BANS);
      this.#chars += text.length;
    }
    this.#beginnings.delete(text);
    this.#beginnings.set(text, beginning);
    for (const [oldest, { known }] of this.#beginnings) {
      const fits = this.#beginnings.size <= MOST_CACHED && this.#chars <= MOST_CACHED_CHARS;
      if (fits || oldest === text) break;
      this.#beginnings.delete(oldest);
      known?.close();
      this.#chars -= oldest.length;
      this.discard(oldest);
    }
    return beginning.state;
  }

  #parse(text: string): AddonGrammarState {
    const { bindings, model } = this.#host;
    if (text.length > MOST_GRAMMAR_CHARS) {
      const message = `The grammar is longer than ${MOST_GRAMMAR_CHARS} characters.`;
      throw new EngineError("grammar_rejected", message);
    }
    try {
      // A state of a text that does not parse would constrain nothing: the grammar is the one that throws.
      const grammar = new bindings.AddonGrammar(text, { addonExports: bindings, rootRuleName: "root" });
      return new bindings.AddonGrammarEvaluationState(model, grammar);
    } catch {
      throw new EngineError("grammar_rejected", "The runtime cannot parse the grammar.");
    }
  }
}

/** One request's grammar. */
export class GrammarGuide {
  readonly #cache: GrammarCache;
  readonly #text: string;
  #state: AddonGrammarState | undefined;
  /** Tokens of the output that the state has taken; undefined while it is not known. */
  #taken: number | undefined;
  /** Behind what the state has taken, or shorter. */
  #walk = new Walk();

  /**
   * @param banned What the first draw may not bring.
   * @throws {EngineError} `grammar_rejected`, `no_token_allowed`.
   */
  constructor(cache: GrammarCache, text: string, banned: Bans) {
    this.#cache = cache;
    this.#text = text;
    // The state itself waits for the first draw: a queued request holds no more than its text.
    cache.check(text, banned);
  }

  /** The state after this output, made anew where draws that came to nothing have left it elsewhere. */
  stateAfter(output: readonly TokenId[]): AddonGrammarState {
    if (this.#state !== undefined && this.#taken === output.length) return this.#state;
    this.dispose();
    this.#state = this.#cache.stateAfter(this.#text, output);
    this.#taken = output.length;
    return this.#state;
  }

  /** Call before the runtime draws with the state: until `drawn` nobody knows what it has taken. */
  drawing(): void {
    this.#taken = undefined;
  }

  /** Call when the runtime has drawn a token with the state, after an output of this length. */
  drawn(outputLength: number): void {
    this.#taken = outputLength + 1;
  }

  /** Whether the token may follow, or the output may end, if it is an end token. */
  allows(token: TokenId): boolean {
    return this.#state !== undefined && this.#cache.allows(this.#state, token);
  }

  /** The only token that may follow the output of the state; undefined where there are several, or it is not known. */
  only(output: readonly TokenId[]): TokenId | undefined {
    const known = this.#cache.knownChoices(this.#text, output, this.#walk);
    const [token] = known === "many" ? [] : (known ?? []);
    // What the runtime would not take ends in an error: the state has the last word.
    return known?.length === 1 && token !== undefined && this.allows(token) ? token : undefined;
  }

  /** All tokens that may follow the output of the state; undefined where there are too many. */
  choices(output: readonly TokenId[]): readonly TokenId[] | undefined {
    const known = this.#cache.knownChoices(this.#text, output, this.#walk);
    if (known !== undefined) return known === "many" ? undefined : known;
    return this.#state && this.#cache.choices(this.#state, this.#text);
  }

  /** Moves on behind an allowed token that was drawn without the state. */
  take(token: TokenId): void {
    if (this.#state === undefined || this.#taken === undefined) return;
    this.#cache.take(this.#state, token);
    this.#taken += 1;
  }

  dispose(): void {
    if (this.#state === undefined) return;
    this.#state = undefined;
    this.#taken = undefined;
    this.#walk = new Walk();
    this.#cache.discard(this.#text);
  }
}

function questionsFor(text: string): number {
  return Math.min(MOST_CHOICE_QUESTIONS, Math.ceil(MOST_CHOICE_CHARS / text.length));
}

export function nothingLeft(): EngineError {
  return new EngineError(
    "no_token_allowed",
    "Grammar, bans and biases of the request leave no token to draw.",
  );
}

function estimatedBytes(text: string): number {
  let repetitions = 0;
  for (const [, least = "0", most] of text.matchAll(/\{(\d+)(?:,(\d*))?\}/g))
    repetitions += Number(most === undefined || most === "" ? least : most);
  return BYTES_EACH + BYTES_PER_CHAR * text.length + BYTES_PER_REPETITION * repetitions;
}
