/** Makes the grammar that an output is held to, and tells a client what cannot be held. */
import { ConstraintCompiler } from "../models/constraint-compiler.ts";
import { JobError } from "../models/job-thread.ts";
import { ConstraintError } from "../models/output-constraint.ts";
import type { CompiledConstraint, OutputConstraint, OutputFormat } from "../models/output-constraint.ts";
import type { GenerationConstraint } from "./generate-request.ts";
import { ApiError } from "./openai/api-error.ts";
import type { GenerationSettings } from "./openai/generation-fields.ts";
import { verifierOf } from "./verify-output.ts";
import type { OutputVerifier } from "./verify-output.ts";

const compiler = new ConstraintCompiler();

/** @throws {ApiError} 400 for a schema, pattern or grammar that cannot be held; 503 when too many are waiting. */
export async function compileOutput(constraint: OutputConstraint): Promise<CompiledConstraint> {
  try {
    return await compiler.compile(constraint);
  } catch (error) {
    if (error instanceof ConstraintError) throw toApiError(error, constraint.answer);
    if (error instanceof JobError && error.code === "busy")
      throw new ApiError("server_overloaded", "The server's queue is full. Please try again later.");
    throw error;
  }
}

/** Starts the compiler with what is asked for most, so that nobody has to wait for its start. */
export async function warmUpCompiler(): Promise<void> {
  const answer = { kind: "json_object", param: "response_format" } as const;
  await compiler.compile({ reasoning: undefined, calls: undefined, answer, answerHeader: undefined });
}

/** The field that keeps an output going where a grammar may have ended it. */
export function endlessField({ ignoreEos, minTokens }: GenerationSettings): string | undefined {
  if (ignoreEos) return "ignore_eos";
  return minTokens > 0 ? "min_tokens" : undefined;
}

/** @param param What asks for the constraint. */
export function endlessConflict(endless: string, param: string): ApiError {
  return new ApiError("invalid_value", `'${endless}' cannot be used together with '${param}'.`, endless);
}

/** A text without chat around it that has a format. */
export interface HeldText {
  readonly constraint: GenerationConstraint;
  readonly verify: OutputVerifier | undefined;
  /** Paths of schema keywords that the text is not held to. */
  readonly relaxed: readonly string[];
}

/**
 * Undefined for any text.
 * @throws {ApiError} 400 for what cannot be held, and for fields that cannot be honoured together with it; 503.
 */
export async function holdText(
  format: OutputFormat,
  settings: GenerationSettings,
): Promise<HeldText | undefined> {
  if (format.kind === "text") return undefined;
  const endless = endlessField(settings);
  if (endless !== undefined) throw endlessConflict(endless, format.param);
  const { grammar, relaxed } = await compileOutput({
    reasoning: undefined,
    calls: undefined,
    answer: format,
    answerHeader: undefined,
  });
  const verify = verifierOf({ format, tools: [], toolChoice: { mode: "none" } }, relaxed);
  return { constraint: { grammar, param: format.param }, verify, relaxed };
}

/** In OpenAI's words, where it has some. */
function toApiError({ message, param, tool }: ConstraintError, answer: OutputFormat): ApiError {
  if (tool !== undefined) {
    return new ApiError(
      "invalid_function_parameters",
      `Invalid schema for function '${tool}': ${message}`,
      param,
    );
  }
  if (answer.kind === "json_schema") {
    return new ApiError("invalid_schema", `Invalid schema for ${param} '${answer.name}': ${message}`, param);
  }
  return new ApiError("invalid_value", `Invalid '${param}': ${message}`, param);
}
