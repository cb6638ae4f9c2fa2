/** Runs all checks against a server, one after the other, and counts. */
import { isObject } from "../http/json.ts";
import { NotOffered } from "./check.ts";
import type { ConformanceCheck } from "./check.ts";
import { chatChecks, historyChecks } from "./checks/chat.ts";
import { completionChecks, embeddingChecks } from "./checks/completions.ts";
import { errorChecks } from "./checks/errors.ts";
import { modelChecks } from "./checks/models.ts";
import { responseChecks } from "./checks/responses.ts";
import { streamChecks } from "./checks/streams.ts";
import { structuredChecks } from "./checks/structured.ts";
import { toolChecks } from "./checks/tools.ts";
import { itemOf, okJson, Probe } from "./probe.ts";
import type { Answer } from "./probe.ts";

export const ALL_CHECKS: readonly ConformanceCheck[] = [
  ...modelChecks,
  ...chatChecks,
  ...historyChecks,
  ...streamChecks,
  ...errorChecks,
  ...toolChecks,
  ...structuredChecks,
  ...completionChecks,
  ...embeddingChecks,
  ...responseChecks,
];

export interface CheckResult {
  readonly name: string;
  readonly outcome: "pass" | "fail" | "not offered";
  /** One line; undefined for a pass. */
  readonly reason: string | undefined;
}

export interface ConformanceReport {
  readonly url: string;
  readonly model: string;
  readonly results: readonly CheckResult[];
  readonly passed: number;
  readonly failed: number;
  readonly notOffered: number;
}

export interface ConformanceTarget {
  /** With or without `/v1` and slashes at the end. */
  readonly url: string;
  /** Undefined takes the first of the model list. */
  readonly model: string | undefined;
  readonly apiKey: string | undefined;
}

/**
 * @param onResult After each check.
 * @throws {Error} when the server does not answer or lists no model.
 */
export async function runChecks(
  target: ConformanceTarget,
  onResult: (result: CheckResult) => void = () => {},
): Promise<ConformanceReport> {
  const url = target.url.replace(/\/+$/, "").replace(/\/v1$/, "");
  const { apiKey } = target;
  // Also where the model is known: a server that is not there fails once, rather than every check.
  const first = await new Probe({ url, model: "", apiKey }).request("/v1/models");
  const model = target.model ?? modelOf(first);
  const probe = new Probe({ url, model, apiKey });
  const results: CheckResult[] = [];
  for (const check of ALL_CHECKS) {
    const result = await runCheck(check, probe);
    results.push(result);
    onResult(result);
  }
  const count = (outcome: CheckResult["outcome"]): number =>
    results.filter((result) => result.outcome === outcome).length;
  return {
    url,
    model,
    results,
    passed: count("pass"),
    failed: count("fail"),
    notOffered: count("not offered"),
  };
}

function modelOf(list: Answer): string {
  const { id } = itemOf(okJson(list), "data");
  if (typeof id !== "string") throw new Error("The server lists no model; name one with --model.");
  return id;
}

async function runCheck({ name, run }: ConformanceCheck, probe: Probe): Promise<CheckResult> {
  try {
    await run(probe);
    return { name, outcome: "pass", reason: undefined };
  } catch (error) {
    const outcome = error instanceof NotOffered ? "not offered" : "fail";
    return { name, outcome, reason: reasonOf(error) };
  }
}

/** The innermost cause: fetch itself only says "fetch failed". */
function reasonOf(error: unknown): string {
  const cause = error instanceof Error && isObject(error.cause) ? error.cause["message"] : undefined;
  const message = error instanceof Error ? error.message : String(error);
  return (typeof cause === "string" ? `${message}: ${cause}` : message).replaceAll("\n", " ");
}
