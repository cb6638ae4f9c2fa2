/** Random JSON Schemas over the keywords that are supported, and random valid instances in the form in which the grammar writes them. */
import { FORMATS } from "../../models/grammar/formats.ts";

type Json = null | boolean | number | string | Json[] | { [key: string]: Json };
export type TestSchema = { [key: string]: Json };

const NAMES = [
  "a",
  "b",
  "name",
  "na",
  "x y",
  'q"',
  "back\\slash",
  "line\n",
  "ü",
  "type",
  "$ref",
  "__proto__x",
  "0",
  "items",
  "",
];
const WORDS = ["", "a", "red", "real", "green", 'say "hi"', "tab\t", "\u{1F600}", "null", "1"];
const PATTERNS = [
  "^[a-z]+$",
  "^\\d{3}-\\d{4}$",
  "foo|bar",
  "^(yes|no)$",
  '^[^"\\\\]{1,4}$',
  "[A-Z]\\s?x",
  "^.{2,5}$",
  "^a*b+c?$",
  "\\u00e9$",
  "^\\w+@\\w+\\.com$",
];

/** Texts for the patterns and formats above, not all of them valid. */
const TEXTS = [
  "abc",
  "z",
  "123-4567",
  "foo",
  "a bar b",
  "yes",
  "no",
  "xy",
  "{}[]",
  "X x",
  "Qx",
  "..",
  "abcde",
  "\u{1F600}\u{1F600}",
  "b",
  "aabbbc",
  "\u00e9",
  "cliché",
  "a_1@b.com",
  "2024-02-29",
  "2023-02-29",
  "23:59:59Z",
  "12:00:00.5+01:30",
  "2024-12-31T00:00:00Z",
  "P1Y2M3DT4H5M6S",
  "P2W",
  "PT0S",
  "jo.e+x@example.co.uk",
  "example.com",
  "a-b.c-d",
  "192.168.0.255",
  "256.1.1.1",
  "::1",
  "2001:db8::ff00:42:8329",
  "1:2:3:4:5:6:7:8",
  "123e4567-e89b-12d3-a456-426614174000",
  "https://example.com:8080/a/b%20c?x=1&y=/#frag",
  "http://a",
];

export class SchemaMaker {
  readonly #random: () => number;

  constructor(random: () => number) {
    this.#random = random;
  }

  /** A document with some definitions, which refer to each other. */
  document(depth = 3): TestSchema {
    const definitions = Array.from({ length: this.#below(3) }, (_, index) => `d${index}`);
    const schema = this.schema(depth, definitions);
    if (definitions.length === 0) return schema;
    const defs: TestSchema = {};
    for (const name of definitions)
      defs[name] = this.#chance(0.3) ? this.#recursive(name) : this.schema(depth - 1, []);
    return { ...schema, $defs: defs };
  }

  /** A value that is more or less what the schema asks for; keys in the order of their declaration. */
  instance(root: TestSchema, schema: Json = root, depth = 6): Json {
    if (typeof schema !== "object" || schema === null || Array.isArray(schema)) return this.#value(1);
    const pointer = schema["$ref"];
    if (typeof pointer === "string") return this.instance(root, definition(root, pointer), depth - 1);
    const options = schema["anyOf"] ?? schema["oneOf"];
    if (Array.isArray(options))
      return this.instance(root, depth > 0 ? this.#pick(options) : (options.at(-1) ?? null), depth);
    if (Array.isArray(schema["allOf"]))
      return this.#merged(schema["allOf"].map((part) => this.instance(root, part, depth)));
    if (Array.isArray(schema["enum"])) return this.#pick(schema["enum"]);
    if (schema["const"] !== undefined) return schema["const"];
    const type = Array.isArray(schema["type"]) ? this.#pick(schema["type"]) : schema["type"];
    switch (typeof type === "string" ? type : "") {
      case "string":
        // Labels of this length are valid, but longer than the grammar writes them.
        if (schema["format"] === "hostname") return this.#pick(["example.com", "a-b.c-d", "no", "-"]);
        return this.#chance(0.6) ? this.#pick(TEXTS) : this.#pick(WORDS);
      case "integer":
        return this.#pick([
          0,
          1,
          -1,
          this.#below(3000) - 1500,
          100 * this.#below(10),
          5 * this.#below(99),
          7 * this.#below(50),
        ]);
      case "number":
        return this.#pick([
          0,
          1,
          -1,
          0.5,
          1e-7,
          12.125,
          99.99,
          (this.#below(400) - 200) / 10,
          this.#random(),
          -this.#random() * 300,
          1e5,
          this.#below(4000) / 100,
        ]);
      case "boolean":
        return this.#chance(0.5);
      case "array":
        return this.#arrayInstance(root, schema, depth);
      case "object":
        return this.#objectInstance(root, schema, depth);
      default:
        return null;
    }
  }

  #arrayInstance(root: TestSchema, schema: TestSchema, depth: number): Json {
    const prefix = Array.isArray(schema["prefixItems"]) ? schema["prefixItems"] : [];
    const least = Number(schema["minItems"] ?? 0);
    const length = depth > 0 ? least + this.#below(3) : least;
    return Array.from({ length }, (_, index) =>
      this.instance(root, prefix[index] ?? schema["items"] ?? true, depth - 1),
    );
  }

  #objectInstance(root: TestSchema, schema: TestSchema, depth: number): Json {
    const made: { [key: string]: Json } = {};
    const required: Json = schema["required"] ?? [];
    for (const [name, part] of Object.entries(propertiesOf(schema))) {
      const needed = Array.isArray(required) && required.includes(name);
      if (needed || (depth > 0 && this.#chance(0.5))) made[name] = this.instance(root, part, depth - 1);
    }
    const others = schema["additionalProperties"];
    if (others === undefined || others === false) return made;
    for (const name of ["other", "namex", "é", "", "line\\"]) {
      if (!Object.hasOwn(made, name) && !Object.hasOwn(propertiesOf(schema), name) && this.#chance(0.3))
        made[name] = this.instance(root, others, depth - 1);
    }
    return made;
  }

  #merged(parts: readonly Json[]): Json {
    return parts.reduce<Json>(
      (all, part) => (isObject(all) && isObject(part) ? { ...all, ...part } : part),
      {},
    );
  }

  schema(depth: number, definitions: readonly string[]): TestSchema {
    const kinds = ["string", "integer", "number", "boolean", "null", "enum", "const", "string", "integer"];
    if (depth > 0)
      kinds.push(
        "object",
        "object",
        "object",
        "array",
        "array",
        "anyOf",
        "oneOf",
        "allOf",
        "types",
        "tuple",
        "record",
      );
    if (definitions.length > 0) kinds.push("ref", "ref");
    const kind = this.#pick(kinds);
    switch (kind) {
      case "string":
        return this.#string();
      case "integer":
        return this.#integer();
      case "number":
        return this.#number();
      case "boolean":
      case "null":
        return { type: kind };
      case "enum":
        return { enum: this.#distinct(1 + this.#below(4), () => this.#value(1)) };
      case "const":
        return { const: this.#value(1) };
      case "object":
        return this.#object(depth, definitions);
      case "record":
        return {
          type: "object",
          additionalProperties: this.schema(depth - 1, definitions),
          ...(this.#chance(0.3) ? { minProperties: 1 } : {}),
        };
      case "array": {
        const min = this.#below(3);
        return {
          type: "array",
          items: this.schema(depth - 1, definitions),
          ...(this.#chance(0.5) ? { minItems: min } : {}),
          ...(this.#chance(0.5) ? { maxItems: min + this.#below(3) } : {}),
        };
      }
      case "tuple": {
        const places = 1 + this.#below(3);
        const rest = this.#chance(0.5) ? false : this.schema(depth - 1, definitions);
        return {
          type: "array",
          prefixItems: Array.from({ length: places }, () => this.schema(depth - 1, definitions)),
          items: rest,
          minItems: this.#below(places + 1),
        };
      }
      case "anyOf":
      case "oneOf":
        return {
          [kind]: Array.from({ length: 1 + this.#below(3) }, () => this.schema(depth - 1, definitions)),
        };
      case "allOf":
        return { allOf: [this.#object(depth, definitions), this.#object(depth, definitions)] };
      case "types":
        return { ...this.#string(), type: ["string", this.#pick(["null", "boolean", "integer"])] };
      default:
        return { $ref: `#/$defs/${this.#pick(definitions)}` };
    }
  }

  #recursive(name: string): TestSchema {
    return {
      type: "object",
      properties: {
        value: this.#integer(),
        next: { anyOf: [{ $ref: `#/$defs/${name}` }, { type: "null" }] },
      },
      required: ["value", "next"],
      additionalProperties: false,
    };
  }

  #object(depth: number, definitions: readonly string[]): TestSchema {
    const properties: TestSchema = {};
    const names = this.#distinct(this.#below(5), () => this.#pick(NAMES));
    for (const name of names) properties[name] = this.schema(depth - 1, definitions);
    return {
      type: "object",
      properties,
      required: names.filter(() => this.#chance(0.5)),
      additionalProperties: this.#pick([false, false, true, this.schema(0, definitions)]),
    };
  }

  #string(): TestSchema {
    const roll = this.#random();
    if (roll < 0.25) return { type: "string", format: this.#pick([...FORMATS.keys()]) };
    if (roll < 0.45) return { type: "string", pattern: this.#pick(PATTERNS) };
    if (roll < 0.5)
      return {
        type: "string",
        pattern: this.#pick(PATTERNS),
        minLength: this.#below(4),
        maxLength: 4 + this.#below(4),
      };
    if (roll < 0.55)
      return {
        type: "string",
        allOf: [{ pattern: this.#pick(PATTERNS) }, { pattern: this.#pick(PATTERNS) }],
      };
    const min = this.#below(4);
    return {
      type: "string",
      ...(this.#chance(0.5) ? { minLength: min } : {}),
      ...(this.#chance(0.5) ? { maxLength: min + this.#below(5) } : {}),
    };
  }

  #integer(): TestSchema {
    const schema = { type: "integer", ...this.#bounds(() => this.#below(3000) - 1500) };
    return this.#chance(0.3) ? { ...schema, multipleOf: this.#pick([1, 2, 5, 7, 10, 25, 100]) } : schema;
  }

  #number(): TestSchema {
    const bound = (): number => this.#pick([0, 1, -1, 0.5, -0.25, 3.75, 100, 1e-3, 12.125, 1e6, -273.15]);
    if (this.#chance(0.3))
      return {
        type: "number",
        multipleOf: this.#pick([0.1, 0.01, 0.5, 0.25, 1, 10]),
        ...this.#bounds(() => this.#below(40) - 20),
      };
    return { type: "number", ...this.#bounds(bound) };
  }

  #bounds(bound: () => number): TestSchema {
    const [low = 0, high = 0] = [bound(), bound()].sort((a, b) => a - b);
    const schema: TestSchema = {};
    if (this.#chance(0.5)) schema[this.#pick(["minimum", "exclusiveMinimum"])] = low;
    if (this.#chance(0.5))
      schema[this.#pick(["maximum", "exclusiveMaximum"])] = high + (low === high ? 300 : 0);
    return schema;
  }

  #value(depth: number): Json {
    const roll = this.#below(depth > 0 ? 8 : 6);
    if (roll < 3) return this.#pick(WORDS);
    if (roll < 4) return this.#below(200) - 100;
    if (roll < 5) return this.#pick([0.5, -1.25, 1e21, 1e-9]);
    if (roll < 6) return this.#pick([true, false, null]);
    if (roll < 7) return Array.from({ length: this.#below(3) }, () => this.#value(0));
    return { a: this.#value(0), 'k"': this.#value(0) };
  }

  #distinct<T>(count: number, make: () => T): T[] {
    const made = new Map<string, T>();
    for (let index = 0; index < count; index++) {
      const value = make();
      made.set(JSON.stringify(value), value);
    }
    return [...made.values()];
  }

  #pick<T>(from: readonly T[]): T {
    const picked = from[this.#below(from.length)];
    if (picked === undefined) throw new Error("nothing to pick from");
    return picked;
  }

  #below(limit: number): number {
    return Math.floor(this.#random() * limit);
  }

  #chance(probability: number): boolean {
    return this.#random() < probability;
  }
}

function isObject(value: Json): value is { [key: string]: Json } {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function definition(root: TestSchema, pointer: string): Json {
  const all = root["$defs"] ?? null;
  return (isObject(all) ? all[pointer.slice("#/$defs/".length)] : undefined) ?? true;
}

function propertiesOf(schema: TestSchema): { [key: string]: Json } {
  const properties = schema["properties"] ?? null;
  return isObject(properties) ? properties : {};
}
