/** Grammars under construction: rules with unique names, and what a finished grammar consists of. */
import { GrammarError } from "./grammar-error.ts";
import { elementsOf, empty, oneOf, referencesOf, repeat, sequence } from "./expressions.ts";
import type { Expr, RuleReference } from "./expressions.ts";

export { GrammarError } from "./grammar-error.ts";
export { printGrammar } from "./print-grammar.ts";
export {
  anyChar,
  charClass,
  charClassExcept,
  empty,
  literal,
  oneOf,
  oneOfTexts,
  optional,
  repeat,
  sequence,
  type Expr,
  type RuleReference,
} from "./expressions.ts";

export interface Grammar {
  readonly root: Expr;
  /** All that can be reached from the root, in the order in which it is first mentioned. */
  readonly rules: ReadonlyMap<string, Expr>;
}

/** Names of generated rules are cut to this many characters: keys of objects end up in them. */
const MAX_HINT = 32;

/** Of all rules made, used in the end or not. */
const MAX_BUILT_ELEMENTS = 500_000;

export class GrammarBuilder {
  readonly #rules = new Map<string, Expr | undefined>();
  readonly #counters = new Map<string, number>();
  readonly #shared = new Map<string, Expr>();
  #elements = 0;

  /**
   * Adds a rule and returns a reference to it.
   * @param hint What the name begins with; characters that names cannot have are replaced.
   */
  rule(hint: string, expr: Expr): Expr {
    if (expr.kind === "rule") return expr;
    this.#grow(expr);
    const name = this.#newName(hint);
    this.#rules.set(name, expr);
    return { kind: "rule", name };
  }

  /** Adds a rule that may refer to itself. */
  recursive(hint: string, make: (self: Expr) => Expr): Expr {
    const self = this.declare(hint);
    this.define(self, make(self));
    return self;
  }

  /** A reference to a rule that is defined later. */
  declare(hint: string): RuleReference {
    const name = this.#newName(hint);
    this.#rules.set(name, undefined);
    return { kind: "rule", name };
  }

  /** Says what a declared rule is, or replaces what it was. */
  define(rule: RuleReference, expr: Expr): void {
    this.#grow(expr);
    this.#rules.set(rule.name, expr);
  }

  /** What `make` returns, made once for each key. */
  shared(key: string, make: () => Expr): Expr {
    let expr = this.#shared.get(key);
    if (expr === undefined) this.#shared.set(key, (expr = make()));
    return expr;
  }

  /**
   * Removes all that can never come to an end: options that need themselves, and what depends on them.
   * @returns Undefined when nothing is left of `root`.
   */
  prune(root: Expr): Expr | undefined {
    const { rules } = this.build(root);
    const ending = new Set<string>();
    const ends = (expr: Expr): boolean => {
      if (expr.kind === "rule") return ending.has(expr.name);
      if (expr.kind === "sequence") return expr.items.every(ends);
      if (expr.kind === "choice") return expr.options.some(ends);
      return expr.kind !== "repeat" || expr.min === 0 || ends(expr.item);
    };
    // Rules mostly mention those after them, so that going backwards needs few rounds.
    const waiting = new Map([...rules].reverse());
    for (let before = -1; before !== ending.size;) {
      before = ending.size;
      for (const [name, expr] of waiting) {
        if (!ends(expr)) continue;
        ending.add(name);
        waiting.delete(name);
      }
    }
    if (waiting.size === 0) return root;
    const pruned = (expr: Expr): Expr => {
      if (expr.kind === "sequence") return sequence(...expr.items.map(pruned));
      if (expr.kind === "choice") return oneOf(...expr.options.filter(ends).map(pruned));
      if (expr.kind !== "repeat") return expr;
      return ends(expr.item) ? repeat(pruned(expr.item), expr.min, expr.max) : empty;
    };
    for (const [name, expr] of rules) if (!waiting.has(name)) this.#rules.set(name, pruned(expr));
    return ends(root) ? pruned(root) : undefined;
  }

  /** Takes over the rules of a finished grammar and returns its root. */
  include(grammar: Grammar): Expr {
    const names = new Map([...grammar.rules.keys()].map((name) => [name, this.#newName(name)] as const));
    for (const [name, expr] of grammar.rules) this.#rules.set(names.get(name) ?? name, renamed(expr, names));
    return renamed(grammar.root, names);
  }

  /** @throws GrammarError for a reference to a rule that was not made here. */
  build(root: Expr): Grammar {
    const rules = new Map<string, Expr>();
    const queue: Expr[] = [root];
    const seen = new Set<Expr>();
    for (let expr = queue.shift(); expr !== undefined; expr = queue.shift()) {
      for (const name of referencesOf(expr, seen)) {
        if (rules.has(name)) continue;
        const rule = this.#rules.get(name);
        if (rule === undefined) throw new GrammarError(`The rule ${name} is not defined.`);
        rules.set(name, rule);
        queue.push(rule);
      }
    }
    return { root, rules };
  }

  /** Stops early what would be found too large in the end. */
  #grow(expr: Expr): void {
    this.#elements += elementsOf(expr);
    if (this.#elements > MAX_BUILT_ELEMENTS) throw new GrammarError("The grammar is too large.");
  }

  #newName(hint: string): string {
    const base =
      hint
        .replaceAll(/[^A-Za-z0-9]+/g, "-")
        .slice(0, MAX_HINT)
        .replaceAll(/^-+|-+$/g, "") || "rule";
    for (;;) {
      const count = (this.#counters.get(base) ?? 0) + 1;
      this.#counters.set(base, count);
      const name = count === 1 ? base : `${base}-${count}`;
      if (name !== "root" && !this.#rules.has(name)) return name;
    }
  }
}

function renamed(expr: Expr, names: ReadonlyMap<string, string>): Expr {
  switch (expr.kind) {
    case "literal":
    case "class":
      return expr;
    case "rule":
      return { kind: "rule", name: names.get(expr.name) ?? expr.name };
    case "repeat":
      return { ...expr, item: renamed(expr.item, names) };
    case "sequence":
      return { ...expr, items: expr.items.map((item) => renamed(item, names)) };
    case "choice":
      return { ...expr, options: expr.options.map((option) => renamed(option, names)) };
  }
}
