/** Says what zod found wrong in OpenAI's words, with the field's path and OpenAI's error code. */
import { z } from "zod";
import type { LimitName } from "../config/limits.ts";
import { isObject } from "../http/json.ts";
import { ApiError } from "./api-error.ts";

type Issue = z.core.$ZodIssue;
type Path = readonly PropertyKey[];

const DECIMAL = "a decimal";
const INTEGER = "an integer";
const INT32_MAX = 2 ** 31 - 1;

/** A finite number in a closed range; the message is the name of the type, which `toApiError` reads. */
export function decimal(min: number, max: number): z.ZodNumber {
  return z.number(DECIMAL).min(min, DECIMAL).max(max, DECIMAL);
}

/** A whole number in a closed range; the message is the name of the type, which `toApiError` reads. */
export function integer(min: number, max: number = INT32_MAX): z.ZodInt {
  return z.int(INTEGER).min(min, INTEGER).max(max, INTEGER);
}

/** @throws {ApiError} 400 for the first thing that `schema` finds wrong. */
export function parseWith<T>(schema: z.ZodType<T>, body: Readonly<Record<string, unknown>>): T {
  const result = schema.safeParse(body);
  if (result.success) return result.data;
  const issue = result.error.issues[0];
  throw issue === undefined ? new ApiError("invalid_value", "Invalid request.") : toApiError(issue, body);
}

/** Explicit `null` is the same as absent for every field of the object itself. */
export function withoutNulls(object: Readonly<Record<string, unknown>>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(object).filter(([, value]) => value !== null));
}

/**
 * @param option The limit that `max` is, if it is one.
 * @throws {ApiError} 400 when `value` is an array longer than `max`; checked before anything walks through it.
 */
export function checkLength(value: unknown, max: number, param: string, option?: LimitName): void {
  if (Array.isArray(value) && value.length > max) throw arrayTooLong(param, max, value.length, option);
}

function arrayTooLong(param: string, max: number, length: number, option?: LimitName): ApiError {
  return new ApiError(
    "array_above_max_length",
    `Invalid '${param}': array too long. Expected an array with maximum length ${max}, but got an array ` +
      `with length ${length} instead${inBrackets(option)}.`,
    param,
  );
}

/**
 * @param max Unit of `length`.
 * @param option The limit that `max` is, if it is one.
 * @throws {ApiError} 400 when `length` is larger than `max`.
 */
export function checkTextLength(length: number, max: number, param: string, option?: LimitName): void {
  if (length <= max) return;
  throw new ApiError(
    "string_above_max_length",
    `Invalid '${param}': string too long. Expected a string with maximum length ${max}, but got a string with ` +
      `length ${length} instead${inBrackets(option)}.`,
    param,
  );
}

/**
 * @param option The limit that `max` is, if it is one.
 * @throws {ApiError} 400 when the whole number `value` is larger than `max`.
 */
export function checkMaximum(value: number, max: number, param: string, option?: LimitName): void {
  if (value > max) throw outOfRange(INTEGER, "above", param, { limit: max, got: value, option });
}

/** How an operator finds what a client has met. */
function inBrackets(option: LimitName | undefined): string {
  return option === undefined ? "" : ` (--${option})`;
}

export function emptyArray(param: string): ApiError {
  return new ApiError(
    "empty_array",
    `Invalid '${param}': empty array. Expected an array with minimum length 1, but got an empty array instead.`,
    param,
  );
}

export function belowMinimum(param: string, min: number, got: number): ApiError {
  return outOfRange(INTEGER, "below", param, { limit: min, got });
}

export function missing(param: string): ApiError {
  return new ApiError("missing_required_parameter", `Missing required parameter: '${param}'.`, param);
}

export function exclusive(param: string, other: string): ApiError {
  return new ApiError("invalid_value", `'${param}' cannot be combined with '${other}'.`, param);
}

/** @param expected With its article, such as "a string". */
export function wrongType(param: string, expected: string, value: unknown): ApiError {
  return new ApiError(
    "invalid_type",
    `Invalid type for '${param}': expected ${expected}, but got ${typeName(value)} instead.`,
    param,
  );
}

function toApiError(issue: Issue, body: unknown, base: Path = []): ApiError {
  const path = [...base, ...issue.path];
  const param = pathText(path);
  const value = valueAt(body, path);
  switch (issue.code) {
    case "invalid_type":
      return value === undefined ? missing(param) : wrongType(param, expectedName(issue), value);
    case "too_big":
    case "too_small":
      return sizeError(issue, param, value);
    case "invalid_value":
      return notOneOf(param, issue.values.map(String), value);
    case "invalid_union": {
      const nested = deepest(issue.errors);
      if (nested !== undefined) return toApiError(nested, body, path);
      return value === undefined ? missing(param) : wrongType(param, issue.message, value);
    }
    case "custom":
    case "invalid_element":
    case "invalid_format":
    case "invalid_key":
    case "not_multiple_of":
    case "unrecognized_keys":
      return new ApiError("invalid_value", `Invalid value for '${param}'.`, param);
  }
}

function expectedName(issue: Extract<Issue, { code: "invalid_type" }>): string {
  if (issue.message === DECIMAL || issue.message === INTEGER) return issue.message;
  const names: Partial<Record<string, string>> = {
    array: "an array",
    int: INTEGER,
    number: DECIMAL,
    object: "an object",
    record: "an object",
  };
  return names[issue.expected] ?? `a ${issue.expected}`;
}

function sizeError(
  issue: Extract<Issue, { code: "too_big" | "too_small" }>,
  param: string,
  value: unknown,
): ApiError {
  const limit = Number(issue.code === "too_big" ? issue.maximum : issue.minimum);
  const side = issue.code === "too_big" ? "above" : "below";
  if (typeof value === "number") return outOfRange(issue.message, side, param, { limit, got: value });
  if (Array.isArray(value))
    return side === "above" ? arrayTooLong(param, limit, value.length) : emptyArray(param);
  return new ApiError("invalid_value", `Invalid value for '${param}'.`, param);
}

function outOfRange(
  type: string,
  side: "above" | "below",
  param: string,
  {
    limit,
    got,
    option,
  }: { readonly limit: number; readonly got: number; readonly option?: LimitName | undefined },
): ApiError {
  const kind = type === INTEGER ? "integer" : "decimal";
  const [bound, sign] = side === "above" ? (["max", "<="] as const) : (["min", ">="] as const);
  return new ApiError(
    `${kind}_${side}_${bound}_value` as
      | "integer_above_max_value"
      | "integer_below_min_value"
      | "decimal_above_max_value"
      | "decimal_below_min_value",
    `Invalid '${param}': ${kind} ${side} ${bound}imum value. Expected a value ${sign} ${limit}, but got ${got} ` +
      `instead${inBrackets(option)}.`,
    param,
  );
}

/** OpenAI's sentence for a value outside an enumeration, and for none. */
export function notOneOf(param: string, allowed: readonly string[], value: unknown): ApiError {
  if (value === undefined || value === null) return missing(param);
  const list = allowed.map((name) => `'${name}'`);
  const last = list.pop() ?? "";
  const names = list.length === 0 ? last : `${list.join(", ")}${list.length > 1 ? "," : ""} and ${last}`;
  const shown = typeof value === "string" ? `'${value.slice(0, 100)}'` : typeName(value);
  return new ApiError("invalid_value", `Invalid value: ${shown}. Supported values are: ${names}.`, param);
}

/** The issue a member of a union found farthest inside the value: the member the client meant. */
function deepest(branches: readonly (readonly Issue[])[]): Issue | undefined {
  let best: Issue | undefined;
  for (const [first] of branches) {
    if (first !== undefined && first.path.length > (best?.path.length ?? 0)) best = first;
  }
  return best;
}

function valueAt(body: unknown, path: Path): unknown {
  let value = body;
  for (const key of path) {
    if (Array.isArray(value)) value = value[Number(key)] as unknown;
    else if (isObject(value) && Object.hasOwn(value, key)) value = value[String(key)];
    else return undefined;
  }
  return value;
}

/** `messages[0].content`. */
function pathText(path: Path): string {
  return path
    .map((key, i) => (typeof key === "number" ? `[${key}]` : (i === 0 ? "" : ".") + String(key)))
    .join("");
}

function typeName(value: unknown): string {
  if (value === null) return "null";
  if (Array.isArray(value)) return "an array";
  if (typeof value === "object") return "an object";
  if (typeof value !== "number") return `a ${typeof value}`;
  if (!Number.isFinite(value)) return "a number that is too large";
  return Number.isInteger(value) ? INTEGER : "a decimal number";
}
