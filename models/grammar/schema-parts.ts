/**
 * A conjunction of schemas: what has to hold at one place. "$ref" and "allOf" are followed and replaced by what they stand for, so that
 * the same place in a recursive schema is always the same conjunction.
 */
import { SchemaError } from "./schema-error.ts";
import {
  isSchemaObject,
  listOf,
  resolveReference,
  restricts,
  stringOf,
  unknownKeywords,
} from "./schema-keywords.ts";
import type { SchemaObject } from "./schema-keywords.ts";

/** One schema of a conjunction, as it stands in the document, without its "$ref" and "allOf". */
export interface Part {
  readonly schema: SchemaObject;
  readonly path: readonly string[];
  readonly id: number;
  /** "anyOf" and "oneOf" of it that are chosen from already. */
  readonly chosen: readonly Disjunction[];
}

export type Disjunction = "anyOf" | "oneOf";

export interface Conjunction {
  readonly parts: readonly Part[];
  /** Where a schema `false` forbids everything. */
  readonly forbidden: readonly string[] | undefined;
}

export interface Located {
  readonly schema: unknown;
  readonly path: readonly string[];
}

/** References and members of "allOf" within each other. */
const MAX_CHAIN = 100;
/** In all. Members of "allOf" multiply when they are shared. */
const MAX_STEPS = 100_000;

export class PartCollector {
  readonly #root: unknown;
  readonly #ids = new Map<SchemaObject, number>();
  readonly #maxSteps: number;
  #steps = 0;

  /** @param maxSteps Schemas that are followed before it gives up. */
  constructor(root: unknown, maxSteps = MAX_STEPS) {
    this.#root = root;
    this.#maxSteps = maxSteps;
  }

  /** @throws SchemaError for references that lead nowhere or round in circles. */
  conjunction(schemas: readonly Located[]): Conjunction {
    const parts = new Map<SchemaObject, Part>();
    let forbidden: readonly string[] | undefined;
    const chain = new Set<unknown>();
    const add = ({ schema, path }: Located): void => {
      if (++this.#steps > this.#maxSteps) throw new SchemaError(path, "", "the schema is too complex.");
      if (schema === true) return;
      if (schema === false) {
        forbidden ??= path;
        return;
      }
      if (!isSchemaObject(schema)) throw new SchemaError(path, "", "a schema is an object or a boolean.");
      if (chain.has(schema)) throw new SchemaError(path, "$ref", "the reference leads back to itself.");
      if (chain.size >= MAX_CHAIN)
        throw new SchemaError(path, "$ref", `more than ${MAX_CHAIN} references in a row.`);
      chain.add(schema);
      for (const next of this.#links(schema, path)) add(next);
      chain.delete(schema);
      // Mere references must not make a difference, or each level of a recursive schema would look new.
      const says = restricts(schema, ["$ref", "allOf", "nullable"]) || unknownKeywords(schema).length > 0;
      if (says && !parts.has(schema)) parts.set(schema, { schema, path, id: this.#idOf(schema), chosen: [] });
    };
    for (const schema of schemas) add(schema);
    return { parts: [...parts.values()], forbidden };
  }

  #links(schema: SchemaObject, path: readonly string[]): Located[] {
    const links: Located[] = [];
    const reference = stringOf(schema, "$ref", path);
    if (reference !== undefined) {
      const resolved = resolveReference(this.#root, reference);
      if (resolved === undefined)
        throw new SchemaError(
          path,
          "$ref",
          `reference '${reference.slice(0, 200)}' does not point to a definition.`,
        );
      links.push({ schema: resolved.target, path: resolved.path });
    }
    for (const [index, schemaOfAll] of (listOf(schema, "allOf", path) ?? []).entries())
      links.push({ schema: schemaOfAll, path: [...path, "allOf", String(index)] });
    return links;
  }

  #idOf(schema: SchemaObject): number {
    let id = this.#ids.get(schema);
    if (id === undefined) this.#ids.set(schema, (id = this.#ids.size));
    return id;
  }
}

/** Equal for conjunctions of the same schemas. */
export function keyOf(parts: readonly Part[]): string {
  return parts
    .map((part) => `${part.id}${part.chosen.join("")}`)
    .sort()
    .join(" ");
}

/** The same, once one option of `kind` of that part is taken. */
export function withChoiceMade(parts: readonly Part[], chosen: Part, kind: Disjunction): readonly Part[] {
  return parts.flatMap((part) => {
    if (part !== chosen) return [part];
    const made = [...part.chosen, kind];
    return restricts(part.schema, ["$ref", "allOf", "nullable", ...made]) ? [{ ...part, chosen: made }] : [];
  });
}

/** Each part once; the first of two that differ in the choices made is kept. */
export function joinParts(left: readonly Part[], right: readonly Part[]): readonly Part[] {
  const ids = new Set(left.map((part) => part.id));
  return [...left, ...right.filter((part) => !ids.has(part.id))];
}
