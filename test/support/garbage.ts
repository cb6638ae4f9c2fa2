/** What is left on this process's heap when everything that nobody uses is collected. */
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

setFlagsFromString("--expose-gc");
const collect = runInNewContext("gc") as () => void;

/** Bytes in use. */
export async function heapInUse(): Promise<number> {
  // What a finished request leaves to the next turn of the event loop would be counted as in use.
  await new Promise((resolve) => setImmediate(resolve));
  collect();
  return process.memoryUsage().heapUsed;
}
