/** The built server under what happens to processes, files and signals: rows 14, 100, 101 and 111 to 114 of the fault matrix. */
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import {
  closeSync,
  copyFileSync,
  mkdtempSync,
  openSync,
  readdirSync,
  renameSync,
  rmSync,
  truncateSync,
  unlinkSync,
} from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Readable } from "node:stream";
import { afterAll, expect, test } from "vitest";
import { packageRoot } from "../../../models/package-root.ts";
import {
  childrenOf,
  freePort,
  processesGone,
  retry,
  runServer,
  serverAt,
  startServer,
} from "../../support/server.ts";
import type { ServerClient } from "../../support/server.ts";
import { eventsOf } from "../../support/sse-reader.ts";

const folder = mkdtempSync(join(tmpdir(), "weft-operations-"));
afterAll(() => rmSync(folder, { recursive: true }));

const pocket = join(packageRoot, "models/pocket.gguf");

async function say(server: ServerClient, model: string): Promise<string> {
  const body = { model, prompt: "1, 2, 3,", max_tokens: 8, temperature: 0 };
  const response = await server.post("/v1/completions", body);
  if (response.status !== 200) throw new Error(`${response.status} ${await response.text()}`);
  return ((await response.json()) as { choices: { text: string }[] }).choices[0]?.text ?? "";
}

async function restartsOf(server: ServerClient): Promise<number> {
  const text = await (await fetch(`${server.url}/metrics`)).text();
  return [...text.matchAll(/^weft_engine_restarts_total\{[^}]*\} (\d+)/gm)].reduce(
    (sum, [, n]) => sum + Number(n),
    0,
  );
}

/** The rest of a stream, in one. */
async function rest(events: AsyncGenerator<string, void, void>): Promise<string> {
  let text = "";
  for await (const event of events) text += `${event}\n`;
  return text;
}

async function endlessStream(server: ServerClient): Promise<AsyncGenerator<string, void, void>> {
  const body = { model: "pocket", prompt: "1, 2, 3,", max_tokens: 4000, ignore_eos: true, stream: true };
  const events = eventsOf(await server.post("/v1/completions", body));
  expect((await events.next()).done).toBe(false);
  return events;
}

/** The address in the ready line; throws when the output ends without one. */
async function readyUrl(stdout: Readable): Promise<string> {
  let said = "";
  for await (const piece of stdout.iterator({ destroyOnReturn: false })) {
    said += String(piece);
    const url = /^ +ready +(http\S+)\/v1 /m.exec(said)?.[1];
    if (url !== undefined) return url;
  }
  throw new Error(`The server was never ready: ${said}`);
}

test("row 14: more connections than the server may have open are closed, and the next ones are served", async () => {
  // Those that it could open say nothing, and make room for the others when their time is over.
  const server = await startServer("--max-header-seconds", "1");
  const truth = await say(server, "pocket");
  const open = readdirSync(`/proc/${server.pid}/fd`).length;
  execFileSync("prlimit", ["--pid", String(server.pid), `--nofile=${open + 20}`]);
  const port = Number(new URL(server.url).port);
  const sockets = Array.from({ length: 60 }, () => connect(port, "127.0.0.1").on("error", () => undefined));
  let closed = 0;
  for (const socket of sockets) socket.resume().on("close", () => (closed += 1));
  await expect.poll(() => closed, { timeout: 90_000 }).toBeGreaterThanOrEqual(40);
  for (const socket of sockets) socket.destroy();
  await expect.poll(() => say(server, "pocket").catch(String), { timeout: 90_000 }).toBe(truth);
  expect(await server.stop()).toBe(0);
});

test("rows 100 and 101: a model file that goes away is not missed; one that is cut off ends the engine, which comes back with the file", async () => {
  const file = join(folder, "model.gguf");
  copyFileSync(pocket, file);
  const server = await startServer("--model", file);
  const truth = await say(server, "model");
  unlinkSync(file);
  expect(await say(server, "model")).toBe(truth);
  copyFileSync(pocket, file);
  expect(await server.stop()).toBe(0);

  const mapped = await startServer("--model", file);
  truncateSync(file, 4096);
  // It waits while there is no engine.
  const asked = say(mapped, "model");
  await retry(
    "the engine to die of it",
    () => restartsOf(mapped),
    (restarts) => restarts > 0,
  );
  expect((await fetch(`${mapped.url}/livez`)).status).toBe(200);
  copyFileSync(pocket, join(folder, "again.gguf"));
  renameSync(join(folder, "again.gguf"), file);
  expect(await asked).toBe(truth);
  expect(await mapped.stop()).toBe(0);
});

test("row 111: a stream that outlives the drain ends with an error frame, and a second signal is quicker", async () => {
  const patient = await startServer("--drain-timeout", "0.2");
  const cut = rest(await endlessStream(patient));
  expect(await patient.stop()).toBe(0);
  expect(await cut).toContain('"code":"server_draining"');

  const hurried = await startServer("--drain-timeout", "600");
  const engines = await childrenOf(hurried.pid);
  const last = rest(await endlessStream(hurried));
  const ended = hurried.stop();
  await retry(
    "the drain",
    () => fetch(`${hurried.url}/ready`),
    ({ status }) => status === 503,
  );
  // The same signal, so soon, could be an echo.
  process.kill(hurried.pid, "SIGINT");
  expect(await ended).toBe(1);
  expect(await last).toContain('"code":"server_draining"');
  await processesGone(engines);
});

test("row 111: npm hands a SIGTERM on, and ends when the server has", async () => {
  const child = spawn("npm", ["start", "--", "--port", "0", "--threads", "1", "--log-level", "error"], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const exited = once(child, "exit");
  const server = serverAt(await readyUrl(child.stdout));
  const answered = say(server, "pocket");
  await server.loadThat(
    "the request",
    ({ running, requests }) => running > 0 || Object.keys(requests).length > 0,
  );
  child.kill("SIGTERM");
  expect(await answered).not.toBe("");
  expect((await exited)[0]).toBe(0);
  await expect(fetch(`${server.url}/livez`)).rejects.toThrow("fetch failed");
});

test("row 111: SIGHUP under load starts the engine again, and no answer fails or changes", async () => {
  // Pocket's weights are F16, for which a stream that runs alone is computed in another kernel than several.
  const server = await startServer("--deterministic");
  const ask = async (i: number): Promise<string> => {
    const body = { model: "pocket", prompt: `${"1, 2, 3, ".repeat(i)}4`, max_tokens: 120, ignore_eos: true };
    const response = await server.post("/v1/completions", { ...body, temperature: 0, stream: i % 2 === 0 });
    const said = await (i % 2 === 0 ? rest(eventsOf(response)) : response.text());
    expect(`${response.status} ${said}`).toMatch(/^200 [^]*"finish_reason":"length"/);
    return Array.from(said.matchAll(/"text":"((?:[^"\\]|\\.)*)"/g), ([, piece]) => piece).join("");
  };
  const all = (): Promise<string[]> => Promise.all(Array.from({ length: 12 }, (_, i) => ask(i)));
  const undisturbed = await all();
  for (let restarts = 1; restarts <= 3; restarts++) {
    const answers = all();
    await server.loadThat("running requests", ({ running }) => running > 0);
    const [engine] = await childrenOf(server.pid);
    process.kill(server.pid, "SIGHUP");
    expect(await answers).toEqual(undisturbed);
    await retry(
      "the restart",
      () => restartsOf(server),
      (count) => count === restarts,
    );
    expect(await childrenOf(server.pid)).not.toContain(engine);
  }
  expect(await server.stop()).toBe(0);
});

test("row 112: a server that is killed leaves its stored responses, its port and no engine", async () => {
  const port = String(await freePort());
  const args = ["--port", port, "--responses-store", join(folder, "responses.jsonl")];
  const known: string[] = [];
  for (let round = 0; round < 2; round++) {
    const server = await startServer(...args);
    const engines = await childrenOf(server.pid);
    for (const id of known) expect((await fetch(`${server.url}/v1/responses/${id}`)).status).toBe(200);
    const reply = await server.post("/v1/responses", { input: "Hello", max_output_tokens: 4 });
    known.push(((await reply.json()) as { id: string }).id);
    await endlessStream(server).then((events) => void rest(events).catch(() => undefined));
    // Read again, it has been stored; written to the file in the same turn.
    expect((await fetch(`${server.url}/v1/responses/${known.at(-1)}`)).status).toBe(200);
    await server.kill();
    await processesGone(engines);
  }
});

test("row 113: a full disk behind the log and a closed pipe behind stdout end no server", async () => {
  const full = openSync("/dev/full", "w");
  const args = ["dist/src/main.js", "serve", "--port", "0", "--threads", "1", "--log-level", "debug"];
  const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", full] });
  closeSync(full);
  const exited = once(child, "exit");
  try {
    if (child.stdout === null) throw new Error("There is no pipe.");
    const url = await readyUrl(child.stdout);
    child.stdout.destroy();
    for (let i = 0; i < 5; i++) expect(await say(serverAt(url), "pocket")).not.toBe("");
  } finally {
    child.kill("SIGTERM");
  }
  expect((await exited)[0]).toBe(0);
});

test("row 114: an address that is not this machine's is said in one line", async () => {
  const { code, stderr } = await runServer("--host", "203.0.113.1", "--port", "0", "--insecure-no-auth");
  expect(code).toBe(1);
  expect(stderr).toBe("weft: 203.0.113.1 is not an address of this machine; check --host.\n");
});
