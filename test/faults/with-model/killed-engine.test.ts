/** The built server with real inference, whose engine is killed again and again under many clients. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { childrenOf, retry, startServer } from "../../support/server.ts";
import type { RunningServer } from "../../support/server.ts";
import { eventsOf } from "../../support/sse-reader.ts";

const KILLS = 20;

let server: RunningServer;
beforeAll(async () => {
  // Pocket's weights are F16, for which a stream that runs alone is computed in another kernel than several.
  server = await startServer("--deterministic");
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

/** Sixteen clients: greedy, seeded, with log probabilities, with a stop string, bound to a schema; streaming or not. */
function requestOf(client: number): { path: string; stream: boolean; body: object } {
  const stream = client % 4 !== 1;
  const model = { model: "pocket", stream };
  if (client % 4 === 3) {
    const messages = [{ role: "user", content: `Name the city number ${client}.` }];
    const format = { type: "json_schema", json_schema: { name: "answer", schema: SCHEMA, strict: true } };
    const body = {
      ...model,
      messages,
      response_format: format,
      seed: client,
      temperature: 1,
      max_tokens: 80,
    };
    return { path: "/v1/chat/completions", stream, body };
  }
  const body = {
    ...model,
    prompt: `${"1, 2, 3, ".repeat(client * 2)}count on from ${client}:`,
    max_tokens: 60 + client * 10,
    ignore_eos: true,
    seed: client,
    temperature: client % 2 === 0 ? 0 : 1,
    ...(client % 4 === 2 ? { stop: ["no such text"], logprobs: 1 } : {}),
  };
  return { path: "/v1/completions", stream, body };
}

interface ChoiceJson {
  readonly text?: string;
  readonly message?: { readonly content: string };
  readonly delta?: { readonly content?: string };
  readonly finish_reason: string | null;
}

/** The text and how it ended; whatever is no answer throws. */
async function answerOf(client: number, onPiece: () => void): Promise<{ text: string; end: string }> {
  const { path, stream, body } = requestOf(client);
  const response = await server.post(path, body);
  if (response.status !== 200)
    throw new Error(`Client ${client}: ${response.status} ${await response.text()}`);
  const choicesOf = (json: string): readonly ChoiceJson[] => {
    const { choices } = JSON.parse(json) as { choices?: readonly ChoiceJson[] };
    if (choices === undefined) throw new Error(`Client ${client}: ${json}`);
    return choices;
  };
  let text = "";
  let end = "";
  const take = ({ text: piece, message, delta, finish_reason: reason }: ChoiceJson): void => {
    text += piece ?? message?.content ?? delta?.content ?? "";
    end += reason ?? "";
  };
  if (!stream) for (const choice of choicesOf(await response.text())) take(choice);
  else {
    for await (const event of eventsOf(response)) {
      onPiece();
      if (event === "[DONE]") end += " done";
      else for (const choice of choicesOf(event)) take(choice);
    }
  }
  return { text, end };
}

/** Every client at once, so that slots are shared and some wait. */
function everyAnswer(onPiece: () => void): Promise<{ text: string; end: string }[]> {
  return Promise.all(Array.from({ length: 16 }, (_, client) => answerOf(client, onPiece)));
}

async function restarts(): Promise<number> {
  const metrics = await (await fetch(`${server.url}/metrics`)).text();
  const counts = [...metrics.matchAll(/^weft_engine_restarts_total\{.*\} (\d+)$/gm)];
  const up = metrics.includes('weft_engine_up{model="pocket"} 1');
  return up ? counts.reduce((sum, [, count]) => sum + Number(count), 0) : -1;
}

test(`${KILLS} kills at any moment fail no request and change no answer`, { timeout: 300_000 }, async () => {
  const undisturbed = await everyAnswer(() => undefined);
  expect(undisturbed.every(({ text, end }) => text !== "" && end !== "")).toBe(true);
  let kills = 0;
  let random = 12_345;
  /** Pieces that the clients still get before the next kill. */
  let pieces = 40;
  let killing: Promise<void> | undefined;
  const kill = async (): Promise<void> => {
    const [engine] = await childrenOf(server.pid);
    if (engine === undefined) return;
    process.kill(engine, "SIGKILL");
    kills += 1;
    await retry("the engine's return", restarts, (count) => count === kills);
    random = (Math.imul(random, 1_103_515_245) + 12_345) & 0x7fffffff;
    pieces = (random >>> 8) % 400;
    killing = undefined;
  };
  const onPiece = (): void => {
    pieces -= 1;
    if (pieces < 0 && kills < KILLS) killing ??= kill();
  };
  do {
    expect(await everyAnswer(onPiece)).toEqual(undisturbed);
    await killing;
  } while ((await restarts()) < KILLS);
  expect(await everyAnswer(() => undefined)).toEqual(undisturbed);
  expect(await (await fetch(`${server.url}/health`)).json()).toEqual({ status: "ok" });
});
