/** The thread in which chat templates run: one render at a time, whatever it does to its own heap and time. */
import { parentPort } from "node:worker_threads";
import { Environment, Interpreter, parse, tokenize } from "@huggingface/jinja";
import { dateVariables, TEMPLATE_GLOBALS, TemplateRefusal } from "./chat-template-globals.ts";
import type { ThreadReady } from "./job-thread.ts";
import { stringsOf } from "./prompt-parts.ts";

export interface RenderJob {
  readonly source: string;
  readonly variables: Readonly<Record<string, unknown>>;
}

export type RenderReply =
  | { readonly type: "rendered"; readonly text: string }
  | { readonly type: "too_large"; readonly limit: number }
  /** The template called `raise_exception`. */
  | { readonly type: "rejected"; readonly message: string }
  | { readonly type: "failed"; readonly message: string };

/** Templates repeat what they get a few times at most, and add instructions of their own. */
const OUTPUT_CHARS_PER_INPUT_CHAR = 4;
const OUTPUT_CHARS_FREE = 64 * 1024;

/** Parsed templates kept; a server has one per model. */
const PARSED_LIMIT = 64;

type Program = ReturnType<typeof parse>;

const parsed = new Map<string, Program>();

function programOf(source: string): Program {
  let program = parsed.get(source);
  if (program === undefined) {
    program = parse(tokenize(source, { lstrip_blocks: true, trim_blocks: true }));
    for (const oldest of parsed.keys()) {
      if (parsed.size < PARSED_LIMIT) break;
      parsed.delete(oldest);
    }
    parsed.set(source, program);
  }
  return program;
}

function render(job: RenderJob): RenderReply {
  try {
    const environment = new Environment();
    for (const [name, value] of Object.entries(TEMPLATE_GLOBALS)) environment.set(name, value);
    const variables = { ...dateVariables(new Date()), ...functionsVariable(job), ...job.variables };
    for (const [name, value] of Object.entries(variables)) environment.set(name, value);
    const result = new Interpreter(environment).run(programOf(job.source));
    const text = String(result.value);
    const inputChars = stringsOf(job.variables).reduce((sum, string) => sum + string.length, 0);
    const limit = OUTPUT_CHARS_PER_INPUT_CHAR * inputChars + OUTPUT_CHARS_FREE;
    return text.length > limit ? { type: "too_large", limit } : { type: "rendered", text };
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    return { type: error instanceof TemplateRefusal ? "rejected" : "failed", message };
  }
}

/** FireFunction's templates are given the tools as text, under another name, and fail without. */
function functionsVariable({ source, variables }: RenderJob): Readonly<Record<string, string>> {
  if (/\btools\b/.test(source) || !/\bfunctions\b/.test(source)) return {};
  const { tools } = variables;
  return { functions: Array.isArray(tools) && tools.length > 0 ? JSON.stringify(tools, null, 2) : "" };
}

function reply(message: RenderReply | ThreadReady): void {
  parentPort?.postMessage(message, []);
}

parentPort?.on("message", (job: RenderJob) => reply(render(job)));
reply({ type: "ready" });
