/** Whether a finished output is what was promised of it: a grammar that was to hold it may be wrong. */
import { isSchemaObject } from "./grammar/schema-keywords.ts";
import { validateInstance } from "./grammar/validate-instance.ts";

/** Plain data, so that another thread can be told. */
export interface OutputPromise {
  /** Of an answer without calls. `schema` absent: any JSON object; `answer` absent: any text. */
  readonly answer?: { readonly schema?: unknown } | undefined;
  /** Schemas of the arguments, by name of the tool; calls of others may have any. */
  readonly calls: Readonly<Record<string, unknown>>;
}

/** A whole output, thinking left out. */
export interface WholeOutput {
  content: string;
  readonly calls: { readonly name: string; arguments: string }[];
}

/** @returns What is wrong; undefined when nothing is, or when it would take too long to say. */
export function wrongOutput({ answer, calls }: OutputPromise, output: WholeOutput): string | undefined {
  for (const call of output.calls) {
    if (!Object.hasOwn(calls, call.name)) continue;
    const wrong = wrongJson("arguments are", call.arguments, calls[call.name]);
    if (wrong !== undefined) return `call of ${call.name}: ${wrong}`;
  }
  if (answer === undefined || (output.calls.length > 0 && output.content === "")) return undefined;
  if (Object.hasOwn(answer, "schema")) return wrongJson("content is", output.content, answer.schema);
  return isSchemaObject(parsed(output.content)?.json) ? undefined : "the content is no JSON object";
}

function wrongJson(what: string, text: string, schema: unknown): string | undefined {
  const value = parsed(text);
  if (value === undefined) return `the ${what} not JSON`;
  const found = validateInstance(schema, value.json);
  return found && `${found.path}: ${found.message}`;
}

function parsed(text: string): { readonly json: unknown } | undefined {
  try {
    return { json: JSON.parse(text) };
  } catch {
    return undefined;
  }
}
