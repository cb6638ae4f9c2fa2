#!/usr/bin/env node
/** The executable: runs one command and turns what went wrong into one line and an exit code. */
import { describeFailure, ExitCode } from "./cli/exit-codes.ts";
import { createProgram } from "./cli/program.ts";

let exitCode: ExitCode = ExitCode.ok;
try {
  await createProgram((code) => (exitCode = code)).parseAsync();
} catch (error) {
  const { code, line } = describeFailure(error);
  if (line !== undefined) process.stderr.write(`weft: ${line}\n`);
  exitCode = code;
}
// Idle keep-alive sockets and worker threads must not outlive the command.
process.exit(exitCode);
