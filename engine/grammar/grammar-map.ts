/**
 * A map of a grammar: where outputs can stand in it, found as they come by, and where each token leads.
 *
 * It follows llama.cpp's state step by step: a set of stacks of rule positions, and what there is of a character that is not
 * whole. Equal states are one place, so what is found out at a place is there for every output that comes to it.
 */
import type { Characters, GbnfRules, Position } from "./gbnf-rules.ts";
import type { TokenId } from "../protocol.ts";
import type { TokenTexts } from "../token-texts.ts";

/** Thrown where an answer would take too long. */
export class TooMuchWork extends Error {}

/** What is still to come: a position in a rule and, below it, where that rule returns to. The lowest has no position. */
interface Stack {
  readonly id: number;
  readonly top: Position | undefined;
  readonly below: Stack | undefined;
  above: Map<Position, Stack> | undefined;
  /** Itself, or where rules are followed to the characters that they can begin with. */
  open: readonly Stack[] | undefined;
}

/** Open ones, each once. */
interface StackSet {
  readonly stacks: readonly Stack[];
  /** By the character that leads there. */
  next: Map<number, StackSet> | undefined;
  /** By what there is of a character. */
  places: Map<number, Place> | undefined;
}

/** Where an output stands. */
export interface Place {
  readonly set: StackSet;
  /** Bits of a character that is not whole, and how many bytes it lacks. */
  readonly bits: number;
  readonly missing: number;
  /** Whether the output may end here. */
  readonly mayEnd: boolean;
  /** By the token that leads there; null where it leads to no place. */
  behind: Map<TokenId, Place | null> | undefined;
  readonly map: object;
  /** What whoever asks has found out. */
  choices: readonly TokenId[] | "many" | undefined;
}

/** By the upper half of the first byte: bytes of a character, 0 where none begins so. */
const CHARACTER_BYTES = [1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 2, 2, 3, 4];

/** Opening a stack, beside comparing its characters with one. */
const WORK_PER_STACK = 4;

export class GrammarMap {
  readonly #rules: GbnfRules;
  readonly #texts: TokenTexts;
  #sets = new Map<string, StackSet>();
  #stacks = 0;
  #size = 0;
  #lowest = this.#newStack(undefined, undefined);
  #start: Place | undefined;
  /** Changes when everything is forgotten. */
  #version: object = {};
  #work = 0;
  /** Of the token last read: its characters, and what is left of one behind them. */
  readonly #codes: number[] = [];
  #bits = 0;
  #missing = 0;

  constructor(rules: GbnfRules, texts: TokenTexts) {
    this.#rules = rules;
    this.#texts = texts;
  }

  /** What has been found so far, in parts of about a hundred bytes. */
  get size(): number {
    return this.#size;
  }

  /** Work that is left. */
  get work(): number {
    return this.#work;
  }

  /** Sets how much all that is asked from now on may take. A unit is a look at a stack, 10 to 50 ns. */
  allow(work: number): void {
    this.#work = work;
  }

  /** @throws {TooMuchWork} */
  start(): Place {
    if (this.#start !== undefined) return this.#start;
    const { alternatives = [] } = this.#rules.root;
    const stacks = alternatives.flatMap((first) => this.#opened(this.#on(this.#lowest, first)));
    return (this.#start = this.#placeIn(this.#setOf(new Set(stacks)), 0, 0));
  }

  /** Whether llama.cpp's state there takes a token. Not for end tokens. @throws {TooMuchWork} */
  takes(place: Place, token: TokenId): boolean {
    if (!this.#read(place, token)) return false;
    let set: StackSet | undefined = place.set;
    for (const code of this.#codes) {
      // llama.cpp takes that for the end of the token.
      if (code === 0) break;
      set = this.#step(set, code);
      if (set === undefined) return false;
    }
    return this.#missing === 0 || set.stacks.some(({ top }) => this.#mayBecome(top));
  }

  /**
   * The place behind a token; undefined where it is not taken, or what becomes of the state then is not known.
   * @throws {TooMuchWork}
   */
  behind(place: Place, token: TokenId): Place | undefined {
    let found = place.behind?.get(token);
    if (found === undefined) {
      found = this.takes(place, token) ? (this.#behind(place) ?? null) : null;
      (place.behind ??= new Map()).set(token, found);
      this.#size += 1;
    }
    return found ?? undefined;
  }

  /** The same place, where everything has been forgotten since it was found. @throws {TooMuchWork} */
  current(place: Place): Place {
    if (place.map === this.#version) return place;
    const stacks = new Set<Stack>();
    for (const stack of place.set.stacks) {
      const positions: Position[] = [];
      for (let part: Stack | undefined = stack; part?.top !== undefined; part = part.below)
        positions.push(part.top);
      this.#spend(WORK_PER_STACK * positions.length);
      stacks.add(positions.reduceRight((below, position) => this.#on(below, position), this.#lowest));
    }
    return this.#placeIn(this.#setOf(stacks), place.bits, place.missing);
  }

  /** A place that an output still stands at keeps its stacks, for `current`, and nothing that was found around it. */
  forget(): void {
    for (const set of this.#sets.values()) {
      for (const place of set.places?.values() ?? []) place.behind = undefined;
      set.places = undefined;
      set.next = undefined;
    }
    const todo = [this.#lowest];
    for (let stack = todo.pop(); stack !== undefined; stack = todo.pop()) {
      for (const above of stack.above?.values() ?? []) todo.push(above);
      stack.above = undefined;
      stack.open = undefined;
    }
    this.#sets = new Map();
    this.#size = 0;
    this.#lowest = this.#newStack(undefined, undefined);
    this.#start = undefined;
    this.#version = {};
  }

  /** Of a token that was read and is taken. */
  #behind({ set: from }: Place): Place | undefined {
    let set: StackSet | undefined = from;
    // A stack with nothing to come takes no token, not even the first byte of a character.
    if (this.#codes.length === 0) set = this.#setOf(new Set(from.stacks.filter(({ top }) => top)));
    for (const code of this.#codes) set = set && code !== 0 ? this.#step(set, code) : undefined;
    return set && this.#placeIn(set, this.#bits, this.#missing);
  }

  /**
   * Reads a token's characters as llama.cpp does: bytes of a character that begins in the token are not looked at, those of
   * one that began before it have to look like such.
   * @returns Whether it has a text, and each character begins like one.
   */
  #read(place: Place, token: TokenId): boolean {
    const { tokenBytes, tokenOffsets } = this.#texts;
    let at = tokenOffsets[token] ?? 0;
    const end = tokenOffsets[token + 1] ?? at;
    let { bits, missing } = place;
    this.#codes.length = 0;
    // A NUL is the end of its strings.
    let byte = at < end ? tokenBytes[at] : 0;
    if (byte === 0) return false;
    const next = (): number => (++at < end ? (tokenBytes[at] ?? 0) : 0);
    for (; byte !== undefined && byte !== 0 && missing > 0; byte = next()) {
      if (byte >> 6 !== 2) return false;
      bits = (bits << 6) + (byte & 0x3f);
      missing -= 1;
    }
    if (place.missing > 0 && missing === 0) this.#codes.push(bits);
    while (byte !== undefined && byte !== 0) {
      missing = (CHARACTER_BYTES[byte >> 4] ?? 0) - 1;
      if (missing < 0) return false;
      bits = byte & ((1 << (7 - missing)) - 1);
      for (byte = next(); byte !== 0 && missing > 0; byte = next()) {
        bits = (bits << 6) + (byte & 0x3f);
        missing -= 1;
      }
      if (missing === 0) this.#codes.push(bits);
    }
    this.#bits = missing === 0 ? 0 : bits;
    this.#missing = missing;
    return true;
  }

  /** Undefined where no stack takes the character. */
  #step(set: StackSet, code: number): StackSet | undefined {
    const known = set.next?.get(code);
    if (known !== undefined) return known;
    this.#spend(set.stacks.length);
    let next: Set<Stack> | undefined;
    for (const { top, below } of set.stacks) {
      if (top?.kind !== "characters" || below === undefined || !holds(top, code)) continue;
      next ??= new Set();
      for (const open of this.#opened(this.#on(below, top.next))) next.add(open);
    }
    if (next === undefined || next.size === 0) return undefined;
    const found = this.#setOf(next);
    (set.next ??= new Map()).set(code, found);
    this.#size += 1;
    return found;
  }

  /** Whether what has been read of a character can become one that is to come. */
  #mayBecome(top: Position | undefined): boolean {
    this.#spend(1);
    if (top?.kind !== "characters") return false;
    // Two bytes for what has room in one.
    if (this.#missing === 1 && this.#bits < 2) return false;
    const bits = 6 * this.#missing;
    let low = this.#bits << bits;
    const high = low | ((1 << bits) - 1);
    if (low === 0) low = this.#missing === 2 ? 1 << 11 : 1 << 16;
    return meets(top, low, high);
  }

  /** The same stack, or those that it comes to where the rule that is next is followed. */
  #opened(stack: Stack): readonly Stack[] {
    if (stack.open !== undefined) return stack.open;
    const open: Stack[] = [];
    const seen = new Set<Stack>();
    const todo = [stack];
    for (let next = todo.pop(); next !== undefined; next = todo.pop()) {
      if (seen.has(next)) continue;
      seen.add(next);
      this.#spend(WORK_PER_STACK);
      const { top, below } = next;
      if (top?.kind !== "rule" || below === undefined) open.push(next);
      else {
        const behind = this.#on(below, top.next);
        for (const first of top.rule.alternatives ?? []) todo.push(this.#on(behind, first));
      }
    }
    this.#size += 1;
    return (stack.open = open);
  }

  #on(below: Stack, top: Position | undefined): Stack {
    if (top === undefined) return below;
    below.above ??= new Map();
    let stack = below.above.get(top);
    if (stack === undefined) below.above.set(top, (stack = this.#newStack(top, below)));
    return stack;
  }

  #newStack(top: Position | undefined, below: Stack | undefined): Stack {
    this.#size += 1;
    return { id: this.#stacks++, top, below, above: undefined, open: undefined };
  }

  #setOf(stacks: ReadonlySet<Stack>): StackSet {
    this.#spend(WORK_PER_STACK * stacks.size);
    const sorted = [...stacks].sort((a, b) => a.id - b.id);
    const key = sorted.map(({ id }) => id).join();
    let set = this.#sets.get(key);
    if (set === undefined) {
      set = { stacks: sorted, next: undefined, places: undefined };
      this.#sets.set(key, set);
      this.#size += 4 + Math.ceil(sorted.length / 4);
    }
    return set;
  }

  #placeIn(set: StackSet, bits: number, missing: number): Place {
    const key = 4 * bits + missing;
    let place = set.places?.get(key);
    if (place === undefined) {
      const mayEnd = set.stacks.some(({ top }) => top === undefined);
      place = { set, bits, missing, mayEnd, behind: undefined, map: this.#version, choices: undefined };
      (set.places ??= new Map()).set(key, place);
      this.#size += 3;
    }
    return place;
  }

  #spend(work: number): void {
    this.#work -= work;
    if (this.#work < 0) throw new TooMuchWork("A grammar takes too long to follow.");
  }
}

function holds({ negated, bounds }: Characters, code: number): boolean {
  return meets({ negated: false, bounds }, code, code) !== negated;
}

/** Whether any of these code points can be the character; where it has to be none of some, whether all of them can. */
function meets(
  { negated, bounds }: Pick<Characters, "negated" | "bounds">,
  low: number,
  high: number,
): boolean {
  let from = 0;
  let to = bounds.length >> 1;
  // The first range that does not end before them.
  while (from < to) {
    const middle = (from + to) >> 1;
    if ((bounds[2 * middle + 1] ?? 0) < low) from = middle + 1;
    else to = middle;
  }
  const meeting = (bounds[2 * from] ?? Infinity) <= high;
  return meeting !== negated;
}
