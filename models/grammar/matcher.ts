/**
 * Whether a text belongs to a grammar, character by character: an acceptor of our own, independent of llama.cpp's.
 *
 * It follows all ways of reading the text at once. What is still to come inside a rule is a chain of `Rest`s, made when
 * first met and then reused; where a rule returns to is a `Frame`, one for each rule and position however many callers
 * it has. So the work for a character is bounded by the size of the grammar, ambiguous or not, plus the returns.
 */
import { GrammarError } from "./grammar-error.ts";
import type { CharClass, Expr, Literal } from "./expressions.ts";
import type { Grammar } from "./grammar.ts";

/** What is still to come inside a rule. */
interface Rest {
  readonly expr: Expr | undefined;
  /** Of a literal: characters read; of a sequence: items begun; of a repetition: turns begun. */
  readonly count: number;
  readonly after: Rest | undefined;
  readonly made: Map<Expr, Rest[]>;
}

/** A rule that is being read. */
interface Frame {
  readonly callers: { readonly rest: Rest; readonly frame: Frame }[];
  /** Of the position last looked at. */
  seen: Set<Rest>;
  seenAt: number;
  /** The position at which it was last complete. */
  completeAt: number;
}

interface Thread {
  readonly expr: Literal | CharClass;
  readonly rest: Rest;
  readonly frame: Frame;
}

/** For one text; a character of an ordinary grammar takes about twenty. Only grammars made to be ambiguous take more. */
const MAX_STEPS = 5_000_000;

/** Steps that are left, for one matcher or several. */
export interface StepBudget {
  left: number;
}

/** A text took more steps than there were. */
export class StepsUsedUp extends GrammarError {}

const END: Rest = { expr: undefined, count: 0, after: undefined, made: new Map() };

export class GrammarMatcher {
  readonly #grammar: Grammar;
  readonly #characters = new WeakMap<Literal, readonly string[]>();
  readonly #end: Rest = { ...END, made: new Map() };
  #root: Frame = newFrame();
  #position = 0;
  #threads: Thread[] = [];
  /** The first half of a surrogate pair whose second half has not come yet. */
  #half = "";

  readonly #budget: StepBudget;
  readonly #ownBudget: boolean;

  /** @param budget Without it each matcher has its own, which starts anew with each text. */
  constructor(grammar: Grammar, budget?: StepBudget) {
    this.#grammar = grammar;
    this.#ownBudget = budget === undefined;
    this.#budget = budget ?? { left: MAX_STEPS };
    this.#restart();
  }

  /** The text so far is a whole text of the grammar. */
  get complete(): boolean {
    return this.#half === "" && this.#root.completeAt === this.#position;
  }

  /** Ways of reading the text so far that can go on. */
  get ways(): number {
    return this.#threads.length;
  }

  /** A character that the text can go on with, another one for most other numbers; undefined where it can only end. */
  continuation(choice: number): string | undefined {
    const thread = this.#threads[choice % Math.max(1, this.#threads.length)];
    if (thread === undefined) return undefined;
    const { expr, rest } = thread;
    if (expr.kind === "literal") return this.#charactersOf(expr)[rest.count];
    const [from, to] = expr.ranges[choice % Math.max(1, expr.ranges.length)] ?? [0, 0];
    const code = from + (choice % (to - from + 1));
    // Half a surrogate pair is no character.
    return String.fromCodePoint(code >= 0xd800 && code < 0xe000 ? from : code);
  }

  /**
   * Whether the text is one of the grammar; what was pushed before is forgotten.
   * @throws GrammarError when that takes too long.
   */
  accepts(text: string): boolean {
    this.#restart();
    return this.push(text) && this.complete;
  }

  /** False when no text of the grammar begins with all that was pushed. */
  push(text: string): boolean {
    const whole = this.#half + text;
    this.#half = "";
    for (const char of whole) {
      if (/[\uD800-\uDBFF]$/.test(char) && char.length === 1 && whole.endsWith(char)) {
        this.#half = char;
        break;
      }
      if (!this.#step(char)) return false;
    }
    return this.#threads.length > 0 || this.complete;
  }

  #restart(): void {
    if (this.#ownBudget) this.#budget.left = MAX_STEPS;
    this.#position = 0;
    this.#threads = [];
    this.#half = "";
    this.#root = newFrame();
    this.#close([{ rest: this.#rest(this.#grammar.root, 0, this.#end), frame: this.#root }]);
  }

  #step(char: string): boolean {
    const code = char.codePointAt(0) ?? 0;
    const next: { rest: Rest; frame: Frame }[] = [];
    for (const { expr, rest, frame } of this.#threads) {
      if (expr.kind === "class") {
        if (contains(expr, code)) next.push({ rest: rest.after ?? this.#end, frame });
      } else {
        const characters = this.#charactersOf(expr);
        if (characters[rest.count] !== char) continue;
        const after = rest.after ?? this.#end;
        next.push({
          rest: rest.count + 1 === characters.length ? after : this.#rest(expr, rest.count + 1, after),
          frame,
        });
      }
    }
    this.#position++;
    this.#threads = [];
    this.#close(next);
    return this.#threads.length > 0 || this.#root.completeAt === this.#position;
  }

  /** Follows everything that needs no character. */
  #close(todo: { rest: Rest; frame: Frame }[]): void {
    const position = this.#position;
    const frames = new Map<string, Frame>();
    for (let item = todo.pop(); item !== undefined; item = todo.pop()) {
      const { rest, frame } = item;
      if (frame.seenAt !== position) {
        frame.seenAt = position;
        frame.seen = new Set();
      }
      if (frame.seen.has(rest)) continue;
      if (--this.#budget.left < 0) throw new StepsUsedUp("The grammar is too ambiguous.");
      frame.seen.add(rest);
      const { expr } = rest;
      if (expr === undefined) {
        frame.completeAt = position;
        todo.push(...frame.callers);
        continue;
      }
      const after = rest.after ?? this.#end;
      switch (expr.kind) {
        case "class":
          this.#threads.push({ expr, rest, frame });
          break;
        case "literal":
          if (expr.text === "") todo.push({ rest: after, frame });
          else this.#threads.push({ expr, rest, frame });
          break;
        case "sequence":
          todo.push({ rest: this.#sequenceRest(expr.items, rest, after), frame });
          break;
        case "choice":
          for (const option of expr.options) todo.push({ rest: this.#rest(option, 0, after), frame });
          break;
        case "repeat": {
          const { min, max, item: repeated } = expr;
          if (rest.count >= min) todo.push({ rest: after, frame });
          if (max !== undefined && rest.count >= max) break;
          // Without a maximum only the turns up to the minimum have to be told apart.
          const count = max === undefined ? Math.min(rest.count + 1, min) : rest.count + 1;
          const again = count === max ? after : this.#rest(expr, count, after);
          todo.push({ rest: this.#rest(repeated, 0, again), frame });
          break;
        }
        case "rule": {
          const body = this.#rest(this.#rule(expr.name), 0, this.#end);
          // A rule at the end of a rule returns to where that one returns to: right recursion does not pile up.
          if (after.expr === undefined) {
            todo.push({ rest: body, frame });
            break;
          }
          let called = frames.get(expr.name);
          if (called === undefined) {
            frames.set(expr.name, (called = newFrame()));
            todo.push({ rest: body, frame: called });
          }
          called.callers.push({ rest: after, frame });
          if (called.completeAt === position) todo.push({ rest: after, frame });
          break;
        }
      }
    }
  }

  #sequenceRest(items: readonly Expr[], rest: Rest, after: Rest): Rest {
    const item = items[rest.count];
    if (item === undefined || rest.expr === undefined) return after;
    const last = rest.count + 1 === items.length;
    return this.#rest(item, 0, last ? after : this.#rest(rest.expr, rest.count + 1, after));
  }

  #rest(expr: Expr, count: number, after: Rest): Rest {
    let counts = after.made.get(expr);
    if (counts === undefined) after.made.set(expr, (counts = []));
    return (counts[count] ??= { expr, count, after, made: new Map() });
  }

  #rule(name: string): Expr {
    const rule = this.#grammar.rules.get(name);
    if (rule === undefined) throw new GrammarError(`The rule ${name} is not defined.`);
    return rule;
  }

  #charactersOf(expr: Literal): readonly string[] {
    let characters = this.#characters.get(expr);
    if (characters === undefined) this.#characters.set(expr, (characters = Array.from(expr.text)));
    return characters;
  }
}

function newFrame(): Frame {
  return { callers: [], seen: new Set(), seenAt: -1, completeAt: -1 };
}

function contains({ ranges }: CharClass, code: number): boolean {
  let low = 0;
  let high = ranges.length - 1;
  while (low <= high) {
    const middle = (low + high) >> 1;
    const [from, to] = ranges[middle] ?? [0, 0];
    if (code < from) high = middle - 1;
    else if (code > to) low = middle + 1;
    else return true;
  }
  return false;
}
