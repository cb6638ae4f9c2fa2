/** The expressions a grammar is made of, as plain data, and the functions that combine them. */
import { GrammarError } from "./grammar-error.ts";

export type Expr = Literal | CharClass | Sequence | Choice | Repeat | RuleReference;

/** Exactly this text; "" is the empty text. */
export interface Literal {
  readonly kind: "literal";
  readonly text: string;
}

/** One character out of a set. */
export interface CharClass {
  readonly kind: "class";
  /** Ascending, disjoint, never adjacent, never empty; code points, both ends included. */
  readonly ranges: readonly CodePointRange[];
}

export type CodePointRange = readonly [low: number, high: number];

export interface Sequence {
  readonly kind: "sequence";
  readonly items: readonly Expr[];
}

export interface Choice {
  readonly kind: "choice";
  /** At least one. */
  readonly options: readonly Expr[];
}

export interface Repeat {
  readonly kind: "repeat";
  readonly item: Expr;
  readonly min: number;
  /** Undefined is without end. */
  readonly max: number | undefined;
}

export interface RuleReference {
  readonly kind: "rule";
  readonly name: string;
}

/**
 * What a text can consist of: no NUL, which ends strings in llama.cpp, and no surrogates. Classes are always given
 * by what they contain, never by what they do not: "all but" would let through byte sequences that are not UTF-8.
 */
const ALL_CHARACTERS: readonly CodePointRange[] = [
  [0x1, 0xd7_ff],
  [0xe0_00, 0x10_ff_ff],
];

export const empty: Literal = { kind: "literal", text: "" };

export const anyChar: CharClass = { kind: "class", ranges: ALL_CHARACTERS };

const LONE_SURROGATE = /\p{Surrogate}/u;

/** @throws GrammarError for half a surrogate pair or NUL, which no output can contain. */
export function literal(text: string): Literal {
  if (LONE_SURROGATE.test(text))
    throw new GrammarError("A text with half a surrogate pair cannot be written.");
  if (text.includes("\0")) throw new GrammarError("A text with a NUL character cannot be written.");
  return { kind: "literal", text };
}

/**
 * One of the given characters.
 * @param items A string stands for each of its characters, a pair for a range of code points.
 * @throws GrammarError when nothing is left.
 */
export function charClass(...items: readonly (string | CodePointRange)[]): CharClass {
  return classOf(rangesOf(items));
}

/** Any character but the given ones; `items` as in `charClass`. */
export function charClassExcept(...items: readonly (string | CodePointRange)[]): CharClass {
  return classOf(complement(rangesOf(items)));
}

/** One of these code points: clipped to what a text can consist of. */
export function classOf(ranges: readonly CodePointRange[]): CharClass {
  const clipped = intersectRanges(normalize(ranges), ALL_CHARACTERS);
  if (clipped.length === 0) throw new GrammarError("A character class that contains no character.");
  return { kind: "class", ranges: clipped };
}

function rangesOf(items: readonly (string | CodePointRange)[]): CodePointRange[] {
  return items.flatMap((item) =>
    typeof item === "string"
      ? Array.from(item, (char): CodePointRange => [codePoint(char), codePoint(char)])
      : [item],
  );
}

function codePoint(char: string): number {
  return char.codePointAt(0) ?? 0;
}

/** Sorted, with overlapping and adjacent ranges joined; ranges that end before they start are left out. */
export function normalize(ranges: readonly CodePointRange[]): CodePointRange[] {
  const joined: [number, number][] = [];
  for (const [low, high] of [...ranges].sort((a, b) => a[0] - b[0])) {
    if (low > high) continue;
    const last = joined.at(-1);
    if (last !== undefined && low <= last[1] + 1) last[1] = Math.max(last[1], high);
    else joined.push([low, high]);
  }
  return joined;
}

/** What a text can consist of, without `ranges`. */
export function complement(ranges: readonly CodePointRange[]): CodePointRange[] {
  const gaps: CodePointRange[] = [];
  let next = 0;
  for (const [low, high] of normalize(ranges)) {
    if (low > next) gaps.push([next, low - 1]);
    next = high + 1;
  }
  gaps.push([next, 0x10_ff_ff]);
  return intersectRanges(normalize(gaps), ALL_CHARACTERS);
}

/** Both normalized. */
export function intersectRanges(
  left: readonly CodePointRange[],
  right: readonly CodePointRange[],
): CodePointRange[] {
  const common: CodePointRange[] = [];
  let other = 0;
  for (const [low, high] of left) {
    while ((right[other]?.[1] ?? Infinity) < low) other++;
    for (let index = other; (right[index]?.[0] ?? Infinity) <= high; index++) {
      const [from, to] = right[index] ?? [low, high];
      common.push([Math.max(low, from), Math.min(high, to)]);
    }
  }
  return common;
}

/** One after the other. Sequences in it are flattened, texts side by side joined. */
export function sequence(...exprs: readonly Expr[]): Expr {
  const items: Expr[] = [];
  for (const item of exprs.flatMap((expr) => (expr.kind === "sequence" ? expr.items : [expr]))) {
    const last = items.at(-1);
    if (item.kind !== "literal") items.push(item);
    else if (last?.kind === "literal")
      items[items.length - 1] = { kind: "literal", text: last.text + item.text };
    else if (item.text !== "") items.push(item);
  }
  const [first] = items;
  if (first === undefined) return empty;
  return items.length === 1 ? first : { kind: "sequence", items };
}

/**
 * Any of the given. Choices in it are flattened, doubles left out, single characters joined to one class: each
 * option that is alive costs llama.cpp a pass over the vocabulary.
 * @throws GrammarError when there are none.
 */
export function oneOf(...exprs: readonly Expr[]): Expr {
  const options: Expr[] = [];
  const seen = new Set<string>();
  const characters: CodePointRange[] = [];
  for (const option of exprs.flatMap((expr) => (expr.kind === "choice" ? expr.options : [expr]))) {
    const ranges = singleCharacter(option);
    if (ranges !== undefined) {
      characters.push(...ranges);
      continue;
    }
    const key = keyOf(option);
    if (key !== undefined && seen.has(key)) continue;
    if (key !== undefined) seen.add(key);
    options.push(option);
  }
  // Last, because llama.cpp tries the last option first and a class settles most of the vocabulary.
  if (characters.length > 0) options.push(simplestClass(characters));
  const shared = options.length < MANY ? options : withSharedBeginnings(options);
  const [first] = shared;
  if (first === undefined) throw new GrammarError("A choice without options.");
  return shared.length === 1 ? first : { kind: "choice", options: shared };
}

/** Fewer options are left as they were written. */
const MANY = 16;

/**
 * The same, the texts that options begin with in tries: as they stand, all that begin alike are alive together, and llama.cpp
 * compares each with each other one, which takes seconds for a thousand.
 */
function withSharedBeginnings(options: readonly Expr[]): readonly Expr[] {
  const root = trieNode();
  const others: Expr[] = [];
  let texts = 0;
  for (const option of options) {
    const [first, ...rest] = option.kind === "sequence" ? option.items : [option];
    if (first?.kind !== "literal" || first.text === "") {
      others.push(option);
      continue;
    }
    texts += 1;
    nodeAt(root, first.text).tails.push(sequence(...rest));
  }
  // None begins like another: what a trie leaves is like this as well.
  if (root.children.size === texts) return options;
  return [...optionsOf(root), ...others];
}

function singleCharacter(expr: Expr): readonly CodePointRange[] | undefined {
  if (expr.kind === "class") return expr.ranges;
  if (expr.kind !== "literal") return undefined;
  const code = expr.text.codePointAt(0);
  if (code === undefined || String.fromCodePoint(code) !== expr.text) return undefined;
  return [[code, code]];
}

function simplestClass(ranges: readonly CodePointRange[]): Expr {
  const joined = classOf(ranges);
  const [only] = joined.ranges;
  if (joined.ranges.length > 1 || only === undefined || only[0] !== only[1]) return joined;
  return literal(String.fromCodePoint(only[0]));
}

/** Equal for equal expressions; only of those that are cheap to compare. */
function keyOf(expr: Expr): string | undefined {
  if (expr.kind === "literal") return `"${expr.text}`;
  return expr.kind === "rule" ? expr.name : undefined;
}

/** @param max Undefined is without end. */
export function repeat(item: Expr, min: number, max?: number): Expr {
  if (!Number.isSafeInteger(min) || min < 0)
    throw new GrammarError("A repetition needs a whole number of times.");
  if (max !== undefined && !(Number.isSafeInteger(max) && max >= min))
    throw new GrammarError("A repetition whose highest number is below its lowest.");
  if (max === 0 || (item.kind === "literal" && item.text === "")) return empty;
  if (min === 1 && max === 1) return item;
  if (canBeEmpty(item)) {
    const rest = nonEmpty(item);
    if (rest !== undefined && rest !== item) return repeat(rest, 0, max);
  }
  return collapsed(item, min, max) ?? { kind: "repeat", item, min, max };
}

/**
 * A repetition of a repetition that may happen once leaves no number of times out: it is one. As two it can be read in as
 * many ways as there are places to change from one turn to the next, all of which llama.cpp follows for each token.
 */
function collapsed(item: Expr, min: number, max: number | undefined): Expr | undefined {
  if (item.kind !== "repeat" || item.min > 1) return undefined;
  const most = max === undefined || item.max === undefined ? undefined : max * item.max;
  if (most !== undefined && !Number.isSafeInteger(most)) return undefined;
  return repeat(item.item, min * item.min, most);
}

/** Longer sequences are left as they are: without the empty text they would be as many alternatives. */
const MOST_PARTS = 8;

/** Whether that can be seen without looking into rules. */
function canBeEmpty(expr: Expr): boolean {
  switch (expr.kind) {
    case "literal":
      return expr.text === "";
    case "class":
    case "rule":
      return false;
    case "repeat":
      return expr.min === 0 || canBeEmpty(expr.item);
    case "sequence":
      return expr.items.every(canBeEmpty);
    case "choice":
      return expr.options.some(canBeEmpty);
  }
}

/** The same without the empty text, so that no turn of its repetition can be skipped; undefined where that would be long. */
function nonEmpty(expr: Expr): Expr | undefined {
  if (!canBeEmpty(expr)) return expr;
  switch (expr.kind) {
    case "repeat": {
      const item = nonEmpty(expr.item);
      return item && repeat(item, 1, expr.max);
    }
    case "choice": {
      const options = expr.options.filter((option) => option.kind !== "literal" || option.text !== "");
      const rest = options.map(nonEmpty);
      return rest.every((option) => option !== undefined) && rest.length > 0 ? oneOf(...rest) : undefined;
    }
    case "sequence": {
      if (expr.items.length > MOST_PARTS) return undefined;
      const ways = expr.items.map((item, i) => {
        const first = nonEmpty(item);
        return first && sequence(first, ...expr.items.slice(i + 1));
      });
      return ways.every((way) => way !== undefined) ? oneOf(...ways) : undefined;
    }
    case "literal":
    case "class":
    case "rule":
      return undefined;
  }
}

export function optional(item: Expr): Expr {
  return repeat(item, 0, 1);
}

/** What begins with the texts on the way to it. */
interface TrieNode {
  readonly children: Map<string, TrieNode>;
  /** What may follow at this place; the empty text where one ends. */
  readonly tails: Expr[];
}

const trieNode = (): TrieNode => ({ children: new Map(), tails: [] });

/**
 * One of the given texts. Common beginnings are shared, so that a thousand of them are as many live options as
 * there are different next characters.
 * @throws GrammarError when there are none.
 */
export function oneOfTexts(texts: Iterable<string>): Expr {
  const root = trieNode();
  let any = false;
  for (const text of texts) {
    any = true;
    const node = nodeAt(root, text);
    if (node.tails.length === 0) node.tails.push(empty);
  }
  if (!any) throw new GrammarError("A choice without options.");
  return oneOf(...optionsOf(root));
}

function nodeAt(root: TrieNode, text: string): TrieNode {
  let node = root;
  for (const char of text) {
    let child = node.children.get(char);
    if (child === undefined) node.children.set(char, (child = trieNode()));
    node = child;
  }
  return node;
}

/** As deep as there are branchings on one path: chains are followed, not recursed into. */
function optionsOf(root: TrieNode): Expr[] {
  const options = [...root.tails];
  for (const [char, child] of root.children) {
    let text = char;
    let node = child;
    while (node.tails.length === 0 && node.children.size === 1) {
      const [[nextChar, nextNode] = ["", node]] = node.children;
      text += nextChar;
      node = nextNode;
    }
    options.push(sequence(literal(text), oneOf(...optionsOf(node))));
  }
  return options;
}

/** Elements of the rules that llama.cpp makes of it. */
export function elementsOf(expr: Expr): number {
  switch (expr.kind) {
    case "literal":
      return expr.text.length;
    case "class":
      return expr.ranges.length * 2;
    case "rule":
      return 1;
    case "repeat": {
      const item = elementsOf(expr.item);
      const times = expr.max ?? expr.min + 1;
      // Long repetitions are printed in blocks.
      const turns = times > 1000 ? 4 * Math.sqrt(times) + 1000 : times;
      return (expr.item.kind === "class" || expr.item.kind === "literal" ? item + 3 : 4) * turns + item;
    }
    case "sequence":
      return expr.items.reduce((sum, item) => sum + elementsOf(item), 0) + 2;
    case "choice":
      return expr.options.reduce((sum, option) => sum + elementsOf(option) + 1, 0) + 2;
  }
}

/** Names of the rules that are mentioned, in order. Every part is looked at once, however often it is used. */
export function* referencesOf(expr: Expr, seen = new Set<Expr>()): Generator<string> {
  const stack: Expr[] = [expr];
  for (let next = stack.pop(); next !== undefined; next = stack.pop()) {
    if (seen.has(next)) continue;
    seen.add(next);
    if (next.kind === "rule") yield next.name;
    else if (next.kind === "repeat") stack.push(next.item);
    else if (next.kind === "sequence") stack.push(...[...next.items].reverse());
    else if (next.kind === "choice") stack.push(...[...next.options].reverse());
  }
}
