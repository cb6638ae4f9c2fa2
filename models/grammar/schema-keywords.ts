/** Which keywords of JSON Schema mean what here, and how their values are read. */
import { SchemaError } from "./schema-error.ts";

export type SchemaObject = Readonly<Record<string, unknown>>;
export type Type = "object" | "array" | "string" | "number" | "integer" | "boolean" | "null";

export const TYPES: ReadonlySet<Type> = new Set<Type>([
  "object",
  "array",
  "string",
  "number",
  "integer",
  "boolean",
  "null",
]);

/** Keywords by the type that they speak about; one of them without "type" implies it. */
const KEYWORDS_OF_TYPE: ReadonlyMap<string, Type> = new Map<string, Type>([
  ["properties", "object"],
  ["required", "object"],
  ["additionalProperties", "object"],
  ["minProperties", "object"],
  ["maxProperties", "object"],
  ["propertyNames", "object"],
  ["unevaluatedProperties", "object"],
  ["items", "array"],
  ["prefixItems", "array"],
  ["additionalItems", "array"],
  ["minItems", "array"],
  ["maxItems", "array"],
  ["uniqueItems", "array"],
  ["unevaluatedItems", "array"],
  ["pattern", "string"],
  ["minLength", "string"],
  ["maxLength", "string"],
  ["minimum", "number"],
  ["maximum", "number"],
  ["exclusiveMinimum", "number"],
  ["exclusiveMaximum", "number"],
  ["multipleOf", "number"],
]);

/** Of any type. */
const GENERAL = new Set(["type", "enum", "const", "anyOf", "oneOf", "allOf", "$ref", "format", "nullable"]);

/** What says nothing about which values are valid. */
const ANNOTATIONS = new Set([
  "$schema",
  "$id",
  "$comment",
  "$defs",
  "definitions",
  "$anchor",
  "$vocabulary",
  "title",
  "description",
  "default",
  "example",
  "examples",
  "deprecated",
  "readOnly",
  "writeOnly",
  "contentEncoding",
  "contentMediaType",
  "contentSchema",
  "discriminator",
  "externalDocs",
  "xml",
]);

export function isSchemaObject(value: unknown): value is SchemaObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Keywords that restrict values and that the compiler does not know. */
export function unknownKeywords(schema: SchemaObject): string[] {
  return Object.keys(schema).filter(
    (key) =>
      !GENERAL.has(key) && !KEYWORDS_OF_TYPE.has(key) && !ANNOTATIONS.has(key) && !key.startsWith("x-"),
  );
}

/** Whether it says anything about values beyond what `except` says. */
export function restricts(schema: SchemaObject, except: readonly string[]): boolean {
  return Object.keys(schema).some(
    (key) =>
      (GENERAL.has(key) || KEYWORDS_OF_TYPE.has(key)) && !except.includes(key) && schema[key] !== undefined,
  );
}

/** What a schema without "type" speaks about; empty when it speaks about nothing in particular. */
export function impliedTypes(schema: SchemaObject): Set<Type> {
  const implied = new Set<Type>();
  for (const key of Object.keys(schema)) {
    const type = key === "format" && schema["format"] !== undefined ? "string" : KEYWORDS_OF_TYPE.get(key);
    if (type !== undefined) implied.add(type);
  }
  return implied;
}

export function typesOf(schema: SchemaObject, path: readonly string[]): Set<Type> | undefined {
  const given = schema["type"];
  if (given === undefined) return undefined;
  const list: readonly unknown[] = Array.isArray(given) ? given : [given];
  const types = new Set<Type>();
  for (const type of list) {
    if (!isType(type))
      throw new SchemaError(
        path,
        "type",
        `${JSON.stringify(type)?.slice(0, 100)} is not a type of JSON Schema.`,
      );
    types.add(type);
  }
  if (schema["nullable"] === true) types.add("null");
  return types;
}

/** The types that all of these allow. */
export function commonTypes(sets: readonly ReadonlySet<Type>[]): Set<Type> {
  const [first, ...others] = sets;
  const both = [...(first ?? [])].flatMap((type) => narrowed(type, others));
  // Whole numbers are numbers.
  return new Set(both.includes("number") ? both.filter((type) => type !== "integer") : both);
}

function narrowed(type: Type, others: readonly ReadonlySet<Type>[]): Type[] {
  if (others.every((types) => types.has(type) || (type === "integer" && types.has("number")))) return [type];
  const asInteger = type === "number" && others.every((types) => types.has("number") || types.has("integer"));
  return asInteger ? ["integer"] : [];
}

function isType(value: unknown): value is Type {
  const names: ReadonlySet<unknown> = TYPES;
  return names.has(value);
}

/** A count: of items, characters, properties. */
export function countOf(schema: SchemaObject, keyword: string, path: readonly string[]): number | undefined {
  const value = numberOf(schema, keyword, path);
  if (value !== undefined && !(Number.isInteger(value) && value >= 0))
    throw new SchemaError(path, keyword, `'${keyword}' is not a whole number of at least 0.`);
  return value;
}

export function numberOf(schema: SchemaObject, keyword: string, path: readonly string[]): number | undefined {
  const value = schema[keyword];
  if (value === undefined) return undefined;
  if (typeof value !== "number" || !Number.isFinite(value))
    throw new SchemaError(path, keyword, `'${keyword}' is not a number.`);
  return value;
}

export function stringOf(schema: SchemaObject, keyword: string, path: readonly string[]): string | undefined {
  const value = schema[keyword];
  if (value === undefined || typeof value === "string") return value;
  throw new SchemaError(path, keyword, `'${keyword}' is not a string.`);
}

export function listOf(
  schema: SchemaObject,
  keyword: string,
  path: readonly string[],
): readonly unknown[] | undefined {
  const value = schema[keyword];
  if (value === undefined) return undefined;
  if (!Array.isArray(value)) throw new SchemaError(path, keyword, `'${keyword}' is not an array.`);
  return value;
}

export function objectOf(
  schema: SchemaObject,
  keyword: string,
  path: readonly string[],
): SchemaObject | undefined {
  const value = schema[keyword];
  if (value === undefined || isSchemaObject(value)) return value;
  throw new SchemaError(path, keyword, `'${keyword}' is not an object.`);
}

/** Tuples are "prefixItems" and "items", or, as before 2020, an array of "items" and "additionalItems". */
export function itemsOf(
  schema: SchemaObject,
  path: readonly string[],
): {
  readonly prefix: readonly unknown[];
  readonly prefixKey: string;
  readonly rest: unknown;
  readonly restKey: string;
} {
  if (Array.isArray(schema["items"]))
    return {
      prefix: schema["items"],
      prefixKey: "items",
      rest: schema["additionalItems"],
      restKey: "additionalItems",
    };
  const prefix = listOf(schema, "prefixItems", path) ?? [];
  return { prefix, prefixKey: "prefixItems", rest: schema["items"], restKey: "items" };
}

/** What "#" and "#/a/b" point to. */
export function resolveReference(
  root: unknown,
  reference: string,
): { readonly target: unknown; readonly path: readonly string[] } | undefined {
  if (reference === "#") return { target: root, path: [] };
  if (!reference.startsWith("#/")) return undefined;
  let steps: string[];
  try {
    steps = decodeURIComponent(reference.slice(2))
      .split("/")
      .map((step) => step.replaceAll("~1", "/").replaceAll("~0", "~"));
  } catch {
    return undefined;
  }
  let target: unknown = root;
  for (const step of steps) {
    const container: object | undefined = typeof target === "object" && target !== null ? target : undefined;
    if (container === undefined || !Object.hasOwn(container, step)) return undefined;
    target = (container as SchemaObject)[step];
  }
  return { target, path: steps };
}
