/** Parameter values that a model wrote not as JSON: bare text with a schema, or Python's literals. Pure. */

/** Types that a schema names for a property; undefined when it names none that can be read here. */
export function typesOf(
  parameters: Readonly<Record<string, unknown>> | undefined,
  key: string,
): ReadonlySet<string> | undefined {
  const properties = parameters?.["properties"];
  if (!isRecord(properties) || !Object.hasOwn(properties, key)) return undefined;
  return schemaTypes(properties[key], 0);
}

function schemaTypes(schema: unknown, depth: number): ReadonlySet<string> | undefined {
  if (!isRecord(schema) || depth > 8) return undefined;
  const { type } = schema;
  if (typeof type === "string") return new Set([type]);
  if (Array.isArray(type)) return new Set(type.filter((name) => typeof name === "string"));
  const values: unknown = Array.isArray(schema["enum"])
    ? schema["enum"]
    : "const" in schema
      ? [schema["const"]]
      : undefined;
  if (Array.isArray(values)) return new Set(values.map(jsonType));
  const choices = schema["anyOf"] ?? schema["oneOf"];
  if (!Array.isArray(choices)) return undefined;
  const types = choices.map((choice: unknown) => schemaTypes(choice, depth + 1));
  return types.includes(undefined) ? undefined : new Set(types.flatMap((set) => [...(set ?? [])]));
}

/**
 * JSON text of a value written without quotes. Text stays text where the schema wants a string; elsewhere JSON
 * and Python's words are read, and what is neither is a string.
 */
export function jsonOfText(text: string, types: ReadonlySet<string> | undefined): string {
  const trimmed = text.trim();
  if (types?.has("string") === true) {
    return types.has("null") && trimmed === "null" ? "null" : JSON.stringify(text);
  }
  if (isJson(trimmed)) return trimmed;
  return jsonOfLiteral(trimmed, '"') ?? JSON.stringify(text);
}

const PYTHON_WORDS: Readonly<Record<string, string>> = { True: "true", False: "false", None: "null" };

/** JSON text of a literal of Python or JSON, in which strings stand between `quote`; undefined for others. */
export function jsonOfLiteral(text: string, quote: string): string | undefined {
  const tokens: string[] = [];
  let rest = text.trim();
  while (rest !== "") {
    const token = literalToken(rest, quote);
    if (token === undefined) return undefined;
    tokens.push(token.json);
    rest = rest.slice(token.length).trimStart();
  }
  // Python allows a comma after the last entry.
  const json = tokens
    .filter((token, index) => token !== "," || !/^[\]}]/.test(tokens[index + 1] ?? ""))
    .join(" ");
  return isJson(json) ? JSON.stringify(JSON.parse(json)) : undefined;
}

function literalToken(
  text: string,
  quote: string,
): { readonly json: string; readonly length: number } | undefined {
  if (quote !== '"' && text.startsWith(quote)) {
    const end = text.indexOf(quote, quote.length);
    if (end === -1) return undefined;
    return { json: JSON.stringify(text.slice(quote.length, end)), length: end + quote.length };
  }
  const string = /^("(?:[^"\\]|\\[^])*"|'(?:[^'\\]|\\[^])*')/.exec(text)?.[0];
  if (string !== undefined) return { json: JSON.stringify(unquoted(string)), length: string.length };
  const mark = /^[[\]{}:,]/.exec(text)?.[0];
  if (mark !== undefined) return { json: mark, length: 1 };
  const word = /^[\w.+-]+/.exec(text)?.[0];
  if (word === undefined) return undefined;
  if (Object.hasOwn(PYTHON_WORDS, word)) return { json: PYTHON_WORDS[word] ?? "", length: word.length };
  // Some formats write the keys of objects without quotes.
  const isKey = /^\s*:/.test(text.slice(word.length)) || !isJson(word);
  return { json: isKey ? JSON.stringify(word) : word, length: word.length };
}

const ESCAPES: Readonly<Record<string, string>> = {
  n: "\n",
  r: "\r",
  t: "\t",
  b: "\b",
  f: "\f",
  "\n": "",
};

function unquoted(literal: string): string {
  return literal
    .slice(1, -1)
    .replaceAll(
      /\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|([^]))/g,
      (_, ...groups: (string | undefined)[]) => {
        const [two, four, other = ""] = groups;
        const code = two ?? four;
        if (code !== undefined) return String.fromCharCode(Number.parseInt(code, 16));
        return ESCAPES[other] ?? other;
      },
    );
}

function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

function jsonType(value: unknown): string {
  if (value === null) return "null";
  if (Array.isArray(value)) return "array";
  return typeof value;
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
