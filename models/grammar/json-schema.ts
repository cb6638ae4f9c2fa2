/**
 * JSON Schema as a grammar. A text of the grammar is one JSON document that is valid against the schema; what cannot be said in a
 * grammar is refused (strict) or left out and reported.
 *
 * Where JSON Schema leaves open what to write, the grammar says less than it: keys come in the order in which they are declared;
 * an object that declares properties has no others unless "additionalProperties" is given; a tuple is complete unless "minItems"
 * is given; a schema without "type" is of the types that its keywords speak about.
 */
import { SchemaError } from "./schema-error.ts";
import { integer, number } from "./json-text.ts";
import { arrayExpr } from "./schema-array.ts";
import { checkGrammar } from "./check-grammar.ts";
import { checkSchemaLimits } from "./schema-limits.ts";
import { GrammarError } from "./grammar-error.ts";
import { commonTypes, impliedTypes, listOf, typesOf, unknownKeywords } from "./schema-keywords.ts";
import { InstanceValidator, isEqual } from "./validate-instance.ts";
import { joinParts, keyOf, PartCollector, withChoiceMade } from "./schema-parts.ts";
import { anyArray, anyObject, anyValue, boolean, exactly, JSON_NOTATION, oneOfScalars } from "./notation.ts";
import { literal, oneOf, oneOfTexts } from "./expressions.ts";
import { numberExpr } from "./schema-number.ts";
import { objectExpr, objectShape } from "./schema-object.ts";
import { stringExpr } from "./schema-string.ts";
import { valueTypes } from "./value-types.ts";
import { workBudget } from "./regular.ts";
import type { Conjunction, Disjunction, Located, Part } from "./schema-parts.ts";
import type { Expr } from "./expressions.ts";
import type { WorkBudget } from "./regular.ts";
import type { GrammarBuilder } from "./grammar.ts";
import type { Notation, Writing } from "./notation.ts";
import type { ObjectShape } from "./schema-object.ts";
import type { Type } from "./schema-keywords.ts";

export { SchemaError } from "./schema-error.ts";

export interface CompileOptions {
  /** Refuses what cannot be enforced. */
  readonly strict: boolean;
}

export interface CompiledSchema {
  readonly root: Expr;
  /** Paths of keywords that are not enforced; empty when strict. */
  readonly relaxed: readonly string[];
}

/** What the parts of the compiler need of each other. */
export interface SchemaContext extends Writing {
  /** For strings with several conditions, all of the schema's together. */
  readonly regularBudget: WorkBudget;
  /** Nothing at all: an option that is removed in the end. */
  readonly nothing: Expr;
  /** What is allowed at a place further inside. */
  inner(schemas: readonly Located[], hint: string): Expr;
  /** Says why nothing is allowed. */
  contradiction(path: readonly string[], keyword: string, message: string): Expr;
  /** For what cannot be enforced. */
  relax(path: readonly string[], keyword: string, why?: string): void;
}

/** Conjunctions that are compiled; options that are combined with each other multiply. */
const MAX_CONJUNCTIONS = 12_000;
/** Of what an object has to be as a whole. */
const WHOLE_KEYWORDS = ["anyOf", "oneOf", "enum", "const"] as const;
/** Choices in choices without anything written in between. */
const MAX_CHOICE_DEPTH = 100;

/** @throws SchemaError */
export function compileJsonSchema(
  builder: GrammarBuilder,
  schema: unknown,
  options: CompileOptions,
): CompiledSchema {
  return compiled(schema, () => new Compiler(builder, schema, options).compile());
}

/** Any object, as JSON. */
export function anyJsonObject(builder: GrammarBuilder): Expr {
  return anyObject({ builder, notation: JSON_NOTATION });
}

/** What may stand at one place, in any notation. */
export interface PropertySchema {
  /** Undefined when any type is allowed. */
  readonly types: ReadonlySet<Type> | undefined;
  /** @param only Values of these types. */
  value(notation: Notation, only?: readonly Type[]): Expr;
  /** For what cannot be written at this place. @throws SchemaError when strict. */
  refuse(why: string): void;
}

/** An object property by property. */
export interface PropertySchemas {
  readonly declared: readonly (PropertySchema & { readonly name: string; readonly required: boolean })[];
  /** Properties of any name, so many of them; undefined where only the declared ones may be written. */
  readonly others: (PropertySchema & { readonly min: number; readonly max: number }) | undefined;
}

/**
 * An object that is not written as JSON.
 * @param write Puts the properties together.
 * @throws SchemaError
 */
export function compileProperties(
  builder: GrammarBuilder,
  schema: unknown,
  options: CompileOptions & { readonly write: (properties: PropertySchemas) => Expr },
): CompiledSchema {
  return compiled(schema, () => new Compiler(builder, schema, options).compileProperties(options.write));
}

/** @throws SchemaError */
function compiled(schema: unknown, compile: () => CompiledSchema): CompiledSchema {
  checkSchemaLimits(schema);
  try {
    return compile();
  } catch (error) {
    // Sizes that only the grammar shows, and texts that cannot be written.
    if (error instanceof GrammarError) throw new SchemaError([], "", error.message);
    throw error;
  }
}

class Compiler implements SchemaContext {
  readonly builder: GrammarBuilder;
  /** Of the place that is being compiled. */
  notation: Notation = JSON_NOTATION;
  readonly nothing: Expr;
  readonly regularBudget = workBudget();
  readonly #schema: unknown;
  readonly #validator: InstanceValidator;
  readonly #strict: boolean;
  readonly #collector: PartCollector;
  readonly #relaxed = new Set<string>();
  readonly #checked = new Set<number>();
  readonly #done = new Map<string, Expr>();
  /** Conjunctions that are being compiled with nothing written in between, outermost first. */
  #open: string[] = [];
  /** Bodies of objects and arrays: compiled one after the other, so that nesting costs no stack. */
  readonly #later: (() => void)[] = [];
  #contradiction: SchemaError | undefined;
  #conjunctions = 0;

  constructor(builder: GrammarBuilder, schema: unknown, options: CompileOptions) {
    this.builder = builder;
    this.nothing = builder.recursive("nothing", (self) => self);
    this.#schema = schema;
    this.#validator = new InstanceValidator(schema);
    this.#strict = options.strict;
    this.#collector = new PartCollector(schema);
  }

  compile(): CompiledSchema {
    return this.#finished(this.inner([{ schema: this.#schema, path: [] }], "value"));
  }

  compileProperties(write: (properties: PropertySchemas) => Expr): CompiledSchema {
    const { parts, forbidden } = this.#collector.conjunction([{ schema: this.#schema, path: [] }]);
    if (forbidden !== undefined) throw new SchemaError(forbidden, "", "no value is allowed here.");
    for (const part of parts) {
      this.#checkKeywords(part);
      for (const keyword of WHOLE_KEYWORDS) {
        if (part.schema[keyword] === undefined) continue;
        this.relax(
          part.path,
          keyword,
          `'${keyword}' is not permitted for an object that is not written as JSON.`,
        );
      }
    }
    const shape = objectShape(this, parts);
    return this.#finished(shape === undefined ? this.nothing : write(this.#properties(shape)));
  }

  #properties({ properties, additional, names, path, min, max }: ObjectShape): PropertySchemas {
    if (properties.length > 0 && min > 0 && !properties.some((property) => property.required))
      this.relax(path, "minProperties");
    if (names.length > 0) this.relax(path, "propertyNames");
    const declared = properties.map(({ name, schemas, required }) => ({
      ...this.#place(schemas, [...path, "properties", name]),
      name,
      required,
    }));
    if (properties.length > 0 || additional === undefined) return { declared, others: undefined };
    return { declared, others: { ...this.#place(additional, [...path, "additionalProperties"]), min, max } };
  }

  #place(schemas: readonly Located[], path: readonly string[]): PropertySchema {
    return {
      types: this.#typesOf(schemas, path),
      value: (notation, only) => {
        const narrowed = only === undefined ? [] : [{ schema: { type: [...only] }, path }];
        const outer = this.notation;
        this.notation = notation;
        const expr = this.inner([...schemas, ...narrowed], path.at(-1) ?? "value");
        this.notation = outer;
        return expr;
      },
      refuse: (why) => this.relax(path, "", why),
    };
  }

  #typesOf(schemas: readonly Located[], path: readonly string[]): ReadonlySet<Type> | undefined {
    try {
      return valueTypes(this.#schema, schemas);
    } catch (error) {
      if (!(error instanceof SchemaError)) throw error;
      this.relax(path, "", error.message);
      return undefined;
    }
  }

  #finished(whole: Expr): CompiledSchema {
    for (let next = this.#later.shift(); next !== undefined; next = this.#later.shift()) next();
    const root = this.builder.prune(whole);
    if (root === undefined)
      throw this.#contradiction ?? new SchemaError([], "", "no value of finite size is valid.");
    checkGrammar(this.builder.build(root));
    return { root, relaxed: [...this.#relaxed] };
  }

  inner(schemas: readonly Located[], hint: string): Expr {
    const open = this.#open;
    this.#open = [];
    const expr = this.#conjunction(this.#collector.conjunction(schemas), hint);
    this.#open = open;
    return expr;
  }

  contradiction(path: readonly string[], keyword: string, message: string): Expr {
    this.#contradiction ??= new SchemaError(path, keyword, message);
    return this.nothing;
  }

  relax(path: readonly string[], keyword: string, why = `'${keyword}' is not permitted.`): void {
    if (this.#strict) throw new SchemaError(path, keyword, why);
    this.#relaxed.add([...path, keyword].filter((step) => step !== "").join("."));
  }

  #conjunction({ parts, forbidden }: Conjunction, hint: string): Expr {
    if (forbidden !== undefined) return this.contradiction(forbidden, "", "no value is allowed here.");
    const key = `${this.notation.key} ${keyOf(parts)}`;
    const known = this.#done.get(key);
    if (known !== undefined) return known;
    if (this.#open.includes(key)) {
      // An option that is the choice itself adds nothing to it.
      if (this.#open.at(-1) === key) return this.nothing;
      throw new SchemaError(parts[0]?.path ?? [], "$ref", "the references lead back to themselves.");
    }
    if (++this.#conjunctions > MAX_CONJUNCTIONS || this.#open.length >= MAX_CHOICE_DEPTH)
      throw new SchemaError(parts[0]?.path ?? [], "", "the schema is too complex.");
    for (const part of parts) this.#checkKeywords(part);
    this.#open.push(key);
    const expr = this.#choices(parts, hint) ?? this.#values(parts, hint);
    this.#open.pop();
    this.#done.set(key, expr);
    return expr;
  }

  #checkKeywords({ schema, path, id }: Part): void {
    if (this.#checked.has(id)) return;
    this.#checked.add(id);
    for (const keyword of unknownKeywords(schema)) this.relax(path, keyword);
  }

  /** Undefined when there is nothing left to choose from. */
  #choices(parts: readonly Part[], hint: string): Expr | undefined {
    for (const part of parts) {
      for (const kind of ["anyOf", "oneOf"] as const) {
        if (part.schema[kind] === undefined || part.chosen.includes(kind)) continue;
        return this.#choice(parts, part, kind, hint);
      }
    }
    return undefined;
  }

  #choice(parts: readonly Part[], part: Part, kind: Disjunction, hint: string): Expr {
    const options = listOf(part.schema, kind, part.path) ?? [];
    if (options.length === 0) throw new SchemaError(part.path, kind, `'${kind}' has no options.`);
    const others = withChoiceMade(parts, part, kind);
    const exprs = options.map((schema, index) => {
      const path = [...part.path, kind, String(index)];
      const option = this.#collector.conjunction([{ schema, path }]);
      return this.#conjunction({ ...option, parts: joinParts(others, option.parts) }, hint);
    });
    return this.builder.rule(hint, union(exprs.filter((expr) => expr !== this.nothing)) ?? this.nothing);
  }

  #values(parts: readonly Part[], hint: string): Expr {
    const listed = this.#listedValues(parts);
    if (listed !== undefined) return this.builder.rule(hint, listed);
    const types = typesOfAll(parts);
    if (types === undefined) return anyValue(this);
    if (types.size === 0) return this.contradiction(parts[0]?.path ?? [], "type", "no type is allowed.");
    const exprs = [...types]
      .map((type) => this.#valueOf(type, parts, hint))
      .filter((expr) => expr !== this.nothing);
    const all = union(exprs);
    return all === undefined ? this.nothing : exprs.length === 1 ? all : this.builder.rule(hint, all);
  }

  /** The values of "enum" and "const" that everything else allows too. */
  #listedValues(parts: readonly Part[]): Expr | undefined {
    const lists = parts.flatMap(
      ({ schema, path }): { values: readonly unknown[]; path: readonly string[] }[] => {
        const values = listOf(schema, "enum", path);
        const constant = Object.hasOwn(schema, "const") ? [{ values: [schema["const"]], path }] : [];
        return values === undefined ? constant : [{ values, path }, ...constant];
      },
    );
    const [first, ...others] = lists;
    if (first === undefined) return undefined;
    const values = first.values.filter(
      (value) =>
        others.every((other) => other.values.some((item) => isEqual(item, value))) &&
        parts.every((part) => this.#validator.check(withoutLists(part), value, []) === undefined),
    );
    if (values.length === 0)
      return this.contradiction(first.path, "enum", "none of the values of 'enum' or 'const' is allowed.");
    const scalars = values.filter((value) => typeof value !== "object" || value === null);
    const compound = values.filter((value) => typeof value === "object" && value !== null);
    const options = [...compound.map((value) => exactly(this, value)), oneOfScalars(this.notation, scalars)];
    const known = options.filter((option) => option !== undefined);
    if (known.length > 0) return oneOf(...known);
    return this.contradiction(
      first.path,
      "enum",
      "none of the values can be written in a call of this model.",
    );
  }

  #valueOf(type: Type, parts: readonly Part[], hint: string): Expr {
    switch (type) {
      case "null":
        return literal(this.notation.words.null);
      case "boolean":
        return boolean(this);
      case "integer":
      case "number":
        return (
          numberExpr(this, parts, type) ?? (type === "integer" ? integer(this.builder) : number(this.builder))
        );
      case "string":
        return stringExpr(this, parts, hint);
      case "array":
        return this.#deferred(hint, arrayExpr(this, parts), () => anyArray(this));
      case "object":
        return this.#deferred(hint, objectExpr(this, parts), () => anyObject(this));
    }
  }

  #deferred(hint: string, make: (() => Expr) | undefined, free: () => Expr): Expr {
    if (make === undefined) return free();
    const rule = this.builder.declare(hint);
    const { notation } = this;
    this.#later.push(() => {
      this.notation = notation;
      this.builder.define(rule, make());
    });
    return rule;
  }
}

/** "enum" and "const" are compared by the caller; references and choices are parts of their own. */
function withoutLists({ schema }: Part): unknown {
  const { enum: _enum, const: _const, $ref: _ref, allOf: _all, anyOf: _any, oneOf: _one, ...others } = schema;
  return others;
}

/** Texts with a common beginning are one option. */
function union(exprs: readonly Expr[]): Expr | undefined {
  const texts = exprs.flatMap((expr) => (expr.kind === "literal" ? [expr.text] : []));
  const others: Expr[] = exprs.filter((expr) => expr.kind !== "literal");
  const options = texts.length === 0 ? others : [oneOfTexts(texts), ...others];
  return options.length === 0 ? undefined : oneOf(...options);
}

/** The types that all parts allow; undefined when none of them speaks about types. */
function typesOfAll(parts: readonly Part[]): ReadonlySet<Type> | undefined {
  const given = parts.flatMap(({ schema, path }) => typesOf(schema, path) ?? []);
  if (given.length > 0) return commonTypes(given);
  const implied = new Set(parts.flatMap(({ schema }) => [...impliedTypes(schema)]));
  return implied.size === 0 ? undefined : implied;
}
