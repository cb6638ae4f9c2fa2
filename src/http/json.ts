/** Bytes to a JSON value, with the bounds that keep the parser and everything behind it safe. */
import type { Limits } from "../config/limits.ts";
import { ApiError } from "../openai/api-error.ts";

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const COLON = 0x3a;

/** A `\uD8xx`-`\uDFxx` escape may leave half a surrogate pair, which no UTF-8 text can hold. */
const SURROGATE_ESCAPE = /\\u[dD][89abAB][0-9a-fA-F]{2}|\\u[dD][c-fC-F][0-9a-fA-F]{2}/;
const LONE_SURROGATE = /\p{Surrogate}/gu;

/** @throws {ApiError} 400 for bytes that are not UTF-8, not JSON, nested too deeply, or not an object. */
export function parseJsonObject(bytes: Uint8Array, limits: Limits): Record<string, unknown> {
  const value = parseJson(bytes, limits);
  if (!isObject(value)) throw new ApiError("invalid_json", "The body must be a JSON object.");
  return value;
}

/** @throws {ApiError} 400 for bytes that are not UTF-8, not JSON, nested too deeply, or not an array. */
export function parseJsonArray(bytes: Uint8Array, limits: Limits): readonly unknown[] {
  const value = parseJson(bytes, limits);
  if (!Array.isArray(value)) throw new ApiError("invalid_json", "The body must be a JSON array.");
  return value;
}

function parseJson(bytes: Uint8Array, limits: Limits): unknown {
  checkStructure(bytes, limits);
  return parse(decode(bytes));
}

export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function decode(bytes: Uint8Array): string {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    throw new ApiError("invalid_json", "The body of your request is not valid UTF-8.");
  }
}

function parse(text: string): unknown {
  try {
    return SURROGATE_ESCAPE.test(text)
      ? JSON.parse(text, (_key, value: unknown) => (typeof value === "string" ? wellFormed(value) : value))
      : JSON.parse(text);
  } catch {
    throw new ApiError(
      "invalid_json",
      "We could not parse the JSON body of your request. (HINT: This likely means you aren't using your HTTP " +
        "library correctly. The server expects a JSON payload, but what was sent was not valid JSON.)",
    );
  }
}

function wellFormed(text: string): string {
  return text.replace(LONE_SURROGATE, "\uFFFD");
}

/**
 * Looks at the bytes before anything recursive does, and before anything is made of them; strings are skipped, validity is
 * the parser's matter.
 */
function checkStructure(bytes: Uint8Array, limits: Limits): void {
  const maxDepth = limits["max-json-depth"];
  const maxNodes = limits["max-json-nodes"];
  const maxFields = limits["max-fields"];
  let depth = 0;
  let nodes = 0;
  let fields = 0;
  let inString = false;
  for (let i = 0; i < bytes.length; i++) {
    const byte = bytes[i];
    if (inString) {
      if (byte === BACKSLASH) i++;
      else if (byte === QUOTE) inString = false;
    } else if (byte === QUOTE) inString = true;
    else if (byte === 0x7b || byte === 0x5b) {
      depth++;
      nodes++;
      if (depth > maxDepth)
        throw new ApiError(
          "invalid_json",
          `The JSON body is nested deeper than ${maxDepth} levels, the most this server accepts (--max-json-depth).`,
        );
    } else if (byte === 0x7d || byte === 0x5d) depth--;
    else if (byte === COLON) {
      nodes++;
      if (depth === 1 && ++fields > maxFields)
        throw new ApiError(
          "invalid_json",
          `The JSON body has more than ${maxFields} fields, the most this server accepts (--max-fields).`,
        );
    } else continue;
    if (nodes > maxNodes)
      throw new ApiError(
        "invalid_json",
        `The JSON body has more than ${maxNodes} objects, arrays and keys, the most this server accepts (--max-json-nodes).`,
      );
  }
}
