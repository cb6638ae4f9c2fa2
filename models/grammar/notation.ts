/** Values in notations that differ from JSON in some words and in their strings; JSON is one of them. */
import { charClass, literal, oneOf, oneOfTexts, optional, repeat, sequence } from "./expressions.ts";
import type { Expr } from "./expressions.ts";
import type { GrammarBuilder } from "./grammar.ts";
import { comma, keyOtherThan, number, space, string } from "./json-text.ts";
import { textWithout } from "./text-without.ts";

export interface Notation {
  /** Differs where the notations do. */
  readonly key: string;
  readonly words: Words;
  /** Undefined where strings are JSON's. */
  readonly raw: RawStrings | undefined;
}

interface Words {
  readonly true: string;
  readonly false: string;
  readonly null: string;
}

/** Strings without escapes, and names of properties without quotes. */
export interface RawStrings {
  /** On both sides; "" where something around the value stands for it. */
  readonly quote: string;
  /** What ends a string wherever it occurs. */
  readonly end: string;
}

/** What writing needs: where rules go, and how values look. */
export interface Writing {
  readonly builder: GrammarBuilder;
  readonly notation: Notation;
}

const JSON_WORDS: Words = { true: "true", false: "false", null: "null" };

export const JSON_NOTATION: Notation = { key: "json", words: JSON_WORDS, raw: undefined };

/** Strings are written as in JSON, which Python reads alike. */
export const PYTHON_NOTATION: Notation = {
  key: "python",
  words: { true: "True", false: "False", null: "None" },
  raw: undefined,
};

export function rawNotation(raw: RawStrings): Notation {
  return { key: `raw ${JSON.stringify(raw)}`, words: JSON_WORDS, raw };
}

/** How deep objects and arrays may be nested where a schema allows anything. */
const MAX_FREE_DEPTH = 16;

/** The same, for each notation once. */
function shared({ builder, notation }: Writing, key: string, make: () => Expr): Expr {
  return builder.shared(notation === JSON_NOTATION ? key : `${notation.key} ${key}`, make);
}

/** Text of a string, a number, a boolean or null; undefined when the notation cannot write it. */
export function scalarText({ words, raw }: Notation, value: unknown): string | undefined {
  if (value === null) return words.null;
  if (typeof value === "boolean") return words[`${value}`];
  if (typeof value !== "string" || raw === undefined) return JSON.stringify(value);
  // The string has to end where the quote behind it does.
  if ((value + raw.end).indexOf(raw.end) < value.length) return undefined;
  return raw.quote + value + raw.quote;
}

/** Exactly this value, with the white space that is allowed everywhere; undefined when it cannot be written. */
export function exactly(to: Writing, value: unknown): Expr | undefined {
  if (typeof value !== "object" || value === null) {
    const text = scalarText(to.notation, value);
    return text === undefined ? undefined : literal(text);
  }
  const [open, close] = Array.isArray(value) ? "[]" : "{}";
  const entries = Object.entries(value).map(([key, entry]) => {
    const written = exactly(to, entry);
    return Array.isArray(value) || written === undefined ? written : pair(to, key, written);
  });
  const known = entries.filter((entry) => entry !== undefined);
  if (known.length < entries.length) return undefined;
  const items = known.flatMap((entry, index) => (index === 0 ? [entry] : [comma(to.builder), entry]));
  return sequence(literal(open ?? ""), ...items, literal(close ?? ""));
}

/** @param value What the property of this name is. */
export function pair({ builder, notation }: Writing, name: string, value: Expr): Expr {
  return sequence(literal(`${keyText(notation, name)}:`), space(builder), value);
}

const BARE_KEY = /^[A-Za-z_][A-Za-z0-9_]*$/;

/** The name of a property as it stands before the colon. */
export function keyText({ raw }: Notation, name: string): string {
  return raw !== undefined && BARE_KEY.test(name) ? name : JSON.stringify(name);
}

/** Any name of a property but these. */
export function otherKey({ builder, notation }: Writing, names: readonly string[]): Expr {
  if (notation.raw === undefined || names.length > 0) return keyOtherThan(builder, names);
  return builder.shared("bare key", () => {
    const letters = charClass([0x41, 0x5a], [0x61, 0x7a], "_");
    const bare = sequence(letters, repeat(oneOf(letters, charClass([0x30, 0x39])), 0));
    return builder.rule("key", oneOf(bare, string(builder)));
  });
}

export function boolean(to: Writing): Expr {
  const { words } = to.notation;
  return shared(to, "boolean", () =>
    to.builder.rule("boolean", oneOf(literal(words.true), literal(words.false))),
  );
}

export function anyString(to: Writing): Expr {
  const { builder, notation } = to;
  const { raw } = notation;
  if (raw === undefined) return string(builder);
  return shared(to, "string", () =>
    builder.rule("string", sequence(literal(raw.quote), textWithout(builder, raw.end), literal(raw.quote))),
  );
}

/** A value of any kind, objects and arrays in it nested at most `MAX_FREE_DEPTH` deep. */
export function anyValue(to: Writing): Expr {
  return valueWithin(to, MAX_FREE_DEPTH);
}

export function anyObject(to: Writing): Expr {
  return objectWithin(to, MAX_FREE_DEPTH);
}

export function anyArray(to: Writing): Expr {
  return arrayWithin(to, MAX_FREE_DEPTH);
}

function scalar(to: Writing): Expr {
  const { builder, notation } = to;
  return shared(to, "scalar", () =>
    builder.rule("scalar", oneOf(literal(notation.words.null), boolean(to), number(builder), anyString(to))),
  );
}

function valueWithin(to: Writing, depth: number): Expr {
  if (depth === 0) return scalar(to);
  return shared(to, `value ${depth}`, () =>
    to.builder.rule("value", oneOf(objectWithin(to, depth), arrayWithin(to, depth), scalar(to))),
  );
}

function objectWithin(to: Writing, depth: number): Expr {
  return shared(to, `object ${depth}`, () => {
    const member = sequence(otherKey(to, []), literal(":"), space(to.builder), valueWithin(to, depth - 1));
    return to.builder.rule("object", list(to.builder, "{", member, "}"));
  });
}

function arrayWithin(to: Writing, depth: number): Expr {
  return shared(to, `array ${depth}`, () =>
    to.builder.rule("array", list(to.builder, "[", valueWithin(to, depth - 1), "]")),
  );
}

function list(builder: GrammarBuilder, open: string, item: Expr, close: string): Expr {
  const named = builder.rule("item", item);
  const more = repeat(sequence(comma(builder), named), 0);
  return sequence(literal(open), optional(sequence(named, more)), literal(close));
}

/** Texts of the scalars among these that the notation can write, as one expression; undefined when there are none. */
export function oneOfScalars(notation: Notation, values: readonly unknown[]): Expr | undefined {
  const texts = values.map((value) => scalarText(notation, value)).filter((text) => text !== undefined);
  return texts.length === 0 ? undefined : oneOfTexts(texts);
}
