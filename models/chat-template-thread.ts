/** Starts the worker thread of the chat templates, from the build or from the TypeScript sources. */
import { Worker } from "node:worker_threads";

/** Heap of the thread. The largest body allowed fits several times. */
export const TEMPLATE_HEAP_MB = 256;

export function startTemplateThread(): Worker {
  const fromSources = import.meta.url.endsWith(".ts");
  const file = new URL(`./chat-template-worker${fromSources ? ".ts" : ".js"}`, import.meta.url);
  const options = {
    name: "chat-template",
    resourceLimits: { maxOldGenerationSizeMb: TEMPLATE_HEAP_MB },
  };
  if (!fromSources) return new Worker(file, options);
  // On Node 20 a thread does not inherit the loader hooks of the thread that starts it, so it registers its own.
  const boot = `import("tsx/esm/api").then((tsx) => { tsx.register(); return import("${file.href}"); });`;
  return new Worker(boot, { ...options, eval: true });
}
