/** Ends this process and its companions when its parent is gone, even while the main thread is stuck in a native call. */
import { Worker } from "node:worker_threads";
import { companions } from "../companions.ts";

/** An orphan holds the model's memory and a core, which the next server wants within two seconds. */
const CHECK_MS = 500;

/** A thread of its own, because a stuck main thread never hears that the channel has closed. */
const WATCH = `
const { parent, companions } = require("node:worker_threads").workerData;
setInterval(() => {
  if (process.ppid === parent) return;
  for (const pid of companions) try { if (pid > 0) process.kill(pid, "SIGKILL"); } catch {}
  process.kill(process.pid, "SIGKILL");
}, ${CHECK_MS});
`;

export function watchParent(): void {
  // The parent is noted here, since it may be gone before the thread runs; and the loaders of the main thread
  // would only delay it.
  const worker = new Worker(WATCH, {
    eval: true,
    execArgv: [],
    workerData: { parent: process.ppid, companions },
  });
  // The channel tells of a dead parent as well; the engine works without the watch.
  worker.on("error", () => undefined);
  worker.unref();
}
