/**
 * A hundred thousand requests to the whole application over sockets, on the fake model: clients that leave at random,
 * engines that die, waves far beyond the queue, nonsense. In the end nothing may be left of it.
 */
import { Agent } from "node:http";
import { expect, test } from "vitest";
import { ABUSED_MODEL, abusedServer, errorOf, fakeText, textOf } from "../support/abused-server.ts";
import type { AbusedServer, Answer } from "../support/abused-server.ts";
import { seededRandom } from "../support/body-mutator.ts";
import { heapInUse } from "../support/garbage.ts";
import { CRASH, KILL } from "../support/mortal-engines.ts";
import { pay } from "../support/soak-client.ts";
import type { Visit } from "../support/soak-client.ts";

const REQUESTS = Number(process.env["WEFT_SOAK_REQUESTS"] ?? 100_000);
const SEED = Number(process.env["WEFT_SOAK_SEED"] ?? 1);
/** What is left is looked at so often; the first looks are at a process that still warms up. */
const LOOKS = 20;
const WARM_UP_LOOKS = 5;
const WAVE = 100;
/** Clients at once in a usual wave; an overload is all at once. */
const WIDTH = 12;
const MAX_QUEUED = 40;
/** Growth from the first looks behind the warm-up to the last ones, on average, that is taken for noise. */
const NOISE_BYTES = 1024 * 1024;

type Random = () => number;

interface Look {
  readonly heap: number;
  readonly handles: Readonly<Record<string, number>>;
  readonly listeners: number;
  readonly restarts: number;
}

/** How often each end was seen. */
type Counts = Record<string, number>;

function pick(random: Random, count: number): number {
  return Math.floor(random() * count);
}

function visitOf(random: Random, serial: number): Visit {
  const kind = random();
  const leaves = random() < 0.2 ? pick(random, 60) : undefined;
  const stream = random() < 0.5;
  const prompt = `${"word ".repeat(pick(random, 8))}${serial % 977}`;
  const tokens = random() < 0.01 ? 100 : 1 + pick(random, 4);
  const completion = { model: ABUSED_MODEL, prompt, max_tokens: tokens, temperature: 0, stream };
  if (kind < 0.75) {
    const check = ({ status, text }: Answer): void => {
      expect(status).toBe(200);
      if (stream) expect(textOf(text)).toBe(`${fakeText(prompt, tokens)} length [DONE]`);
      else
        expect((JSON.parse(text) as { choices: { text: string }[] }).choices[0]?.text).toBe(
          fakeText(prompt, tokens),
        );
    };
    return { path: "/v1/completions", body: completion, check, leaves };
  }
  const finished = ({ status, text }: Answer): void => {
    expect(`${status} ${text.slice(0, 300)}`).toMatch(/^200 /);
    expect(text).toMatch(
      stream ? /\[DONE\]\n\n$|response\.(completed|incomplete)/ : /"length"|"incomplete"|"stop"|"completed"/,
    );
  };
  const messages = [{ role: "user", content: prompt }];
  const common = { model: ABUSED_MODEL, stream, temperature: 0 };
  if (kind < 0.85)
    return {
      path: "/v1/chat/completions",
      body: { ...common, messages, max_tokens: tokens },
      check: finished,
      leaves,
    };
  if (kind < 0.88)
    return {
      path: "/v1/responses",
      body: { ...common, input: prompt, max_output_tokens: 16, store: false },
      check: finished,
      leaves,
    };
  if (kind < 0.9) {
    const body = { ...completion, stream: false, n: 3 };
    return { path: "/v1/completions", body, check: ({ status }) => expect(status).toBe(200), leaves };
  }
  const bad = [
    { ...completion, temperature: -1 },
    { ...completion, model: `other-${serial}` },
    { ...completion, prompt: "x".repeat(1000) },
    `{"model":`,
    [serial],
  ][pick(random, 5)];
  const refused = (answer: Answer): void =>
    expect(errorOf(answer, answer.status === 404 ? 404 : 400).type).toBe("invalid_request_error");
  return { path: "/v1/completions", body: bad, check: refused, leaves };
}

/** A hundred requests, an engine's death among some of them. */
async function wave(server: AbusedServer, agent: Agent, random: Random, counts: Counts): Promise<void> {
  const isOverload = random() < 0.1;
  const visits = Array.from({ length: WAVE }, () =>
    visitOf(random, (counts["requests"] = (counts["requests"] ?? 0) + 1)),
  );
  const deathAt = random() < 0.25 ? pick(random, WAVE) : undefined;
  const worker = async (): Promise<void> => {
    for (let visit = visits.pop(); visit !== undefined; visit = visits.pop()) {
      if (visits.length === deathAt) {
        server.engine().die(random() < 0.8 ? KILL : CRASH);
        counts["deaths"] = (counts["deaths"] ?? 0) + 1;
      }
      const end = await pay(server.port, agent, visit);
      counts[end] = (counts[end] ?? 0) + 1;
    }
  };
  await Promise.all(Array.from({ length: isOverload ? WAVE : WIDTH }, worker));
}

async function look(server: AbusedServer): Promise<Look> {
  await server.quiet();
  expect(server.live.list(undefined)).toEqual([]);
  server.forget();
  const handles: Record<string, number> = {};
  for (const name of process.getActiveResourcesInfo()) {
    // Timers of this very process come and go: polls, the test's own limit.
    if (!/Timeout|Immediate/.test(name)) handles[name] = (handles[name] ?? 0) + 1;
  }
  const listeners = process.eventNames().reduce((sum, name) => sum + process.listenerCount(name), 0);
  return { heap: await heapInUse(), handles, listeners, restarts: server.host.served[0]?.restarts ?? 0 };
}

function meanHeap(looks: readonly Look[]): number {
  return looks.reduce((sum, { heap }) => sum + heap, 0) / looks.length;
}

test(`row 94: ${REQUESTS} requests leave nothing`, async ({ annotate }) => {
  const warnings: string[] = [];
  const onWarning = ({ message }: Error): number => warnings.push(message);
  process.on("warning", onWarning);
  const server = await abusedServer({ maxQueued: MAX_QUEUED, sizes: { prefillChunk: 64 } });
  const random = seededRandom(SEED);
  const counts: Counts = {};
  const looks: Look[] = [];
  const begun = performance.now();
  for (let round = 0; round < LOOKS; round++) {
    const agent = new Agent({ keepAlive: true });
    for (let done = 0; done < REQUESTS / LOOKS; done += WAVE) await wave(server, agent, random, counts);
    agent.destroy();
    looks.push(await look(server));
    process.stderr.write(`${JSON.stringify({ ...counts, heap: looks.at(-1)?.heap })}\n`);
  }
  const seconds = Math.round((performance.now() - begun) / 1000);
  const { user, system } = process.cpuUsage();
  const heaps = looks.map(({ heap }) => (heap / 1024 / 1024).toFixed(2));
  await annotate(
    JSON.stringify({ seconds, cpuSeconds: Math.round((user + system) / 1e6), ...counts, heapMiB: heaps }),
  );
  await annotate(JSON.stringify(looks.at(-1)));
  const [first, last] = [looks[WARM_UP_LOOKS], looks.at(-1)];
  expect(counts["ok"]).toBeGreaterThan(REQUESTS / 2);
  expect(counts["full"]).toBeGreaterThan(0);
  expect(counts["left"]).toBeGreaterThan(0);
  expect(last?.restarts).toBe(counts["deaths"]);
  expect(last?.handles).toEqual(first?.handles);
  expect(last?.listeners).toBe(first?.listeners);
  const early = looks.slice(WARM_UP_LOOKS, 2 * WARM_UP_LOOKS);
  expect(meanHeap(looks.slice(-WARM_UP_LOOKS)) - meanHeap(early)).toBeLessThan(NOISE_BYTES);
  expect(warnings).toEqual([]);
  process.off("warning", onWarning);
  await server.close();
});
