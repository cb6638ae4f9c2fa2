/** Starts a worker thread of this folder, from the build or from the TypeScript sources. */
import { Worker } from "node:worker_threads";

/** Heap of a thread. The largest body allowed fits several times. */
export const THREAD_HEAP_MB = 256;

/** @param module Name of the file in this folder, without its ending. */
export function startThread(module: string): Worker {
  const fromSources = import.meta.url.endsWith(".ts");
  const file = new URL(`./${module}${fromSources ? ".ts" : ".js"}`, import.meta.url);
  const options = { name: module, resourceLimits: { maxOldGenerationSizeMb: THREAD_HEAP_MB } };
  if (!fromSources) return new Worker(file, options);
  // On Node 20 a thread does not inherit the loader hooks of the thread that starts it, so it registers its own.
  const boot = `import("tsx/esm/api").then((tsx) => { tsx.register(); return import("${file.href}"); });`;
  return new Worker(boot, { ...options, eval: true });
}
