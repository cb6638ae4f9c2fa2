/** The child's end of the line: an engine behind the IPC channel of its process. */
import { killCompanions } from "../companions.ts";
import { watchParent } from "./parent-watch.ts";
import type { EngineCommand, EngineEvent } from "../protocol.ts";

/** An engine as its host sees it. */
export interface HostedEngine {
  receive(command: EngineCommand): void;
  /** Settles after `stop`, when every event has been emitted and every resource is free. */
  readonly stopped: Promise<void>;
}

export type EngineFactory = (emit: (event: EngineEvent) => void) => HostedEngine;

/** What a terminal or a service manager sends to the whole process group. */
const GROUP_SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

/**
 * Runs the engine for the parent process until `stop`, or until the parent is gone. Never returns control to
 * the signals of a terminal: the parent decides when an engine ends, so that a drain can finish.
 *
 * @throws {Error} When this process was not forked.
 */
export function serveEngine(createEngine: EngineFactory): void {
  if (process.send === undefined)
    throw new Error("The engine process is started by the server, not by hand.");
  for (const signal of GROUP_SIGNALS) process.on(signal, () => undefined);
  // An orderly exit joins the native threads and would wait for a running decode call; nobody is left to wait for it.
  process.on("disconnect", () => {
    killCompanions();
    process.kill(process.pid, "SIGKILL");
  });
  process.on("exit", killCompanions);
  watchParent();

  // Unsent events wait in memory. What they can hold is bounded: no request emits more than its slot's context.
  let unsent = 0;
  let onFlushed: (() => void) | undefined;
  const emit = (event: EngineEvent): void => {
    unsent += 1;
    // A failed send means that the parent is gone; `disconnect` says so too.
    process.send?.(event, undefined, {}, () => {
      unsent -= 1;
      if (unsent === 0) onFlushed?.();
    });
  };

  const engine = createEngine(emit);
  process.on("message", (command) => engine.receive(command as EngineCommand));
  void engine.stopped.then(end, fail);

  function end(): void {
    onFlushed = () => process.exit(0);
    if (unsent === 0) onFlushed();
  }
}

function fail(cause: unknown): never {
  process.stderr.write(`${cause instanceof Error ? (cause.stack ?? cause.message) : String(cause)}\n`);
  process.exit(1);
}
