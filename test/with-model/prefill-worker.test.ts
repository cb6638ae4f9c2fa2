/** A process of its own for long prompts: what it computes is what the engine would, and nothing of it outlives anybody. */
import { afterEach, expect, test } from "vitest";
import { begunStream } from "../support/begun-stream.ts";
import { childrenOf, processesGone, retry, startServer } from "../support/server.ts";
import type { RunningServer } from "../support/server.ts";
import { readStream } from "../support/sse-reader.ts";

/** Any prompt of some cells is a long one. */
const FLAGS = ["--threads", "2", "--itl-target", "10", "--slots", "4"];
const LONG = Array.from({ length: 700 }, (_, i) => `${(i * 37) % 101},`).join(" ");

const started: RunningServer[] = [];

/** A test that fails must not leave one behind. */
afterEach(async () => {
  for (const server of started.splice(0)) await server.kill();
});

async function start(...args: readonly string[]): Promise<RunningServer> {
  const server = await startServer(...args);
  started.push(server);
  return server;
}

/** Of a metric, or 0 where it has not been counted. */
async function metric(server: RunningServer, name: string): Promise<number> {
  const said = await (await fetch(`${server.url}/metrics`)).text();
  const line = said.split("\n").find((each) => each.startsWith(name));
  return Number(line?.split(" ").at(-1) ?? 0);
}

const up = (server: RunningServer): Promise<number> => metric(server, "weft_prefill_worker_up");
const computed = (server: RunningServer): Promise<number> =>
  metric(server, 'weft_offloaded_prompts_total{model="pocket",outcome="computed"}');

async function withWorker(): Promise<{ server: RunningServer; engine: number; worker: number }> {
  const server = await start(...FLAGS);
  await retry(
    "the prefill worker",
    () => up(server),
    (value) => value === 1,
  );
  const [engine = 0] = await childrenOf(server.pid);
  const [worker = 0] = await childrenOf(engine);
  expect(worker).toBeGreaterThan(1);
  return { server, engine, worker };
}

/** What reads a stream that has begun to its end. */
async function stream(server: RunningServer): Promise<() => Promise<unknown>> {
  const events = await begunStream(server, 200);
  return () => readStream(events);
}

async function answer(server: RunningServer, prompt: string): Promise<unknown> {
  const body = { model: "pocket", prompt, max_tokens: 24, temperature: 0, logprobs: 3 };
  const response = await server.post("/v1/completions", body);
  const { choices, usage } = (await response.json()) as Record<string, unknown>;
  return { status: response.status, choices, usage };
}

test("beside a stream a long prompt is computed by the worker, to the last bit as by the engine", async () => {
  const alone = await start("--prefill-worker", "off", ...FLAGS);
  // Beside a stream to its end, too: a slot that decodes alone runs in another kernel.
  const beside = await begunStream(alone, 1500);
  const truth = await answer(alone, LONG);
  expect((await alone.load()).busySlots).toBe(1);
  await beside.return();
  expect(await childrenOf((await childrenOf(alone.pid))[0] ?? 0)).toEqual([]);
  expect(await alone.stop()).toBe(0);

  const { server, worker } = await withWorker();
  const other = await begunStream(server, 1500);
  expect(await answer(server, LONG)).toEqual(truth);
  expect((await server.load()).busySlots).toBe(1);
  await other.return();
  expect(await computed(server)).toBe(1);
  expect(await metric(server, "weft_offloaded_tokens_total")).toBeGreaterThan(500);
  expect(await server.stop()).toBe(0);
  await processesGone([worker]);
});

test("a worker that dies with a prompt costs nobody an answer, and is not missed", async () => {
  const { server, worker } = await withWorker();
  const finish = await stream(server);
  // It stands still, so that it has not been quicker.
  process.kill(worker, "SIGSTOP");
  const asked = answer(server, LONG);
  await retry(
    "the prompt in a slot",
    () => server.load(),
    ({ busySlots }) => busySlots === 2,
  );
  process.kill(worker, "SIGKILL");
  expect(await asked).toMatchObject({ status: 200 });
  expect(await finish()).toMatchObject({ finishReason: "length", done: true });
  expect(await computed(server)).toBe(0);
  expect(await up(server)).toBe(0);
  expect(await server.stop()).toBe(0);
});

test.runIf(process.platform === "linux").each(["engine", "server"] as const)(
  "a worker that stands still is gone with its %s",
  async (killed) => {
    const { server, engine, worker } = await withWorker();
    process.kill(worker, "SIGSTOP");
    process.kill(killed === "engine" ? engine : server.pid, "SIGKILL");
    await processesGone([worker]);
    expect(await server.kill()).toBeUndefined();
  },
);
