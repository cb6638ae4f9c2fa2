/** JSON Schemas of the fields that are judged by hand, for the OpenAPI description: what such a field is to look like. */
import { MAX_TOOL_NAME } from "../http/limits.ts";
import { SCHEMA_NAME } from "./names.ts";

const string = { type: "string" } as const;
const nullableString = { type: ["string", "null"] } as const;
const nullableBoolean = { type: ["boolean", "null"] } as const;

function object<P extends object, R extends readonly string[]>(properties: P, required: R) {
  return { type: "object", properties, required } as const;
}

/** OpenAI's letters and digits, and what names of tools of other servers have beside them. */
export const TOOL_NAME_PATTERN = String.raw`^[\w.:/-]+$`;

const jsonSchema = { type: ["object", "boolean"], description: "A JSON Schema." } as const;
const toolName = { type: "string", maxLength: MAX_TOOL_NAME, pattern: TOOL_NAME_PATTERN } as const;
const named = object({ name: string }, ["name"]);

const functionFields = {
  name: toolName,
  description: nullableString,
  parameters: { type: ["object", "null"], description: "A JSON Schema of an object." },
  strict: nullableBoolean,
} as const;

const regexFields = { syntax: { const: "regex" }, definition: string } as const;
const regex = object(regexFields, ["syntax", "definition"]);

const customFields = {
  name: toolName,
  description: nullableString,
  format: {
    anyOf: [
      { type: "null" },
      object({ type: { const: "text" } }, ["type"]),
      object({ type: { const: "grammar" }, grammar: regex }, ["type", "grammar"]),
      object({ type: { const: "grammar" }, ...regexFields }, ["type", "syntax", "definition"]),
    ],
  },
} as const;

const functionDefinition = object(functionFields, ["name"]);

export const FUNCTIONS_JSON = { type: "array", items: functionDefinition } as const;

export const FUNCTION_CALL_JSON = { anyOf: [{ enum: ["none", "auto"] }, named] } as const;

export const TOOLS_JSON = {
  type: "array",
  items: {
    anyOf: [
      object({ type: { const: "function" }, function: functionDefinition }, ["function"]),
      object({ type: { const: "custom" }, custom: object(customFields, ["name"]) }, ["type", "custom"]),
    ],
  },
} as const;

/** @param hosted Types of tools that are left out, beside others. */
export function responseToolsJson(hosted: readonly string[]) {
  const definitions = [
    object({ type: { const: "function" }, ...functionFields }, ["type", "name"]),
    // Grammars that cannot be held are described to the model.
    object({ type: { const: "custom" }, ...customFields, format: { type: ["object", "null"] } }, [
      "type",
      "name",
    ]),
    object({ type: { enum: hosted, description: "Left out." } }, ["type"]),
  ];
  return { type: "array", items: { anyOf: definitions } } as const;
}

/** One tool: in chats with an inner object, in responses without it. */
const chosenTool = {
  anyOf: [
    object({ type: { const: "function" }, function: named }, ["type", "function"]),
    object({ type: { const: "custom" }, custom: named }, ["type", "custom"]),
    object({ type: { enum: ["function", "custom"] }, name: string }, ["type", "name"]),
  ],
} as const;

const allowed = {
  mode: { enum: ["auto", "required"] },
  tools: { type: "array", items: chosenTool },
} as const;

export const TOOL_CHOICE_JSON = {
  anyOf: [
    { enum: ["none", "auto", "required", "any"] },
    ...chosenTool.anyOf,
    object({ type: { const: "allowed_tools" }, allowed_tools: object(allowed, ["tools"]) }, [
      "type",
      "allowed_tools",
    ]),
    object({ type: { const: "allowed_tools" }, ...allowed }, ["type", "tools"]),
  ],
} as const;

const schemaName = { type: ["string", "null"], ...SCHEMA_NAME } as const;
const namedSchema = { name: schemaName, description: nullableString, strict: nullableBoolean } as const;
const nullableSchema = { type: ["object", "boolean", "null"], description: "A JSON Schema." } as const;

export const RESPONSE_FORMAT_JSON = {
  anyOf: [
    object({ type: { const: "text" } }, ["type"]),
    object({ type: { const: "json_object" }, schema: nullableSchema }, ["type"]),
    object(
      { type: { const: "json_schema" }, json_schema: object({ ...namedSchema, schema: nullableSchema }, []) },
      ["type", "json_schema"],
    ),
    object({ type: { const: "json_schema" }, schema: jsonSchema }, ["type", "schema"]),
  ],
} as const;

const schemaOrText = {
  type: ["object", "boolean", "string"],
  description: "A JSON Schema, or its text.",
} as const;
const texts = { type: "array", items: string } as const;

/** The other ways to ask for a format, by field. */
export const FORMAT_JSON = {
  json_schema: jsonSchema,
  grammar: { type: "string", description: "GBNF." },
  guided_json: schemaOrText,
  guided_regex: string,
  guided_choice: texts,
  guided_grammar: { type: "string", description: "GBNF." },
  structured_outputs: object(
    {
      json: { type: [...schemaOrText.type, "null"] },
      regex: nullableString,
      choice: { type: ["array", "null"], items: string },
      grammar: nullableString,
      json_object: nullableBoolean,
    },
    [],
  ),
} as const;

const nativePrompt = {
  anyOf: [
    string,
    { type: "array", items: { type: ["integer", "string"] } },
    object({ prompt_string: string }, ["prompt_string"]),
  ],
} as const;

/** A prompt as llama.cpp's own dialect has it: one or several, each a text, token ids, both in one, or an object with a text. */
export const NATIVE_PROMPT_JSON = {
  anyOf: [...nativePrompt.anyOf, { type: "array", items: nativePrompt }],
} as const;

const biasOrBan = { anyOf: [{ type: "number", minimum: -100, maximum: 100 }, { const: false }] } as const;

/** Biases in llama.cpp's own dialect: by token id or text, or as pairs of one and its bias, where `false` bans. */
export const NATIVE_BIAS_JSON = {
  anyOf: [
    { type: "object", additionalProperties: biasOrBan },
    {
      type: "array",
      items: {
        type: "array",
        prefixItems: [{ type: ["integer", "string"] }, biasOrBan],
        minItems: 2,
        maxItems: 2,
      },
    },
  ],
} as const;

/** A part of a chat message; those with images or sound are refused. */
export const CONTENT_PART_JSON = {
  anyOf: [
    object({ type: { const: "text" }, text: string }, ["type", "text"]),
    object({ type: { const: "refusal" }, refusal: string }, ["type", "refusal"]),
  ],
} as const;

const itemParts = {
  type: "array",
  items: {
    anyOf: [
      object({ type: { enum: ["input_text", "output_text"] }, text: string }, ["type", "text"]),
      object({ type: { const: "refusal" }, refusal: string }, ["type", "refusal"]),
    ],
  },
} as const;
const content = { anyOf: [string, itemParts] } as const;

/** What a response answers to: a text, or the items of a conversation. A message may leave out its type. */
export const RESPONSE_INPUT_JSON = {
  anyOf: [
    string,
    {
      type: "array",
      items: {
        anyOf: [
          object(
            {
              type: { const: "message" },
              role: { enum: ["user", "assistant", "system", "developer"] },
              content,
            },
            ["role", "content"],
          ),
          object({ type: { const: "function_call" }, call_id: string, name: string, arguments: string }, [
            "type",
            "call_id",
            "name",
            "arguments",
          ]),
          object({ type: { const: "custom_tool_call" }, call_id: string, name: string, input: string }, [
            "type",
            "call_id",
            "name",
            "input",
          ]),
          object(
            {
              type: { enum: ["function_call_output", "custom_tool_call_output"] },
              call_id: string,
              output: content,
            },
            ["type", "call_id", "output"],
          ),
          object({ type: { const: "reasoning" } }, ["type"]),
          object({ type: { const: "item_reference" }, id: string }, ["type", "id"]),
        ],
      },
    },
  ],
} as const;
