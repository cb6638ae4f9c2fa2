/** What the process's exit code says, and which error leads to which. */
import { CommanderError } from "commander";
import { EngineError } from "../../engine/errors.ts";
import type { EngineErrorCode } from "../../engine/errors.ts";
import { ModelFileError } from "../../models/model-file-error.ts";
import { ownCommand } from "../../models/command-line/own-command.ts";
import { ConfigError } from "../config/config-error.ts";

export const ExitCode = {
  ok: 0,
  failed: 1,
  usage: 2,
  modelNotFound: 3,
  outOfMemory: 4,
  portInUse: 5,
  /** An error that nobody has caught; sysexits.h calls it EX_SOFTWARE. */
  crashed: 70,
} as const;

export type ExitCode = (typeof ExitCode)[keyof typeof ExitCode];

const ENGINE_EXIT_CODES: Partial<Record<EngineErrorCode, ExitCode>> = {
  model_not_found: ExitCode.modelNotFound,
  model_invalid: ExitCode.modelNotFound,
  out_of_memory: ExitCode.outOfMemory,
  draft_unfit: ExitCode.usage,
};

const ENGINE_ADVICE: Partial<Record<EngineErrorCode, string>> = {
  runtime_incompatible: `Run "${ownCommand("doctor")}".`,
  engine_exited:
    "The system may have run out of memory; try fewer --slots or a smaller --context. " +
    "On a GPU its driver may have failed; try --flash-attention off or --gpu off.",
};

/** A listening socket that could not be had. */
export class ListenError extends Error {
  override readonly name = "ListenError";
  /** The system's code, such as `EADDRINUSE`. */
  readonly code: string;

  constructor(code: string, message: string) {
    super(message);
    this.code = code;
  }
}

/** The exit code for an error, and the line to print; undefined when it has been printed. */
export function describeFailure(error: unknown): {
  readonly code: ExitCode;
  readonly line: string | undefined;
} {
  if (error instanceof CommanderError) {
    return { code: error.exitCode === 0 ? ExitCode.ok : ExitCode.usage, line: undefined };
  }
  if (error instanceof ConfigError) return { code: ExitCode.usage, line: error.message };
  if (error instanceof ModelFileError) {
    return {
      code: error.code === "download_failed" ? ExitCode.failed : ExitCode.modelNotFound,
      line: error.message,
    };
  }
  if (error instanceof ListenError) {
    return {
      code: error.code === "EADDRINUSE" ? ExitCode.portInUse : ExitCode.failed,
      line: error.message,
    };
  }
  if (error instanceof EngineError) {
    const advice = ENGINE_ADVICE[error.code];
    return {
      code: ENGINE_EXIT_CODES[error.code] ?? ExitCode.failed,
      line: advice === undefined ? error.message : `${error.message} ${advice}`,
    };
  }
  return {
    code: ExitCode.failed,
    line: error instanceof Error ? (error.stack ?? error.message) : String(error),
  };
}
