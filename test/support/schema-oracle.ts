/** What a JSON Schema means according to ajv, made to agree with the two choices that the compiler makes. */
import { Ajv2020 } from "ajv/dist/2020.js";
import addFormats from "ajv-formats";

const ajv = new Ajv2020({ strict: false, logger: false });
addFormats.default(ajv);
// As doubles 0.07 is no multiple of 0.01.
ajv.removeKeyword("multipleOf");
ajv.addKeyword({
  keyword: "multipleOf",
  type: "number",
  schemaType: "number",
  validate: (step: number, value: number) => {
    const quotient = value / step;
    return Math.abs(quotient - Math.round(quotient)) <= 1e-12 * Math.max(1, Math.abs(quotient));
  },
});

/** @returns Which says why a value does not satisfy the schema; null for one that does. */
export function schemaOracle(schema: object): (value: unknown) => unknown {
  const validate = ajv.compile(withOneOfAsAnyOf(schema));
  // Thousands of schemas are asked about, most of them once.
  ajv.removeSchema();
  return (value) => (validate(value) ? null : validate.errors);
}

/** Options of oneOf may overlap: the grammar enforces that one of them holds, not that no other does. */
function withOneOfAsAnyOf<T>(schema: T): T {
  return JSON.parse(
    JSON.stringify(schema, (_key, value: unknown) => {
      if (typeof value !== "object" || value === null || !("oneOf" in value)) return value;
      const { oneOf, ...others } = value;
      return Array.isArray(oneOf) ? { ...others, allOf: [{ anyOf: oneOf }] } : value;
    }),
  );
}
