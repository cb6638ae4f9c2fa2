/**
 * Ends a test process whose event loop has stood still for minutes, and says in which test: an endless loop cannot
 * be interrupted by a test's time limit and would stall the whole run.
 */
import { Worker } from "node:worker_threads";
import { beforeEach, expect } from "vitest";

/** Far above what any synchronous work takes on a slow machine. */
const STUCK_AFTER_MS = 120_000;
const BEAT_MS = 1000;
const MAX_NAME_BYTES = 1000;

const beats = new Int32Array(new SharedArrayBuffer(4));
const name = new Uint8Array(new SharedArrayBuffer(MAX_NAME_BYTES));

/** Runs beside the tests: what it watches cannot watch itself. Killed, the process counts as a failed test file. */
const WATCH = `
  const { workerData: { beats, name, stuckAfterMs } } = require("node:worker_threads");
  let last = 0;
  let changed = Date.now();
  setInterval(() => {
    const now = Atomics.load(beats, 0);
    if (now !== last) [last, changed] = [now, Date.now()];
    else if (Date.now() - changed > stuckAfterMs) {
      const where = Buffer.from(name).toString().replace(/\\0+$/, "");
      require("node:fs").writeSync(2, "A test has blocked its process for minutes: " + where + "\\n");
      process.kill(process.pid, "SIGKILL");
    }
  }, 1000);
`;

new Worker(WATCH, {
  eval: true,
  workerData: { beats, name, stuckAfterMs: STUCK_AFTER_MS },
  execArgv: [],
}).unref();
setInterval(() => Atomics.add(beats, 0, 1), BEAT_MS).unref();

beforeEach(() => {
  const { testPath, currentTestName } = expect.getState();
  name.fill(0);
  new TextEncoder().encodeInto(`${testPath} > ${currentTestName}`, name);
});
