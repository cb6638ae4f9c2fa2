/** One built server for all files of the suite, with the pocket model unless WEFT_TEST_MODEL names another one. */
import type { TestProject } from "vitest/node";
import { startServer } from "../support/server.ts";

declare module "vitest" {
  interface ProvidedContext {
    /** Without a slash at the end. */
    readonly serverUrl: string;
    /** What it serves. */
    readonly serverModel: string;
  }
}

/** The suite's own bounds: what a request can hold, and how many generate at once. */
export const CONTEXT = 2048;
export const SLOTS = 4;

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const model = process.env["WEFT_TEST_MODEL"] ?? "pocket";
  const server = await startServer("--model", model, "--slots", String(SLOTS), "--context", String(CONTEXT));
  project.provide("serverUrl", server.url);
  project.provide("serverModel", model);
  return async () => {
    await server.stop();
  };
}
