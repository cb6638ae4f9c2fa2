/**
 * Free text in which certain texts do not occur, and free text that ends with the first of them: the Aho-Corasick automaton as
 * rules, one per state. At each character the rules leave one way to go on.
 */
import { GrammarError } from "./grammar-error.ts";
import { anyChar, classOf, complement, empty, literal, oneOf, sequence } from "./expressions.ts";
import type { CodePointRange, Expr } from "./expressions.ts";
import type { GrammarBuilder } from "./grammar.ts";

interface State {
  readonly next: Map<string, State>;
  /** The state of the longest proper tail that is a beginning of a stop text. */
  fallback: State | undefined;
  /** A stop text is complete here. */
  final: boolean;
}

/**
 * Any text, the empty one too, in which none of `stops` occurs.
 * @param stops One or several texts, none of them empty.
 */
export function textWithout(builder: GrammarBuilder, stops: string | readonly string[]): Expr {
  return automatonRules(builder, stops, { until: false });
}

/** Any text up to and including the place where one of `stops` is complete for the first time. */
export function textUntil(builder: GrammarBuilder, stops: string | readonly string[]): Expr {
  return automatonRules(builder, stops, { until: true });
}

function automatonRules(
  builder: GrammarBuilder,
  stops: string | readonly string[],
  options: { readonly until: boolean },
): Expr {
  const texts = typeof stops === "string" ? [stops] : stops;
  if (texts.length === 0 || texts.includes(""))
    throw new GrammarError("A text to leave out must not be empty.");
  const { root, order } = automatonOf(texts);
  const alphabet = [...new Set(order.flatMap((state) => [...state.next.keys()]))];
  const references = new Map<State, Expr>();
  const reference = (state: State): Expr => {
    const known = references.get(state);
    if (known !== undefined) return known;
    return builder.recursive("text", (self) => {
      references.set(state, self);
      const targets = new Map<State, CodePointRange[]>();
      const ends: CodePointRange[] = [];
      for (const char of alphabet) {
        const code = char.codePointAt(0) ?? 0;
        const target = step(root, state, char);
        if (target.final) ends.push([code, code]);
        else if (target !== root) targets.set(target, [...(targets.get(target) ?? []), [code, code]]);
      }
      const elsewhere = [...ends, ...[...targets.values()].flat()];
      const alternatives: Expr[] = options.until
        ? ends.map(([code]) => literal(String.fromCodePoint(code)))
        : [empty];
      for (const [target, ranges] of targets)
        alternatives.push(sequence(oneOf(classOf(ranges)), reference(target)));
      alternatives.push(
        sequence(elsewhere.length === 0 ? anyChar : classOf(complement(elsewhere)), reference(root)),
      );
      return alternatives.length === 1 ? (alternatives[0] ?? empty) : oneOf(...alternatives);
    });
  };
  return reference(root);
}

/** States in the order of their depth; states behind a complete stop text are left out. */
function automatonOf(texts: readonly string[]): { root: State; order: readonly State[] } {
  const root: State = { next: new Map(), fallback: undefined, final: false };
  for (const text of texts) {
    let state = root;
    for (const char of text) {
      let next = state.next.get(char);
      if (next === undefined)
        state.next.set(char, (next = { next: new Map(), fallback: undefined, final: false }));
      state = next;
    }
    state.final = true;
  }
  const order: State[] = [root];
  for (const state of order) {
    for (const [char, next] of state.next) {
      next.fallback = state === root ? root : step(root, state.fallback ?? root, char);
      next.final ||= next.fallback.final;
      if (!next.final) order.push(next);
    }
  }
  return { root, order };
}

function step(root: State, from: State, char: string): State {
  for (let state: State | undefined = from; state !== undefined; state = state.fallback) {
    const next = state.next.get(char);
    if (next !== undefined) return next;
  }
  return root;
}
