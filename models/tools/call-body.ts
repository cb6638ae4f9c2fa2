/** Reads one call: its name and its arguments, in each of the ways that models write them. */
import { openLength } from "../text/marks.ts";
import { endOfValue, valueFrame } from "./call-syntax.ts";
import type { CallBody, LiteralBody, NamedBody, ObjectField, TaggedBody } from "./call-syntax.ts";
import type { PieceSink } from "./content-sink.ts";
import { propertyTypes } from "../grammar/value-types.ts";
import { jsonOfLiteral, jsonOfText } from "./loose-value.ts";
import { copyNested, parseOrThrow, readString, readValueText } from "./read-json.ts";
import { NOT_A_CALL } from "./text-reader.ts";
import type { Step, TextReader } from "./text-reader.ts";
import type { ParsedTool } from "./tool-format.ts";

export interface BodyContext {
  readonly reader: TextReader;
  readonly sink: PieceSink;
  /** Nothing but the body says that it is a call, so it has to be one of a tool that exists. */
  readonly bare: boolean;
  /** A grammar sees to it that what begins like a call is one. */
  readonly held: boolean;
  readonly tools: ReadonlyMap<string, ParsedTool>;
  /** What stands behind every body. */
  readonly callEnd: string;
  /** The output has ended before the model was done. */
  readonly cutOff: () => boolean;
}

const NAME_LIMIT = 256;

/**
 * From the first character of the body to its last, or to the end of the output.
 * @throws {NotACall} Only before the call is handed on; what has been read belongs to the content then.
 */
export function readBody(body: CallBody, context: BodyContext): Step<void> {
  switch (body.kind) {
    case "object":
      return readObject(body.fields, context);
    case "named":
      return readNamed(body, context);
    case "tagged":
      return readTagged(body, context);
    case "literal":
      return readLiteral(body, context);
  }
}

/** @throws {NotACall} For a name that no tool can have. */
function checkName(name: string, { bare, tools }: BodyContext): void {
  if (name === "" || name.length > NAME_LIMIT || /\s/.test(name)) throw NOT_A_CALL;
  if (bare && tools.size > 0 && !tools.has(name)) throw NOT_A_CALL;
}

// ---- {"name": "f", "arguments": {…}} ----

interface Keys {
  readonly name: string;
  readonly arguments: ReadonlySet<string>;
  /** Keys of objects that hold the name and the arguments. */
  readonly nested: ReadonlySet<string>;
  readonly others: ReadonlySet<string>;
}

/** Models mix up the two words for the arguments. */
const ARGUMENT_KEYS = ["arguments", "parameters"];

function keysOf(fields: readonly ObjectField[]): Keys {
  const all: ObjectField[] = fields.flatMap((field) =>
    field.holds === "fields" ? [field, ...field.fields] : [field],
  );
  const holding = (...holds: ObjectField["holds"][]): string[] =>
    all.filter((field) => holds.includes(field.holds)).map((field) => field.key);
  return {
    name: holding("name")[0] ?? "name",
    arguments: new Set([...holding("arguments"), ...ARGUMENT_KEYS]),
    nested: new Set(holding("fields")),
    others: new Set([...holding("anything", "constant"), "type", "id"]),
  };
}

interface ReadCall {
  name: string | undefined;
  /** Arguments that came before the name. */
  early: string | undefined;
  begun: boolean;
}

function* readObject(fields: readonly ObjectField[], context: BodyContext): Step<void> {
  const call: ReadCall = { name: undefined, early: undefined, begun: false };
  try {
    yield* readFields(keysOf(fields), call, context);
  } catch (error) {
    // After the name, an output that is cut off leaves a call without arguments; all else is no call.
    const cut = context.cutOff() && (context.held || !context.bare);
    if (!call.begun && (call.name === undefined || !cut)) throw error;
    if (!call.begun) context.sink.call(call.name ?? "");
    return;
  }
  if (call.begun) return;
  if (call.name === undefined || (context.bare && call.early === undefined)) throw NOT_A_CALL;
  context.sink.call(call.name);
  context.sink.arguments(call.early ?? "{}");
}

function* readFields(keys: Keys, call: ReadCall, context: BodyContext): Step<void> {
  const { reader } = context;
  yield* reader.expect("{");
  for (let first = true; ; first = false) {
    const next = yield* reader.skipSpace();
    if (next === "}") {
      reader.take(1);
      return;
    }
    if (!first) {
      yield* reader.expect(",");
      yield* reader.skipSpace();
    }
    if ((yield* reader.peek()) !== '"') throw NOT_A_CALL;
    const key = yield* readString(reader);
    yield* reader.expect(":");
    if (keys.nested.has(key) && (yield* reader.skipSpace()) === "{") yield* readFields(keys, call, context);
    else if (key === keys.name && call.name === undefined) {
      const name = yield* readString(reader);
      checkName(name, context);
      call.name = name;
    } else if (keys.arguments.has(key) && !call.begun && call.early === undefined) {
      yield* readArguments(call, context);
    } else if (context.bare && !keys.others.has(key)) throw NOT_A_CALL;
    else yield* readValueText(reader);
  }
}

function* readArguments(call: ReadCall, context: BodyContext): Step<void> {
  const { reader } = context;
  const next = yield* reader.skipSpace();
  if (next !== "{" || call.name === undefined) {
    const json = objectText(yield* readValueText(reader));
    if (call.name === undefined) call.early = json;
    else beginWith(call.name, json, call, context);
    return;
  }
  beginWith(call.name, "", call, context);
  yield* streamObject(context);
}

function beginWith(name: string, json: string, call: ReadCall, { sink }: BodyContext): void {
  call.begun = true;
  sink.call(name);
  sink.arguments(json);
}

function* streamObject({ reader, sink }: BodyContext): Step<boolean> {
  return yield* copyNested(reader, (text) => {
    sink.arguments(text);
    reader.mark();
  });
}

/** Arguments are an object, also when the model wrote them as JSON text in a string, or none at all. */
function objectText(text: string): string {
  if (text.startsWith("{")) return text;
  return parseOrThrow(text, (value) => {
    if (value === null || value === "") return "{}";
    if (typeof value !== "string" || !value.trim().startsWith("{")) throw NOT_A_CALL;
    return parseOrThrow(value, () => value.trim());
  });
}

// ---- f[ARGS]{…} ----

function* readNamed(body: NamedBody, context: BodyContext): Step<void> {
  const { reader, sink } = context;
  const [afterName, ...gaps] = body.afterName;
  const name = yield* readName(afterName, "{", context);
  for (const text of gaps) {
    const [first = "", ...others] = text.trim().split(/\s+/);
    if (!(yield* reader.until(first)).found) throw NOT_A_CALL;
    yield* reader.expect(others.join(" "));
  }
  const next = yield* reader.skipSpace();
  // A call that ends after its name has no arguments.
  const ends = next === "" || next === context.callEnd.trimStart().charAt(0);
  if (next !== "{" && !ends) throw NOT_A_CALL;
  if (context.bare && ends && !(context.held && context.cutOff())) throw NOT_A_CALL;
  sink.call(name);
  if (next === "{") yield* streamObject(context);
  else if (next !== "" || !context.cutOff()) sink.arguments("{}");
}

/**
 * A name and the text that ends it.
 * @param lookAhead Ends the name, unread, where the text is only white space.
 * @throws {NotACall}
 */
function* readName(end: string, lookAhead: string, context: BodyContext): Step<string> {
  const { reader } = context;
  const [mark = "", ...others] = end.trim().split(/\s+/);
  let name = "";
  for (;;) {
    if (mark !== "" && name.endsWith(mark)) {
      name = name.slice(0, name.length - mark.length);
      break;
    }
    const next = yield* reader.peek();
    if (next === "" || name.length > NAME_LIMIT + mark.length) throw NOT_A_CALL;
    if (mark === "" && next === lookAhead) break;
    name += reader.take(1);
  }
  yield* reader.expect(others.join(" "));
  checkName(name.trim(), context);
  return name.trim();
}

// ---- f>⏎<parameter=x>⏎1⏎</parameter> ----

function* readTagged(body: TaggedBody, context: BodyContext): Step<void> {
  const { reader, sink } = context;
  const name = yield* readName(body.afterName, body.beforeKey.trim().charAt(0), context);
  const parameters = context.tools.get(name)?.parameters;
  sink.call(name);
  let opened = false;
  const add = (key: string, json: string): void => {
    sink.arguments(`${opened ? ", " : "{"}${JSON.stringify(key)}: ${json}`);
    opened = true;
  };
  for (;;) {
    const from = reader.mark();
    if (yield* endsHere(body, context)) break;
    if ((yield* reader.match(body.beforeKey)) !== "yes") {
      reader.rewind(from);
      break;
    }
    const key = (yield* reader.until(firstPart(body.afterKey))).text.trim();
    const told = yield* readTypes(body, reader);
    if (told === "cut") break;
    const value = yield* reader.until(endOfValue(body));
    const text = withoutFrame(value.text, body);
    if (!value.found && context.cutOff()) {
      const written = text.slice(0, text.length - openLength(text, [{ text: endOfValue(body) }])).trimEnd();
      if (written !== "") add(key, JSON.stringify(written).slice(0, -1));
      return;
    }
    add(key, jsonOfText(text, told ?? propertyTypes(parameters, key)));
    if (body.afterEndName !== undefined) yield* reader.match(key + body.afterEndName);
  }
  if (context.cutOff()) return;
  sink.arguments(opened ? "}" : "{}");
}

/** Whether the call ends; only asked where its end begins like a parameter. Reads nothing. */
function* endsHere({ beforeKey }: TaggedBody, { reader, callEnd }: BodyContext): Step<boolean> {
  if (!callEnd.trimStart().startsWith(beforeKey.trim())) return false;
  const from = reader.position;
  const found = yield* reader.match(callEnd);
  reader.rewind(from);
  return found !== "no";
}

const TEXT: ReadonlySet<string> = new Set(["string"]);
const JSON_VALUE: ReadonlySet<string> = new Set();

/** The rest of the tag before a value, and what it says of the value's type; undefined when nothing. */
function* readTypes(body: TaggedBody, reader: TextReader): Step<ReadonlySet<string> | "cut" | undefined> {
  const from = reader.position;
  if (body.afterTextKey !== undefined) {
    const found = yield* reader.match(otherParts(body.afterTextKey));
    if (found !== "no") return found === "yes" ? TEXT : found;
    reader.rewind(from);
  }
  const found = yield* reader.match(otherParts(body.afterKey));
  if (found === "cut") return found;
  return found === "yes" && body.afterTextKey !== undefined ? JSON_VALUE : undefined;
}

/** The line breaks that belong to the tags, and no other white space. */
function withoutFrame(text: string, body: TaggedBody): string {
  const { open, close } = valueFrame(body);
  const start = text.startsWith(open) ? open.length : 0;
  const end = text.endsWith(close) ? close.length : 0;
  return text.slice(start, Math.max(start, text.length - end));
}

function firstPart(text: string): string {
  return text.trim().split(/\s+/)[0] ?? "";
}

function otherParts(text: string): string {
  return text.trim().split(/\s+/).slice(1).join(" ");
}

// ---- f(x="1", y=2) ----

function* readLiteral(body: LiteralBody, context: BodyContext): Step<void> {
  const { reader, sink } = context;
  const name = yield* readName(body.open, "", context);
  const entries: string[] = [];
  const closed = yield* readEntries(body, reader, entries);
  const json = entries.map((entry) => jsonOfEntry(entry, body));
  if (!closed && !context.cutOff()) throw NOT_A_CALL;
  const known = json.filter((entry) => entry !== undefined);
  if (closed && known.length < json.length) throw NOT_A_CALL;
  sink.call(name);
  // A parameter that is not whole is left out.
  const whole = closed ? known : known.slice(0, Math.max(0, entries.length - 1));
  if (closed || whole.length > 0) sink.arguments(`{${whole.join(", ")}${closed ? "}" : ""}`);
}

/** Splits at the separators outside of strings and brackets, up to the closing text. False at the end of the output. */
function* readEntries(body: LiteralBody, reader: TextReader, entries: string[]): Step<boolean> {
  const close = body.close.trim();
  let entry = "";
  let depth = 0;
  for (;;) {
    const next = yield* reader.peek();
    if (next === "") {
      if (entry.trim() !== "") entries.push(entry.trim());
      return false;
    }
    if (entry.length > NAME_LIMIT * NAME_LIMIT) throw NOT_A_CALL;
    if (depth === 0 && next === close.charAt(0)) {
      if (entry.trim() !== "") entries.push(entry.trim());
      yield* reader.expect(close);
      return true;
    }
    if (body.quote !== '"' && (yield* readQuote(body.quote, reader))) {
      const string = yield* reader.until(body.quote);
      entry += body.quote + string.text + (string.found ? body.quote : "");
      continue;
    }
    entry += reader.take(1);
    const quotes = body.quote === '"' ? `"'` : '"';
    if (quotes.includes(next)) entry += yield* restOfString(next, reader);
    else if ("[{(".includes(next)) depth++;
    else if ("]})".includes(next)) depth--;
    else if (depth === 0 && next === body.separator.trim()) {
      entries.push(entry.slice(0, -1).trim());
      entry = "";
    }
  }
}

/** Reads a quote of several characters if there is one. */
function* readQuote(quote: string, reader: TextReader): Step<boolean> {
  if ((yield* reader.peek()) !== quote.charAt(0)) return false;
  const from = reader.position;
  if ((yield* reader.match(quote)) === "yes") return true;
  reader.rewind(from);
  return false;
}

function* restOfString(quote: string, reader: TextReader): Step<string> {
  const characters: string[] = [];
  for (;;) {
    const next = yield* reader.peek();
    if (next === "") return characters.join("");
    characters.push(reader.take(1));
    if (next === quote) return characters.join("");
    if (next === "\\" && (yield* reader.peek()) !== "") characters.push(reader.take(1));
  }
}

function jsonOfEntry(entry: string, body: LiteralBody): string | undefined {
  const at = entry.indexOf(body.assign.trim());
  if (at <= 0) return undefined;
  const key = entry
    .slice(0, at)
    .trim()
    .replace(/^["']|["']$/g, "");
  const value = jsonOfLiteral(entry.slice(at + body.assign.trim().length), body.quote);
  return value === undefined ? undefined : `${JSON.stringify(key)}: ${value}`;
}
