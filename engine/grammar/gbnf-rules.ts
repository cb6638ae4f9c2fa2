/**
 * GBNF as llama.cpp makes rules of it, element by element, so that whoever follows these rules stands where its own state does.
 *
 * For texts that llama.cpp has taken already: what it refuses is not looked for here. What is rare, or large, is left alone.
 */

/** A place in a rule: what comes next there, and the place behind it. Undefined stands for the end of the rule. */
export type Position = Characters | Reference;

/** One character out of a set. */
export interface Characters {
  readonly kind: "characters";
  /** Whether the character has to be none of the ranges. */
  readonly negated: boolean;
  /** Code points, ascending, neither overlapping nor adjacent, both ends included: low, high, low, high. */
  readonly bounds: readonly number[];
  readonly next: Position | undefined;
}

export interface Reference {
  readonly kind: "rule";
  readonly rule: Rule;
  readonly next: Position | undefined;
}

/** Where each of its alternatives begins. */
export interface Rule {
  alternatives: readonly (Position | undefined)[] | undefined;
}

export interface GbnfRules {
  readonly root: Rule;
  /** Positions of all rules. */
  readonly size: number;
}

/** Longer ones take more than a few milliseconds. */
const MOST_CHARACTERS = 1 << 16;
const MOST_GROUPS = 100;
/** llama.cpp's, from where on it takes a maximum for none. */
const MOST_REPETITIONS = 2000;

const SPECIAL_ESCAPES: Readonly<Record<string, string>> = { t: "\t", r: "\r", n: "\n" };
const PLAIN_ESCAPES = '\\"[]-';
const HEX_DIGITS: Readonly<Record<string, number>> = { x: 2, u: 4, U: 8 };

type Element = Omit<Characters, "next"> | Omit<Reference, "next">;

/** Why a text is left alone. */
class NotRead extends Error {}

/**
 * @param mostPositions Of all rules together: repetitions are written out.
 * @returns Undefined for a text that is not read.
 */
export function readGbnf(text: string, mostPositions: number): GbnfRules | undefined {
  if (text.length > MOST_CHARACTERS || /[\0\p{Surrogate}]/u.test(text)) return undefined;
  try {
    return new Reader(text, mostPositions).read();
  } catch (error) {
    if (error instanceof NotRead) return undefined;
    throw error;
  }
}

class Reader {
  readonly #text: string;
  readonly #rules = new Map<string, Rule>();
  #at = 0;
  #groups = 0;
  #left: number;
  readonly #mostPositions: number;

  constructor(text: string, mostPositions: number) {
    this.#text = text;
    this.#left = this.#mostPositions = mostPositions;
  }

  read(): GbnfRules {
    this.#space(true);
    while (this.#at < this.#text.length) {
      const rule = this.#named(this.#name());
      this.#space(false);
      this.#expect("::=");
      this.#space(true);
      // The last definition of a rule counts.
      rule.alternatives = this.#alternatives(false);
      if (this.#at < this.#text.length && !/[\r\n]/.test(this.#text[this.#at] ?? "")) throw new NotRead();
      this.#space(true);
    }
    const root = this.#rules.get("root");
    const isWhole = [...this.#rules.values()].every((rule) => rule.alternatives !== undefined);
    if (root === undefined || !isWhole) throw new NotRead();
    return { root, size: this.#mostPositions - this.#left };
  }

  #named(name: string): Rule {
    let rule = this.#rules.get(name);
    if (rule === undefined) this.#rules.set(name, (rule = { alternatives: undefined }));
    return rule;
  }

  #alternatives(nested: boolean): (Position | undefined)[] {
    const alternatives = [this.#linked(this.#sequence(nested))];
    while (this.#take("|")) {
      this.#space(true);
      alternatives.push(this.#linked(this.#sequence(nested)));
    }
    return alternatives;
  }

  #sequence(nested: boolean): Element[] {
    const elements: Element[] = [];
    /** What a repetition repeats: everything from here on. */
    let last = 0;
    for (;;) {
      const char = this.#text[this.#at] ?? "";
      const times = this.#times(char, nested);
      if (times !== undefined) this.#repeat(elements, last, times);
      else {
        const item = this.#item(char);
        if (item === undefined) return elements;
        last = elements.length;
        elements.push(...item);
        if (elements.length > this.#left) throw new NotRead();
      }
      this.#space(nested);
    }
  }

  /** Undefined where the sequence ends. */
  #item(char: string): readonly Element[] | undefined {
    if (char === '"') return this.#literal();
    if (char === "[") return this.#class();
    if (char === ".") {
      this.#at++;
      return [{ kind: "characters", negated: true, bounds: [] }];
    }
    if (char === "(") return [{ kind: "rule", rule: this.#group() }];
    if (/[A-Za-z0-9-]/.test(char)) return [{ kind: "rule", rule: this.#named(this.#name()) }];
    // Single tokens.
    if (char === "<" || char === "!") throw new NotRead();
    return undefined;
  }

  #literal(): Element[] {
    this.#at++;
    const elements: Element[] = [];
    while (!this.#take('"')) {
      const code = this.#character();
      elements.push({ kind: "characters", negated: false, bounds: [code, code] });
    }
    return elements;
  }

  #class(): Element[] {
    this.#at++;
    const negated = this.#take("^");
    const ranges: [number, number][] = [];
    while (!this.#take("]")) {
      const low = this.#character();
      let high = low;
      if (this.#text[this.#at] === "-" && this.#text[this.#at + 1] !== "]") {
        this.#at++;
        high = this.#character();
      }
      if (high < low) throw new NotRead();
      ranges.push([low, high]);
    }
    // Without a character it is no element at all.
    return ranges.length === 0 ? [] : [{ kind: "characters", negated, bounds: joined(ranges) }];
  }

  #group(): Rule {
    this.#at++;
    if (++this.#groups > MOST_GROUPS) throw new NotRead();
    this.#space(true);
    const rule = { alternatives: this.#alternatives(true) };
    this.#expect(")");
    this.#groups--;
    return rule;
  }

  /** Undefined where no repetition is asked for. */
  #times(char: string, nested: boolean): readonly [min: number, max: number | undefined] | undefined {
    if (char === "{") return this.#braces(nested);
    if (char !== "*" && char !== "+" && char !== "?") return undefined;
    this.#at++;
    return [char === "+" ? 1 : 0, char === "?" ? 1 : undefined];
  }

  #braces(nested: boolean): readonly [min: number, max: number | undefined] {
    this.#at++;
    this.#space(nested);
    const min = this.#count();
    let max = min;
    this.#space(nested);
    if (this.#take(",")) {
      this.#space(nested);
      max = this.#count();
      this.#space(nested);
    }
    this.#expect("}");
    if (min === undefined || (max !== undefined && max < min)) throw new NotRead();
    return [min, max === undefined || max > MOST_REPETITIONS ? undefined : max];
  }

  /**
   * As llama.cpp writes them out: S{2,4} is S S T with T ::= S U | and U ::= S |, and S{2,} is S S T with T ::= S T |.
   * @param elements From `last` on they become the repetition.
   */
  #repeat(elements: Element[], last: number, [min, max]: readonly [number, number | undefined]): void {
    const repeated = elements.splice(last);
    if (repeated.length === 0 || repeated.length * min > this.#left) throw new NotRead();
    for (let turn = 0; turn < min; turn++) elements.push(...repeated);
    let rest: Rule | undefined;
    if (max === undefined) {
      rest = { alternatives: undefined };
      rest.alternatives = [this.#linked([...repeated, { kind: "rule", rule: rest }]), undefined];
    } else {
      for (let turn = min; turn < max; turn++) {
        const behind: Element[] = rest === undefined ? [] : [{ kind: "rule", rule: rest }];
        rest = { alternatives: [this.#linked([...repeated, ...behind]), undefined] };
      }
    }
    if (rest !== undefined) elements.push({ kind: "rule", rule: rest });
  }

  /** Each element at a place of its own, even where the same is repeated. */
  #linked(elements: readonly Element[]): Position | undefined {
    this.#left -= elements.length;
    if (this.#left < 0) throw new NotRead();
    return elements.reduceRight<Position | undefined>((next, element) => ({ ...element, next }), undefined);
  }

  #character(): number {
    const code = this.#text.codePointAt(this.#at);
    if (code === undefined) throw new NotRead();
    if (code !== 0x5c) {
      this.#at += code > 0xff_ff ? 2 : 1;
      return code;
    }
    const kind = this.#text[this.#at + 1] ?? "";
    this.#at += 2;
    const special = SPECIAL_ESCAPES[kind];
    if (special !== undefined) return special.charCodeAt(0);
    if (kind !== "" && PLAIN_ESCAPES.includes(kind)) return kind.charCodeAt(0);
    const digits = HEX_DIGITS[kind];
    const hex = this.#text.slice(this.#at, this.#at + (digits ?? 0));
    if (digits === undefined || hex.length !== digits || /[^0-9A-Fa-f]/.test(hex)) throw new NotRead();
    this.#at += digits;
    return Number.parseInt(hex, 16);
  }

  #count(): number | undefined {
    const digits = this.#match(/[0-9]{1,9}/y);
    return digits === "" ? undefined : Number(digits);
  }

  #name(): string {
    const name = this.#match(/[A-Za-z0-9-]+/y);
    if (name === "") throw new NotRead();
    return name;
  }

  /** White space and comments. */
  #space(newlines: boolean): void {
    this.#match(newlines ? /(?:[ \t\r\n]|#[^\r\n]*)*/y : /(?:[ \t]|#[^\r\n]*)*/y);
  }

  #match(pattern: RegExp): string {
    pattern.lastIndex = this.#at;
    const [found = ""] = pattern.exec(this.#text) ?? [];
    this.#at += found.length;
    return found;
  }

  #take(text: string): boolean {
    if (!this.#text.startsWith(text, this.#at)) return false;
    this.#at += text.length;
    return true;
  }

  #expect(text: string): void {
    if (!this.#take(text)) throw new NotRead();
  }
}

function joined(ranges: [number, number][]): number[] {
  const bounds: number[] = [];
  for (const [low, high] of ranges.sort((a, b) => a[0] - b[0])) {
    const end = bounds.length - 1;
    const last = bounds[end];
    if (last !== undefined && low <= last + 1) bounds[end] = Math.max(last, high);
    else bounds.push(low, high);
  }
  return bounds;
}
