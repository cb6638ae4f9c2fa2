/** JSON objects out of text that a server under test has sent. */
import { isObject } from "../http/json.ts";

export type Json = Readonly<Record<string, unknown>>;

/** Undefined for a text that is no JSON object. */
export function jsonObject(text: string): Json | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return isObject(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

/** Whether the text holds half of a surrogate pair, which no UTF-8 text can. */
export function hasHalfCharacter(text: string): boolean {
  return /\p{Surrogate}/u.test(text);
}
