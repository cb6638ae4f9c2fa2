/**
 * The built server with real inference, whose engine is killed again and again under many clients.
 *
 * With another model than pocket: `WEFT_TEST_MODEL=smollm2 npx vitest run test/faults/with-model/killed-engine.test.ts`.
 */
import { setTimeout as wait } from "node:timers/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import { childrenOf, retry, startServer } from "../../support/server.ts";
import type { RunningServer } from "../../support/server.ts";
import { eventsOf } from "../../support/sse-reader.ts";

/** Fewer for a slow model: WEFT_TEST_KILLS=10, at other moments with another WEFT_TEST_KILL_SEED. */
const KILLS = Number(process.env["WEFT_TEST_KILLS"] ?? 20);
const SEED = Number(process.env["WEFT_TEST_KILL_SEED"] ?? 12_345);
const CLIENTS = 16;
const MODEL = process.env["WEFT_TEST_MODEL"] ?? "pocket";
/** Minutes for the machine, however slow it is. */
const TIMEOUT_MS = MODEL === "pocket" ? 300_000 : 3_000_000;

let server: RunningServer;
let startUpMs = 0;
beforeAll(async () => {
  const beganMs = performance.now();
  // Pocket's weights are F16, for which a stream that runs alone is computed in another kernel than several; and a
  // comment that fills a pause would be a difference.
  server = await startServer("--model", MODEL, "--deterministic", "--keep-alive", "0");
  startUpMs = performance.now() - beganMs;
});
afterAll(() => server.stop());

const SCHEMA = {
  type: "object",
  properties: {
    city: { type: "string", maxLength: 12 },
    numbers: { type: "array", items: { type: "integer" }, maxItems: 5 },
  },
  required: ["city", "numbers"],
  additionalProperties: false,
};
const TOOL = { name: "count_up", description: "Counts.", parameters: SCHEMA };

/** Eight kinds of requests: greedy, seeded, with log probabilities, by a schema, with tools, several choices, responses. */
function requestOf(client: number): { path: string; stream: boolean; body: object } {
  const kind = client % 8;
  const stream = kind !== 1 && kind !== 5;
  const seeded = { model: MODEL, stream, seed: client, temperature: 1 };
  const messages = [{ role: "user", content: `Name the city number ${client}.` }];
  const chat = { ...seeded, messages, max_tokens: 60 };
  const prompt = `${"1, 2, 3, ".repeat(client * 2)}count on from ${client}:`;
  const completion = { ...seeded, prompt, max_tokens: 40 + client * 4, ignore_eos: true };
  switch (kind) {
    case 0:
      return { path: "/v1/completions", stream, body: { ...completion, temperature: 0 } };
    case 1:
      return { path: "/v1/completions", stream, body: completion };
    case 2:
      return {
        path: "/v1/completions",
        stream,
        body: { ...completion, stop: ["no such text"], logprobs: 1 },
      };
    case 3: {
      const format = { type: "json_schema", json_schema: { name: "answer", schema: SCHEMA, strict: true } };
      return { path: "/v1/chat/completions", stream, body: { ...chat, response_format: format } };
    }
    case 4: {
      const tools = [{ type: "function", function: TOOL }];
      return {
        path: "/v1/chat/completions",
        stream,
        body: { ...chat, tools, tool_choice: "required", max_tokens: 90 },
      };
    }
    case 6:
      return {
        path: "/v1/chat/completions",
        stream,
        body: { ...chat, n: 2, logprobs: true, top_logprobs: 2 },
      };
    default: {
      const input = `Say something about the number ${client}.`;
      const body = { model: MODEL, stream, input, temperature: 0, max_output_tokens: 60, store: false };
      return { path: "/v1/responses", stream, body };
    }
  }
}

/**
 * What differs between two equal answers: names, times, and what was cached or computed again. Pocket's weights are F16,
 * whose sums change in the last bits with who else is being served; quantized ones do not.
 */
const VOLATILE = new Set([
  ..."id item_id call_id response_id created created_at completed_at timings usage".split(" "),
  ...(MODEL === "pocket" ? "token_logprobs top_logprobs logprob".split(" ") : []),
]);

function withoutVolatile(json: string): string {
  return JSON.stringify(JSON.parse(json), (key, value: unknown) => (VOLATILE.has(key) ? undefined : value));
}

/** A piece of an answer, as against what a stream says before its request has a slot. */
const TEXT = /"(?:delta|text|content|arguments)":"./;

/** A silence between two pieces of a choice, from when to when, in ms. */
interface Pause {
  readonly fromMs: number;
  readonly toMs: number;
}

const lasts = ({ fromMs, toMs }: Pause): number => toMs - fromMs;

/** Of every choice the longest silence of each answer. */
let pauses: Pause[] = [];

const longest = (): number => Math.max(0, ...pauses.map(lasts));

/** All that a client got, to the byte; whatever is no whole answer throws. */
async function answerOf(client: number, onPiece: () => void): Promise<readonly string[]> {
  const { path, stream, body } = requestOf(client);
  const response = await server.post(path, body);
  const fail = (text: string): never => {
    throw new Error(`Client ${client}: ${response.status} ${text}`);
  };
  if (response.status !== 200) fail(await response.text());
  if (!stream) return [withoutVolatile(await response.text())];
  const events: string[] = [];
  /** Choices are apart: one may wait for a slot while another has long begun. */
  const pieces = new Map<number, number>();
  const longestOf = new Map<number, Pause>();
  for await (const event of eventsOf(response)) {
    onPiece();
    const nowMs = performance.now();
    if (TEXT.test(event)) {
      const choice = choiceOf(event);
      const pause = { fromMs: pieces.get(choice) ?? nowMs, toMs: nowMs };
      if (lasts(pause) >= lasts(longestOf.get(choice) ?? pause)) longestOf.set(choice, pause);
      pieces.set(choice, nowMs);
    }
    if (/^\{"error"|"type":"(error|response\.failed)"/.test(event)) fail(event);
    events.push(event === "[DONE]" ? event : withoutVolatile(event));
  }
  pauses.push(...longestOf.values());
  if (!/\[DONE\]|"response\.(completed|incomplete)"/.test(events.at(-1) ?? ""))
    fail("a stream without an end");
  // Choices come beside each other, in no order between them.
  return events.toSorted((one, other) => choiceOf(one) - choiceOf(other));
}

function choiceOf(event: string): number {
  const [, index] = /"choices":\[\{"(?:text":"(?:[^"\\]|\\.)*",")?index":(\d+)/.exec(event) ?? [];
  return event === "[DONE]" ? Infinity : Number(index ?? 0);
}

/** Every client at once, so that slots are shared and some wait. */
function everyAnswer(onPiece: () => void): Promise<(readonly string[])[]> {
  return Promise.all(Array.from({ length: CLIENTS }, (_, client) => answerOf(client, onPiece)));
}

const scrape = async (): Promise<string> => (await fetch(`${server.url}/metrics`)).text();

async function restarts(): Promise<number> {
  const metrics = await scrape();
  const counts = [...metrics.matchAll(/^weft_engine_restarts_total\{.*\} (\d+)$/gm)];
  const up = metrics.includes(`weft_engine_up{model="${MODEL}"} 1`);
  return up ? counts.reduce((sum, [, count]) => sum + Number(count), 0) : -1;
}

/** What the engines have spent on prompts and on computing again, by the time it was looked at; all in ms. */
interface PrefillAt {
  readonly atMs: number;
  readonly prefillMs: number;
}

async function prefillNow(): Promise<PrefillAt> {
  const metrics = await scrape();
  const seconds = /^weft_step_seconds_sum\{model="[^"]*",kind="prefill"\} (\S+)$/m.exec(metrics)?.[1] ?? 0;
  return { atMs: performance.now(), prefillMs: Number(seconds) * 1000 };
}

/** Prefill between two looks that have the pause between them. */
function prefillIn({ fromMs, toMs }: Pause, looks: readonly PrefillAt[]): number {
  const before = looks.findLast(({ atMs }) => atMs <= fromMs);
  const after = looks.find(({ atMs }) => atMs >= toMs) ?? looks.at(-1);
  return (after?.prefillMs ?? 0) - (before?.prefillMs ?? 0);
}

test(
  `${KILLS} kills at any moment fail no request and change no answer`,
  { timeout: TIMEOUT_MS },
  async () => {
    const undisturbed = await everyAnswer(() => undefined);
    expect(await everyAnswer(() => undefined)).toEqual(undisturbed);
    const undisturbedPauseMs = longest();
    pauses = [];
    /** From each death to the engine after it. */
    const downs: Pause[] = [];
    const looks: PrefillAt[] = [];
    let rounds = 0;
    let random = SEED;
    /** Pieces that the clients still get before the next kill. */
    let pieces = 40;
    let killing: Promise<void> | undefined;
    const kill = async (): Promise<void> => {
      const [engine] = await childrenOf(server.pid);
      if (engine === undefined) return;
      process.kill(engine, "SIGKILL");
      const fromMs = performance.now();
      // Asked without a pause, a slow engine would take more questions than anybody asks.
      const ask = (): Promise<number> => wait(20).then(restarts);
      await retry("the engine's return", ask, (count) => count === downs.length + 1);
      downs.push({ fromMs, toMs: performance.now() });
      random = (Math.imul(random, 1_103_515_245) + 12_345) & 0x7fffffff;
      pieces = (random >>> 8) % 400;
      killing = undefined;
    };
    const onPiece = (): void => {
      pieces -= 1;
      if (pieces < 0 && downs.length < KILLS) killing ??= kill();
    };
    const enough = new AbortController();
    const look = async (): Promise<void> => {
      while (!enough.signal.aborted) {
        looks.push(await prefillNow());
        await wait(50);
      }
    };
    const looking = look();
    do {
      rounds += 1;
      expect(await everyAnswer(onPiece)).toEqual(undisturbed);
      await killing;
    } while ((await restarts()) < KILLS);
    looks.push(await prefillNow());
    enough.abort();
    await looking;
    const disturbed = pauses;
    expect(await everyAnswer(() => undefined)).toEqual(undisturbed);
    expect(await (await fetch(`${server.url}/health`)).json()).toEqual({ status: "ok" });
    const judged = disturbed.map((pause) => {
      const deaths = downs.filter(({ fromMs, toMs }) => fromMs < pause.toMs && toMs > pause.fromMs);
      const prefillMs = prefillIn(pause, looks);
      return {
        pauseMs: lasts(pause),
        deaths: deaths.length,
        downMs: deaths.reduce((sum, down) => sum + lasts(down), 0),
        prefillMs,
        boundMs: deaths.length * startUpMs + prefillMs,
      };
    });
    const worst = judged.toSorted((one, other) => other.pauseMs - one.pauseMs).slice(0, 5);
    const rounded = worst.map((of) =>
      Object.fromEntries(Object.entries(of).map(([key, value]) => [key, Math.round(value)])),
    );
    const over = judged.filter(({ deaths, pauseMs, boundMs }) => deaths > 0 && pauseMs > boundMs).length;
    const whole = (ms: number): string => `${Math.round(ms)} ms`;
    const back = downs.map(lasts);
    process.stdout.write(
      `${MODEL}: ${downs.length} kills in ${rounds} rounds of ${CLIENTS} clients; started in ${whole(startUpMs)}, an engine was back ` +
        `after ${whole(Math.min(...back))} to ${whole(Math.max(...back))}; longest pause of a choice ` +
        `${whole(worst[0]?.pauseMs ?? 0)} (without kills ${whole(undisturbedPauseMs)}); ${over} of ${judged.length} were longer than start-up ` +
        `with prefill; the longest ones: ${JSON.stringify(rounded)}\n`,
    );
  },
);
