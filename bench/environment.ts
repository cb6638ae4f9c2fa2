/** Where and how a benchmark ran: the header without which its numbers mean nothing. */
import os from "node:os";
import { packageVersion } from "../models/package-root.ts";

export interface BenchEnvironment {
  readonly cpu: string;
  readonly cores: number;
  readonly memoryGib: number;
  readonly platform: string;
  readonly node: string;
  readonly version: string;
  /** ISO 8601, UTC. */
  readonly date: string;
  /** As given, with the API key hidden. */
  readonly arguments: readonly string[];
}

/** @param now Wall clock, for the date alone. */
export function describeEnvironment(argv: readonly string[], now: Date): BenchEnvironment {
  return {
    cpu: os.cpus()[0]?.model.trim() ?? "unknown",
    cores: os.availableParallelism(),
    memoryGib: Math.round((os.totalmem() / 2 ** 30) * 10) / 10,
    platform: `${os.platform()} ${os.release()} ${os.arch()}`,
    node: process.version,
    version: packageVersion(),
    date: now.toISOString(),
    arguments: hideKey(argv),
  };
}

const KEY_FLAGS = ["--api-key", "--greedy-key"];

/** A header is pasted into issues and notebooks: a key must not travel with it. */
export function hideKey(argv: readonly string[]): string[] {
  return argv.map((argument, index) => {
    const flag = KEY_FLAGS.find((known) => argument.startsWith(`${known}=`));
    if (flag !== undefined) return `${flag}=***`;
    return KEY_FLAGS.includes(argv[index - 1] ?? "") ? "***" : argument;
  });
}
