/**
 * Grammars as GBNF text, in llama.cpp's dialect and within what its parser can bear.
 *
 * llama.cpp turns every group and every optional turn of a repetition into a rule, recurses for nested groups, refuses more
 * than 2000 such rules in one repetition, silently drops a maximum above 2000, and takes a repetition of something that is
 * visibly empty for left recursion. The printer moves expressions into rules of their own where that would happen.
 */
import { checkGrammar } from "./check-grammar.ts";
import { GrammarError } from "./grammar-error.ts";
import type { Expr, Repeat } from "./expressions.ts";
import type { Grammar } from "./grammar.ts";

/** Printed characters. llama.cpp parses this much within a tenth of a second; beyond that a request would hold up others. */
export const MAX_GRAMMAR_CHARACTERS = 1_000_000;

/** Groups in groups; llama.cpp recurses for each, and 20,000 overflow its stack. */
const MAX_GROUP_DEPTH = 16;

/** llama.cpp's own limit is 2000. Longer repetitions are built from blocks, whose size this is at least. */
const MAX_REPETITIONS = 1000;

interface Printed {
  readonly text: string;
  /** How many rules llama.cpp makes of it. */
  readonly rules: number;
}

/**
 * The entry rule is "root".
 * @throws GrammarError when it gets too large or llama.cpp could not bear it.
 */
export function printGrammar(grammar: Grammar): string {
  const text = new Printer(grammar).print();
  checkGrammar(grammar);
  return text;
}

class Printer {
  readonly #grammar: Grammar;
  /** Rules that are still to be printed; rules of the printer's own are added while it runs. */
  readonly #queue: [name: string, expr: Expr][];
  #helpers = 0;
  #size = 0;

  constructor(grammar: Grammar) {
    this.#grammar = grammar;
    this.#queue = [["root", grammar.root], ...grammar.rules];
  }

  print(): string {
    const lines: string[] = [];
    // Grows while it is read.
    for (const [name, expr] of this.#queue) {
      const line = `${name} ::= ${this.#choice(expr, 0).text}\n`;
      lines.push(line);
    }
    const text = lines.join("");
    if (text.length > MAX_GRAMMAR_CHARACTERS) throw tooLarge();
    return text;
  }

  /** As the whole of a rule or group. */
  #choice(expr: Expr, depth: number): Printed {
    if (expr.kind !== "choice") return this.#sequence(expr, depth);
    return joined(
      expr.options.map((option) => this.#sequence(option, depth)),
      " | ",
    );
  }

  #sequence(expr: Expr, depth: number): Printed {
    if (expr.kind !== "sequence") return this.#item(expr, depth);
    return joined(
      expr.items.map((item) => this.#item(item, depth)),
      " ",
    );
  }

  #item(expr: Expr, depth: number): Printed {
    switch (expr.kind) {
      case "literal":
        return this.#counted(quoted(expr.text));
      case "class":
        return this.#counted(bracketed(expr.ranges));
      case "rule":
        return this.#counted(expr.name);
      case "sequence":
      case "choice": {
        if (depth >= MAX_GROUP_DEPTH) return this.#counted(this.#helper(expr));
        const inner = this.#choice(expr, depth + 1);
        return { text: `(${inner.text})`, rules: inner.rules + 1 };
      }
      case "repeat":
        return this.#repeat(expr, depth);
    }
  }

  #repeat(expr: Repeat, depth: number): Printed {
    const { item, min, max } = expr;
    const suffix = suffixOf(min, max);
    if (suffix !== undefined) {
      const nullable = suffix !== "?" && this.#mayBeEmpty(item);
      const inner = nullable ? { text: this.#hidden(item), rules: 0 } : this.#atom(item, depth);
      if (inner.rules < MAX_REPETITIONS) return { text: inner.text + suffix, rules: inner.rules + 1 };
      return { text: this.#helper(item) + suffix, rules: 1 };
    }
    if (min > MAX_REPETITIONS || (max ?? 0) > MAX_REPETITIONS)
      return this.#item(inBlocks(expr, this.#named(item)), depth);
    const inner = this.#repeatable(item);
    const times = max === min ? `{${min}}` : `{${min},${max ?? ""}}`;
    return { text: inner + times, rules: max === undefined ? 1 : max - min };
  }

  /** What a suffix can follow. */
  #atom(item: Expr, depth: number): Printed {
    return item.kind === "repeat" ? this.#group(item, depth) : this.#item(item, depth);
  }

  #group(item: Expr, depth: number): Printed {
    if (depth >= MAX_GROUP_DEPTH) return this.#counted(this.#helper(item));
    const inner = this.#item(item, depth + 1);
    return { text: `(${inner.text})`, rules: inner.rules + 1 };
  }

  /** What `{m,n}` can follow at the price of one rule. */
  #repeatable(item: Expr): string {
    if (this.#mayBeEmpty(item)) return this.#hidden(item);
    if (item.kind === "class" && item.ranges.length <= 4) return bracketed(item.ranges);
    if (item.kind === "literal" && item.text.length <= 8) return quoted(item.text);
    return item.kind === "rule" ? item.name : this.#helper(item);
  }

  #named(item: Expr): Expr {
    return item.kind === "rule" ? item : { kind: "rule", name: this.#helper(item) };
  }

  /** llama.cpp sees only one step deep whether a rule can be empty, and what it does not see does no harm here. */
  #hidden(item: Expr): string {
    return this.#helper({ kind: "rule", name: this.#helper(item) });
  }

  #helper(expr: Expr): string {
    let name: string;
    do name = `x-${++this.#helpers}`;
    while (this.#grammar.rules.has(name));
    this.#queue.push([name, expr]);
    return name;
  }

  #mayBeEmpty(expr: Expr): boolean {
    switch (expr.kind) {
      case "literal":
        return expr.text === "";
      case "class":
        return false;
      case "rule":
        // Looking into rules is not needed: see #hidden; one step is.
        return this.#beginsEmpty(this.#grammar.rules.get(expr.name));
      case "repeat":
        return expr.min === 0 || this.#mayBeEmpty(expr.item);
      case "sequence":
        return expr.items.every((item) => this.#mayBeEmpty(item));
      case "choice":
        return expr.options.some((option) => this.#mayBeEmpty(option));
    }
  }

  #beginsEmpty(expr: Expr | undefined): boolean {
    if (expr?.kind === "choice") return expr.options.some((option) => this.#beginsEmpty(option));
    return expr?.kind === "literal" && expr.text === "";
  }

  #counted(text: string): Printed {
    this.#size += text.length;
    if (this.#size > MAX_GRAMMAR_CHARACTERS) throw tooLarge();
    return { text, rules: 0 };
  }
}

function tooLarge(): GrammarError {
  return new GrammarError(`The grammar is larger than ${MAX_GRAMMAR_CHARACTERS} characters.`);
}

function joined(parts: readonly Printed[], separator: string): Printed {
  return {
    text: parts.map((part) => part.text).join(separator),
    rules: parts.reduce((sum, part) => sum + part.rules, 0),
  };
}

function suffixOf(min: number, max: number | undefined): string | undefined {
  if (max === undefined) return min === 0 ? "*" : min === 1 ? "+" : undefined;
  return min === 0 && max === 1 ? "?" : undefined;
}

/**
 * The same repetition out of blocks of about the square root of its length. Only two ways of reading a text are alive
 * at a time: it is in a whole block, or in the last, partial one.
 */
function inBlocks(expr: Repeat, item: Expr): Expr {
  const { min, max } = expr;
  const items: Expr[] = [];
  if (min > 0) {
    const size = Math.ceil(Math.sqrt(min));
    const block: Expr = { kind: "repeat", item, min: size, max: size };
    const rest = min % size;
    items.push({ kind: "repeat", item: block, min: Math.floor(min / size), max: Math.floor(min / size) });
    if (rest > 0) items.push({ kind: "repeat", item, min: rest, max: rest });
  }
  if (max === undefined) {
    items.push({ kind: "repeat", item, min: 0, max: undefined });
  } else if (max > min) {
    const extra = max - min;
    const size = Math.ceil(Math.sqrt(extra));
    const blocks = Math.floor((extra - (size - 1)) / size);
    const block: Expr = { kind: "repeat", item, min: size, max: size };
    items.push({ kind: "repeat", item: block, min: 0, max: blocks });
    items.push({ kind: "repeat", item, min: 0, max: extra - blocks * size });
  }
  return { kind: "sequence", items };
}

const ESCAPES: Readonly<Record<string, string>> = { "\n": "\\n", "\r": "\\r", "\t": "\\t", "\\": "\\\\" };

function quoted(text: string): string {
  let out = "";
  for (const char of text) out += char === '"' ? '\\"' : escaped(char);
  return `"${out}"`;
}

function bracketed(ranges: readonly (readonly [number, number])[]): string {
  let out = "";
  for (const [low, high] of ranges) {
    out += classChar(low);
    if (high > low + 1) out += "-";
    if (high > low) out += classChar(high);
  }
  return `[${out}]`;
}

function classChar(code: number): string {
  const char = String.fromCodePoint(code);
  return char === "]" || char === "[" || char === "-" ? `\\${char}` : char === "^" ? "\\x5E" : escaped(char);
}

/** ASCII and letters as they are, everything that does not show as an escape. */
function escaped(char: string): string {
  const short = ESCAPES[char];
  if (short !== undefined) return short;
  const code = char.codePointAt(0) ?? 0;
  if ((code >= 0x20 && code < 0x7f) || /[\p{L}\p{N}]/u.test(char)) return char;
  const hex = code.toString(16).toUpperCase();
  if (code <= 0xff) return `\\x${hex.padStart(2, "0")}`;
  return code <= 0xff_ff ? `\\u${hex.padStart(4, "0")}` : `\\U${hex.padStart(8, "0")}`;
}
