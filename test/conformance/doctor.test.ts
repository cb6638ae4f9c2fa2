/** The doctor finds nothing to complain about in this server, by its function and by its command. */
import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { expect, test } from "vitest";
import { ALL_CHECKS, runChecks } from "../../src/conformance/run-checks.ts";
import type { ConformanceReport } from "../../src/conformance/run-checks.ts";
import { MODEL, server } from "./harness.ts";

const run = promisify(execFile);
const doctor = (...args: string[]) =>
  run(process.execPath, ["dist/src/main.js", "doctor", "--conformance", ...args]);

test("every check passes", async () => {
  const report = await runChecks({ url: `${server.url}/v1`, model: undefined, apiKey: undefined });
  expect(report.results.filter(({ outcome }) => outcome !== "pass")).toEqual([]);
  expect(report).toMatchObject({ model: MODEL, passed: ALL_CHECKS.length, failed: 0, notOffered: 0 });
});

test("the command prints one JSON document and exits with 0", async () => {
  const { stdout } = await doctor(server.url, "--json");
  expect((JSON.parse(stdout) as ConformanceReport).failed).toBe(0);
});
