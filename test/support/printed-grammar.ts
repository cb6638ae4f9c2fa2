/** Reads the GBNF that our printer writes, so that a test can ask what a grammar on the wire takes. */
import { GrammarMatcher } from "../../models/grammar/matcher.ts";
import {
  charClass,
  charClassExcept,
  GrammarBuilder,
  literal,
  oneOf,
  repeat,
  sequence,
} from "../../models/grammar/grammar.ts";
import type { CodePointRange, Expr } from "../../models/grammar/grammar.ts";

const RULE = /^([\w-]+) ::= (.*)$/;
const ESCAPES: Readonly<Record<string, string>> = { n: "\n", r: "\r", t: "\t" };

/** @param text As printed: one rule a line, the first is the root. */
export function printedGrammarTakes(text: string): (output: string) => boolean {
  const bodies = new Map(
    text
      .trim()
      .split("\n")
      .map((line) => {
        const [, name = "", body = ""] = RULE.exec(line) ?? [];
        return [name, body] as const;
      }),
  );
  const builder = new GrammarBuilder();
  const known = new Map<string, Expr>();
  const rule = (name: string): Expr => {
    const made = known.get(name);
    if (made !== undefined) return made;
    const body = bodies.get(name);
    if (body === undefined) throw new Error(`No rule ${name} in ${text}`);
    return builder.recursive(name, (self) => {
      known.set(name, self);
      return new BodyReader(body, rule).read();
    });
  };
  const grammar = builder.build(rule("root"));
  return (output) => new GrammarMatcher(grammar).accepts(output);
}

class BodyReader {
  readonly #text: string;
  readonly #rule: (name: string) => Expr;
  #at = 0;

  constructor(text: string, rule: (name: string) => Expr) {
    this.#text = text;
    this.#rule = rule;
  }

  read(): Expr {
    const expr = this.#choice();
    if (this.#at < this.#text.length) throw new Error(`Unread: ${this.#text.slice(this.#at)}`);
    return expr;
  }

  #choice(): Expr {
    const options = [this.#sequence()];
    while (this.#take(/\s*\|\s*/y) !== undefined) options.push(this.#sequence());
    return oneOf(...options);
  }

  #sequence(): Expr {
    const items: Expr[] = [];
    for (;;) {
      this.#take(/\s+/y);
      const item = this.#item();
      if (item === undefined) return sequence(...items);
      items.push(this.#repeated(item));
    }
  }

  #item(): Expr | undefined {
    const name = this.#take(/[\w-]+/y);
    if (name !== undefined) return this.#rule(name);
    if (this.#take(/\(/y) !== undefined) {
      const group = this.#choice();
      this.#take(/\s*\)/y);
      return group;
    }
    const quoted = this.#take(/"(?:[^"\\]|\\.)*"/y);
    if (quoted !== undefined) return literal(charactersOf(quoted.slice(1, -1)).join(""));
    const listed = this.#take(/\[(?:[^\]\\]|\\.)*\]/y);
    if (listed !== undefined) return classOf(listed.slice(1, -1));
    return this.#take(/\./y) === undefined ? undefined : charClassExcept();
  }

  #repeated(item: Expr): Expr {
    const sign = this.#take(/[*+?]|\{\d+(?:,\d*)?\}/y);
    if (sign === undefined) return item;
    if (sign === "*") return repeat(item, 0);
    if (sign === "+") return repeat(item, 1);
    if (sign === "?") return repeat(item, 0, 1);
    const [, min = "0", comma, max = ""] = /^\{(\d+)(,?)(\d*)\}$/.exec(sign) ?? [];
    if (comma === "") return repeat(item, Number(min), Number(min));
    return max === "" ? repeat(item, Number(min)) : repeat(item, Number(min), Number(max));
  }

  #take(pattern: RegExp): string | undefined {
    pattern.lastIndex = this.#at;
    const found = pattern.exec(this.#text)?.[0];
    this.#at += found?.length ?? 0;
    return found;
  }
}

/** The characters of a quoted text, escapes resolved. */
function charactersOf(text: string): string[] {
  const pattern = /\\x([0-9a-fA-F]{2})|\\u([0-9a-fA-F]{4})|\\U([0-9a-fA-F]{8})|\\(.)|(.)/gsu;
  return Array.from(text.matchAll(pattern), ([, two, four, eight, escaped, plain]) => {
    const hex = two ?? four ?? eight;
    if (hex !== undefined) return String.fromCodePoint(Number.parseInt(hex, 16));
    return plain ?? ESCAPES[escaped ?? ""] ?? escaped ?? "";
  });
}

function classOf(text: string): Expr {
  const negated = text.startsWith("^");
  const body = negated ? text.slice(1) : text;
  const ranges: CodePointRange[] = [];
  const pattern =
    /((?:\\x..|\\u....|\\U........|\\.|[^\\]))(?:-((?:\\x..|\\u....|\\U........|\\.|[^\\])))?/gsu;
  for (const [, low = "", high = low] of body.matchAll(pattern)) {
    ranges.push([codeOf(low), codeOf(high)]);
  }
  return negated ? charClassExcept(...ranges) : charClass(...ranges);
}

function codeOf(text: string): number {
  return charactersOf(text)[0]?.codePointAt(0) ?? 0;
}
