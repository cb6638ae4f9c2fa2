/** Which types a schema allows, for readers of texts that do not show theirs. */
import { commonTypes, impliedTypes, isSchemaObject, listOf, objectOf, typesOf } from "./schema-keywords.ts";
import { PartCollector } from "./schema-parts.ts";
import { SchemaError } from "./schema-error.ts";
import { isOfType } from "./validate-instance.ts";
import type { Located, Part } from "./schema-parts.ts";
import type { Type } from "./schema-keywords.ts";

/** Schemas that are looked at for one value. */
const MAX_STEPS = 2000;
/** Choices within choices. */
const MAX_DEPTH = 8;

/**
 * Types of the values that all of these allow, or more; undefined when any type is allowed.
 * @param root Where references start from.
 * @throws SchemaError for schemas that are wrong or too complex.
 */
export function valueTypes(root: unknown, schemas: readonly Located[]): ReadonlySet<Type> | undefined {
  return new TypeFinder(root).typesOf(schemas, 0);
}

/** Types of a property of an object; undefined when any type is allowed, or when they cannot be told. Never throws. */
export function propertyTypes(root: unknown, name: string): ReadonlySet<Type> | undefined {
  try {
    return new TypeFinder(root).ofProperty(name);
  } catch (error) {
    if (error instanceof SchemaError) return undefined;
    throw error;
  }
}

class TypeFinder {
  readonly #root: unknown;
  readonly #collector: PartCollector;

  constructor(root: unknown) {
    this.#root = root;
    this.#collector = new PartCollector(root, MAX_STEPS);
  }

  ofProperty(name: string): ReadonlySet<Type> | undefined {
    const { parts } = this.#collector.conjunction([{ schema: this.#root, path: [] }]);
    const schemas = parts.flatMap(({ schema, path }): Located[] => {
      const own = objectOf(schema, "properties", path);
      if (own !== undefined && Object.hasOwn(own, name)) return [{ schema: own[name], path }];
      const others = schema["additionalProperties"];
      return isSchemaObject(others) ? [{ schema: others, path }] : [];
    });
    return this.typesOf(schemas, 0);
  }

  typesOf(schemas: readonly Located[], depth: number): ReadonlySet<Type> | undefined {
    const { parts, forbidden } = this.#collector.conjunction(schemas);
    if (forbidden !== undefined) return new Set();
    const sets = parts.flatMap((part) => this.#said(part, depth));
    if (sets.length > 0) return commonTypes(sets);
    const implied = new Set(parts.flatMap(({ schema }) => [...impliedTypes(schema)]));
    return implied.size === 0 ? undefined : implied;
  }

  /** What each keyword of the part says of types. */
  #said({ schema, path }: Part, depth: number): ReadonlySet<Type>[] {
    if (depth > MAX_DEPTH) throw new SchemaError(path, "", "the choices are nested too deep.");
    const values = listOf(schema, "enum", path);
    const choices = (["anyOf", "oneOf"] as const).flatMap((kind) => {
      const options = listOf(schema, kind, path);
      return options === undefined ? [] : [options];
    });
    return [
      typesOf(schema, path),
      values && new Set(values.map(typeOfValue)),
      Object.hasOwn(schema, "const") ? new Set([typeOfValue(schema["const"])]) : undefined,
      ...choices.map((options) => this.#union(options, path, depth)),
    ].filter((set) => set !== undefined);
  }

  #union(options: readonly unknown[], path: readonly string[], depth: number): ReadonlySet<Type> | undefined {
    const sets = options.map((schema) => this.typesOf([{ schema, path }], depth + 1));
    return sets.includes(undefined) ? undefined : new Set(sets.flatMap((set) => [...(set ?? [])]));
  }
}

function typeOfValue(value: unknown): Type {
  const types: readonly Type[] = ["null", "array", "string", "boolean", "integer", "number"];
  return types.find((type) => isOfType(value, type)) ?? "object";
}
