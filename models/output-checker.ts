/** Looks at finished outputs in a thread of its own, so that no stream waits while a stranger's pattern is matched. */
import { JobError, JobThread } from "./job-thread.ts";
import type { JobThreadOptions } from "./job-thread.ts";
import type { CheckJob, CheckReply } from "./output-check-worker.ts";
import type { OutputPromise, WholeOutput } from "./output-check.ts";

/** An ordinary answer takes a millisecond. */
const DEADLINE_MS = 1000;
/** Each holds its answer and schemas until its turn; what comes when so many wait is not looked at. */
const MAX_QUEUED = 64;

export class OutputChecker {
  readonly #thread: JobThread<CheckJob, CheckReply>;

  constructor({ deadlineMs = DEADLINE_MS, maxQueued = MAX_QUEUED }: Partial<JobThreadOptions> = {}) {
    this.#thread = new JobThread("output-check-worker", { deadlineMs, maxQueued });
  }

  /** @returns For any number of outputs of the promise: what is wrong with one; undefined when nothing is, or when that took too long to say. Never rejects. */
  checkOf(promise: OutputPromise): (output: WholeOutput) => Promise<string | undefined> {
    let text: string | undefined;
    return async (output) => {
      try {
        return (await this.#thread.run({ promise: (text ??= JSON.stringify(promise)), output })).wrong;
      } catch (error) {
        if (error instanceof JobError && error.code !== "failed") return undefined;
        return `it could not be checked: ${error instanceof Error ? error.message : String(error)}`;
      }
    };
  }

  /** Gives up what waits and ends the thread. */
  close(): Promise<void> {
    return this.#thread.close();
  }
}
