/** Runs the bare decode loop in a child process that is set up as an engine process is. */
import { fork } from "node:child_process";
import { extname } from "node:path";
import type { BareLoopOptions, BareLoopResult } from "../engine/llama/bare-loop.ts";

export type BareLoopReply =
  | { readonly type: "results"; readonly results: readonly BareLoopResult[] }
  | { readonly type: "failed"; readonly message: string };

/**
 * One result per entry of `options.sequences`, in order.
 * @param timeoutMs Until the child is killed.
 * @throws {Error} When the loop fails, or its process ends without a result.
 */
export function runBareLoopInChild(
  options: BareLoopOptions,
  timeoutMs: number,
): Promise<readonly BareLoopResult[]> {
  const entry = new URL(`./bare-loop-main${extname(import.meta.url)}`, import.meta.url);
  const child = fork(entry, [], {
    serialization: "advanced",
    // llama.cpp's log would mix with the report.
    stdio: ["ignore", "ignore", "ignore", "ipc"],
    execArgv: process.execArgv.filter((argument) => !argument.startsWith("--inspect")),
    // As for the engine: with more threads each decode call may run on another one and lose its cores.
    env: { ...process.env, UV_THREADPOOL_SIZE: "1" },
  });
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => child.kill("SIGKILL"), timeoutMs);
    child.once("message", (message) => {
      const reply = message as BareLoopReply;
      if (reply.type === "results") resolve(reply.results);
      else reject(new Error(`The bare loop failed: ${reply.message}`));
    });
    child.once("error", reject);
    child.once("exit", (code, signal) => {
      clearTimeout(timer);
      // Too late to matter when a reply came first: a promise settles once.
      reject(new Error(`The bare loop's process ended (${signal ?? `exit code ${code}`}) without a result.`));
    });
    child.send(options, (error) => {
      if (error !== null) reject(error);
    });
  });
}
