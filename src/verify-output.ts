/** Looks whether a finished answer is what its schemas say, beside the event loop. */
import { OutputChecker } from "../models/output-checker.ts";
import type { OutputPromise, WholeOutput } from "../models/output-check.ts";
import type { ChatTurn } from "./chat-turn.ts";

/** What is wrong with an answer, for the log; undefined when nothing is. Never rejects. */
export type OutputVerifier = (output: WholeOutput) => Promise<string | undefined>;

const checker = new OutputChecker();

/**
 * Undefined when nothing was promised.
 * @param relaxed Schema keywords that the answer is not held to.
 */
export function verifierOf(
  { format, tools, toolChoice }: Pick<ChatTurn, "format" | "tools" | "toolChoice">,
  relaxed: readonly string[],
): OutputVerifier | undefined {
  const strict = tools.filter((tool) => tool.strict && toolChoice.mode !== "none");
  const answer = promisedAnswer(format, relaxed);
  if (answer === undefined && strict.length === 0) return undefined;
  const calls = Object.fromEntries(strict.map(({ name, parameters }) => [name, parameters ?? {}]));
  return checker.checkOf({ answer, calls });
}

function promisedAnswer(format: ChatTurn["format"], relaxed: readonly string[]): OutputPromise["answer"] {
  if (format.kind === "json_object") return {};
  if (format.kind !== "json_schema") return undefined;
  // What is not held to all of its schema is still JSON.
  return { schema: relaxed.length === 0 ? (format.schema ?? true) : true };
}
