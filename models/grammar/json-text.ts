/**
 * How JSON is written: one document without white space around it, at most one space behind ":" and ",", no white space that
 * could go on for ever, numbers that a double can hold, no half surrogate pairs.
 */
import {
  charClass,
  charClassExcept,
  classOf,
  complement,
  empty,
  intersectRanges,
  literal,
} from "./expressions.ts";
import { oneOf, oneOfTexts, optional, repeat, sequence } from "./expressions.ts";
import type { CharClass, CodePointRange, Expr } from "./expressions.ts";
import type { GrammarBuilder } from "./grammar.ts";

/** Digits before the point where no bound is given: what fits into 64 bits. */
export const MAX_DIGITS = 19;
/** Digits behind the point: more than any double needs to be written. */
const MAX_FRACTION_DIGITS = 25;

const HEX = charClass([0x30, 0x39], [0x41, 0x46], [0x61, 0x66]);
const DIGIT = charClass([0x30, 0x39]);
const PLAIN = charClassExcept('"\\', [0, 0x1f]);
const SHORT_ESCAPES = '"\\bfnrt';

/** The optional space behind ":" and ",". */
export function space(builder: GrammarBuilder): Expr {
  return builder.shared("space", () => builder.rule("s", oneOf(empty, literal(" "))));
}

export function comma(builder: GrammarBuilder): Expr {
  return sequence(literal(","), space(builder));
}

/** One character of a string, with every escape but half a surrogate pair. */
export function stringChar(builder: GrammarBuilder): Expr {
  return builder.shared("char", () => {
    const hex = builder.rule("hex", HEX);
    const unicode = oneOf(
      sequence(charClass("Dd"), charClass([0x30, 0x37]), hex, hex),
      sequence(
        charClass("Dd"),
        charClass("89ABab"),
        hex,
        hex,
        literal("\\u"),
        charClass("Dd"),
        charClass("CDEFcdef"),
        hex,
        hex,
      ),
      sequence(charClass([0x30, 0x39], "ABCEFabcef"), hex, hex, hex),
    );
    const escape = oneOf(sequence(literal("u"), unicode), charClass(`${SHORT_ESCAPES}/`));
    return builder.rule("char", oneOf(sequence(literal("\\"), escape), PLAIN));
  });
}

/** Length in characters: an escape is one. */
export function string(builder: GrammarBuilder, min = 0, max?: number): Expr {
  const make = (): Expr => builder.rule("string", quote(repeat(stringChar(builder), min, max)));
  return builder.shared(`string ${min} ${max ?? ""}`, make);
}

export function quote(content: Expr): Expr {
  return sequence(literal('"'), content, literal('"'));
}

/** The same texts as the content of a JSON string. Every character has one spelling. */
export function insideString(builder: GrammarBuilder, expr: Expr): Expr {
  switch (expr.kind) {
    case "literal":
      return literal(JSON.stringify(expr.text).slice(1, -1));
    case "class":
      return builder.shared(`inside ${expr.ranges.join(" ")}`, () => classInside(builder, expr));
    case "sequence":
      return sequence(...expr.items.map((item) => insideString(builder, item)));
    case "choice":
      return oneOf(...expr.options.map((option) => insideString(builder, option)));
    case "repeat":
      return repeat(insideString(builder, expr.item), expr.min, expr.max);
    case "rule":
      return expr;
  }
}

function classInside(builder: GrammarBuilder, { ranges }: CharClass): Expr {
  const plain = intersectRanges(ranges, PLAIN.ranges);
  const escaped = intersectRanges(ranges, complement(PLAIN.ranges)).flatMap(codePoints);
  if (escaped.length === 0) return classOf(plain);
  const texts = oneOfTexts(escaped.map((code) => JSON.stringify(String.fromCodePoint(code)).slice(1, -1)));
  return plain.length === 0 ? texts : builder.rule("char", oneOf(texts, classOf(plain)));
}

function codePoints([low, high]: CodePointRange): number[] {
  return Array.from({ length: high - low + 1 }, (_, index) => low + index);
}

/** Keys of an object other than `names`. Only spellings that JSON.stringify uses, so that no escape hides a name. */
export function keyOtherThan(builder: GrammarBuilder, names: readonly string[]): Expr {
  if (names.length === 0) return string(builder);
  const root: KeyNode = { children: new Map(), name: false, inEscape: false };
  // No key made here has an escape with digits, so that names that need one are not in the way.
  for (const name of names)
    if (!Array.from(name).some((char) => JSON.stringify(char).startsWith('"\\u'))) addKey(root, name);
  const rest = builder.shared("rest of a key", () =>
    builder.recursive("key-rest", (self) =>
      oneOf(literal('"'), sequence(literal("\\"), charClass(SHORT_ESCAPES), self), sequence(PLAIN, self)),
    ),
  );
  return sequence(literal('"'), keyRule(builder, root, rest));
}

interface KeyNode {
  readonly children: Map<string, KeyNode>;
  /** A name that must not be used ends here. */
  name: boolean;
  readonly inEscape: boolean;
}

function addKey(root: KeyNode, name: string): void {
  let node = root;
  for (const char of JSON.stringify(name).slice(1, -1)) {
    let child = node.children.get(char);
    if (child === undefined) {
      child = { children: new Map(), name: false, inEscape: char === "\\" && !node.inEscape };
      node.children.set(char, child);
    }
    node = child;
  }
  node.name = true;
}

/** Rules from the leaves up, because names can be long. */
function keyRule(builder: GrammarBuilder, root: KeyNode, rest: Expr): Expr {
  const order: KeyNode[] = [root];
  for (const node of order) order.push(...node.children.values());
  const rules = new Map<KeyNode, Expr>();
  for (const node of order.reverse()) {
    const allowed = node.inEscape ? charClass(SHORT_ESCAPES) : PLAIN;
    const others = intersectRanges(
      allowed.ranges,
      complement(
        [...node.children.keys()].map((char) => [char.codePointAt(0) ?? 0, char.codePointAt(0) ?? 0]),
      ),
    );
    const options: Expr[] = node.name || node.inEscape ? [] : [literal('"')];
    for (const [char, child] of node.children)
      options.push(sequence(literal(char), rules.get(child) ?? empty));
    if (!node.inEscape && !node.children.has("\\"))
      options.push(sequence(literal("\\"), charClass(SHORT_ESCAPES), rest));
    if (others.length > 0) options.push(sequence(classOf(others), rest));
    rules.set(node, builder.rule("key", oneOf(...options)));
  }
  return rules.get(root) ?? rest;
}

/** A whole number without bounds; never "-0". */
export function integer(builder: GrammarBuilder): Expr {
  return builder.shared("integer", () =>
    builder.rule("integer", oneOf(literal("0"), sequence(optional(literal("-")), positiveDigits()))),
  );
}

function positiveDigits(): Expr {
  return sequence(charClass([0x31, 0x39]), repeat(DIGIT, 0, MAX_DIGITS - 1));
}

/** A number without bounds, that is not too large for a double. */
export function number(builder: GrammarBuilder): Expr {
  return builder.shared("number", () => {
    const fraction = builder.rule("fraction", fractionDigits());
    const whole = oneOf(literal("0"), positiveDigits());
    return builder.rule(
      "number",
      sequence(
        optional(literal("-")),
        oneOf(
          sequence(DIGIT, optional(fraction), charClass("eE"), oneOf(smallExponent(), largeExponent())),
          sequence(whole, optional(fraction)),
        ),
      ),
    );
  });
}

export function fractionDigits(): Expr {
  return sequence(literal("."), repeat(DIGIT, 1, MAX_FRACTION_DIGITS));
}

/** Behind the "e": -1 to -299, so that no digit but 0 makes a zero. */
export function smallExponent(): Expr {
  return sequence(
    literal("-"),
    oneOf(sequence(charClass("12"), DIGIT, DIGIT), sequence(charClass([0x31, 0x39]), optional(DIGIT))),
  );
}

/** Behind the "e": -7 to -299, where the shortest way of writing a number needs it. */
export function tinyExponent(): Expr {
  return sequence(
    literal("-"),
    oneOf(
      sequence(charClass("12"), DIGIT, DIGIT),
      sequence(charClass([0x31, 0x39]), DIGIT),
      charClass("789"),
    ),
  );
}

/** Behind the "e": 0 to 307, so that one digit before the point stays below the largest double. */
export function largeExponent(): Expr {
  return sequence(
    optional(literal("+")),
    oneOf(
      sequence(literal("30"), charClass([0x30, 0x37])),
      sequence(charClass("12"), DIGIT, DIGIT),
      sequence(DIGIT, optional(DIGIT)),
    ),
  );
}
