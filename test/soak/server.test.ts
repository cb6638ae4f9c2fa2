/** The built server with real inference, for minutes: ten times what it can do, and clients and engines that go away. */
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { Agent } from "node:http";
import { setTimeout as wait } from "node:timers/promises";
import { afterAll, expect, test } from "vitest";
import type { Answer } from "../support/abused-server.ts";
import { setMaxListeners } from "node:events";
import { seededRandom } from "../support/body-mutator.ts";
import { childrenOf, retry, startServer } from "../support/server.ts";
import type { RunningServer } from "../support/server.ts";
import { pay } from "../support/soak-client.ts";
import type { Visit } from "../support/soak-client.ts";

const OVERLOAD_SECONDS = Number(process.env["WEFT_SOAK_SECONDS"] ?? 120);
const REQUESTS = Number(process.env["WEFT_SOAK_SERVER_REQUESTS"] ?? 5000);
const TIMES = 10;
const SLOTS = 8;
/** To see how much the server can do, and then to have it do too much once before anything is measured. */
const MEASURE_SECONDS = 10;
const WARM_UP_SECONDS = 30;
const TICK_MS = 25;
const SETTLE_MS = 3000;
/** Long answers, so that ten times what can be generated is not more than what can be refused. */
const TOKENS = 250;

/** Answers of the other test are shorter. */
const LONGEST = 24;

const servers: RunningServer[] = [];
afterAll(async () => {
  for (const server of servers) await server.stop();
});

async function start(...args: readonly string[]): Promise<RunningServer> {
  const server = await startServer(...args);
  servers.push(server);
  return server;
}

const portOf = ({ url }: RunningServer): number => Number(new URL(url).port);

interface Footprint {
  /** Resident, in MiB, of the server and of its engine. */
  readonly server: number;
  readonly engine: number;
  /** Open file descriptors of both, by what they are. */
  readonly files: Readonly<Record<string, number>>;
}

/** What is left when garbage has been collected, which an idle server does by itself within a second. */
async function settled(server: RunningServer): Promise<Footprint> {
  await wait(SETTLE_MS);
  return footprint(server);
}

async function footprint({ pid }: RunningServer): Promise<Footprint> {
  const [engine = 0, ...others] = await childrenOf(pid);
  expect(others).toEqual([]);
  const mib = (of: number): number =>
    Math.round(Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${of}/status`, "utf8"))?.[1]) / 102.4) / 10;
  return { server: mib(pid), engine: mib(engine), files: openFiles([pid, engine]) };
}

/** A descriptor too many is to be found by its kind: files by name, sockets by state or as what else they are. */
function openFiles(pids: readonly number[]): Record<string, number> {
  const states = new Map(
    ["tcp", "tcp6"].flatMap((family) =>
      readFileSync(`/proc/net/${family}`, "utf8")
        .split("\n")
        .slice(1, -1)
        .map((line) => line.trim().split(/\s+/))
        .map(([, , , state = "", , , , , , inode = ""]) => [`socket:[${inode}]`, `${family} ${state}`]),
    ),
  );
  const counts: Record<string, number> = {};
  for (const pid of pids)
    for (const fd of readdirSync(`/proc/${pid}/fd`)) {
      const link = readlinkSync(`/proc/${pid}/fd/${fd}`);
      const kind = states.get(link) ?? link.replace(/\d+/, "");
      counts[kind] = (counts[kind] ?? 0) + 1;
    }
  return counts;
}

/** Sockets that are being closed may still be there. */
function expectNoMore(after: Footprint["files"], before: Footprint["files"]): void {
  const more = Object.entries(after).filter(
    ([kind, count]) => !/^tcp6? (?!01$|0A$)/.test(kind) && count > (before[kind] ?? 0),
  );
  expect(more).toEqual([]);
}

const prompts = Array.from({ length: 20 }, (_, i) => `${"1, 2, 3, ".repeat(i)}count on from ${i}:`);

function completion(i: number, tokens: number, stream: boolean): Omit<Visit, "check" | "leaves"> {
  const prompt = prompts[i % prompts.length];
  const body = { model: "pocket", prompt, max_tokens: tokens, temperature: 0, ignore_eos: true, stream };
  return { path: "/v1/completions", body };
}

/** The text of an answer that is whole. */
function wholeText({ status, text }: Answer, stream: boolean): string {
  expect(`${status} ${text.slice(0, 200)}`).toMatch(/^200 /);
  const pieces = stream
    ? text.split("\n\n").filter((event) => event.startsWith("data: {"))
    : [`data: ${text}`];
  let whole = "";
  for (const piece of pieces) {
    const { choices } = JSON.parse(piece.slice("data: ".length)) as { choices: { text: string }[] };
    whole += choices[0]?.text ?? "";
  }
  expect(text).toContain('"finish_reason":"length"');
  if (stream) expect(text.endsWith("data: [DONE]\n\n")).toBe(true);
  return whole;
}

/** Requests a second that are answered when no slot is ever idle. */
async function capacityOf(server: RunningServer): Promise<number> {
  const agent = new Agent({ keepAlive: true });
  const end = performance.now() + MEASURE_SECONDS * 1000;
  let answered = 0;
  const client = async (i: number): Promise<void> => {
    while (performance.now() < end) {
      const check = (answer: Answer): void => void wholeText(answer, false);
      await pay(portOf(server), agent, { ...completion(i, TOKENS, false), check, leaves: undefined });
      answered += 1;
    }
  };
  await Promise.all(Array.from({ length: SLOTS }, (_, i) => client(i)));
  agent.destroy();
  return answered / MEASURE_SECONDS;
}

/** Requests come at a rate, answered or not, until they all leave together. @returns How they ended, and when the last had left. */
async function overload(server: RunningServer, perSecond: number, seconds: number) {
  const agent = new Agent();
  const counts: Record<string, number> = {};
  const leave = new AbortController();
  setMaxListeners(0, leave.signal);
  const visits: Promise<void>[] = [];
  const failures: unknown[] = [];
  const begun = performance.now();
  let sent = 0;
  for (let nowMs = begun; nowMs < begun + seconds * 1000; nowMs = performance.now()) {
    for (const due = ((nowMs - begun) / 1000) * perSecond; sent < due; sent++) {
      const stream = sent % 2 === 0;
      const check = (answer: Answer): void => void wholeText(answer, stream);
      const visit = { ...completion(sent, TOKENS, stream), check, leaves: leave.signal };
      const ended = pay(portOf(server), agent, visit).then(
        (end) => void (counts[end] = (counts[end] ?? 0) + 1),
        (error: unknown) => void failures.push(error),
      );
      visits.push(ended);
    }
    await wait(TICK_MS);
  }
  leave.abort();
  const leftMs = performance.now();
  await server.loadThat(
    "an idle server",
    ({ busySlots, running, waiting }) => busySlots + running + waiting === 0,
  );
  const idleMs = performance.now() - leftMs;
  await Promise.all(visits);
  expect(failures).toEqual([]);
  return { sent, counts, idleMs: Math.round(idleMs) };
}

test(`${OVERLOAD_SECONDS} seconds of ten times what it can do leave nothing a second later`, async ({
  annotate,
}) => {
  const server = await start("--slots", String(SLOTS));
  const perSecond = TIMES * (await capacityOf(server));
  await overload(server, perSecond, WARM_UP_SECONDS);
  const before = await settled(server);
  const { sent, counts, idleMs } = await overload(server, perSecond, OVERLOAD_SECONDS);
  const after = await settled(server);
  await annotate(JSON.stringify({ perSecond, sent, ...counts, idleMs, before, after }));
  expect(counts["ok"]).toBeGreaterThan(0);
  expect(counts["full"]).toBeGreaterThan(counts["ok"] ?? Infinity);
  expect(idleMs).toBeLessThan(1000);
  expectNoMore(after.files, before.files);
  expect(after.server).toBeLessThan(before.server * 1.05);
  expect(after.engine).toBeLessThan(before.engine * 1.05);
});

test(`row 94: ${REQUESTS} requests whose clients leave and whose engines are killed leave nothing`, async ({
  annotate,
}) => {
  const server = await start("--slots", String(SLOTS), "--max-queued", "40", "--deterministic");
  const port = portOf(server);
  const random = seededRandom(1);
  const truth: string[] = [];
  const lone = new Agent();
  for (const i of prompts.keys()) {
    const check = (answer: Answer): void => void (truth[i] = wholeText(answer, false));
    await pay(port, lone, { ...completion(i, LONGEST, false), check, leaves: undefined });
  }
  const counts: Record<string, number> = {};
  let kills = 0;
  const killEngine = async (): Promise<void> => {
    const [engine] = await childrenOf(server.pid);
    if (engine === undefined) return;
    process.kill(engine, "SIGKILL");
    kills += 1;
  };
  const wave = async (): Promise<void> => {
    const agent = new Agent({ keepAlive: true });
    const width = random() < 0.2 ? 100 : 12;
    const killAt = random() < 0.2 ? Math.floor(random() * 100) : undefined;
    let left = 100;
    const client = async (): Promise<void> => {
      while (left > 0) {
        if (--left === killAt) await killEngine();
        const i = Math.floor(random() * prompts.length);
        const tokens = 1 + Math.floor(random() * LONGEST);
        const stream = random() < 0.5;
        const check = (answer: Answer): void =>
          expect(truth[i]?.startsWith(wholeText(answer, stream))).toBe(true);
        const leaves = random() < 0.2 ? Math.floor(random() * 100) : undefined;
        const end = await pay(port, agent, { ...completion(i, tokens, stream), check, leaves });
        counts[end] = (counts[end] ?? 0) + 1;
      }
    };
    await Promise.all(Array.from({ length: width }, client));
    agent.destroy();
  };
  const look = async (): Promise<Footprint> => {
    await server.loadThat(
      "an idle server",
      ({ busySlots, running, waiting }) => busySlots + running + waiting === 0,
    );
    await retry(
      "one engine",
      () => childrenOf(server.pid),
      ({ length }) => length === 1,
    );
    return settled(server);
  };
  const looks: Footprint[] = [];
  for (let done = 0; done < REQUESTS; done += 100) {
    await wave();
    if (done % 1000 === 900) looks.push(await look());
  }
  await annotate(JSON.stringify({ ...counts, kills, looks }));
  const [first, last] = [looks[1] ?? looks[0], looks.at(-1)];
  expect(kills).toBeGreaterThan(0);
  expect(counts["ok"]).toBeGreaterThan(REQUESTS / 3);
  expectNoMore(last?.files ?? {}, first?.files ?? {});
  expect(last?.server).toBeLessThan((first?.server ?? 0) * 1.05);
});
