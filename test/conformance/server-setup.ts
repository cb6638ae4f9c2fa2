/** One built server with the pocket model for all files of the suite. */
import type { TestProject } from "vitest/node";
import { startServer } from "../support/server.ts";

declare module "vitest" {
  interface ProvidedContext {
    /** Without a slash at the end. */
    readonly serverUrl: string;
  }
}

/** The suite's own bounds: what a request can hold, and how many generate at once. */
export const CONTEXT = 2048;
export const SLOTS = 4;

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const server = await startServer("--slots", String(SLOTS), "--context", String(CONTEXT));
  project.provide("serverUrl", server.url);
  return async () => {
    await server.stop();
  };
}
