/** Checks of structured output: whatever the model would rather say, the text is what the schema allows. */
import { isObject } from "../../http/json.ts";
import { must, mustBe, show } from "../check.ts";
import type { ConformanceCheck } from "../check.ts";
import { textOf } from "../chunks.ts";
import type { Json } from "../json-text.ts";
import { contentOf, jsonValue, mustBeError } from "../probe.ts";

interface SchemaCase {
  readonly subject: string;
  readonly schema: Json;
  readonly valid: (value: unknown) => boolean;
}

const object = (properties: Json, rest: Json = {}): Json => ({
  type: "object",
  properties,
  required: Object.keys(properties),
  additionalProperties: false,
  ...rest,
});

const field = (value: unknown, name: string): unknown => (isObject(value) ? value[name] : undefined);

const CASES: readonly SchemaCase[] = [
  {
    subject: "enum and boolean",
    schema: object({ color: { enum: ["red", "blue"] }, ok: { type: "boolean" } }),
    valid: (value) =>
      ["red", "blue"].includes(String(field(value, "color"))) && typeof field(value, "ok") === "boolean",
  },
  {
    subject: "bounds of integers",
    schema: object({ stars: { type: "integer", minimum: 2, maximum: 5 } }),
    valid: (value) => [2, 3, 4, 5].includes(Number(field(value, "stars"))),
  },
  {
    subject: "pattern",
    schema: object({ code: { type: "string", pattern: "^[A-Z]{3}$" } }),
    valid: (value) => /^[A-Z]{3}$/.test(String(field(value, "code"))),
  },
  {
    subject: "anyOf with null",
    schema: object({ name: { anyOf: [{ enum: ["x"] }, { type: "null" }] } }),
    valid: (value) => [null, "x"].includes(field(value, "name") as null),
  },
  {
    subject: "bounds of arrays, $ref",
    schema: object(
      { points: { type: "array", minItems: 2, maxItems: 2, items: { $ref: "#/$defs/point" } } },
      { $defs: { point: object({ x: { enum: [0, 1] } }) } },
    ),
    valid: (value) => {
      const points = field(value, "points");
      return (
        Array.isArray(points) &&
        points.length === 2 &&
        points.every((point) => [0, 1].includes(Number(field(point, "x"))))
      );
    },
  },
  {
    subject: "recursion",
    schema: {
      $ref: "#/$defs/node",
      $defs: {
        node: object({
          name: { enum: ["n"] },
          next: { anyOf: [{ $ref: "#/$defs/node" }, { type: "null" }] },
        }),
      },
    },
    valid: (value) => field(value, "name") === "n",
  },
];

/** Wide enough that a finish inside the schema is the rule, and a cut the server's failure to end. */
const ROOM = { max_tokens: 300 };

export const structuredChecks: readonly ConformanceCheck[] = [
  {
    name: "structured: json_object is a JSON object, also without the word in the prompt",
    run: async (probe) => {
      const ask = {
        messages: [{ role: "user", content: "Extract name and age: Bob is 42 years old." }],
        response_format: { type: "json_object" },
        ...ROOM,
      };
      const text = contentOf(await probe.chatJson(ask));
      must(isObject(jsonValue("content", text)), `content is ${show(text)}`);
      must(text.trimEnd() === text, "white space after the end");
    },
  },
  ...CASES.map(
    ({ subject, schema, valid }) =>
      ({
        name: `structured: json_schema with ${subject}`,
        run: async (probe) => {
          const text = contentOf(await probe.chatJson({ ...format(schema), ...ROOM }));
          must(valid(jsonValue("content", text)), `content is ${show(text)}`);
        },
      }) satisfies ConformanceCheck,
  ),
  {
    name: "structured: a streamed answer is the whole one",
    run: async (probe) => {
      const ask = { ...format(CASES[0]?.schema ?? {}), ...ROOM };
      mustBe(
        "the text of all deltas",
        textOf(await probe.chatStream(ask)),
        contentOf(await probe.chatJson(ask)),
      );
    },
  },
  {
    name: "structured: a schema that is none is refused",
    run: async (probe) => void mustBeError(await probe.chat(format({ type: "no such type" })), 400),
  },
];

function format(schema: Json): Json {
  return {
    messages: [{ role: "user", content: "Hello" }],
    response_format: { type: "json_schema", json_schema: { name: "answer", strict: true, schema } },
  };
}
