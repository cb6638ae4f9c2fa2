/** Random texts of a grammar, the same for the same seed; recursion ends because options that end soonest are taken after a while. */
import type { Expr, Grammar } from "../../models/grammar/grammar.ts";

/** Parts that are written before the sampler looks for the way out. */
const BUDGET = 400;

export function sampleGrammar(grammar: Grammar, random: () => number): string {
  return new Sampler(grammar, random).sample();
}

/** Small, fast, good enough for tests. */
export function seededRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d_2b_79_f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

class Sampler {
  readonly #grammar: Grammar;
  readonly #random: () => number;
  /** How many rules deep the shortest text of a rule is. */
  readonly #heights = new Map<string, number>();
  #budget = BUDGET;

  constructor(grammar: Grammar, random: () => number) {
    this.#grammar = grammar;
    this.#random = random;
    for (let changed = true; changed;) {
      changed = false;
      for (const [name, expr] of grammar.rules) {
        const height = this.#height(expr) + 1;
        if (height >= (this.#heights.get(name) ?? Infinity)) continue;
        this.#heights.set(name, height);
        changed = true;
      }
    }
  }

  sample(): string {
    return this.#text(this.#grammar.root);
  }

  #height(expr: Expr): number {
    switch (expr.kind) {
      case "literal":
      case "class":
        return 0;
      case "rule":
        return this.#heights.get(expr.name) ?? Infinity;
      case "repeat":
        return expr.min === 0 ? 0 : this.#height(expr.item);
      case "sequence":
        return Math.max(...expr.items.map((item) => this.#height(item)));
      case "choice":
        return Math.min(...expr.options.map((option) => this.#height(option)));
    }
  }

  #text(expr: Expr): string {
    this.#budget--;
    switch (expr.kind) {
      case "literal":
        return expr.text;
      case "class":
        return this.#character(expr.ranges);
      case "sequence":
        return expr.items.map((item) => this.#text(item)).join("");
      case "choice":
        return this.#text(this.#option(expr.options));
      case "repeat":
        return Array.from({ length: this.#times(expr) }, () => this.#text(expr.item)).join("");
      case "rule": {
        const rule = this.#grammar.rules.get(expr.name);
        if (rule === undefined) throw new Error(`no rule ${expr.name}`);
        return this.#text(rule);
      }
    }
  }

  #option(options: readonly Expr[]): Expr {
    const heights = options.map((option) => this.#height(option));
    const least = Math.min(...heights);
    const possible = options.filter((_, index) =>
      this.#budget > 0 ? (heights[index] ?? Infinity) < Infinity : heights[index] === least,
    );
    const option = possible[Math.floor(this.#random() * possible.length)];
    if (option === undefined) throw new Error("a choice without options");
    return option;
  }

  #times({ min, max, item }: { min: number; max: number | undefined; item: Expr }): number {
    if (this.#budget <= 0 || this.#height(item) === Infinity) return min;
    const most = Math.min(max ?? Infinity, min + 6);
    // Now and then to the limit, where mistakes are.
    if (max !== undefined && max <= 60 && this.#random() < 0.15) return max;
    return min + Math.floor(this.#random() * (most - min + 1));
  }

  #character(ranges: readonly (readonly [number, number])[]): string {
    const range = ranges[Math.floor(this.#random() * ranges.length)] ?? [0x61, 0x61];
    const ascii = this.#random() < 0.7 ? Math.min(range[1], Math.max(range[0], 0x7e)) : range[1];
    return String.fromCodePoint(range[0] + Math.floor(this.#random() * (ascii - range[0] + 1)));
  }
}
