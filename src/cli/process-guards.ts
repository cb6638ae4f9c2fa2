/** Keeps small accidents of a process from ending a server, and has great ones end it in order. */
import type { Log } from "../deps.ts";

/**
 * A closed pipe or a full disk behind stdout or stderr costs the output, not the server; a promise that nobody
 * handled is logged. After an exception that nobody caught something may be half done: `onCrash` hears of each.
 */
export function guardProcess(log: Log, onCrash: () => void): void {
  for (const stream of [process.stdout, process.stderr]) stream.on("error", () => undefined);
  process.on("unhandledRejection", (cause) => log.error({ err: cause }, "unhandled rejection"));
  process.on("uncaughtException", (cause) => {
    log.error({ err: cause }, "uncaught exception; the server ends");
    onCrash();
  });
}
