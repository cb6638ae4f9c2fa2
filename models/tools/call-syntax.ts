/** The syntax of tool calls as data: what stands around the calls and how one of them is built. */
import { JSON_NOTATION, keyText, PYTHON_NOTATION, rawNotation, scalarText } from "../grammar/notation.ts";
import type { Notation } from "../grammar/notation.ts";

export interface CallSyntax {
  /** The family, for people. */
  readonly family: string;
  /** From the first character of the calls to the body of the first. */
  readonly before: string;
  /** From one body to the next; undefined when there can be one call only. */
  readonly between: string | undefined;
  /** After the last body. */
  readonly after: string;
  readonly body: CallBody;
}

export type CallBody = ObjectBody | NamedBody | TaggedBody | LiteralBody;

/** `{"name": "f", "arguments": {…}}` */
export interface ObjectBody {
  readonly kind: "object";
  /** In the order in which the template writes them. */
  readonly fields: readonly ObjectField[];
}

export type ObjectField =
  | { readonly key: string; readonly holds: "name" | "arguments" | "anything" }
  | { readonly key: string; readonly holds: "constant"; readonly value: unknown }
  | { readonly key: string; readonly holds: "fields"; readonly fields: readonly ObjectField[] };

/** `f[ARGS]{…}` */
export interface NamedBody {
  readonly kind: "named";
  /** Texts between the name and the arguments; between two of them stands anything, such as an id. */
  readonly afterName: readonly [string, ...string[]];
}

/** `f>⏎<parameter=x>⏎1⏎</parameter>`: a parameter's value is text without quotes. */
export interface TaggedBody {
  readonly kind: "tagged";
  readonly afterName: string;
  readonly beforeKey: string;
  /** Before a value; where `afterTextKey` is given, before one that is JSON. */
  readonly afterKey: string;
  /** Before a string, in syntaxes that tell strings from other values. */
  readonly afterTextKey: string | undefined;
  /** After a value; where `afterEndName` is given, before the name that the closing tag repeats. */
  readonly afterValue: string;
  readonly afterEndName: string | undefined;
}

/** `f(x="1", y=2)` */
export interface LiteralBody {
  readonly kind: "literal";
  readonly open: string;
  readonly assign: string;
  /** Stands at both ends of a string; `"` means strings as in JSON or Python. */
  readonly quote: string;
  readonly separator: string;
  readonly close: string;
}

/** What every call ends with, what leads to a further one then, and what ends all of them. */
export interface CallEnds {
  readonly call: string;
  /** Undefined when there can be one call only. */
  readonly next: string | undefined;
  readonly all: string;
}

export function callEnds({ between, after }: CallSyntax): CallEnds {
  if (between === undefined) return { call: after, next: undefined, all: "" };
  let shared = 0;
  while (shared < Math.min(between.length, after.length) && between[shared] === after[shared]) shared++;
  // Two tags may begin alike; they are not cut in the middle.
  const open = between.lastIndexOf("<", shared - 1);
  if (shared > 0 && shared < between.length && open !== -1 && !between.slice(open, shared).includes(">"))
    shared = open;
  return { call: between.slice(0, shared), next: between.slice(shared), all: after.slice(shared) };
}

/** The tag, the word in brackets or the word before a bracket with which the text begins; "" when it begins with none. */
export function leadingMark(text: string): string {
  return /^\s*(<[^\s<>]*>|\]\S*\[<[^\s<>]*>|\[[A-Z_]+\]|<[^\s<>[{]*=|[a-z_]{4,}\[)/.exec(text)?.[1] ?? "";
}

/** All fixed texts. */
export function markupOf(syntax: CallSyntax): string[] {
  const { body } = syntax;
  const own = ((): readonly string[] => {
    switch (body.kind) {
      case "object":
        return [];
      case "named":
        return body.afterName;
      case "tagged":
        return [
          body.afterName,
          body.beforeKey,
          body.afterKey,
          body.afterTextKey ?? "",
          body.afterValue,
          body.afterEndName ?? "",
        ];
      case "literal":
        return [body.open, body.assign, body.quote, body.separator, body.close];
    }
  })();
  const texts = [syntax.before, syntax.between ?? "", syntax.after, ...own];
  return [...new Set(texts.map((text) => text.trim()).filter((text) => text !== ""))];
}

/** Calls written in the syntax. @param calls Arguments are JSON text; where they stand as JSON, other text is written as it is. */
export function printCalls(
  syntax: CallSyntax,
  calls: readonly { readonly name: string; readonly arguments: string }[],
): string {
  const bodies = calls.map((call) => printBody(syntax.body, call.name, call.arguments));
  if (syntax.between === undefined) {
    return bodies.map((body) => syntax.before + body + syntax.after).join("\n");
  }
  return bodies.length === 0 ? "" : syntax.before + bodies.join(syntax.between) + syntax.after;
}

function printBody(body: CallBody, name: string, given: string): string {
  const json = given.trim() === "" ? "{}" : given;
  switch (body.kind) {
    case "object":
      return printFields(body.fields, name, json);
    case "named":
      return name + body.afterName.join("0") + json;
    case "tagged": {
      const parameters = Object.entries(objectOf(json)).map(
        ([key, value]) => body.beforeKey + key + taggedText(value, body) + endTag(body, key),
      );
      return name + body.afterName + parameters.join("");
    }
    case "literal": {
      const parameters = Object.entries(objectOf(json)).map(
        ([key, value]) => key + body.assign + valueText(value, notationOf(body)),
      );
      return name + body.open + parameters.join(body.separator) + body.close;
    }
  }
}

function printFields(fields: readonly ObjectField[], name: string, json: string): string {
  const texts = fields.map((field): string => {
    const key = JSON.stringify(field.key);
    switch (field.holds) {
      case "name":
        return `${key}: ${JSON.stringify(name)}`;
      case "arguments":
        return `${key}: ${json}`;
      case "anything":
        return `${key}: "0"`;
      case "constant":
        return `${key}: ${JSON.stringify(field.value)}`;
      case "fields":
        return `${key}: ${printFields(field.fields, name, json)}`;
    }
  });
  return `{${texts.join(", ")}}`;
}

function taggedText(value: unknown, { afterKey, afterTextKey = afterKey }: TaggedBody): string {
  return typeof value === "string" ? afterTextKey + value : afterKey + JSON.stringify(value);
}

/** White space that belongs to the tags around a value. */
export function valueFrame({ afterKey, afterValue }: TaggedBody): {
  readonly open: string;
  readonly close: string;
} {
  return { open: /\s*$/.exec(afterKey)?.[0] ?? "", close: /^\s*/.exec(afterValue)?.[0] ?? "" };
}

function endTag({ afterValue, afterEndName }: TaggedBody, name: string): string {
  return afterEndName === undefined ? afterValue : afterValue + name + afterEndName;
}

/** What a string in tags must not contain. */
export function endOfValue({ afterValue }: TaggedBody): string {
  return afterValue.trim();
}

/** How a call that is like one of Python, or of its kind, writes values. */
export function notationOf({ open, quote }: LiteralBody): Notation {
  if (quote !== '"') return rawNotation({ quote, end: quote });
  return open.trim() === "(" ? PYTHON_NOTATION : JSON_NOTATION;
}

/** A string that the notation cannot write is written as in JSON. */
function valueText(value: unknown, notation: Notation): string {
  if (typeof value !== "object" || value === null)
    return scalarText(notation, value) ?? JSON.stringify(value);
  if (Array.isArray(value)) return `[${value.map((entry) => valueText(entry, notation)).join(", ")}]`;
  const entries = Object.entries(value).map(
    ([key, entry]) => `${keyText(notation, key)}: ${valueText(entry, notation)}`,
  );
  return `{${entries.join(", ")}}`;
}

/** What is no object becomes the one entry of one, so that nothing is lost. */
function objectOf(json: string): Readonly<Record<string, unknown>> {
  try {
    const value: unknown = JSON.parse(json);
    if (typeof value === "object" && value !== null && !Array.isArray(value)) return { ...value };
  } catch {
    // As for other texts that are no object.
  }
  return { arguments: json };
}
