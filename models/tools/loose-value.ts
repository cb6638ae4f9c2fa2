/** Parameter values that a model wrote not as JSON: bare text with a schema, or Python's literals. Pure. */

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

const PYTHON_WORDS: ReadonlyMap<string, string> = new Map([
  ["True", "true"],
  ["False", "false"],
  ["None", "null"],
]);

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
  const json = tokens.filter((token, index) => token !== "," || !/^[\]}]/.test(tokens[index + 1] ?? ""));
  // Joined as it stands: digits that no double can hold are kept.
  return isJson(json.join(" ")) ? json.join("") : undefined;
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
  // Some formats write the keys of objects without quotes.
  const isKey = /^\s*:/.test(text.slice(word.length));
  const json = isKey ? undefined : (PYTHON_WORDS.get(word) ?? (isJson(word) ? word : undefined));
  return { json: json ?? JSON.stringify(word), length: word.length };
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
