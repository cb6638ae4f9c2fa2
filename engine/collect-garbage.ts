/** Asks V8 to collect garbage now, which it does by itself only when it is asked for more memory. */
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

/** A full collection of this thread's heap; does nothing where V8 does not offer it. */
export function garbageCollector(): () => void {
  setFlagsFromString("--expose-gc");
  const collect: unknown = runInNewContext("gc");
  return typeof collect === "function" ? () => void collect() : () => undefined;
}
