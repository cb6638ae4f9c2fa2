/** Checks a value against a schema: exactly the keywords that the compiler enforces. */
import { FORMATS } from "./formats.ts";
import { GrammarBuilder } from "./grammar.ts";
import { GrammarError } from "./grammar-error.ts";
import { GrammarMatcher } from "./matcher.ts";
import { SchemaError } from "./schema-error.ts";
import { searchAlternatives, searched } from "./regex.ts";
import { isMultiple } from "./decimal.ts";
import { isSchemaObject, itemsOf, resolveReference, typesOf } from "./schema-keywords.ts";
import type { Alternative } from "./regex.ts";
import type { StepBudget } from "./matcher.ts";
import type { SchemaObject, Type } from "./schema-keywords.ts";

export interface InstanceError {
  /** Where in the value, as in "tags.0"; "" is the root. */
  readonly path: string;
  readonly message: string;
}

/** Levels of a value and of references; more only in a value that was nested deliberately. */
const MAX_DEPTH = 400;

/** Looks at parts of schemas and values; more only where options are nested to multiply. */
const MAX_CHECKS = 200_000;
/** Of matching patterns. */
const MAX_STEPS = 2_000_000;

/** @returns What is wrong first; undefined when the value is valid, or when it would take too long to say. */
export function validateInstance(schema: unknown, value: unknown): InstanceError | undefined {
  try {
    return new InstanceValidator(schema).check(schema, value, []);
  } catch (error) {
    if (error instanceof GrammarError || error instanceof SchemaError) return undefined;
    throw error;
  }
}

/** For several values; `root` is where references start from. */
export class InstanceValidator {
  readonly #root: unknown;
  /** One test for each alternative. */
  readonly #patterns = new Map<string, readonly ((text: string) => boolean)[]>();
  readonly #steps: StepBudget = { left: MAX_STEPS };
  #depth = 0;
  #checks = 0;

  constructor(root: unknown) {
    this.#root = root;
  }

  /** @throws GrammarError when it takes too long. */
  check(schema: unknown, value: unknown, path: readonly string[]): InstanceError | undefined {
    if (++this.#checks > MAX_CHECKS) throw new GrammarError("It takes too long to validate the value.");
    if (schema === false) return fail(path, "nothing is allowed here");
    if (!isSchemaObject(schema)) return undefined;
    if (this.#depth >= MAX_DEPTH) return fail(path, "it is nested too deep");
    this.#depth++;
    const error = this.#general(schema, value, path) ?? this.#specific(schema, value, path);
    this.#depth--;
    return error;
  }

  #general(schema: SchemaObject, value: unknown, path: readonly string[]): InstanceError | undefined {
    const types = typesOf(schema, []);
    if (types !== undefined && ![...types].some((type) => isOfType(value, type)))
      return fail(path, `it is not of type ${[...types].join(" or ")}`);
    if (Array.isArray(schema["enum"]) && !schema["enum"].some((item) => isEqual(item, value)))
      return fail(path, "it is not one of the enumerated values");
    if (schema["const"] !== undefined && !isEqual(schema["const"], value))
      return fail(path, "it is not the constant value");
    const reference = schema["$ref"];
    if (typeof reference === "string") {
      const resolved = resolveReference(this.#root, reference);
      const error = resolved === undefined ? undefined : this.check(resolved.target, value, path);
      if (error !== undefined) return error;
    }
    for (const part of lists(schema, "allOf")) {
      const error = this.check(part, value, path);
      if (error !== undefined) return error;
    }
    for (const keyword of ["anyOf", "oneOf"]) {
      const options = lists(schema, keyword);
      if (options.length === 0 || options.some((option) => this.check(option, value, path) === undefined))
        continue;
      return fail(path, `it matches none of the options of ${keyword}`);
    }
    return undefined;
  }

  #specific(schema: SchemaObject, value: unknown, path: readonly string[]): InstanceError | undefined {
    if (typeof value === "number") return numberError(schema, value, path);
    if (typeof value === "string") return this.#string(schema, value, path);
    if (Array.isArray(value)) return this.#array(schema, value, path);
    return isSchemaObject(value) ? this.#object(schema, value, path) : undefined;
  }

  #string(schema: SchemaObject, value: string, path: readonly string[]): InstanceError | undefined {
    const length = Array.from(value).length;
    if (length < bound(schema, "minLength", 0)) return fail(path, "the string is too short");
    if (length > bound(schema, "maxLength", Infinity)) return fail(path, "the string is too long");
    const { pattern, format } = schema;
    if (
      typeof pattern === "string" &&
      !this.#matches(`pattern ${pattern}`, () => searchAlternatives(pattern), value)
    )
      return fail(path, `it does not match the pattern ${pattern}`);
    // As narrow as the compiler writes them, so that no value that it lets pass is wrong.
    const regex = typeof format === "string" ? FORMATS.get(format) : undefined;
    if (
      regex !== undefined &&
      !this.#matches(`format ${regex}`, () => searchAlternatives(`^(?:${regex})$`), value)
    )
      return fail(path, `it is not of the format ${String(format)}`);
    return undefined;
  }

  /** True for patterns that are not understood. Our own matcher, because its time is bounded. */
  #matches(key: string, parse: () => readonly Alternative[], text: string): boolean {
    let tests = this.#patterns.get(key);
    if (tests === undefined) this.#patterns.set(key, (tests = testsOf(parse, this.#steps)));
    return tests.length === 0 || tests.some((test) => test(text));
  }

  #array(
    schema: SchemaObject,
    value: readonly unknown[],
    path: readonly string[],
  ): InstanceError | undefined {
    if (value.length < bound(schema, "minItems", 0)) return fail(path, "the array is too short");
    if (value.length > bound(schema, "maxItems", Infinity)) return fail(path, "the array is too long");
    const { prefix, rest } = itemsOf(schema, []);
    for (const [index, item] of value.entries()) {
      const error = this.check(index < prefix.length ? prefix[index] : rest, item, [...path, String(index)]);
      if (error !== undefined) return error;
    }
    return undefined;
  }

  #object(schema: SchemaObject, value: SchemaObject, path: readonly string[]): InstanceError | undefined {
    const { required } = schema;
    const missing = Array.isArray(required)
      ? required.find((name) => typeof name === "string" && !Object.hasOwn(value, name))
      : undefined;
    if (missing !== undefined) return fail(path, `the property '${String(missing)}' is missing`);
    const names = Object.keys(value);
    if (names.length < bound(schema, "minProperties", 0))
      return fail(path, "the object has too few properties");
    if (names.length > bound(schema, "maxProperties", Infinity))
      return fail(path, "the object has too many properties");
    const properties = isSchemaObject(schema["properties"]) ? schema["properties"] : {};
    for (const [name, item] of Object.entries(value)) {
      const part = Object.hasOwn(properties, name) ? properties[name] : schema["additionalProperties"];
      const error = this.check(part, item, [...path, name]);
      if (error !== undefined) return error;
    }
    return undefined;
  }
}

function testsOf(
  parse: () => readonly Alternative[],
  budget: StepBudget,
): readonly ((text: string) => boolean)[] {
  try {
    return parse().map((alternative) => {
      const conditions = [{ expr: searched(alternative), holds: true }, ...alternative.ahead].map(
        ({ expr, holds }) => ({
          matcher: new GrammarMatcher(new GrammarBuilder().build(expr), budget),
          holds,
        }),
      );
      return (text) => conditions.every(({ matcher, holds }) => matcher.accepts(text) === holds);
    });
  } catch {
    return [];
  }
}

function numberError(
  schema: SchemaObject,
  value: number,
  path: readonly string[],
): InstanceError | undefined {
  if (value < bound(schema, "minimum", -Infinity)) return fail(path, "the number is too small");
  if (value > bound(schema, "maximum", Infinity)) return fail(path, "the number is too large");
  if (value <= bound(schema, "exclusiveMinimum", -Infinity)) return fail(path, "the number is too small");
  if (value >= bound(schema, "exclusiveMaximum", Infinity)) return fail(path, "the number is too large");
  const step = bound(schema, "multipleOf", 0);
  return step > 0 && !isMultiple(value, step)
    ? fail(path, `the number is not a multiple of ${step}`)
    : undefined;
}

function bound(schema: SchemaObject, keyword: string, absent: number): number {
  const value = schema[keyword];
  return typeof value === "number" ? value : absent;
}

function lists(schema: SchemaObject, keyword: string): readonly unknown[] {
  const value = schema[keyword];
  return Array.isArray(value) ? value : [];
}

function fail(path: readonly string[], message: string): InstanceError {
  return { path: path.join("."), message };
}

export function isOfType(value: unknown, type: Type): boolean {
  switch (type) {
    case "null":
      return value === null;
    case "array":
      return Array.isArray(value);
    case "object":
      return isSchemaObject(value);
    case "integer":
      return typeof value === "number" && Number.isInteger(value);
    case "boolean":
    case "number":
    case "string":
      return typeof value === type;
  }
}

/** As JSON: the order of keys does not matter. Both are as deep as a request's body can be. */
export function isEqual(left: unknown, right: unknown): boolean {
  if (left === right) return true;
  if (typeof left !== "object" || typeof right !== "object" || left === null || right === null) return false;
  if (Array.isArray(left) !== Array.isArray(right)) return false;
  const [one, other] = [new Map(Object.entries(left)), new Map(Object.entries(right))];
  return (
    one.size === other.size &&
    [...one].every(([key, value]) => other.has(key) && isEqual(value, other.get(key)))
  );
}
