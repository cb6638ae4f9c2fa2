/**
 * Objects: declared properties in their order, each required or not, and then additional ones. What can follow at a place is a rule
 * of its own where properties may be missing, so that the grammar grows with their number and not with its square.
 */
import { comma, space } from "./json-text.ts";
import { otherKey, pair } from "./notation.ts";
import { countOf, impliedTypes, isSchemaObject, listOf, objectOf } from "./schema-keywords.ts";
import { literal, oneOf, optional, repeat, sequence } from "./expressions.ts";
import { SchemaError } from "./schema-error.ts";
import type { Expr } from "./expressions.ts";
import type { Located, Part } from "./schema-parts.ts";
import type { SchemaContext } from "./json-schema.ts";

interface Property {
  readonly name: string;
  readonly schemas: readonly Located[];
  readonly required: boolean;
}

/** What an object's parts say together. */
export interface ObjectShape {
  readonly properties: readonly Property[];
  /** What other properties have to be; undefined when there are none. */
  readonly additional: readonly Located[] | undefined;
  readonly path: readonly string[];
  /** For the names of other properties. */
  readonly names: readonly Located[];
  readonly min: number;
  /** Infinity without a bound. */
  readonly max: number;
}

/** Each property that may be missing is a way to go on, and llama.cpp tries all of them at every comma. */
const MAX_OPTIONAL = 500;

/** What is left to do once everything around has been compiled; undefined when any object is valid. */
export function objectExpr(context: SchemaContext, parts: readonly Part[]): (() => Expr) | undefined {
  const shape = objectShape(context, parts);
  if (shape === undefined) return () => context.nothing;
  const { properties, additional, names, min, max } = shape;
  const anyValue = additional?.every((one) => one.schema === true) === true;
  if (properties.length === 0 && anyValue && names.length === 0 && min === 0 && max === Infinity)
    return undefined;
  return () =>
    properties.length === 0 && additional !== undefined ? record(context, shape) : closed(context, shape);
}

/** Undefined when no number of properties is right. */
export function objectShape(context: SchemaContext, parts: readonly Part[]): ObjectShape | undefined {
  const declared = parts.map(({ schema, path }) => ({
    properties: objectOf(schema, "properties", path),
    additional: schema["additionalProperties"],
    path,
  }));
  const required = requiredNames(parts);
  const allowed = allowedNames(parts);
  const names = new Set([
    ...declared.flatMap((one) => Object.keys(one.properties ?? {})),
    ...(allowed?.names ?? []),
    ...required,
  ]);
  const properties = [...names].map((name): Property => {
    const schemas = declared.flatMap(({ properties: own, additional, path }): Located[] => {
      if (own !== undefined && Object.hasOwn(own, name))
        return [{ schema: own[name], path: [...path, "properties", name] }];
      return additional === undefined
        ? []
        : [{ schema: additional, path: [...path, "additionalProperties"] }];
    });
    if (allowed?.names.has(name) === false) schemas.push({ schema: false, path: allowed.path });
    return { name, schemas, required: required.has(name) };
  });
  const given = declared.filter((one) => one.additional !== undefined);
  const open =
    allowed === undefined &&
    given.every((one) => one.additional !== false) &&
    (given.length > 0 || declared.every((one) => one.properties === undefined));
  const additional = open
    ? given.map((one) => ({ schema: one.additional, path: [...one.path, "additionalProperties"] }))
    : undefined;
  if (properties.filter((property) => !property.required).length > MAX_OPTIONAL)
    throw new SchemaError(
      parts[0]?.path ?? [],
      "properties",
      `more than ${MAX_OPTIONAL} properties are not required.`,
    );
  return withCounts(context, parts, { properties, additional });
}

function requiredNames(parts: readonly Part[]): ReadonlySet<string> {
  const names = new Set<string>();
  for (const { schema, path } of parts) {
    for (const name of listOf(schema, "required", path) ?? []) {
      if (typeof name !== "string")
        throw new SchemaError(path, "required", "'required' is not a list of strings.");
      names.add(name);
    }
  }
  return names;
}

/** The names that "propertyNames" enumerates; undefined when it does not. */
function allowedNames(
  parts: readonly Part[],
): { readonly names: ReadonlySet<string>; readonly path: readonly string[] } | undefined {
  for (const { schema, path } of parts) {
    const values = enumeratedNames(schema["propertyNames"]);
    if (values === undefined) continue;
    const names = values.filter((value): value is string => typeof value === "string");
    return { names: new Set(names), path: [...path, "propertyNames"] };
  }
  return undefined;
}

function enumeratedNames(schema: unknown): readonly unknown[] | undefined {
  if (!isSchemaObject(schema) || !Array.isArray(schema["enum"])) return undefined;
  const { enum: values, ...others } = schema;
  return saysNothingOfStrings(others) && Array.isArray(values) ? values : undefined;
}

/** Numbers and names of properties, as far as they can be told. */
function withCounts(
  context: SchemaContext,
  parts: readonly Part[],
  { properties, additional }: Pick<ObjectShape, "properties" | "additional">,
): ObjectShape | undefined {
  const required = properties.filter((property) => property.required).length;
  const most = additional === undefined ? properties.length : Infinity;
  const isRecord = properties.length === 0 && additional !== undefined;
  let [min, max] = [0, Infinity];
  const names: Located[] = [];
  for (const { schema, path } of parts) {
    const least = countOf(schema, "minProperties", path) ?? 0;
    const limit = countOf(schema, "maxProperties", path) ?? Infinity;
    if (least > most || limit < required) {
      context.contradiction(
        path,
        least > most ? "minProperties" : "maxProperties",
        "no number of properties is right.",
      );
      return undefined;
    }
    // One property is more than none; further ones of a record might have the same name.
    if (least > required && least > 1) context.relax(path, "minProperties");
    else if (least > required) min = 1;
    if (limit < most && !isRecord) context.relax(path, "maxProperties");
    else max = Math.min(max, limit);
    const unevaluated = schema["unevaluatedProperties"];
    if (unevaluated !== undefined && unevaluated !== true && additional !== undefined)
      context.relax(path, "unevaluatedProperties");
    const nameSchema = schema["propertyNames"];
    if (nameSchema === undefined || saysNothingOfStrings(nameSchema)) continue;
    if (enumeratedNames(nameSchema) !== undefined && parts.length === 1) continue;
    if (isRecord) names.push({ schema: nameSchema, path: [...path, "propertyNames"] });
    else context.relax(path, "propertyNames");
  }
  return { properties, additional, path: parts[0]?.path ?? [], names, min, max };
}

function saysNothingOfStrings(schema: unknown): boolean {
  if (schema === true) return true;
  if (!isSchemaObject(schema)) return false;
  return (
    Object.keys(schema).every(
      (key) => key === "type" || key === "title" || key === "description" || key === "$schema",
    ) &&
    (schema["type"] === undefined || schema["type"] === "string") &&
    impliedTypes(schema).size === 0
  );
}

/** No properties are declared: any number of them with the same kind of value. */
function record(context: SchemaContext, { additional, names, min, max }: ObjectShape): Expr {
  const { builder } = context;
  if (max === 0) return literal("{}");
  const stringName: Located = { schema: { type: "string" }, path: names[0]?.path ?? [] };
  const key = names.length === 0 ? otherKey(context, []) : context.inner([stringName, ...names], "key");
  const member = builder.rule(
    "member",
    sequence(key, literal(":"), space(builder), context.inner(additional ?? [], "value")),
  );
  const more = repeat(sequence(comma(builder), member), 0, max === Infinity ? undefined : max - 1);
  const members = sequence(member, more);
  return sequence(literal("{"), min === 0 ? optional(members) : members, literal("}"));
}

/** Items of a sequence after which a rule begins: joining long sequences over and over would take quadratic time. */
const CHUNK = 40;

function closed(context: SchemaContext, shape: ObjectShape): Expr {
  const { builder } = context;
  const { properties, min } = shape;
  const others = otherProperties(context, shape);
  const end = literal("}");
  /** What may stand behind a property. */
  let rest = others === undefined ? end : sequence(repeat(sequence(comma(builder), others), 0), end);
  /** The same behind a comma, or at the beginning; undefined when nothing more may come. */
  let next = others === undefined ? undefined : sequence(others, rest);
  let anyRequired = false;
  for (const property of [...properties].reverse()) {
    const value = context.inner(property.schemas, property.name);
    const here = sequence(pair(context, property.name, value), rest);
    anyRequired ||= property.required;
    if (property.required || next === undefined) next = chunked(builder, here);
    else next = builder.rule("next", oneOf(here, next));
    const more = sequence(comma(builder), next);
    rest = anyRequired ? chunked(builder, more) : builder.rule("more", oneOf(end, more));
  }
  if (next === undefined) return literal("{}");
  return sequence(literal("{"), anyRequired || min > 0 ? next : oneOf(end, next));
}

function chunked(builder: SchemaContext["builder"], expr: Expr): Expr {
  return expr.kind === "sequence" && expr.items.length > CHUNK ? builder.rule("more", expr) : expr;
}

/** One additional property; its name is none of the declared ones. */
function otherProperties(context: SchemaContext, { properties, additional }: ObjectShape): Expr | undefined {
  if (additional === undefined) return undefined;
  const { builder } = context;
  const key = otherKey(
    context,
    properties.map((property) => property.name),
  );
  return builder.rule(
    "other",
    sequence(key, literal(":"), space(builder), context.inner(additional, "value")),
  );
}
