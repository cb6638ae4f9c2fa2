/** `weft doctor --conformance URL`: how far a server speaks OpenAI's protocol, check by check. */
import { describeConnectionError } from "../../models/command-line/connection-error.ts";
import { runChecks } from "../conformance/run-checks.ts";
import type { CheckResult, ConformanceReport } from "../conformance/run-checks.ts";
import { ExitCode } from "./exit-codes.ts";

export interface ConformanceFlags {
  readonly url: string;
  readonly model: string | undefined;
  readonly apiKey: string | undefined;
  /** One JSON document instead of a table. */
  readonly json: boolean;
}

const LABELS = { pass: "ok    ", fail: "FAILED", "not offered": "-     " } as const;

/** Prints the results as they come; the exit code is 1 when a check fails or the server does not answer. */
export async function runConformance(flags: ConformanceFlags): Promise<ExitCode> {
  try {
    const report = await runChecks(flags, flags.json ? undefined : printResult);
    process.stdout.write(flags.json ? `${JSON.stringify(report, null, 2)}\n` : `\n${summary(report)}\n`);
    return report.failed === 0 ? ExitCode.ok : ExitCode.failed;
  } catch (error) {
    process.stderr.write(`weft: ${flags.url} cannot be checked: ${reasonOf(error)}\n`);
    return ExitCode.failed;
  }
}

/** What fetch throws has its reason inside. */
function reasonOf(error: unknown): string {
  if (error instanceof TypeError && error.cause !== undefined)
    return `${describeConnectionError(error)}. Is the server running?`;
  return error instanceof Error ? error.message : String(error);
}

function printResult({ name, outcome, reason }: CheckResult): void {
  process.stdout.write(`${LABELS[outcome]}  ${name}${reason === undefined ? "" : `\n          ${reason}`}\n`);
}

function summary({ url, model, passed, failed, notOffered }: ConformanceReport): string {
  const judged = passed + failed;
  const percent = judged === 0 ? 0 : (100 * passed) / judged;
  return (
    `${url} (${model}): ${passed} of ${judged} checks passed, ${percent.toFixed(0)} %` +
    (notOffered === 0 ? "" : `; ${notOffered} not offered`)
  );
}
