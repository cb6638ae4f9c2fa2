/** The thread in which finished outputs are looked at: one at a time, however long a stranger's patterns take. */
import { parentPort } from "node:worker_threads";
import type { ThreadReady } from "./job-thread.ts";
import { wrongOutput } from "./output-check.ts";
import type { OutputPromise, WholeOutput } from "./output-check.ts";

export interface CheckJob {
  /** An `OutputPromise` as JSON: a large schema is copied faster as text. */
  readonly promise: string;
  readonly output: WholeOutput;
}

export interface CheckReply {
  readonly type: "checked";
  readonly wrong: string | undefined;
}

function check({ promise, output }: CheckJob): CheckReply {
  return { type: "checked", wrong: wrongOutput(JSON.parse(promise) as OutputPromise, output) };
}

function reply(message: CheckReply | ThreadReady): void {
  parentPort?.postMessage(message, []);
}

parentPort?.on("message", (job: CheckJob) => reply(check(job)));
reply({ type: "ready" });
