/** What the answer must look like, in the words of OpenAI, of llama.cpp and of vLLM. */
import { z } from "zod";
import type { Limits } from "../config/limits.ts";
import { isObject } from "../http/json.ts";
import { MAX_CHOICES_OF_TEXT } from "../http/limits.ts";
import type { OutputFormat } from "../chat-turn.ts";
import { ApiError } from "./api-error.ts";
import { checkName, SCHEMA_NAME } from "./names.ts";
import { checkSchemaSize } from "./schema-size.ts";
import { checkLength, checkTextLength, emptyArray, missing, notOneOf, wrongType } from "./validation.ts";
import { FORMAT_JSON, RESPONSE_FORMAT_JSON } from "./wire-schemas.ts";

type JsonObject = Readonly<Record<string, unknown>>;
type Reader = (value: unknown, param: string, limits: Limits) => OutputFormat;

const TEXT: OutputFormat = { kind: "text" };

/** OpenAI wants a name for a schema; where there is none it has no use but in error messages. */
const UNNAMED = "response";

/** Judged by hand, because what is allowed depends on what else is there. */
export const formatShape = {
  response_format: z.unknown().meta(RESPONSE_FORMAT_JSON).optional(),
  json_schema: z.unknown().meta(FORMAT_JSON.json_schema).optional(),
  grammar: z.unknown().meta(FORMAT_JSON.grammar).optional(),
  guided_json: z.unknown().meta(FORMAT_JSON.guided_json).optional(),
  guided_regex: z.unknown().meta(FORMAT_JSON.guided_regex).optional(),
  guided_choice: z.unknown().meta(FORMAT_JSON.guided_choice).optional(),
  guided_grammar: z.unknown().meta(FORMAT_JSON.guided_grammar).optional(),
  structured_outputs: z.unknown().meta(FORMAT_JSON.structured_outputs).optional(),
} as const;

const READERS: Readonly<Record<keyof typeof formatShape, Reader>> = {
  response_format: readResponseFormat,
  json_schema: (value, param, limits) => schemaFormat(value, { at: param, param }, limits),
  grammar: readGrammar,
  guided_json: readGuidedJson,
  guided_regex: readRegex,
  guided_choice: readTextChoice,
  guided_grammar: readGrammar,
  structured_outputs: readStructuredOutputs,
};

/**
 * @param body The request without nulls.
 * @throws {ApiError} 400 for a value that is not as it must be, and for several that ask for a format.
 */
export function readFormat(body: JsonObject, limits: Limits): OutputFormat {
  let format = TEXT;
  let field: string | undefined;
  for (const [name, read] of Object.entries(READERS)) {
    const value = body[name];
    // Clients that always send every field mean nothing by an empty one.
    if (value === undefined || value === "") continue;
    const asked = read(value, name, limits);
    if (asked.kind === "text") continue;
    if (field !== undefined) {
      throw new ApiError("invalid_value", `'${field}' and '${name}' cannot be used together.`, name);
    }
    format = asked;
    field = name;
  }
  return format;
}

function readResponseFormat(value: unknown, param: string, limits: Limits): OutputFormat {
  if (!isObject(value)) throw wrongType(param, "an object", value);
  const { type } = value;
  switch (type) {
    case "text":
      return TEXT;
    case "json_object":
      return value["schema"] == null
        ? { kind: "json_object", param }
        : schemaFormat(value["schema"], { at: `${param}.schema`, param }, limits);
    case "json_schema":
      if (value["json_schema"] == null && value["schema"] == null) throw missing(`${param}.json_schema`);
      return value["json_schema"] == null
        ? schemaFormat(value["schema"], { at: `${param}.schema`, param }, limits)
        : readJsonSchema(value["json_schema"], param, limits);
    default:
      throw notOneOf(`${param}.type`, ["text", "json_object", "json_schema"], type);
  }
}

function readJsonSchema(value: unknown, param: string, limits: Limits): OutputFormat {
  const at = `${param}.json_schema`;
  if (!isObject(value)) throw wrongType(at, "an object", value);
  const name = value["name"] ?? UNNAMED;
  if (typeof name !== "string") throw wrongType(`${at}.name`, "a string", name);
  checkName(name, `${at}.name`, SCHEMA_NAME);
  const strict = value["strict"] ?? false;
  if (typeof strict !== "boolean") throw wrongType(`${at}.strict`, "a boolean", strict);
  if (value["schema"] == null) return { kind: "json_object", param };
  const format = schemaFormat(value["schema"], { at: `${at}.schema`, param, name }, limits);
  return format.kind === "json_schema" ? { ...format, strict } : format;
}

/** Where a schema stands: its own path, and the field that errors name. */
interface SchemaPlace {
  readonly at: string;
  readonly param: string;
  readonly name?: string;
}

function schemaFormat(
  schema: unknown,
  { at, param, name = UNNAMED }: SchemaPlace,
  limits: Limits,
): OutputFormat {
  if (schema === undefined) throw missing(at);
  if (!isObject(schema) && typeof schema !== "boolean") throw wrongType(at, "an object", schema);
  checkSchemaSize({ schema, owner: `${param} '${name}'`, param, code: "invalid_schema" }, limits);
  return { kind: "json_schema", name, schema, strict: false, at, param };
}

function readGuidedJson(value: unknown, param: string, limits: Limits): OutputFormat {
  if (typeof value !== "string") return schemaFormat(value, { at: param, param }, limits);
  try {
    return schemaFormat(JSON.parse(value), { at: param, param }, limits);
  } catch (error) {
    if (error instanceof ApiError) throw error;
    throw new ApiError("invalid_value", `Invalid '${param}': it is not valid JSON.`, param);
  }
}

function readGrammar(value: unknown, param: string, limits: Limits): OutputFormat {
  const text = stringOf(value, param);
  checkTextLength(text.length, limits["max-grammar-characters"], param, "max-grammar-characters");
  return { kind: "grammar", text, param };
}

function readRegex(value: unknown, param: string): OutputFormat {
  return { kind: "regex", pattern: stringOf(value, param), param };
}

function readTextChoice(value: unknown, param: string): OutputFormat {
  if (!Array.isArray(value)) throw wrongType(param, "an array of strings", value);
  checkLength(value, MAX_CHOICES_OF_TEXT, param);
  if (value.length === 0) throw emptyArray(param);
  const choices = (value as unknown[]).map((choice, i) => stringOf(choice, `${param}[${i}]`));
  return { kind: "choice", choices, param };
}

const STRUCTURED: Readonly<Record<string, Reader>> = {
  json: readGuidedJson,
  regex: readRegex,
  choice: readTextChoice,
  grammar: readGrammar,
  json_object: (value, param) => {
    if (typeof value !== "boolean") throw wrongType(param, "a boolean", value);
    return value ? { kind: "json_object", param } : TEXT;
  },
};

/** What is known of `structured_outputs`; the last is refused by name. */
export const STRUCTURED_FIELDS: ReadonlySet<string> = new Set([...Object.keys(STRUCTURED), "structural_tag"]);

function readStructuredOutputs(value: unknown, param: string, limits: Limits): OutputFormat {
  if (!isObject(value)) throw wrongType(param, "an object", value);
  if (value["structural_tag"] != null) {
    throw new ApiError(
      "unsupported_parameter",
      `Unsupported parameter: '${param}.structural_tag' is not supported by this server.`,
      `${param}.structural_tag`,
    );
  }
  const asked = Object.entries(STRUCTURED).flatMap(([name, read]) => {
    const given = value[name];
    const format = given == null ? TEXT : read(given, `${param}.${name}`, limits);
    return format.kind === "text" ? [] : [{ format, name }];
  });
  const [first, second] = asked;
  if (first === undefined) return TEXT;
  if (second === undefined) return first.format;
  throw new ApiError(
    "invalid_value",
    `'${param}.${first.name}' and '${param}.${second.name}' cannot be used together.`,
    param,
  );
}

function stringOf(value: unknown, param: string): string {
  if (typeof value === "string") return value;
  throw wrongType(param, "a string", value);
}
