/**
 * Runs TypeScript in the processes and threads that tests start. Not in the test's own process, where nothing is loaded
 * through it: starting it takes longer there than most files' tests.
 */
import { isMainThread } from "node:worker_threads";

if (!isMainThread || process.argv[1]?.endsWith(".ts")) await import("tsx");
