/** How large a schema may be. Looked at before anything is compiled, without recursion. */
import { SchemaError } from "./schema-error.ts";

/** Objects and arrays in each other, as JSON: a level of a schema is two of them. */
const MAX_DEPTH = 128;
/** Values in all, as JSON. */
const MAX_VALUES = 200_000;
/** Characters of keys and strings; a body of this size compiles in well under a second. */
const MAX_CHARACTERS = 2_000_000;
/** OpenAI takes 5,000. */
const MAX_PROPERTIES = 10_000;
/** OpenAI takes 1,000. */
const MAX_ENUM_VALUES = 10_000;
/** Characters of names and enumerated strings; OpenAI takes 120,000. */
const MAX_NAME_CHARACTERS = 250_000;

/** @throws SchemaError */
export function checkSchemaLimits(schema: unknown): void {
  let values = 0;
  let characters = 0;
  let properties = 0;
  let enumValues = 0;
  let nameCharacters = 0;
  const stack: { value: unknown; depth: number; key: string }[] = [{ value: schema, depth: 0, key: "" }];
  for (let next = stack.pop(); next !== undefined; next = stack.pop()) {
    const { value, depth, key } = next;
    values++;
    if (typeof value === "string") characters += value.length;
    if (values > MAX_VALUES) throw tooLarge(`it has more than ${MAX_VALUES} values`);
    if (typeof value === "object" && value !== null) {
      if (depth >= MAX_DEPTH) throw tooLarge(`it is nested more than ${MAX_DEPTH} deep`);
      if (key === "properties") {
        const names = Object.keys(value);
        properties += names.length;
        nameCharacters += charactersIn(names);
      } else if (key === "enum" && Array.isArray(value)) {
        enumValues += value.length;
        nameCharacters += charactersIn(value);
      }
      for (const [name, child] of Object.entries(value)) {
        if (!Array.isArray(value)) characters += name.length;
        stack.push({ value: child, depth: depth + 1, key: Array.isArray(value) ? "" : name });
      }
    }
    if (characters > MAX_CHARACTERS) throw tooLarge(`it has more than ${MAX_CHARACTERS} characters`);
    if (properties > MAX_PROPERTIES) throw tooLarge(`it has more than ${MAX_PROPERTIES} properties`);
    if (enumValues > MAX_ENUM_VALUES) throw tooLarge(`it has more than ${MAX_ENUM_VALUES} enum values`);
    if (nameCharacters > MAX_NAME_CHARACTERS)
      throw tooLarge(`its property names and enum values have more than ${MAX_NAME_CHARACTERS} characters`);
  }
}

function charactersIn(values: readonly unknown[]): number {
  return values.reduce<number>((sum, value) => sum + (typeof value === "string" ? value.length : 0), 0);
}

function tooLarge(why: string): SchemaError {
  return new SchemaError([], "", `the schema is too large: ${why}.`);
}
