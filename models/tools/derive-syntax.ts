/** Derives the syntax of tool calls from turns that a chat template rendered with calls whose parts are known. Pure. */
import type { CallBody, CallSyntax, ObjectField } from "./call-syntax.ts";
import { commonLength, FIRST_CALL, SECOND_CALL } from "./probe.ts";
import type { ProbeCall } from "./probe.ts";

/** Where a call was found in a turn, and how it is built. */
interface FoundBody {
  readonly start: number;
  readonly end: number;
  readonly body: CallBody;
}

/**
 * @param one A turn with the first probe call.
 * @param two A turn with both; undefined when the template writes one call only.
 * @returns Undefined when the calls are written in no way that is understood.
 */
export function deriveSyntax(one: string, two: string | undefined): CallSyntax | undefined {
  const pair = two === undefined ? undefined : findTwo(two);
  const single = findBody(one, FIRST_CALL, 0);
  if (single === undefined) return undefined;
  const body = pair === undefined ? single.body : merged(single.body, pair.first.body, pair.second.body);
  const before = one.slice(0, single.start);
  if (before.includes(FIRST_CALL.id) || before.includes(FIRST_CALL.name)) return undefined;
  // A name without anything before it cannot be told from text.
  if (before.trim() === "" && single.body.kind !== "object") return undefined;
  const after = one.slice(single.end);
  // Several calls that do not begin like one have a syntax of their own, which models mix up.
  const alike = pair !== undefined && two?.slice(0, pair.first.start) === before;
  const between = alike ? two?.slice(pair.first.end, pair.second.start) : undefined;
  const usable = between?.includes(SECOND_CALL.id) === true ? undefined : between;
  return { family: familyOf(before, after, body), before, between: usable, after, body };
}

function findTwo(two: string): { readonly first: FoundBody; readonly second: FoundBody } | undefined {
  const first = findBody(two, FIRST_CALL, 0);
  if (first === undefined) return undefined;
  const second = findBody(two, SECOND_CALL, first.end);
  return second === undefined ? undefined : { first, second };
}

function findBody(turn: string, call: ProbeCall, from: number): FoundBody | undefined {
  return findObjectBody(turn, call, from) ?? findNamedBody(turn, call, from);
}

/** An object that has the name and the arguments among its values. */
function findObjectBody(turn: string, call: ProbeCall, from: number): FoundBody | undefined {
  for (const { start, end, value } of objectsIn(turn, from)) {
    const fields = fieldsOf(value, call);
    if (fields !== undefined) return { start, end, body: { kind: "object", fields } };
  }
  return undefined;
}

function fieldsOf(value: Readonly<Record<string, unknown>>, call: ProbeCall): ObjectField[] | undefined {
  const fields = Object.entries(value).map(([key, entry]): ObjectField => {
    if (entry === call.name) return { key, holds: "name" };
    if (isArguments(entry, call)) return { key, holds: "arguments" };
    if (entry === call.id) return { key, holds: "anything" };
    const nested = isRecord(entry) ? fieldsOf(entry, call) : undefined;
    return nested === undefined
      ? { key, holds: "constant", value: entry }
      : { key, holds: "fields", fields: nested };
  });
  const nested = fields.flatMap((field) => (field.holds === "fields" ? [field, ...field.fields] : [field]));
  const holds = nested.map((field) => field.holds);
  return holds.includes("name") && holds.includes("arguments") ? fields : undefined;
}

function isArguments(value: unknown, call: ProbeCall): boolean {
  if (typeof value === "string") {
    if (!value.trimStart().startsWith("{")) return false;
    return isArguments(parsed(value), call);
  }
  return isRecord(value) && JSON.stringify(value) === JSON.stringify(call.arguments);
}

/** A name, then arguments. */
function findNamedBody(turn: string, call: ProbeCall, from: number): FoundBody | undefined {
  const start = turn.indexOf(call.name, from);
  if (start === -1) return undefined;
  const afterName = start + call.name.length;
  for (const { start: json, end, value } of objectsIn(turn, afterName)) {
    if (!isArguments(value, call)) continue;
    const between = turn.slice(afterName, json);
    const [first = "", ...others] = between.split(call.id);
    return { start, end, body: { kind: "named", afterName: [first, ...others] } };
  }
  return findParameters(turn, call, start);
}

/** A name, then parameters one by one. */
function findParameters(turn: string, call: ProbeCall, start: number): FoundBody | undefined {
  const [[key1, value1] = ["", ""], [key2, value2] = ["", ""]] = Object.entries(call.arguments);
  let at = start + call.name.length;
  const gaps: string[] = [];
  for (const part of [key1, String(value1), key2, String(value2)]) {
    const found = turn.indexOf(part, at);
    if (found === -1) return undefined;
    gaps.push(turn.slice(at, found));
    at = found + part.length;
  }
  const [toKey = "", assignText = "", toNext = "", assignNumber = ""] = gaps;
  const found = { toKey, assignText, toNext, assignNumber, key1, key2, rest: turn.slice(at), start, at };
  return literalBody(found) ?? taggedBody(found);
}

/** What stands around the keys and values of two parameters. */
interface Gaps {
  readonly toKey: string;
  readonly assignText: string;
  readonly toNext: string;
  readonly assignNumber: string;
  readonly key1: string;
  readonly key2: string;
  readonly rest: string;
  readonly start: number;
  readonly at: number;
}

function literalBody(gaps: Gaps): FoundBody | undefined {
  const { toKey, assignText, toNext, assignNumber, rest, start, at } = gaps;
  const close = { "(": ")", "{": "}" }[toKey.trim()];
  if (close === undefined || !rest.trimStart().startsWith(close)) return undefined;
  if (!assignText.startsWith(assignNumber)) return undefined;
  const quote = assignText.slice(assignNumber.length);
  if (quote === "" || !toNext.startsWith(quote)) return undefined;
  const end = at + rest.indexOf(close) + close.length;
  const separator = toNext.slice(quote.length);
  const usual = quote === "'" ? '"' : quote;
  const body: CallBody = {
    kind: "literal",
    open: toKey,
    assign: assignNumber,
    quote: usual,
    separator,
    close,
  };
  return { start, end, body };
}

function taggedBody(gaps: Gaps): FoundBody | undefined {
  const { toKey, assignText, toNext, assignNumber, rest, start, at } = gaps;
  const told = assignText !== assignNumber;
  if (told && !sayTypes(assignText, assignNumber)) return undefined;
  const repeated = toNext.indexOf(gaps.key1);
  const gap = repeated === -1 ? toNext : toNext.slice(repeated + gaps.key1.length);
  const shared = commonEnd(toKey, gap);
  const tag = shared.lastIndexOf("<");
  const beforeKey = tag === -1 ? shared.trimStart() : shared.slice(tag);
  const behind = gap.slice(0, gap.length - beforeKey.length);
  const [afterValue, afterEndName] =
    repeated === -1 ? [behind, undefined] : [toNext.slice(0, repeated), behind];
  const closing = afterEndName === undefined ? afterValue : afterValue + gaps.key2 + afterEndName;
  const ending = closing.trim();
  if (beforeKey === "" || ending === "" || !rest.trimStart().startsWith(ending)) return undefined;
  const body: CallBody = {
    kind: "tagged",
    afterName: toKey.slice(0, toKey.length - beforeKey.length),
    beforeKey,
    afterKey: assignNumber,
    afterTextKey: told ? assignText : undefined,
    afterValue,
    afterEndName,
  };
  const closed = rest.indexOf(ending) + ending.length;
  const space = /\s*$/.exec(closing)?.[0] ?? "";
  return { start, end: at + closed + (rest.startsWith(space, closed) ? space.length : 0), body };
}

/** Whether two ends of a tag differ behind the name of the parameter, as in `" string="true">` and `" string="false">`. */
function sayTypes(text: string, number: string): boolean {
  const [end] = text.split(/\s/);
  return end !== "" && end === number.split(/\s/)[0] && text.endsWith(">") && number.endsWith(">");
}

/** What two calls have in common stays; the rest may be anything. */
function merged(single: CallBody, first: CallBody, second: CallBody): CallBody {
  if (single.kind === "object" && first.kind === "object" && second.kind === "object") {
    return { kind: "object", fields: mergedFields(first.fields, second.fields) };
  }
  if (single.kind === "named" && first.kind === "named" && second.kind === "named") {
    const [a, ...othersA] = first.afterName;
    const [b] = second.afterName;
    if (a === b || othersA.length > 0) return single;
    // A number of the call stands between the name and the arguments.
    const start = commonLength(a, b);
    return { kind: "named", afterName: [a.slice(0, start), commonEnd(a.slice(start), b.slice(start))] };
  }
  return single;
}

function mergedFields(first: readonly ObjectField[], second: readonly ObjectField[]): ObjectField[] {
  return first.map((field): ObjectField => {
    const other = second.find(({ key }) => key === field.key);
    if (field.holds === "fields" && other?.holds === "fields") {
      return { ...field, fields: mergedFields(field.fields, other.fields) };
    }
    if (field.holds !== "constant" || other?.holds !== "constant") return field;
    const same = JSON.stringify(field.value) === JSON.stringify(other.value);
    return same ? field : { key: field.key, holds: "anything" };
  });
}

function familyOf(before: string, after: string, body: CallBody): string {
  if (before.includes("[TOOL_CALLS]")) return "mistral";
  if (before.includes("tool▁call") || before.includes("｜DSML｜")) return "deepseek";
  if (before.includes("<|tool_calls_section_begin|>")) return "kimi-k2";
  if (before.includes("<minimax:tool_call>") || before.includes("]<]minimax[>[")) return "minimax";
  if (before.includes("<|tool_call|>") || before.includes("functools")) {
    return after.includes("<|/tool_call|>") || before.includes("functools") ? "phi4" : "granite";
  }
  switch (body.kind) {
    case "object":
      if (before.trim() === "" || before.includes("<|python_tag|>")) return "llama3-json";
      return before.includes("<tool_call>") ? "hermes" : "json-object";
    case "named":
      return "json-arguments";
    case "tagged":
      return before.includes("<function=") ? "qwen3-coder" : "tagged";
    case "literal":
      return body.open.trim() === "(" ? "pythonic" : "literal";
  }
}

function commonEnd(a: string, b: string): string {
  let length = 0;
  while (length < Math.min(a.length, b.length) && a.at(-1 - length) === b.at(-1 - length)) length++;
  return a.slice(a.length - length);
}

/** The JSON objects in a text, outer ones first. */
function* objectsIn(
  text: string,
  from: number,
): Generator<{
  readonly start: number;
  readonly end: number;
  readonly value: Readonly<Record<string, unknown>>;
}> {
  for (let start = text.indexOf("{", from); start !== -1; start = text.indexOf("{", start + 1)) {
    for (let end = text.indexOf("}", start); end !== -1; end = text.indexOf("}", end + 1)) {
      const value = parsed(text.slice(start, end + 1));
      if (!isRecord(value)) continue;
      yield { start, end: end + 1, value };
      break;
    }
  }
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
