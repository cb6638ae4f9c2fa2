/**
 * Texts that several regular expressions allow and others do not, of a bounded length: the product of their automata, made
 * deterministic, reduced, and written as rules. For what one expression alone cannot say: a pattern beside a format or a length, lookahead.
 */
import { GrammarError } from "./grammar-error.ts";
import { anyChar, classOf, empty, normalize, oneOf, sequence } from "./expressions.ts";
import type { CharClass, CodePointRange, Expr, RuleReference } from "./expressions.ts";
import type { GrammarBuilder } from "./grammar.ts";

/** What a text has to be, or must not be. */
export interface Condition {
  /** Without references to rules. */
  readonly expr: Expr;
  readonly holds: boolean;
}

/** Work that is left for several languages together. */
export interface WorkBudget {
  left: number;
}

export function workBudget(): WorkBudget {
  return { left: MAX_WORK };
}

export interface RegularLanguage {
  readonly conditions: readonly Condition[];
  /** In characters. */
  readonly min: number;
  /** Infinity without a bound. */
  readonly max: number;
  readonly budget: WorkBudget;
}

/** Of the automaton of one expression. */
const MAX_STATES = 20_000;
/** Of the product; each becomes a rule or part of one. */
const MAX_PRODUCT_STATES = 3000;
/** Steps of building products. */
const MAX_WORK = 1_000_000;
/** Parts of a rule within each other. */
const MAX_INLINE = 30;

/**
 * @param write How a character of a class is written.
 * @returns Undefined when there is no such text.
 * @throws GrammarError when it takes too much.
 */
export function regularRules(
  builder: GrammarBuilder,
  language: RegularLanguage,
  write: (characters: CharClass) => Expr,
): Expr | undefined {
  const alphabet = new Alphabet(language.conditions.map((condition) => condition.expr));
  const product = productOf(language, alphabet);
  const states = reduced(withoutDeadEnds(product));
  return states.length === 0 ? undefined : new RuleWriter(builder, states, alphabet, write).rules();
}

/** Characters that no class of the expressions tells apart are one symbol. */
class Alphabet {
  readonly symbols: readonly (readonly CodePointRange[])[];
  readonly #members = new Map<string, readonly number[]>();

  constructor(exprs: readonly Expr[]) {
    const classes = new Map<string, readonly CodePointRange[]>([["", anyChar.ranges]]);
    for (const ranges of exprs.flatMap(rangesIn)) classes.set(ranges.join(), ranges);
    const cuts = new Set<number>();
    for (const ranges of classes.values()) for (const [low, high] of ranges) cuts.add(low).add(high + 1);
    const sorted = [...cuts].sort((a, b) => a - b);
    const symbols = new Map<string, CodePointRange[]>();
    const cursors = [...classes.values()].map((ranges) => ({ ranges, at: 0 }));
    for (const [index, low] of sorted.slice(0, -1).entries()) {
      let signature = "";
      for (const cursor of cursors) {
        while ((cursor.ranges[cursor.at]?.[1] ?? Infinity) < low) cursor.at++;
        signature += (cursor.ranges[cursor.at]?.[0] ?? Infinity) <= low ? "1" : "0";
      }
      if (!signature.startsWith("1")) continue;
      const range: CodePointRange = [low, (sorted[index + 1] ?? low + 1) - 1];
      const symbol = symbols.get(signature);
      if (symbol === undefined) symbols.set(signature, [range]);
      else symbol.push(range);
    }
    this.symbols = [...symbols.values()];
    const signatures = [...symbols.keys()];
    for (const [index, key] of [...classes.keys()].entries())
      this.#members.set(
        key,
        signatures.flatMap((signature, symbol) => (signature[index] === "1" ? [symbol] : [])),
      );
  }

  symbolsOf(ranges: readonly CodePointRange[]): readonly number[] {
    return this.#members.get(ranges.join()) ?? [];
  }
}

function rangesIn(expr: Expr): readonly (readonly CodePointRange[])[] {
  switch (expr.kind) {
    case "class":
      return [expr.ranges];
    case "literal":
      return Array.from(expr.text, (char) => [[char.codePointAt(0) ?? 0, char.codePointAt(0) ?? 0]]);
    case "sequence":
      return expr.items.flatMap(rangesIn);
    case "choice":
      return expr.options.flatMap(rangesIn);
    case "repeat":
      return rangesIn(expr.item);
    case "rule":
      return [];
  }
}

/** An automaton with empty moves. State 0 is the start, 1 the end. */
class Automaton {
  readonly moves: { readonly symbols: readonly number[]; readonly target: number }[][] = [[], []];
  readonly #empty: number[][] = [[], []];
  readonly #alphabet: Alphabet;

  constructor(expr: Expr, alphabet: Alphabet) {
    this.#alphabet = alphabet;
    this.#add(expr, 0, 1);
  }

  /** All states that are reached without a character, of which only those that do something are kept. */
  closure(states: Iterable<number>): readonly number[] {
    const seen = new Set<number>(states);
    for (const state of seen) for (const next of this.#empty[state] ?? []) seen.add(next);
    return [...seen]
      .filter((state) => state === 1 || (this.moves[state]?.length ?? 0) > 0)
      .sort((a, b) => a - b);
  }

  #state(): number {
    if (this.moves.length >= MAX_STATES) throw new GrammarError("The pattern is too large.");
    this.moves.push([]);
    return this.#empty.push([]) - 1;
  }

  #add(expr: Expr, from: number, to: number): void {
    switch (expr.kind) {
      case "class":
        this.moves[from]?.push({ symbols: this.#alphabet.symbolsOf(expr.ranges), target: to });
        break;
      case "literal": {
        let state = from;
        for (const ranges of rangesIn(expr)) {
          const next = this.#state();
          this.moves[state]?.push({ symbols: this.#alphabet.symbolsOf(ranges), target: next });
          state = next;
        }
        this.#empty[state]?.push(to);
        break;
      }
      case "sequence": {
        let state = from;
        for (const item of expr.items) {
          const next = this.#state();
          this.#add(item, state, next);
          state = next;
        }
        this.#empty[state]?.push(to);
        break;
      }
      case "choice":
        for (const option of expr.options) this.#add(option, from, to);
        break;
      case "repeat":
        this.#repeat(expr, from, to);
        break;
      case "rule":
        throw new GrammarError("A rule is not part of a regular expression.");
    }
  }

  #repeat(
    { item, min, max }: { item: Expr; min: number; max: number | undefined },
    from: number,
    to: number,
  ): void {
    let state = this.#state();
    this.#empty[from]?.push(state);
    for (let turn = 0; turn < (max ?? min); turn++) {
      if (turn >= min) this.#empty[state]?.push(to);
      const next = this.#state();
      this.#add(item, state, next);
      state = next;
    }
    if (max === undefined) {
      const loop = this.#state();
      this.#empty[state]?.push(loop);
      const back = this.#state();
      this.#add(item, loop, back);
      this.#empty[back]?.push(loop);
      state = loop;
    }
    this.#empty[state]?.push(to);
  }
}

interface State {
  readonly accepts: boolean;
  /** Target by symbol. */
  readonly next: ReadonlyMap<number, number>;
}

function productOf(language: RegularLanguage, alphabet: Alphabet): readonly State[] {
  const automata = language.conditions.map(({ expr, holds }) => ({
    automaton: new Automaton(expr, alphabet),
    holds,
  }));
  for (const { automaton } of automata) language.budget.left -= 3 * automaton.moves.length;
  const ids = new Map<string, number>();
  const queue: { readonly sets: readonly (readonly number[])[]; readonly length: number }[] = [];
  const idOf = (sets: readonly (readonly number[])[], length: number): number => {
    const key = `${length}|${sets.join("|")}`;
    let id = ids.get(key);
    if (id !== undefined) return id;
    if (queue.length >= MAX_PRODUCT_STATES)
      throw new GrammarError("The conditions for the string are too complex.");
    id = queue.push({ sets, length }) - 1;
    ids.set(key, id);
    return id;
  };
  /** Lengths beyond which nothing changes are the same. */
  const countTo = language.max === Infinity ? language.min : language.max;
  idOf(
    automata.map(({ automaton }) => automaton.closure([0])),
    0,
  );
  const states: State[] = [];
  // Grows while it is read.
  for (const { sets, length } of queue) {
    const next = new Map<number, number>();
    const targets = sets.map((set, index) => movesOf(automata[index]?.automaton, set));
    for (let symbol = 0; symbol < alphabet.symbols.length && length < language.max; symbol++) {
      const after = targets.map(
        (target, index) => automata[index]?.automaton.closure(target.get(symbol) ?? []) ?? [],
      );
      language.budget.left -= after.reduce((sum, set) => sum + set.length, 1);
      if (language.budget.left < 0) throw new GrammarError("The conditions for the string are too complex.");
      if (after.some((set, index) => set.length === 0 && automata[index]?.holds === true)) continue;
      next.set(symbol, idOf(after, Math.min(length + 1, countTo)));
    }
    const accepts =
      length >= language.min && sets.every((set, index) => set.includes(1) === automata[index]?.holds);
    states.push({ accepts, next });
  }
  return states;
}

function movesOf(automaton: Automaton | undefined, set: readonly number[]): Map<number, Set<number>> {
  const targets = new Map<number, Set<number>>();
  for (const state of set) {
    for (const { symbols, target } of automaton?.moves[state] ?? []) {
      for (const symbol of symbols) {
        const known = targets.get(symbol);
        if (known === undefined) targets.set(symbol, new Set([target]));
        else known.add(target);
      }
    }
  }
  return targets;
}

/** Only states from which the text can end. None when the first is not one of them. */
function withoutDeadEnds(states: readonly State[]): readonly State[] {
  const before = states.map((): number[] => []);
  for (const [id, state] of states.entries())
    for (const target of state.next.values()) before[target]?.push(id);
  const alive = new Set(states.flatMap((state, id) => (state.accepts ? [id] : [])));
  for (const id of alive) for (const previous of before[id] ?? []) alive.add(previous);
  if (!alive.has(0)) return [];
  return states.map(({ accepts, next }) => ({
    accepts,
    next: new Map([...next].filter(([, target]) => alive.has(target))),
  }));
}

/** States with the same future are one (Hopcroft); the first stays the first. */
function reduced(states: readonly State[]): readonly State[] {
  const blocks: Set<number>[] = [];
  const blockOf: number[] = states.map(() => 0);
  const before = new Map<number, Map<number, number[]>>();
  const initial = new Map<string, number>();
  for (const [id, { accepts, next }] of states.entries()) {
    for (const [symbol, target] of next) {
      let sources = before.get(symbol);
      if (sources === undefined) before.set(symbol, (sources = new Map<number, number[]>()));
      const list = sources.get(target);
      if (list === undefined) sources.set(target, [id]);
      else list.push(id);
    }
    // All states can end, so that having no move is a difference.
    const key = `${accepts} ${[...next.keys()].join()}`;
    const block = initial.get(key) ?? blocks.push(new Set()) - 1;
    initial.set(key, block);
    blocks[block]?.add(id);
    blockOf[id] = block;
  }
  const waiting = new Set(blocks.keys());
  for (const splitter of waiting) {
    waiting.delete(splitter);
    const members = [...(blocks[splitter] ?? [])];
    for (const sources of before.values())
      split(blocks, blockOf, waiting, new Set(members.flatMap((target) => sources.get(target) ?? [])));
  }
  return mergedStates(states, blockOf);
}

/** Parts every block into the states that are in `marked` and those that are not. */
function split(
  blocks: Set<number>[],
  blockOf: number[],
  waiting: Set<number>,
  marked: ReadonlySet<number>,
): void {
  const touched = new Map<number, number[]>();
  for (const id of marked) {
    const block = blockOf[id] ?? 0;
    const list = touched.get(block);
    if (list === undefined) touched.set(block, [id]);
    else list.push(id);
  }
  for (const [block, ids] of touched) {
    const all = blocks[block];
    if (all === undefined || ids.length === all.size) continue;
    const added = blocks.push(new Set(ids)) - 1;
    for (const id of ids) {
      all.delete(id);
      blockOf[id] = added;
    }
    waiting.add(waiting.has(block) || ids.length <= all.size ? added : block);
  }
}

function mergedStates(states: readonly State[], blockOf: readonly number[]): readonly State[] {
  // Numbered anew, from the first state's block on.
  const ids = new Map<number, number>();
  for (const block of blockOf) if (!ids.has(block)) ids.set(block, ids.size);
  const idOf = (state: number): number => ids.get(blockOf[state] ?? 0) ?? 0;
  const merged: State[] = [];
  for (const [id, { accepts, next }] of states.entries())
    merged[idOf(id)] ??= {
      accepts,
      next: new Map([...next].map(([symbol, target]) => [symbol, idOf(target)])),
    };
  return merged;
}

class RuleWriter {
  readonly #builder: GrammarBuilder;
  readonly #states: readonly State[];
  readonly #alphabet: Alphabet;
  readonly #write: (characters: CharClass) => Expr;
  readonly #uses: number[];
  readonly #references = new Map<number, RuleReference>();
  readonly #queue: number[] = [];

  constructor(
    builder: GrammarBuilder,
    states: readonly State[],
    alphabet: Alphabet,
    write: (characters: CharClass) => Expr,
  ) {
    this.#builder = builder;
    this.#states = states;
    this.#alphabet = alphabet;
    this.#write = write;
    this.#uses = states.map(() => 0);
    for (const { next } of states)
      for (const target of new Set(next.values())) this.#uses[target] = (this.#uses[target] ?? 0) + 1;
  }

  rules(): Expr {
    const root = this.#reference(0);
    for (let id = this.#queue.shift(); id !== undefined; id = this.#queue.shift())
      this.#builder.define(this.#reference(id), this.#expr(id, 0));
    return root;
  }

  #reference(id: number): RuleReference {
    let reference = this.#references.get(id);
    if (reference !== undefined) return reference;
    reference = this.#builder.declare("state");
    this.#references.set(id, reference);
    this.#queue.push(id);
    return reference;
  }

  #expr(id: number, depth: number): Expr {
    const state = this.#states[id];
    if (state === undefined) return empty;
    const targets = new Map<number, CodePointRange[]>();
    for (const [symbol, target] of state.next) {
      const ranges = targets.get(target) ?? [];
      ranges.push(...(this.#alphabet.symbols[symbol] ?? []));
      targets.set(target, ranges);
    }
    const options: Expr[] = state.accepts ? [empty] : [];
    // What most characters lead to comes last: llama.cpp tries it first.
    for (const [target, ranges] of [...targets].sort((a, b) => sizeOf(a[1]) - sizeOf(b[1])))
      options.push(sequence(this.#write(classOf(normalize(ranges))), this.#follow(target, depth)));
    return oneOf(...options);
  }

  #follow(target: number, depth: number): Expr {
    const state = this.#states[target];
    if (state?.next.size === 0) return empty;
    const inline = this.#uses[target] === 1 && depth < MAX_INLINE && !this.#references.has(target);
    return inline ? this.#expr(target, depth + 1) : this.#reference(target);
  }
}

function sizeOf(ranges: readonly CodePointRange[]): number {
  return ranges.reduce((sum, [low, high]) => sum + high - low + 1, 0);
}
