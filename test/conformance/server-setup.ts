/**
 * One built server for all files of the suite, with the pocket model unless WEFT_TEST_MODEL names another one; then
 * there is a second one, where that model is made to think.
 */
import type { TestProject } from "vitest/node";
import { startServer } from "../support/server.ts";

declare module "vitest" {
  interface ProvidedContext {
    /** Without a slash at the end. */
    readonly serverUrl: string;
    /** What it serves. */
    readonly serverModel: string;
    /** The one whose model thinks: the same with pocket. */
    readonly thinkingUrl: string;
  }
}

/** The suite's own bounds: what a request can hold, and how many generate at once. */
export const CONTEXT = 2048;
export const SLOTS = 4;

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const model = process.env["WEFT_TEST_MODEL"] ?? "pocket";
  const options = ["--model", model, "--slots", String(SLOTS), "--context", String(CONTEXT)];
  const server = await startServer(...options);
  const template = ["--chat-template", "test/conformance/thinking.jinja"];
  const thinking = model === "pocket" ? server : await startServer(...options, ...template);
  project.provide("serverUrl", server.url);
  project.provide("serverModel", model);
  project.provide("thinkingUrl", thinking.url);
  return async () => {
    await Promise.all([...new Set([server, thinking])].map((each) => each.stop()));
  };
}
