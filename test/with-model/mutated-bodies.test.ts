/** The real server under bodies that no client means, beside a client that means well: no 5xx, no stall, no memory lost. */
import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, test } from "vitest";
import { BodyMutator, seededRandom } from "../support/body-mutator.ts";
import { REQUEST_BODIES } from "../support/request-bodies.ts";
import { childrenOf, startServer } from "../support/server.ts";
import type { RunningServer } from "../support/server.ts";
import { eventsOf } from "../support/sse-reader.ts";

/** Also a long run's: WEFT_FUZZ_SERVER_BODIES=10000. */
const BODIES = Number(process.env["WEFT_FUZZ_SERVER_BODIES"] ?? 150);
const SEED = Number(process.env["WEFT_FUZZ_SEED"] ?? 1);
/** Fewer than slots, so that the client beside them never waits for one. */
const AT_ONCE = 3;
/** Some mutations ask for as many tokens as there can be. */
const CONTEXT = 256;
/** Far above any pause on a busy machine, so that it only ever tells that something hangs. */
const STALL_MS = 60_000;
/**
 * Growth from a third of the way to the end. The system sees pages, not objects: freed memory of V8 and of the C
 * library stays with a process for a while.
 */
const MOST_GROWTH = 1.25;
const SLACK_BYTES = 64 << 20;

let server: RunningServer;
beforeAll(async () => {
  server = await startServer("--slots", String(AT_ONCE + 1), "--context", String(CONTEXT));
});
afterAll(() => server.stop());

/** Of the server and of its engine, in bytes. */
async function residentBytes(): Promise<number[]> {
  const pids = [server.pid, ...(await childrenOf(server.pid))];
  const { stdout } = await promisify(execFile)("ps", ["-o", "rss=", "-p", pids.join(",")]);
  return stdout
    .trim()
    .split("\n")
    .map((kilobytes) => Number(kilobytes) * 1024);
}

/** One stream after the other until told to stop. @returns The longest time between two events, in ms. */
async function streamBeside(stopped: () => boolean): Promise<number> {
  let longest = 0;
  for (let lastMs = performance.now(); !stopped();) {
    const response = await server.post("/v1/completions", {
      model: "pocket",
      prompt: "1, 2, 3,",
      max_tokens: 200,
      ignore_eos: true,
      stream: true,
    });
    expect(response.status).toBe(200);
    for await (const event of eventsOf(response)) {
      expect(event).not.toContain('"error":');
      const nowMs = performance.now();
      longest = Math.max(longest, nowMs - lastMs);
      lastMs = nowMs;
    }
  }
  return longest;
}

/** The bodies name the model of another test. */
const bodies = REQUEST_BODIES.map(
  ([path, body]) => [path, { ...(body as object), model: "pocket" }] as const,
);

/** @returns What is wrong with the answer, if anything. */
async function wrongIn(path: string, sent: string): Promise<string | undefined> {
  const response = await fetch(server.url + path, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: sent,
    signal: AbortSignal.timeout(STALL_MS),
  });
  const text = await response.text();
  const streamError = /^data: \{"error":/m.test(text);
  return response.status >= 500 || streamError ? `${response.status} ${text.slice(-300)}` : undefined;
}

test(
  "mutated bodies harm neither the server nor who is served beside them",
  { timeout: 3_600_000 },
  async ({ annotate }) => {
    const mutator = new BodyMutator(seededRandom(SEED));
    let stopped = false;
    const beside = streamBeside(() => stopped);
    beside.catch(() => undefined);
    const resident: number[][] = [];
    const problems: string[] = [];
    let next = 0;
    const worker = async (): Promise<void> => {
      while (next < BODIES) {
        const index = next++;
        const [path, body] = mutator.pick(bodies);
        const sent = mutator.mutate(body);
        const wrong = await wrongIn(path, sent).catch((error: unknown) => String(error));
        if (wrong !== undefined) problems.push(`${index} to ${path}: ${wrong}\n${sent.slice(0, 1000)}`);
        if ((index + 1) % Math.ceil(BODIES / 3) === 0 || index + 1 === BODIES)
          resident.push(await residentBytes());
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, worker));
    stopped = true;
    const longest = await beside;
    const megabytes = resident.map((sizes) => sizes.map((bytes) => Math.round(bytes / 1e6)).join("+"));
    await annotate(
      `RSS of server+engine, MB: ${megabytes.join(", ")}; longest gap beside: ${Math.round(longest)} ms`,
    );
    expect(problems).toEqual([]);
    expect(longest).toBeLessThan(STALL_MS);
    const [early = [], , late = []] = resident;
    expect(late).toHaveLength(2);
    for (const [process, bytes] of late.entries()) {
      expect(bytes).toBeLessThan((early[process] ?? 0) * MOST_GROWTH + SLACK_BYTES);
    }
  },
);
