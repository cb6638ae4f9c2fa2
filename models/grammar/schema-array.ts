/** Arrays: tuples, items, numbers of items. */
import { comma } from "./json-text.ts";
import { countOf, itemsOf } from "./schema-keywords.ts";
import { literal, oneOf, optional, repeat, sequence } from "./expressions.ts";
import type { Expr } from "./expressions.ts";
import type { Located, Part } from "./schema-parts.ts";
import type { SchemaContext } from "./json-schema.ts";

/** What the array's parts say together. */
interface ArrayShape {
  readonly min: number;
  /** Infinity without a bound. */
  readonly max: number;
  /** Schemas of the first items. */
  readonly prefix: readonly (readonly Located[])[];
  /** Schemas of all others. */
  readonly rest: readonly Located[];
}

/** What is left to do once everything around has been compiled; undefined when any array is valid. */
export function arrayExpr(context: SchemaContext, parts: readonly Part[]): (() => Expr) | undefined {
  const shape = shapeOf(context, parts);
  if (shape === undefined) return () => context.nothing;
  const { min, max, prefix, rest } = shape;
  if (min === 0 && max === Infinity && prefix.length === 0 && rest.length === 0) return undefined;
  return () => (prefix.length === 0 ? list(context, shape) : tuple(context, shape));
}

/** Undefined when no number of items is right. */
function shapeOf(context: SchemaContext, parts: readonly Part[]): ArrayShape | undefined {
  let [min, max]: (number | undefined)[] = [];
  const prefix: Located[][] = [];
  const rest: Located[] = [];
  let bounded: readonly string[] = [];
  const items = parts.map(({ schema, path }) => ({ ...itemsOf(schema, path), path }));
  const places = Math.max(0, ...items.map((one) => one.prefix.length));
  for (const one of items) {
    const restSchema = { schema: one.rest, path: [...one.path, one.restKey] };
    for (let index = 0; index < places; index++) {
      const place = (prefix[index] ??= []);
      if (index < one.prefix.length)
        place.push({ schema: one.prefix[index], path: [...one.path, one.prefixKey, String(index)] });
      else if (one.rest !== undefined) place.push(restSchema);
    }
    if (one.rest !== undefined) rest.push(restSchema);
  }
  for (const { schema, path } of parts) {
    const least = countOf(schema, "minItems", path);
    const most = countOf(schema, "maxItems", path);
    if (least !== undefined && least >= (min ?? 0)) [min, bounded] = [least, path];
    if (most !== undefined && most <= (max ?? Infinity)) [max, bounded] = [most, path];
  }
  const closed = rest.some((one) => one.schema === false) || (places > 0 && rest.length === 0);
  if (closed && (max === undefined || max > places)) max = places;
  min ??= Math.min(places, max ?? Infinity);
  checkOthers(context, parts, { max: max ?? Infinity, closed });
  if (min > (max ?? Infinity)) {
    context.contradiction(bounded, "minItems", "'minItems' is more than the array can have.");
    return undefined;
  }
  return { min, max: max ?? Infinity, prefix, rest };
}

function checkOthers(
  context: SchemaContext,
  parts: readonly Part[],
  { max, closed }: { readonly max: number; readonly closed: boolean },
): void {
  for (const { schema, path } of parts) {
    const unique = schema["uniqueItems"];
    if (unique !== undefined && unique !== false && max > 1) context.relax(path, "uniqueItems");
    const unevaluated = schema["unevaluatedItems"];
    if (unevaluated !== undefined && unevaluated !== true && !closed && schema["items"] === undefined)
      context.relax(path, "unevaluatedItems");
  }
}

function list(context: SchemaContext, { min, max, rest }: ArrayShape): Expr {
  if (max === 0) return literal("[]");
  const { builder } = context;
  const item = context.inner(rest, "item");
  const more = sequence(comma(builder), item);
  const items = sequence(item, repeat(more, Math.max(min - 1, 0), max === Infinity ? undefined : max - 1));
  return sequence(literal("["), min === 0 ? optional(items) : items, literal("]"));
}

/** From the end, because the items that may be missing are the last ones. */
function tuple(context: SchemaContext, { min, max, prefix, rest }: ArrayShape): Expr {
  const { builder } = context;
  const places = prefix.slice(0, max);
  const end = literal("]");
  let tail: Expr = end;
  if (max > prefix.length) {
    const more = sequence(comma(builder), context.inner(rest, "item"));
    const left = max === Infinity ? undefined : max - prefix.length;
    tail = sequence(repeat(more, Math.max(min - prefix.length, 0), left), end);
  }
  for (let index = places.length - 1; index >= 0; index--) {
    const item = context.inner(places[index] ?? [], "item");
    const before = index === 0 ? item : sequence(comma(builder), item);
    const whole = sequence(before, tail);
    tail = index < min ? whole : oneOf(end, whole);
    // A rule now and then, so that long tuples do not become deep or wide expressions.
    if (index >= min || index % 16 === 0) tail = index === 0 ? tail : builder.rule("items", tail);
  }
  return sequence(literal("["), tail);
}
