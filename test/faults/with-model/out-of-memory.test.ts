/** Processes that run out of memory or into an error that nobody caught: rows 90 to 93 and 96 of the fault matrix. */
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import {
  childrenOf,
  processesGone,
  retry,
  runServer,
  startSabotaged,
  startServer,
} from "../../support/server.ts";
import type { RunningServer, ServerClient } from "../../support/server.ts";
import { eventsOf } from "../../support/sse-reader.ts";

/** The text of a long stream, which must be whole. */
async function count(server: ServerClient, from: number, tokens = 400): Promise<string> {
  const body = { model: "pocket", prompt: `${from}, ${from + 1},`, max_tokens: tokens, ignore_eos: true };
  const events = eventsOf(await server.post("/v1/completions", { ...body, temperature: 0, stream: true }));
  let text = "";
  let reason: string | null = null;
  for await (const event of events) {
    if (event === "[DONE]") return `${text} ${reason}`;
    const [choice] = (JSON.parse(event) as { choices: { text: string; finish_reason: string | null }[] })
      .choices;
    text += choice?.text ?? "";
    reason = choice?.finish_reason ?? reason;
  }
  throw new Error(`The stream has no end: ${text}`);
}

const counts = (server: ServerClient): Promise<string[]> =>
  Promise.all(Array.from({ length: 8 }, (_, i) => count(server, i)));

interface LogLine {
  readonly msg: string;
  readonly err?: { readonly message: string };
}

/** What the server has logged, once it has ended. */
async function logOf(server: RunningServer): Promise<LogLine[]> {
  const lines = (await server.stderr).split("\n").filter((line) => line.startsWith("{"));
  return lines.map((line) => JSON.parse(line) as LogLine);
}

/** Eight streams, of which the engine dies; they must be what they are without that. */
async function surviving(server: RunningServer, kill: (engine: number) => void): Promise<void> {
  const undisturbed = await counts(server);
  const [engine = 0] = await childrenOf(server.pid);
  const answers = counts(server);
  await server.loadThat("running requests", ({ running }) => running === 8);
  kill(engine);
  expect(await answers).toEqual(undisturbed);
  await processesGone([engine]);
  expect(await server.stop()).toBe(0);
}

test("row 90: a server whose heap is full ends, with its engine and every connection, and the next one starts", async () => {
  const server = await startSabotaged("const all = []; for (;;) all.push(Array(1e5).fill(0.5));", [
    "--max-old-space-size=150",
  ]);
  const engines = await childrenOf(server.pid);
  const stream = count(server, 1, 4000);
  await server.loadThat("a running request", ({ running }) => running === 1);
  server.sabotage();
  await expect(stream).rejects.toThrow("terminated");
  expect(await server.ended()).not.toBe(0);
  expect(await server.stderr).toContain("heap out of memory");
  await processesGone(engines);
  const next = await startServer("--port", new URL(server.url).port);
  expect(await count(next, 1, 8)).toContain("3, 4");
  expect(await next.stop()).toBe(0);
});

test("row 91: an engine that gets no more memory is started again, and no answer fails or changes", async () => {
  const server = await startServer("--deterministic");
  await surviving(server, (engine) => {
    const kilobytes = Number(/VmSize:\s+(\d+) kB/.exec(readFileSync(`/proc/${engine}/status`, "utf8"))?.[1]);
    execFileSync("prlimit", ["--pid", String(engine), `--as=${kilobytes * 512}`]);
  });
  expect((await logOf(server))[0]?.msg).toMatch(/^engine died: (signal|exit code) /);
});

test("row 91: of an engine that the system kills for its memory the log says so, and what needs less", async () => {
  const server = await startServer("--deterministic");
  await surviving(server, (engine) => process.kill(engine, "SIGKILL"));
  expect((await logOf(server)).map(({ msg }) => msg)).toEqual([
    "engine died: signal SIGKILL; if nobody has done that, the system ran out of memory: fewer --slots, a smaller --context or --kv-type q8_0 need less",
  ]);
});

test.each([
  [
    16_777_216,
    256,
    "256 slots of 16777216 tokens are 4294967296 cells, and llama.cpp counts no further than 2147483647\\.",
  ],
  // The record of each cell alone is more than most machines have.
  [
    16_777_216,
    127,
    "127 slots of 16777216 tokens need 2284\\.1 GB \\(1072 bytes a token\\), and \\d+\\.\\d GB is all there is\\.",
  ],
])("row 92: a context of %i tokens in %i slots is refused with the sum", async (context, slots, sum) => {
  const { code, stderr } = await runServer(
    "--port",
    "0",
    "--context",
    String(context),
    "--slots",
    String(slots),
  );
  expect(code).toBe(4);
  expect(stderr).toMatch(
    new RegExp(
      `^weft: Not enough memory for the context: ${sum} Try fewer --slots, a smaller --context or --kv-type q8_0\\.\n$`,
    ),
  );
});

test("row 93: an event loop that is held up for two seconds is warned of, with the routes, and streams go on", async () => {
  const held = "const end = Date.now() + 2000; while (Date.now() < end);";
  const server = await startSabotaged(held, [], "--log-level", "warn");
  const stream = count(server, 1, 2000);
  await server.loadThat("a running request", ({ running }) => running === 1);
  server.sabotage();
  expect((await fetch(`${server.url}/livez`)).status).toBe(200);
  await retry(
    "the count",
    async () => (await fetch(`${server.url}/metrics`)).text(),
    (metrics) => /^weft_event_loop_stalls_total [1-9]/m.test(metrics),
  );
  expect(await stream).toMatch(/^ 3, 4.* length$/s);
  expect(await server.stop()).toBe(0);
  expect(await logOf(server)).toContainEqual(
    expect.objectContaining({
      msg: "the event loop was held up",
      ms: expect.toSatisfy((ms: number) => ms >= 1500),
      open: expect.arrayContaining([{ route: "POST /v1/completions", count: 1 }]),
    }),
  );
});

test("row 96: an exception that nobody catches ends the server in order: streams finish, new requests are refused, exit code 70", async () => {
  const server = await startSabotaged('throw new Error("nobody catches this");', []);
  const stream = count(server, 1, 2000);
  await server.loadThat("a running request", ({ running }) => running === 1);
  server.sabotage();
  await retry(
    "the refusal",
    // A server that drains closes idle connections, of which the client may take one up at that very moment.
    () =>
      server.post("/v1/completions", { model: "pocket", prompt: "1", max_tokens: 1 }).catch(() => undefined),
    (answer) => answer?.status === 503,
  );
  expect(await stream).toMatch(/^ 3, 4.* length$/s);
  expect(await server.ended()).toBe(70);
  expect(await logOf(server)).toContainEqual(
    expect.objectContaining({
      msg: "uncaught exception; the server ends",
      err: expect.objectContaining({ message: "nobody catches this" }),
    }),
  );
});
