/**
 * A user's GBNF, in llama.cpp's dialect, as a grammar. Everything that llama.cpp's parser refuses is refused here with its line, and so
 * is what it would take and then loop or crash on: numbers out of order in {}, hidden left recursion, endless nesting, sheer size.
 */
import { checkGrammar } from "./check-grammar.ts";
import { GrammarBuilder } from "./grammar.ts";
import { GrammarError } from "./grammar-error.ts";
import { anyChar, classOf, complement, literal, normalize, oneOf, repeat, sequence } from "./expressions.ts";
import type { CodePointRange, Expr, RuleReference } from "./expressions.ts";
import type { Grammar } from "./grammar.ts";

/** Characters of the text. */
const MAX_TEXT = 200_000;
const MAX_RULES = 10_000;
/** Groups in groups. */
const MAX_GROUPS = 100;
/** Of {m,n}. */
const MAX_COUNT = 100_000;

const ESCAPES: Readonly<Record<string, string>> = {
  t: "\t",
  r: "\r",
  n: "\n",
  "\\": "\\",
  '"': '"',
  "[": "[",
  "]": "]",
  "-": "-",
};
const HEX_DIGITS: Readonly<Record<string, number>> = { x: 2, u: 4, U: 8 };

/** @throws GrammarError */
export function parseGbnf(text: string): Grammar {
  if (text.length > MAX_TEXT) throw new GrammarError(`The grammar has more than ${MAX_TEXT} characters.`);
  if (text.includes("\0")) throw new GrammarError("The grammar has a NUL character.");
  const grammar = new GbnfParser(text).parse();
  checkGrammar(grammar);
  return grammar;
}

interface SourceRule {
  readonly reference: RuleReference;
  /** Where it is mentioned first. */
  readonly line: number;
  defined: boolean;
}

class GbnfParser {
  readonly #text: string;
  readonly #builder = new GrammarBuilder();
  readonly #rules = new Map<string, SourceRule>();
  #at = 0;
  #depth = 0;
  /** Start of the line last asked for, and its number. */
  #lineStart = 0;
  #line = 1;

  constructor(text: string) {
    this.#text = text;
  }

  parse(): Grammar {
    this.#space(true);
    while (this.#at < this.#text.length) this.#rule();
    for (const [name, rule] of this.#rules)
      if (!rule.defined) throw new GrammarError(`The rule '${name}' is not defined.`, rule.line);
    const root = this.#rules.get("root");
    if (root === undefined) throw new GrammarError("The grammar has no rule 'root'.");
    return this.#builder.build(root.reference);
  }

  #rule(): void {
    const rule = this.#mentioned(this.#name());
    this.#space(false);
    if (!this.#take("::=")) throw this.#error("'::=' is expected");
    this.#space(true);
    // As in llama.cpp, the last definition counts.
    this.#builder.define(rule.reference, this.#alternatives(false));
    rule.defined = true;
    if (this.#at < this.#text.length && !this.#take("\r\n") && !this.#take("\n") && !this.#take("\r"))
      throw this.#error("the end of the line is expected");
    this.#space(true);
  }

  #mentioned(name: string): SourceRule {
    let rule = this.#rules.get(name);
    if (rule !== undefined) return rule;
    if (this.#rules.size >= MAX_RULES) throw this.#error(`there are more than ${MAX_RULES} rules`);
    rule = { reference: this.#builder.declare(name), line: this.#currentLine(), defined: false };
    this.#rules.set(name, rule);
    return rule;
  }

  #name(): string {
    const name = this.#match(/[A-Za-z0-9-]+/y)?.[0];
    if (name === undefined) throw this.#error("the name of a rule is expected");
    return name;
  }

  #alternatives(nested: boolean): Expr {
    const options = [this.#sequence(nested)];
    while (this.#take("|")) {
      this.#space(true);
      options.push(this.#sequence(nested));
    }
    return oneOf(...options);
  }

  #sequence(nested: boolean): Expr {
    const items: Expr[] = [];
    for (let item = this.#item(nested); item !== undefined; item = this.#item(nested)) items.push(item);
    return sequence(...items);
  }

  /** Undefined where no item begins. */
  #item(nested: boolean): Expr | undefined {
    let expr = this.#atom(nested);
    if (expr === undefined) return undefined;
    for (let counts = this.#repetition(nested); counts !== undefined; counts = this.#repetition(nested)) {
      if (expr.kind === "literal" && expr.text === "") throw this.#error("there is nothing to repeat");
      expr = repeat(expr, counts[0], counts[1]);
    }
    return expr;
  }

  #atom(nested: boolean): Expr | undefined {
    const char = this.#text[this.#at];
    let expr: Expr;
    if (char === '"') expr = this.#literal();
    else if (char === "[") expr = this.#class();
    else if (char === "(") expr = this.#group();
    else if (char === "<" || char === "!") throw this.#error("tokens in a grammar are not supported");
    else if (char === ".") {
      this.#at++;
      expr = anyChar;
    } else if (char !== undefined && /[A-Za-z0-9-]/.test(char))
      expr = this.#mentioned(this.#name()).reference;
    else if (char !== undefined && "*+?{".includes(char)) throw this.#error("there is nothing to repeat");
    else return undefined;
    this.#space(nested);
    return expr;
  }

  #literal(): Expr {
    this.#at++;
    let text = "";
    while (!this.#take('"')) text += String.fromCodePoint(this.#character());
    return literal(text);
  }

  #class(): Expr {
    this.#at++;
    const negated = this.#take("^");
    const ranges: CodePointRange[] = [];
    while (!this.#take("]")) {
      const low = this.#character();
      let high = low;
      if (this.#text[this.#at] === "-" && this.#text[this.#at + 1] !== "]") {
        this.#at++;
        high = this.#character();
      }
      if (high < low) throw this.#error("a range of characters is out of order");
      ranges.push([low, high]);
    }
    if (ranges.length === 0) throw this.#error("a class contains no character");
    // One character is a text, of which options that begin alike can share the beginning.
    return oneOf(classOf(negated ? complement(ranges) : normalize(ranges)));
  }

  #group(): Expr {
    this.#at++;
    if (++this.#depth > MAX_GROUPS) throw this.#error(`there are more than ${MAX_GROUPS} groups in groups`);
    this.#space(true);
    const expr = this.#alternatives(true);
    if (!this.#take(")")) throw this.#error("')' is expected");
    this.#depth--;
    return expr;
  }

  #repetition(nested: boolean): readonly [min: number, max: number | undefined] | undefined {
    let counts: readonly [number, number | undefined] | undefined;
    if (this.#take("*")) counts = [0, undefined];
    else if (this.#take("+")) counts = [1, undefined];
    else if (this.#take("?")) counts = [0, 1];
    else if (this.#take("{")) counts = this.#braces(nested);
    if (counts !== undefined) this.#space(nested);
    return counts;
  }

  #braces(nested: boolean): readonly [number, number | undefined] {
    this.#space(nested);
    const min = this.#count();
    if (min === undefined) throw this.#error("a number is expected");
    this.#space(nested);
    let max: number | undefined = min;
    if (this.#take(",")) {
      this.#space(nested);
      max = this.#count();
      this.#space(nested);
    }
    if (!this.#take("}")) throw this.#error("'}' is expected");
    if (max !== undefined && max < min) throw this.#error("the numbers in {} are out of order");
    return [min, max];
  }

  #count(): number | undefined {
    const digits = this.#match(/[0-9]+/y)?.[0];
    if (digits === undefined) return undefined;
    if (digits.length > 9 || Number(digits) > MAX_COUNT)
      throw this.#error(`nothing can be repeated more than ${MAX_COUNT} times`);
    return Number(digits);
  }

  /** One character of a literal or class, as a code point. */
  #character(): number {
    const code = this.#text.codePointAt(this.#at);
    if (code === undefined) throw this.#error("the end of the text came unexpectedly");
    if (code !== 0x5c) {
      this.#at += code > 0xff_ff ? 2 : 1;
      return this.#checked(code);
    }
    const kind = this.#text[this.#at + 1] ?? "";
    const plain = ESCAPES[kind];
    const digits = HEX_DIGITS[kind];
    if (plain === undefined && digits === undefined) throw this.#error(`'\\${kind}' is not an escape`);
    this.#at += 2;
    if (plain !== undefined) return plain.charCodeAt(0);
    const hex = this.#text.slice(this.#at, this.#at + (digits ?? 0));
    if (hex.length !== digits || /[^0-9A-Fa-f]/.test(hex))
      throw this.#error(`${digits} hexadecimal digits are expected`);
    this.#at += hex.length;
    return this.#checked(Number.parseInt(hex, 16));
  }

  #checked(code: number): number {
    if (code === 0 || code > 0x10_ff_ff || (code >= 0xd8_00 && code <= 0xdf_ff))
      throw this.#error("a character cannot be part of any text");
    return code;
  }

  /** White space and comments. */
  #space(newlines: boolean): void {
    this.#match(newlines ? /(?:[ \t\r\n]|#[^\r\n]*)*/y : /(?:[ \t]|#[^\r\n]*)*/y);
  }

  #match(pattern: RegExp): RegExpExecArray | undefined {
    pattern.lastIndex = this.#at;
    const match = pattern.exec(this.#text);
    if (match === null) return undefined;
    this.#at += match[0].length;
    return match;
  }

  #take(text: string): boolean {
    if (!this.#text.startsWith(text, this.#at)) return false;
    this.#at += text.length;
    return true;
  }

  /** Asked for with ascending positions. */
  #currentLine(): number {
    for (;;) {
      const end = this.#text.indexOf("\n", this.#lineStart);
      if (end === -1 || end >= this.#at) return this.#line;
      this.#lineStart = end + 1;
      this.#line++;
    }
  }

  #error(what: string): GrammarError {
    return new GrammarError(`${what.charAt(0).toUpperCase()}${what.slice(1)}.`, this.#currentLine());
  }
}
