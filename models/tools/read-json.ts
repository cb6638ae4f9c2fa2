/** Reads JSON values out of a text that is still being written, and keeps their text as it is. */
import { NOT_A_CALL } from "./text-reader.ts";
import type { Step, TextReader } from "./text-reader.ts";

/** Characters of a value that is read as a whole. */
const VALUE_LIMIT = 1 << 16;

/** A string, unescaped. @throws {NotACall} For anything else, and at the end of the output. */
export function* readString(reader: TextReader): Step<string> {
  const text = yield* readValueText(reader);
  if (!text.startsWith('"')) throw NOT_A_CALL;
  return parseOrThrow(text, String);
}

/** The text of any value. @throws {NotACall} At the end of the output, and for values that are too long. */
export function* readValueText(reader: TextReader): Step<string> {
  const first = yield* reader.skipSpace();
  const chunks: string[] = [];
  let length = 0;
  const take = (text: string): void => {
    length += text.length;
    if (length > VALUE_LIMIT) throw NOT_A_CALL;
    chunks.push(text);
  };
  if (first === "{" || first === "[" || first === '"') {
    if (!(yield* copyNested(reader, take))) throw NOT_A_CALL;
  } else {
    for (let next = first; /[\w.+-]/.test(next); next = yield* reader.peek()) take(reader.take(1));
    if (length === 0) throw NOT_A_CALL;
  }
  return chunks.join("");
}

/**
 * Hands on the text of an object, an array or a string, in pieces as it arrives. Brackets and strings are
 * followed, nothing else is checked. False when the output ends first.
 */
export function* copyNested(reader: TextReader, take: (text: string) => void): Step<boolean> {
  let depth = 0;
  let inString = false;
  let escaped = false;
  for (;;) {
    const rest = reader.rest();
    for (let index = 0; index < rest.length; index++) {
      const character = rest[index];
      if (escaped) escaped = false;
      else if (inString && character === "\\") escaped = true;
      else if (character === '"') inString = !inString;
      else if (inString) continue;
      else if (character === "{" || character === "[") depth++;
      else if (character === "}" || character === "]") depth--;
      else continue;
      if (depth === 0 && !inString) {
        take(reader.take(index + 1));
        return true;
      }
    }
    if (rest !== "") take(reader.take(rest.length));
    if (reader.ended) return false;
    yield;
  }
}

export function parseOrThrow<T>(text: string, check: (value: unknown) => T): T {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw NOT_A_CALL;
  }
  return check(value);
}
