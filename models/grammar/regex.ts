/**
 * Regular expressions as grammars: classes, escapes, groups, alternation, quantifiers, anchors at the ends.
 *
 * Read as ECMAScript with the `u` flag, with two things that Python writes besides: `(?P<name>…)` and `\A`, `\Z`. Lookahead is
 * understood at the start of the text. What a grammar cannot say (other lookaround, back-references, word boundaries) is refused by name.
 */
import { GrammarError } from "./grammar-error.ts";
import {
  anyChar,
  classOf,
  complement,
  empty,
  literal,
  normalize,
  oneOf,
  repeat,
  sequence,
} from "./expressions.ts";
import type { CodePointRange, Expr } from "./expressions.ts";
import { regularRules, workBudget } from "./regular.ts";
import type { Condition } from "./regular.ts";
import type { GrammarBuilder } from "./grammar.ts";

/** Characters of a pattern. */
const MAX_PATTERN = 10_000;
/** Groups in groups. */
const MAX_GROUPS = 50;
/** Of a quantifier; what it multiplies to is bounded by the size of the grammar. */
const MAX_COUNT = 100_000;

const DIGIT: readonly CodePointRange[] = [[0x30, 0x39]];
const WORD: readonly CodePointRange[] = [
  [0x30, 0x39],
  [0x41, 0x5a],
  [0x5f, 0x5f],
  [0x61, 0x7a],
];
const SPACE: readonly CodePointRange[] = normalize([
  [0x09, 0x0d],
  [0x20, 0x20],
  [0xa0, 0xa0],
  [0x16_80, 0x16_80],
  [0x20_00, 0x20_0a],
  [0x20_28, 0x20_29],
  [0x20_2f, 0x20_2f],
  [0x20_5f, 0x20_5f],
  [0x30_00, 0x30_00],
  [0xfe_ff, 0xfe_ff],
]);
/** What `.` does not stand for. */
const LINE_ENDS: readonly CodePointRange[] = [
  [0x0a, 0x0a],
  [0x0d, 0x0d],
  [0x20_28, 0x20_29],
];
const CONTROL_ESCAPES: Readonly<Record<string, number>> = { t: 9, n: 10, v: 11, f: 12, r: 13 };

/** One way a pattern can match, with what it says about its surroundings. */
export interface Alternative {
  readonly expr: Expr;
  readonly atStart: boolean;
  readonly atEnd: boolean;
  /** Lookahead: about all of the text from the start of the match. */
  readonly ahead: readonly Condition[];
}

const ANY_TEXT = repeat(anyChar, 0);

/**
 * Whole texts that match; anchors at the ends add nothing.
 * @throws GrammarError
 */
export function compileRegex(builder: GrammarBuilder, pattern: string): Expr {
  const options = parseRegex(pattern).flatMap(({ expr, ahead }) => {
    if (ahead.length === 0) return [expr];
    const conditions = [{ expr, holds: true }, ...ahead];
    return regularRules(builder, { conditions, min: 0, max: Infinity, budget: workBudget() }, oneOf) ?? [];
  });
  if (options.length === 0) throw new GrammarError("The pattern matches no text.");
  return builder.rule("regex", oneOf(...options));
}

/**
 * The ways in which a pattern can be found in a text.
 * @throws GrammarError
 */
export function searchAlternatives(pattern: string): readonly Alternative[] {
  const alternatives = parseRegex(pattern);
  if (alternatives.some((one) => one.ahead.length > 0 && !one.atStart))
    throw new GrammarError("Lookahead is supported at the start of the text only.");
  return alternatives;
}

/** @param around What may stand before and behind a match that is not anchored. */
export function searched({ expr, atStart, atEnd }: Alternative, around: Expr = ANY_TEXT): Expr {
  return sequence(atStart ? empty : around, expr, atEnd ? empty : around);
}

/** @throws GrammarError */
function parseRegex(pattern: string): readonly Alternative[] {
  if (pattern.length > MAX_PATTERN) throw new GrammarError(`A pattern may have ${MAX_PATTERN} characters.`);
  return new RegexParser(pattern).parse();
}

class RegexParser {
  readonly #chars: readonly string[];
  readonly #pattern: string;
  #at = 0;
  #depth = 0;

  constructor(pattern: string) {
    this.#pattern = pattern;
    this.#chars = Array.from(pattern);
  }

  parse(): readonly Alternative[] {
    const alternatives = this.#alternatives();
    if (this.#at < this.#chars.length) throw this.#error("has a closing parenthesis too many");
    return alternatives;
  }

  #alternatives(): Alternative[] {
    const all: Alternative[] = [];
    do all.push(...this.#alternative());
    while (this.#take("|"));
    return all;
  }

  #alternative(): readonly Alternative[] {
    const items: Expr[] = [];
    const ahead: Condition[] = [];
    let atStart = false;
    let atEnd = false;
    let inner: readonly Alternative[] | undefined;
    for (;;) {
      const char = this.#chars[this.#at];
      if (char === undefined || char === "|" || char === ")") break;
      if (this.#takeAnchor("^", "\\A")) {
        if (items.length > 0 || inner !== undefined) throw this.#error("has ^ in the middle");
        atStart = true;
        continue;
      }
      if (this.#takeAnchor("$", "\\Z", "\\z")) {
        atEnd = true;
        continue;
      }
      if (atEnd) throw this.#error("has $ in the middle");
      if (inner !== undefined) throw this.#error("has an anchor in the middle");
      if (items.length === 0 && this.#lookaheadFollows()) {
        ahead.push(this.#lookahead());
        continue;
      }
      const group = char === "(" ? this.#group() : undefined;
      if (group?.some((one) => one.atStart || one.atEnd || one.ahead.length > 0) === true) {
        if (items.length > 0 || this.#quantifierFollows()) throw this.#error("has an anchor in the middle");
        inner = group;
        continue;
      }
      const atom = group === undefined ? this.#atom() : oneOf(...group.map((one) => one.expr));
      items.push(this.#quantified(atom));
    }
    if (inner === undefined) return [{ expr: sequence(...items), atStart, atEnd, ahead }];
    return inner.map((one) => ({
      expr: one.expr,
      atStart: one.atStart || atStart,
      atEnd: one.atEnd || atEnd,
      ahead: [...ahead, ...one.ahead],
    }));
  }

  #lookaheadFollows(): boolean {
    const start = this.#chars.slice(this.#at, this.#at + 3).join("");
    return start === "(?=" || start === "(?!";
  }

  #lookahead(): Condition {
    const holds = this.#chars[this.#at + 2] === "=";
    this.#at += 3;
    const alternatives = this.#nested();
    if (alternatives.some((one) => one.ahead.length > 0)) throw this.#error("has lookahead in lookahead");
    if (this.#quantifierFollows()) throw this.#error("repeats lookahead");
    return { expr: oneOf(...alternatives.map((one) => searched({ ...one, atStart: true }))), holds };
  }

  #group(): readonly Alternative[] {
    this.#at++;
    if (this.#take("?")) this.#groupKind();
    return this.#nested();
  }

  #nested(): readonly Alternative[] {
    if (++this.#depth > MAX_GROUPS) throw this.#error(`has more than ${MAX_GROUPS} groups in groups`);
    const alternatives = this.#alternatives();
    if (!this.#take(")")) throw this.#error("has an open parenthesis");
    this.#depth--;
    return alternatives;
  }

  #groupKind(): void {
    if (this.#take(":")) return;
    const rest = this.#chars.slice(this.#at, this.#at + 64).join("");
    const name = /^P?<[A-Za-z_$][\w$]*>/.exec(rest)?.[0];
    if (name !== undefined) this.#at += name.length;
    else if (/^<?[=!]/.test(rest)) throw this.#error("uses lookaround in the middle, which is not supported");
    else throw this.#error(`uses (?${rest.slice(0, 1)}, which is not supported`);
  }

  #quantified(atom: Expr): Expr {
    let expr = atom;
    for (let bounds = this.#quantifier(); bounds !== undefined; bounds = this.#quantifier()) {
      const [min, max] = bounds;
      if (min > MAX_COUNT || (max ?? 0) > MAX_COUNT)
        throw this.#error(`repeats more than ${MAX_COUNT} times`);
      if (max !== undefined && max < min) throw this.#error("has numbers out of order in {}");
      expr = repeat(expr, min, max);
      // A lazy quantifier matches the same texts.
      if (!this.#take("?") && this.#chars[this.#at] === "+")
        throw this.#error("uses a possessive quantifier");
      if (this.#quantifierFollows()) throw this.#error("has a quantifier behind a quantifier");
    }
    return expr;
  }

  #quantifier(): readonly [min: number, max: number | undefined] | undefined {
    if (this.#take("*")) return [0, undefined];
    if (this.#take("+")) return [1, undefined];
    if (this.#take("?")) return [0, 1];
    const braces = this.#braces();
    if (braces === undefined) return undefined;
    this.#at += braces[0].length;
    const min = Number(braces[1]);
    return [min, braces[2] === undefined ? min : braces[3] === "" ? undefined : Number(braces[3])];
  }

  #quantifierFollows(): boolean {
    const char = this.#chars[this.#at];
    return char === "*" || char === "+" || char === "?" || this.#braces() !== undefined;
  }

  #braces(): RegExpExecArray | undefined {
    if (this.#chars[this.#at] !== "{") return undefined;
    return /^\{(\d+)(,(\d*))?\}/.exec(this.#chars.slice(this.#at, this.#at + 32).join("")) ?? undefined;
  }

  #atom(): Expr {
    const char = this.#chars[this.#at] ?? "";
    if (this.#quantifierFollows()) throw this.#error("has a quantifier with nothing before it");
    this.#at++;
    if (char === ".") return this.#class(complement(LINE_ENDS));
    if (char === "[") return this.#bracket();
    if (char !== "\\") return literal(char);
    const escaped = this.#escape(false);
    return typeof escaped === "number" ? literal(String.fromCodePoint(escaped)) : this.#class(escaped);
  }

  #class(ranges: readonly CodePointRange[]): Expr {
    return ranges.length === 0 ? this.#fail("has a class that contains nothing") : oneOf(classOf(ranges));
  }

  #bracket(): Expr {
    const negated = this.#take("^");
    const ranges: CodePointRange[] = [];
    while (!this.#take("]")) {
      const low = this.#classItem();
      const dash = this.#chars[this.#at] === "-" && this.#chars[this.#at + 1] !== "]";
      if (!dash) {
        ranges.push(...(typeof low === "number" ? [[low, low] as const] : low));
        continue;
      }
      this.#at++;
      const high = this.#classItem();
      if (typeof low !== "number" || typeof high !== "number")
        throw this.#error("has a class as the end of a range");
      if (low > high) throw this.#error("has a range out of order");
      ranges.push([low, high]);
    }
    return this.#class(negated ? complement(ranges) : normalize(ranges));
  }

  #classItem(): number | readonly CodePointRange[] {
    const char = this.#chars[this.#at++];
    if (char === undefined) throw this.#error("has an open bracket");
    return char === "\\" ? this.#escape(true) : (char.codePointAt(0) ?? 0);
  }

  /** What follows a backslash: one character or a set of them. */
  #escape(inClass: boolean): number | readonly CodePointRange[] {
    const char = this.#chars[this.#at++];
    if (char === undefined) throw this.#error("ends with a backslash");
    const set = classEscape(char);
    if (set !== undefined) return set;
    const control = CONTROL_ESCAPES[char];
    if (control !== undefined) return control;
    if (char === "x") return this.#hex(2);
    if (char === "u") return this.#unicode();
    if (char === "p" || char === "P") return this.#property(char === "P");
    if (char === "b" && inClass) return 8;
    if (char === "b" || char === "B") throw this.#error(`uses \\${char}, which is not supported`);
    if (/[1-9k]/.test(char)) throw this.#error("uses a back-reference, which is not supported");
    if (/[A-Za-z0-9]/.test(char)) throw this.#error(`uses \\${char}, which is not supported`);
    return char.codePointAt(0) ?? 0;
  }

  #hex(digits: number): number {
    const text = this.#chars.slice(this.#at, this.#at + digits).join("");
    if (text.length !== digits || /[^0-9A-Fa-f]/.test(text)) throw this.#error("has an incomplete escape");
    this.#at += digits;
    return Number.parseInt(text, 16);
  }

  #unicode(): number {
    const braced = /^\{([0-9A-Fa-f]{1,6})\}/.exec(this.#chars.slice(this.#at, this.#at + 8).join(""));
    if (braced !== null) {
      this.#at += braced[0].length;
      const code = Number.parseInt(braced[1] ?? "", 16);
      return code > 0x10_ff_ff ? this.#fail("has a character beyond U+10FFFF") : code;
    }
    const first = this.#hex(4);
    const second = /^\\u([Dd][C-Fc-f][0-9A-Fa-f]{2})/.exec(
      this.#chars.slice(this.#at, this.#at + 6).join(""),
    );
    if (first < 0xd8_00 || first > 0xdb_ff || second === null) return first;
    this.#at += 6;
    return 0x1_00_00 + ((first - 0xd8_00) << 10) + (Number.parseInt(second[1] ?? "", 16) - 0xdc_00);
  }

  #property(negated: boolean): readonly CodePointRange[] {
    const name = /^\{([\w=]{1,60})\}/.exec(this.#chars.slice(this.#at, this.#at + 62).join(""));
    const ranges = name === null ? undefined : propertyRanges(name[1] ?? "");
    if (name === null || ranges === undefined) throw this.#error("uses an unknown character property");
    this.#at += name[0].length;
    return negated ? complement(ranges) : ranges;
  }

  #takeAnchor(...spellings: readonly string[]): boolean {
    for (const spelling of spellings) {
      const here = this.#chars.slice(this.#at, this.#at + spelling.length).join("");
      if (here !== spelling) continue;
      this.#at += spelling.length;
      if (this.#quantifierFollows()) throw this.#error("repeats an anchor");
      return true;
    }
    return false;
  }

  #take(char: string): boolean {
    if (this.#chars[this.#at] !== char) return false;
    this.#at++;
    return true;
  }

  #fail(what: string): never {
    throw this.#error(what);
  }

  #error(what: string): GrammarError {
    return new GrammarError(`The pattern '${this.#pattern.slice(0, 100)}' ${what}.`);
  }
}

function classEscape(char: string): readonly CodePointRange[] | undefined {
  switch (char) {
    case "d":
      return DIGIT;
    case "D":
      return complement(DIGIT);
    case "w":
      return WORD;
    case "W":
      return complement(WORD);
    case "s":
      return SPACE;
    case "S":
      return complement(SPACE);
    default:
      return undefined;
  }
}

const properties = new Map<string, readonly CodePointRange[] | undefined>();

/** Asks the runtime's own tables; there are only so many properties, so that the results are kept. */
function propertyRanges(name: string): readonly CodePointRange[] | undefined {
  if (properties.has(name)) return properties.get(name);
  let member: RegExp;
  try {
    member = new RegExp(`\\p{${name}}`, "u");
  } catch {
    return undefined;
  }
  const ranges: [number, number][] = [];
  for (const [low, high] of anyChar.ranges) {
    for (let code = low; code <= high; code++) {
      if (!member.test(String.fromCodePoint(code))) continue;
      const last = ranges.at(-1);
      if (last !== undefined && last[1] === code - 1) last[1] = code;
      else ranges.push([code, code]);
    }
  }
  properties.set(name, ranges);
  return ranges;
}
