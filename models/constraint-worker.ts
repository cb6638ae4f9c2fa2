/** The thread in which schemas, patterns and grammars are compiled: one at a time, however long a stranger's takes. */
import { parentPort } from "node:worker_threads";
import type { ThreadReady } from "./job-thread.ts";
import { compileConstraint, ConstraintError, readConstraint } from "./output-constraint.ts";
import type { CompiledConstraint } from "./output-constraint.ts";

/** A constraint as `writeConstraint` writes it. */
export type CompileJob = string;

export type CompileReply =
  | { readonly type: "compiled"; readonly compiled: CompiledConstraint }
  | {
      readonly type: "refused";
      readonly message: string;
      readonly param: string;
      readonly tool: string | undefined;
    }
  | { readonly type: "failed"; readonly message: string };

function compile(job: CompileJob): CompileReply {
  try {
    return { type: "compiled", compiled: compileConstraint(readConstraint(job)) };
  } catch (error) {
    if (error instanceof ConstraintError) {
      const { message, param, tool } = error;
      return { type: "refused", message, param, tool };
    }
    return {
      type: "failed",
      message: error instanceof Error ? (error.stack ?? error.message) : String(error),
    };
  }
}

function reply(message: CompileReply | ThreadReady): void {
  parentPort?.postMessage(message, []);
}

parentPort?.on("message", (job: CompileJob) => reply(compile(job)));
reply({ type: "ready" });
