/**
 * Keeps what users send from becoming control tokens: marks it before a template renders it, and cuts the
 * rendered text into parts afterwards.
 *
 * Plain text between two control strings stays one part, so tokenization is that of the whole text.
 */
import type { PromptPart } from "../engine/protocol.ts";
import { ControlStrings } from "./control-strings.ts";
import type { TokenTable } from "./text/token-table.ts";

export interface Guarded<T> {
  /** The same value when nothing had to be marked. */
  readonly value: T;
  /** The mark; undefined when there is none in the value. */
  readonly sentinel: string | undefined;
}

const controlStrings = new WeakMap<TokenTable, ControlStrings>();

/** Unicode's private use area of the basic plane. */
const PRIVATE_FIRST = 0xe000;
const PRIVATE_LAST = 0xf8ff;
const PRIVATE_USE = /[\ue000-\uf8ff]/g;
/** The same characters as JSON writes them when it is to be ASCII. */
const ESCAPED_PRIVATE_USE = /u(e[0-9a-f]{3}|f[0-8][0-9a-f]{2})/gi;

/** White space as llama.cpp strips it beside tokens that ask for it. */
const SPACE_BEFORE = /[ \t\n\v\f\r]+$/;
const SPACE_AFTER = /^[ \t\n\v\f\r]+/;

/**
 * Private use characters that occur, plain or as a JSON escape, in none of the texts; fewer than `count` when
 * there are not enough.
 */
export function unusedCharacters(texts: readonly string[], count: number): string[] {
  const used = new Set<number>();
  for (const text of texts) {
    for (const match of text.matchAll(PRIVATE_USE)) used.add(match[0].charCodeAt(0));
    for (const match of text.matchAll(ESCAPED_PRIVATE_USE)) used.add(Number.parseInt(match[1] ?? "", 16));
  }
  const unused: string[] = [];
  for (let code = PRIVATE_FIRST; code <= PRIVATE_LAST && unused.length < count; code++) {
    if (!used.has(code)) unused.push(String.fromCharCode(code));
  }
  return unused;
}

/** Every string in a JSON value, keys included. */
export function stringsOf(value: unknown): string[] {
  const strings: string[] = [];
  const visit = (part: unknown): void => {
    if (typeof part === "string") strings.push(part);
    else if (Array.isArray(part)) part.forEach(visit);
    else if (typeof part === "object" && part !== null) {
      for (const [key, entry] of Object.entries(part)) {
        strings.push(key);
        visit(entry);
      }
    }
  };
  visit(value);
  return strings;
}

/**
 * Breaks every control string in the strings and keys of a JSON value with one mark per request.
 * @param avoid Texts that must not contain the mark either, such as the template.
 * @throws {RangeError} When the value uses every possible mark itself.
 */
export function guardStrings<T>(value: T, table: TokenTable, avoid: readonly string[] = []): Guarded<T> {
  const controls = controlsOf(table);
  const strings = stringsOf(value);
  if (strings.every((text) => controls.breakPoints(text).length === 0)) return { value, sentinel: undefined };
  const [sentinel] = unusedCharacters([...strings, ...avoid, ...table.controlStrings()], 1);
  if (sentinel === undefined) throw new RangeError("The text uses every private use character.");
  return { value: mark(value, controls, sentinel) as T, sentinel };
}

/** Takes the marks out of a rendered text, also where a template escaped them for JSON. */
export function withoutSentinel(text: string, sentinel: string | undefined): string {
  if (sentinel === undefined) return text;
  const escape = `\\\\u${sentinel.charCodeAt(0).toString(16)}`;
  return text.replace(new RegExp(`${sentinel}|${escape}`, "gi"), "");
}

/** Cuts a rendered text at its unbroken control strings, which are special parts; the rest is plain. */
export function toPromptParts(
  rendered: string,
  table: TokenTable,
  sentinel: string | undefined,
): PromptPart[] {
  const controls = controlsOf(table);
  const parts: PromptPart[] = [];
  let plainStart = 0;
  let previous: string | undefined;
  const addPlain = (end: number, next: string | undefined): void => {
    let text = withoutSentinel(rendered.slice(plainStart, end), sentinel);
    if (previous !== undefined && controls.strips(previous, "right")) text = text.replace(SPACE_AFTER, "");
    if (next !== undefined && controls.strips(next, "left")) text = text.replace(SPACE_BEFORE, "");
    if (text !== "") parts.push({ text, special: false });
  };
  for (const match of controls.matches(rendered)) {
    const [name] = match;
    if (sentinel !== undefined && rendered[match.index - 1] === sentinel && isOneCharacter(name)) continue;
    addPlain(match.index, name);
    parts.push({ text: name, special: true });
    plainStart = match.index + name.length;
    previous = name;
  }
  addPlain(rendered.length, undefined);
  return parts;
}

function controlsOf(table: TokenTable): ControlStrings {
  let controls = controlStrings.get(table);
  if (controls === undefined) {
    controls = new ControlStrings(table);
    controlStrings.set(table, controls);
  }
  return controls;
}

function mark(value: unknown, controls: ControlStrings, sentinel: string): unknown {
  if (typeof value === "string") return markText(value, controls, sentinel);
  if (Array.isArray(value)) return value.map((part) => mark(part, controls, sentinel));
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).map(([key, part]) => [
      markText(key, controls, sentinel),
      mark(part, controls, sentinel),
    ]),
  );
}

function markText(text: string, controls: ControlStrings, sentinel: string): string {
  let marked = "";
  let start = 0;
  for (const point of controls.breakPoints(text)) {
    marked += text.slice(start, point) + sentinel;
    start = point;
  }
  return marked + text.slice(start);
}

function isOneCharacter(text: string): boolean {
  return Array.from(text).length === 1;
}
