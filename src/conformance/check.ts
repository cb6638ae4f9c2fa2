/** What a check is: a name, a question to a server, and a reason when the answer is not OpenAI's. */
import type { Probe } from "./probe.ts";

export interface ConformanceCheck {
  /** Area and subject, such as `chat: stop string`. */
  readonly name: string;
  /** @throws {CheckFailure} or {NotOffered}; anything else that is thrown is a failure too. */
  readonly run: (probe: Probe) => Promise<void>;
}

/** The answer is not what OpenAI's clients expect; the message is the reason in one line. */
export class CheckFailure extends Error {
  override readonly name = "CheckFailure";
}

/** The server has no such endpoint or its model no such ability, and says so in good order. */
export class NotOffered extends Error {
  override readonly name = "NotOffered";
}

/** @throws {CheckFailure} unless the condition holds. */
export function must(condition: boolean, reason: string): asserts condition {
  if (!condition) throw new CheckFailure(reason);
}

/** @throws {CheckFailure} unless both are the same value. */
export function mustBe(what: string, actual: unknown, expected: unknown): void {
  must(actual === expected, `${what} is ${show(actual)} instead of ${show(expected)}`);
}

/** @throws {CheckFailure} with the first problems of a lint. */
export function mustBeClean(problems: readonly string[]): void {
  must(problems.length === 0, problems.slice(0, 3).join("; "));
}

/** A value in a reason: short, on one line. */
export function show(value: unknown): string {
  const text = value === undefined ? "absent" : JSON.stringify(value);
  return text.length <= 100 ? text : `${text.slice(0, 97)}...`;
}
