/**
 * What llama.cpp cannot bear in a grammar, found before it gets there: left recursion, which it looks for in a way that takes
 * exponential time and misses some of it, and sizes that make it slow.
 */
import { GrammarError } from "./grammar-error.ts";
import { elementsOf, referencesOf } from "./expressions.ts";
import type { Expr } from "./expressions.ts";
import type { Grammar } from "./grammar.ts";

/** Elements of llama.cpp's rules: what copying a sampler and starting a request cost. */
const MAX_ELEMENTS = 400_000;
/** Ways from a rule to the rules that a text of it can begin with: llama.cpp follows each of them. */
const MAX_BEGINNINGS = 1_000_000;
/** Turns of what may be empty: llama.cpp keeps a way of reading for each, and tries them all for each character of a token. */
const MAX_EMPTY_TURNS = 8;
/** Rules that begin with each other, in a row: llama.cpp recurses for each. */
const MAX_CHAIN = 2000;

/** @throws GrammarError */
export function checkGrammar(grammar: Grammar): void {
  const rules = new Map([...grammar.rules, ["", grammar.root]]);
  let elements = 0;
  for (const expr of rules.values()) {
    elements += elementsOf(expr);
    if (elements > MAX_ELEMENTS) throw new GrammarError("The grammar is too large.");
  }
  const mayBeEmpty = emptyRules(rules);
  const turns = new Map<string, number>();
  checkBeginnings(rules, mayBeEmpty, (name, expr) => turns.set(name, emptyTurns(expr, mayBeEmpty, turns)));
  for (const expr of rules.values()) checkEmptyTurns(expr, mayBeEmpty, turns);
}

/** Turns in which a text of the expression can begin, as far as turns before it may be empty. */
function emptyTurns(
  expr: Expr,
  mayBeEmpty: ReadonlySet<string>,
  ofRules: ReadonlyMap<string, number>,
): number {
  const of = (inner: Expr): number => emptyTurns(inner, mayBeEmpty, ofRules);
  switch (expr.kind) {
    case "literal":
    case "class":
      return 1;
    case "rule":
      return ofRules.get(expr.name) ?? 1;
    case "repeat":
      return (
        (mayBeEmptyExpr(expr.item, mayBeEmpty) ? (expr.max ?? Math.max(1, expr.min)) : 1) * of(expr.item)
      );
    case "choice":
      return largest(expr.options, of);
    case "sequence": {
      const first = expr.items.findIndex((item) => !mayBeEmptyExpr(item, mayBeEmpty));
      return largest(expr.items.slice(0, first === -1 ? undefined : first + 1), of);
    }
  }
}

/** Of any number of expressions, which the arguments of a call are not. */
function largest(exprs: readonly Expr[], of: (expr: Expr) => number): number {
  return exprs.reduce((most, expr) => Math.max(most, of(expr)), 1);
}

function checkEmptyTurns(
  expr: Expr,
  mayBeEmpty: ReadonlySet<string>,
  ofRules: ReadonlyMap<string, number>,
): void {
  const inner =
    expr.kind === "repeat"
      ? [expr.item]
      : expr.kind === "choice"
        ? expr.options
        : expr.kind === "sequence"
          ? expr.items
          : [];
  if (expr.kind === "repeat" && emptyTurns(expr, mayBeEmpty, ofRules) > MAX_EMPTY_TURNS)
    throw new GrammarError(`What may be empty is repeated more than ${MAX_EMPTY_TURNS} times.`);
  for (const item of inner) checkEmptyTurns(item, mayBeEmpty, ofRules);
}

function emptyRules(rules: ReadonlyMap<string, Expr>): ReadonlySet<string> {
  const found = new Set<string>();
  const users = new Map<string, string[]>();
  for (const [name, expr] of rules) {
    for (const used of referencesOf(expr)) {
      const list = users.get(used);
      if (list === undefined) users.set(used, [name]);
      else list.push(name);
    }
  }
  const queue = [...rules.keys()];
  for (let name = queue.pop(); name !== undefined; name = queue.pop()) {
    const expr = rules.get(name);
    if (found.has(name) || expr === undefined || !mayBeEmptyExpr(expr, found)) continue;
    found.add(name);
    queue.push(...(users.get(name) ?? []));
  }
  return found;
}

function mayBeEmptyExpr(expr: Expr, rules: ReadonlySet<string>): boolean {
  switch (expr.kind) {
    case "literal":
      return expr.text === "";
    case "class":
      return false;
    case "rule":
      return rules.has(expr.name);
    case "repeat":
      return expr.min === 0 || mayBeEmptyExpr(expr.item, rules);
    case "sequence":
      return expr.items.every((item) => mayBeEmptyExpr(item, rules));
    case "choice":
      return expr.options.some((option) => mayBeEmptyExpr(option, rules));
  }
}

/** Rules with which a text of the expression can begin, once for every way. */
function* beginnings(expr: Expr, mayBeEmpty: ReadonlySet<string>): Generator<string> {
  if (expr.kind === "rule") yield expr.name;
  else if (expr.kind === "repeat") yield* beginnings(expr.item, mayBeEmpty);
  else if (expr.kind === "choice") for (const option of expr.options) yield* beginnings(option, mayBeEmpty);
  else if (expr.kind === "sequence") {
    for (const item of expr.items) {
      yield* beginnings(item, mayBeEmpty);
      if (!mayBeEmptyExpr(item, mayBeEmpty)) break;
    }
  }
}

interface Visit {
  readonly name: string;
  readonly next: Iterator<string>;
  ways: number;
  depth: number;
}

/** Depth first, without recursion of our own. */
function checkBeginnings(
  rules: ReadonlyMap<string, Expr>,
  mayBeEmpty: ReadonlySet<string>,
  /** Told of each rule after all that it can begin with. */
  onRule: (name: string, expr: Expr) => void,
): void {
  const done = new Map<string, { readonly ways: number; readonly depth: number }>();
  const open = new Set<string>();
  const visit = (name: string): Visit => {
    const expr = rules.get(name);
    if (expr === undefined) throw new GrammarError(`The rule ${name} is not defined.`);
    open.add(name);
    return { name, next: beginnings(expr, mayBeEmpty), ways: 1, depth: 1 };
  };
  for (const start of rules.keys()) {
    if (done.has(start)) continue;
    const stack = [visit(start)];
    for (let top = stack.at(-1); top !== undefined; top = stack.at(-1)) {
      const { value, done: over } = top.next.next();
      if (over === true) {
        stack.pop();
        open.delete(top.name);
        done.set(top.name, top);
        const expr = rules.get(top.name);
        if (expr !== undefined) onRule(top.name, expr);
        const parent = stack.at(-1);
        if (parent !== undefined) add(parent, top);
        continue;
      }
      if (open.has(value))
        throw new GrammarError(`The rule ${value} is left-recursive: it begins with itself.`);
      const known = done.get(value);
      if (known === undefined) stack.push(visit(value));
      else add(top, known);
    }
  }
}

function add(visit: Visit, begun: { readonly ways: number; readonly depth: number }): void {
  visit.ways += begun.ways;
  visit.depth = Math.max(visit.depth, begun.depth + 1);
  if (visit.ways > MAX_BEGINNINGS) throw new GrammarError("The grammar begins in too many ways.");
  if (visit.depth > MAX_CHAIN)
    throw new GrammarError("The grammar has too many rules that begin with each other.");
}
