/** Vectors and scores beside generating requests: what they are, who waits for whom, and what is refused. */
import { setImmediate } from "node:timers/promises";
import { afterEach, expect, test, vi } from "vitest";
import { EngineClient } from "../../engine/client.ts";
import { createEngine } from "../../engine/engine.ts";
import { DEFAULT_FAIRNESS } from "../../engine/scheduler/owners.ts";
import { EventChecker } from "../../engine/check-event.ts";
import type { EngineError } from "../../engine/errors.ts";
import { DEFAULT_POLICY, PriorityClass } from "../../engine/sharing.ts";
import { FakeBackend, fakeOutput, fakeScore, fakeVector } from "../../engine/fake/backend.ts";
import { hostEngine } from "../../engine/process/in-process.ts";
import { LOAD_OPTIONS, fakeEngine, submitCommand } from "../support/engine.ts";
import type { FakeOptions } from "../../engine/fake/backend.ts";
import type { EngineEvent, LoadOptions, PromptPart } from "../../engine/protocol.ts";

afterEach(() => void vi.restoreAllMocks());

const input = (length: number, first = 0): PromptPart[] => [{ tokens: tokensOf(length, first) }];
const tokensOf = (length: number, first = 0): number[] => Array.from({ length }, (_, i) => (first + i) % 90);

async function fakeClient(
  options: FakeOptions = {},
  load: Partial<LoadOptions> = {},
): Promise<{ client: EngineClient; backend: FakeBackend }> {
  const backend = new FakeBackend(options);
  const client = new EngineClient(hostEngine((emit) => createEngine(() => Promise.resolve(backend), emit)));
  await client.load({ ...LOAD_OPTIONS, ...load });
  return { client, backend };
}

function unit(vector: Float32Array): Float32Array {
  const norm = Math.hypot(...vector);
  return vector.map((value) => value / norm);
}

test("vectors have length 1 and the order of their inputs", async () => {
  const { client } = await fakeClient();
  const lengths = [20, 3, 50, 3, 1];
  const { vectors, tokenCounts } = await client.embed(lengths.map((length) => input(length, length)));
  expect(tokenCounts).toEqual(lengths);
  lengths.forEach((length, i) => {
    const truth = unit(fakeVector(tokensOf(length, length)));
    expect(vectors[i]).toBeInstanceOf(Float32Array);
    expect(Math.hypot(...(vectors[i] ?? []))).toBeCloseTo(1, 5);
    truth.forEach((value, at) => expect(vectors[i]?.[at]).toBeCloseTo(value, 5));
  });
  await client.stop();
});

test("the last tokens of each input are read, so many or as many as fit", async () => {
  const { client } = await fakeClient({ contextTokens: 128 });
  const inputs = [input(200), input(128), input(3)];
  const end = async (from: readonly PromptPart[][]): Promise<unknown> => (await client.embed(from)).vectors;
  const fitting = await client.embed(inputs, undefined, { keep: -1 });
  expect(fitting.tokenCounts).toEqual([128, 128, 3]);
  expect(fitting.vectors).toEqual(await end([input(128, 72), input(128), input(3)]));
  const two = await client.embed(inputs, undefined, { keep: 2 });
  expect(two.vectors).toEqual(await end([input(2, 198), input(2, 126), input(2, 1)]));
  await expect(client.embed(inputs, undefined, { keep: 129 })).rejects.toMatchObject({
    code: "context_exceeded",
  });
  await client.stop();
});

test("scores have the order of their documents, and texts are tokenized", async () => {
  const { client } = await fakeClient();
  const documents = ["long document", "b", "middle"];
  const text = (value: string): PromptPart[] => [{ text: value, special: false }];
  const { scores, tokenCounts } = await client.rank(text("query"), documents.map(text));
  expect(scores).toEqual(documents.map((value) => fakeScore(Buffer.from("query"), Buffer.from(value))));
  expect(tokenCounts).toEqual([18, 6, 11]);
  await client.stop();
});

test("between two steps of a stream there is one piece, and the stream is what it is alone", async () => {
  const order: string[] = [];
  const engine = await fakeEngine({
    prefillChunk: 8,
    onRun: (entries) => void order.push(entries[0]?.sample === true ? "decode" : "prefill"),
    onEmbed: () => void order.push("embed"),
  });
  order.length = 0;
  engine.send(submitCommand("a", tokensOf(1), { maxTokens: 20 }));
  engine.send({ type: "embed", call: 7, inputs: [input(64), input(30)] });
  await engine.drained();
  expect(engine.tokens("a")).toEqual(fakeOutput(tokensOf(1), 20));
  expect(order.filter((kind) => kind === "embed")).toHaveLength(12);
  expect(order.join(" ")).not.toMatch(/embed embed.* decode/);
  expect(engine.events.filter((event) => event.type === "embedded")).toMatchObject([
    { call: 7, work: { calls: 12 } },
  ]);
});

test("a small call does not wait for a large one", async () => {
  const { client, backend } = await fakeClient({ onEmbed: () => setImmediate() });
  const large = client.embed(Array.from({ length: 100 }, () => input(4)));
  await client.embed([input(4)]);
  expect(backend.embedPieces).toBeLessThan(10);
  expect((await large).vectors).toHaveLength(100);
  await client.stop();
});

test("an owner with many calls does not hold up one with few, and has no more open than it may", async () => {
  // Turns go by the device time that owners have had: of a machine that is held up, the same for each piece.
  let nowMs = 0;
  vi.spyOn(performance, "now").mockImplementation(() => nowMs);
  const onEmbed = async (): Promise<void> => {
    nowMs += 1;
    await setImmediate();
  };
  const policy = { ...DEFAULT_POLICY, maxQueued: 19, maxQueuedTokens: 900 };
  const fairness = { ...DEFAULT_FAIRNESS, owners: new Map([["many", policy]]) };
  const { client, backend } = await fakeClient({ onEmbed }, { fairness });
  const calls = Array.from({ length: 20 }, () =>
    client.embed([input(4), input(4), input(4)], undefined, { owner: "many" }),
  );
  await expect(client.embed([input(4)], undefined, { owner: "many" })).rejects.toMatchObject({
    code: "owner_queue_full",
    details: { limit: 19 },
  });
  await client.embed([input(4), input(4)], undefined, { owner: "few" });
  expect(backend.embedPieces).toBeLessThan(10);
  await Promise.all(calls);
  const large = client.embed(
    Array.from({ length: 10 }, () => input(100)),
    undefined,
    { owner: "many" },
  );
  await expect(client.embed([input(4)], undefined, { owner: "many" })).rejects.toMatchObject({
    code: "owner_tokens_exceeded",
    details: { limit: 900, tokensLeft: 0 },
  });
  expect((await large).vectors).toHaveLength(10);
  await client.stop();
});

test("an answer says what its owner may ask for behind it, and a refusal says so in numbers that a server takes", async () => {
  const policy = { ...DEFAULT_POLICY, maxQueuedTokens: 100 };
  const fairness = { ...DEFAULT_FAIRNESS, owners: new Map([["a", policy]]) };
  const { client } = await fakeClient({ onEmbed: () => setImmediate() }, { fairness, maxQueued: 5 });
  const first = client.embed([input(30), input(30), input(30)], undefined, { owner: "a" });
  const refused = client.embed([input(20)], undefined, { owner: "a" });
  const error = await refused.catch((reason: unknown) => reason);
  expect(error).toMatchObject({
    code: "owner_tokens_exceeded",
    details: { requests: 6, requestsLeft: 5, tokens: 100, tokensLeft: 10 },
  });
  const { code, message, details } = error as EngineError;
  const event = { type: "call_failed", call: 2, code, message, details };
  expect(new EventChecker().accepts(event)).toBe(true);
  const later = client.embed([input(50)], undefined, { owner: "b", priority: PriorityClass.background });
  expect((await first).allowance).toEqual({
    requests: 6,
    requestsLeft: 5,
    requestsResetMs: 0,
    tokens: 100,
    tokensLeft: 100,
    tokensResetMs: 0,
  });
  expect((await later).allowance).toEqual({ requests: 6, requestsLeft: 6, requestsResetMs: 0 });
  await client.stop();
});

test("refused calls do not make it look as if calls came to their ends sooner", async () => {
  const fairness = {
    ...DEFAULT_FAIRNESS,
    owners: new Map([["a", { ...DEFAULT_POLICY, maxQueuedTokens: 100 }]]),
  };
  const { client } = await fakeClient({ onEmbed: () => setImmediate() }, { fairness });
  const inputs = Array.from({ length: 10 }, () => input(100));
  const large = client.embed(inputs, undefined, { owner: "a" });
  for (let tries = 0; tries < 3; tries++) {
    await expect(client.embed([input(4)], undefined, { owner: "a" })).rejects.toMatchObject({
      code: "owner_tokens_exceeded",
      // Nothing has come to its end yet.
      details: { retryAfterMs: expect.toSatisfy((ms: number) => ms >= 1000) },
    });
  }
  await large;
  await client.stop();
});

test("an input that takes several pieces is computed to its end, whoever else waits", async () => {
  const { client, backend } = await fakeClient({ onEmbed: () => setImmediate() });
  const calls = ["a", "b", "c"].map((owner) => client.embed([input(60), input(50)], undefined, { owner }));
  await Promise.all(calls);
  expect(backend.embedPieces).toBe(3 * (8 + 7));
  await client.stop();
});

test.each([
  ["an empty input", [input(3), []], { code: "empty_prompt", details: { index: 1 } }],
  [
    "an input that is too long",
    [input(3), input(4), input(129)],
    { code: "context_exceeded", details: { index: 2, promptTokens: 129, contextTokens: 128 } },
  ],
  ["a token outside the vocabulary", [[{ tokens: [999] }]], { code: "invalid_request" }],
  ["no input", [], { code: "invalid_request" }],
  ["too many inputs", Array.from({ length: 2049 }, () => input(1)), { code: "invalid_request" }],
  [
    "too many tokens",
    Array.from({ length: 2001 }, () => input(200)),
    { code: "invalid_request", message: "One call takes at most 300000 tokens." },
  ],
])("%s is refused", async (_name, inputs, error) => {
  const { client } = await fakeClient({ contextTokens: inputs.length > 100 ? 256 : 128 });
  await expect(client.embed(inputs)).rejects.toMatchObject(error);
  await client.stop();
});

test("a failing piece fails its call alone", async () => {
  let pieces = 0;
  const { client } = await fakeClient({
    onEmbed: () => {
      if (++pieces === 2) throw new Error("broken");
    },
  });
  const results = await Promise.allSettled([client.embed([input(2), input(3)]), client.embed([input(4)])]);
  expect(results.map(({ status }) => status).sort()).toEqual(["fulfilled", "rejected"]);
  await client.stop();
});

test("an aborted call is taken back, its work is not done, and the queue has room again", async () => {
  const { client, backend } = await fakeClient({ onEmbed: () => setImmediate() }, { maxQueued: 1 });
  const abort = new AbortController();
  const large = client.embed(
    Array.from({ length: 2000 }, () => input(100)),
    abort.signal,
  );
  const second = client.embed([input(120)]);
  const third = client.embed([input(3)]);
  await expect(third).rejects.toMatchObject({
    code: "queue_full",
    details: { retryAfterMs: expect.toSatisfy((ms: number) => ms >= 1000) },
  });
  await second;
  abort.abort(new Error("gone"));
  await expect(large).rejects.toThrow("gone");
  await client.embed([input(5)]);
  expect(backend.embedPieces).toBeLessThan(2000);
  await expect(client.embed([input(5)], AbortSignal.abort(new Error("early")))).rejects.toThrow("early");
  await client.stop();
});

test("a draining engine finishes what it has and refuses what comes", async () => {
  const engine = await fakeEngine();
  engine.send({ type: "embed", call: 50, inputs: [input(100)] });
  const done = engine.drained();
  engine.send({ type: "embed", call: 51, inputs: [input(3)] });
  await done;
  const answers = engine.events.filter(
    (event: EngineEvent) => event.type === "embedded" || event.type === "call_failed",
  );
  expect(answers).toMatchObject([
    { type: "call_failed", call: 51, code: "draining" },
    { type: "embedded", call: 50 },
  ]);
});
