/** Ends this process when its parent is gone, even while the main thread is stuck in a native call. */
import { Worker } from "node:worker_threads";

/** An orphan holds the model's memory and a core; two seconds of that harm nobody. */
const CHECK_MS = 2000;

/** A thread of its own, because a stuck main thread never hears that the channel has closed. */
const WATCH = `
const parent = process.ppid;
setInterval(() => {
  if (process.ppid !== parent) process.kill(process.pid, "SIGKILL");
}, ${CHECK_MS});
`;

export function watchParent(): void {
  // Without the loaders of the main thread: the code above needs none.
  const worker = new Worker(WATCH, { eval: true, execArgv: [], stdout: false, stderr: false });
  // The channel tells of a dead parent as well; the engine works without the watch.
  worker.on("error", () => undefined);
  worker.unref();
}
