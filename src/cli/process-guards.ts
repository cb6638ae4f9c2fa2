/** Keeps small accidents of a process from ending a server. */
import type { Log } from "../deps.ts";

/**
 * A closed pipe or a full disk behind stdout or stderr costs the output, not the server; a promise that nobody
 * handled is logged.
 */
export function guardProcess(log: Log): void {
  for (const stream of [process.stdout, process.stderr]) stream.on("error", () => undefined);
  process.on("unhandledRejection", (cause) => log.error({ err: cause }, "unhandled rejection"));
}
