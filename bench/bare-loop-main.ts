/**
 * Entry of the child process that runs the bare decode loop: native code never runs in the measuring process,
 * and this process has the one libuv thread that an engine process has.
 */
import { runBareLoop } from "../engine/llama/bare-loop.ts";
import type { BareLoopOptions } from "../engine/llama/bare-loop.ts";
import type { BareLoopReply } from "./bare-loop-process.ts";

// A parent that is gone reads no result.
process.on("disconnect", () => process.exit(1));

process.once("message", (options) => {
  runBareLoop(options as BareLoopOptions).then(
    (results) => reply({ type: "results", results }),
    (error: unknown) =>
      reply({ type: "failed", message: error instanceof Error ? error.message : String(error) }),
  );
});

function reply(message: BareLoopReply): void {
  process.send?.(message, () => process.exit(message.type === "results" ? 0 : 1));
}
