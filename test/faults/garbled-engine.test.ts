/** Engines that say what no engine says: they are ended and their requests go on; nothing is believed, nothing crashes. */
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { EventChecker } from "../../engine/check-event.ts";
import { PlausibleEvents } from "../../src/plausible-events.ts";
import { fakeOutput } from "../../engine/fake/backend.ts";
import { FaultInjector } from "../../engine/faults.ts";
import type { EngineCommand, EngineEvent, Garbling } from "../../engine/protocol.ts";
import { BodyMutator, seededRandom } from "../support/body-mutator.ts";
import type { Json } from "../support/body-mutator.ts";
import { fakeEngine } from "../support/engine.ts";
import { mortalEngines } from "../support/mortal-engines.ts";
import { tinyFacts } from "../support/tiny-vocabulary.ts";

/** Also a long run's: WEFT_FUZZ_EVENTS=100000. */
const EVENTS = Number(process.env["WEFT_FUZZ_EVENTS"] ?? 3000);
const prompt = (length: number, first = 0): number[] => Array.from({ length }, (_, i) => (first + i) % 90);

describe("a reply that is garbled", () => {
  const HOWS: readonly Garbling[] = ["nothing", "type", "shape", "id", "token"];
  test.each(HOWS)("in its %s ends the engine, and every request gets its own output", async (how) => {
    const faults = new FaultInjector();
    faults.inject({ does: "garble", step: 5, how });
    const engines = await mortalEngines({ wrapEmit: (emit) => faults.wrapEmit(emit) });
    const answers = await Promise.all(
      Array.from({ length: 6 }, (_, i) => engines.submit(`r${i}`, prompt(9, i), { maxTokens: 20 })),
    );
    for (const [i, outputs] of answers.entries())
      expect(outputs.flatMap(({ tokens }) => [...tokens])).toEqual(fakeOutput(prompt(9, i), 20));
    expect(engines.events).toContain("garbled");
    expect(engines.engines).toHaveLength(2);
    await engines.stop();
  });

  test("each time is a crash each time: the requests that see it all fail in the end", async () => {
    const engines = await mortalEngines({
      wrapEmit: (emit) => (event) => (event.type === "step" ? emit(NO_EVENT) : emit(event)),
    });
    await expect(engines.submit("a", prompt(9))).rejects.toMatchObject({ code: "engine_crashed" });
    expect(engines.engines.length).toBeLessThan(5);
    await engines.stop();
  });
});

const NO_EVENT = JSON.parse('{"type":"step","outputs":5}') as EngineEvent;

const REPORT_NAMES =
  "planMs decodeMs sampleMs prefillMs decodeSequences prefillTokens passes running queued usedCells";
const REPORT = Object.fromEntries(REPORT_NAMES.split(" ").map((name) => [name, 1]));
const EVENT_BODIES: readonly Json[] = [
  { type: "accepted", id: "a", promptTokens: [1, 2], queuePosition: 0 },
  { type: "failed", id: "a", code: "queue_full", message: "m", details: { n: 1 } },
  {
    type: "step",
    outputs: [
      {
        id: "a",
        tokens: [5],
        logprobs: [{ logprob: -1, top: [[5, -1]] }],
        start: { slot: 0, cachedTokens: 0, queueMs: 0, prefillMs: 0 },
        finish: { reason: "stop", stopToken: 5 },
      },
    ],
    moves: [{ id: "a", to: "prefill" }],
    report: REPORT,
  },
  { type: "tokenized", call: 1, tokens: [[1]] },
  { type: "call_failed", call: 1, code: "draining", message: "m" },
  { type: "load_progress", ratio: 0.5 },
];

describe("whatever an engine says", () => {
  test("is no rubbish because a model computes what is no number", () => {
    const step = (token: number): object => ({
      type: "step",
      outputs: [{ id: "a", tokens: [token], logprobs: [{ logprob: NaN, top: [[token, -Infinity]] }] }],
      report: REPORT,
    });
    const checker = new EventChecker(10);
    expect([checker.accepts(step(9)), checker.accepts(step(10))]).toEqual([true, false]);
  });

  test("of who has got a slot is believed of requests that it has, and in words that there are", () => {
    const step = (move: object): EngineEvent =>
      ({ type: "step", outputs: [], moves: [move], report: REPORT }) as unknown as EngineEvent;
    const plausible = new PlausibleEvents({ requests: new Map([["a", { tokens: [] }]]), calls: new Map() });
    const moves = [
      { id: "a", to: "prefill" },
      { id: "a", to: "queue" },
      { id: "b", to: "queue" },
      { id: "a", to: "decode" },
      { id: "a" },
    ];
    expect(moves.map((move) => plausible.has(step(move)))).toEqual([true, true, false, false, false]);
  });

  test("is believed or not, and never stops the server: its next engine answers", async () => {
    const mutator = new BodyMutator(seededRandom(11));
    const told: EngineEvent["type"][] = [];
    const engines = await mortalEngines({
      wrapEmit: (emit) => (event) => {
        for (let i = 0; i < 20 && event.type === "step" && told.length < EVENTS; i++) {
          told.push(event.type);
          emit(mutator.change(mutator.pick(EVENT_BODIES)) as EngineEvent);
        }
        emit(event);
      },
    });
    for (let i = 0; i < EVENTS && told.length < EVENTS; i++)
      await engines.submit(`a${i}`, prompt(5, i), { maxTokens: 3 }).catch(() => undefined);
    expect((await engines.submit("last", prompt(5))).flatMap(({ tokens }) => [...tokens])).toEqual(
      fakeOutput(prompt(5), 8),
    );
    expect(engines.client.openRequests).toBe(0);
    expect(engines.events.filter((event) => event === "garbled").length).toBeGreaterThan(20);
    await engines.stop();
  }, 600_000);

  test("is told apart: the events of a real engine are taken, their mutations mostly not", async () => {
    const engine = await fakeEngine();
    engine.send({ type: "tokenize", call: 1, texts: [[{ text: "A", special: false }]], addBos: false });
    engine.send({ type: "stats", call: 2 });
    await engine.drained();
    const checker = new EventChecker(300);
    for (const event of engine.events)
      expect(`${event.type} ${checker.accepts(event)}`).toBe(`${event.type} true`);
    await engine.stop();
    expect(new EventChecker().accepts({ type: "loaded", facts: tinyFacts() })).toBe(true);
    fc.assert(
      fc.property(fc.anything(), (anything) => {
        expect(checker.accepts(anything)).toBe(false);
      }),
      { numRuns: 300, seed: 12 },
    );
  });
});

/** No submit: the server builds it of what it has checked, and an engine dies of a wrong one. */
const COMMANDS: readonly Json[] = [
  { type: "cancel", id: "a" },
  { type: "cancel_call", call: 7 },
  { type: "control", id: "a", change: { paused: true } },
  { type: "stats", call: 7 },
  { type: "tokenize", call: 7, texts: [[{ text: "A", special: false }]], addBos: true },
];

test("whatever an engine is told, the next request is answered, by it or by the one after it", async () => {
  const engines = await mortalEngines();
  const mutator = new BodyMutator(seededRandom(13));
  for (let i = 0; i < EVENTS / 20; i++) {
    const command = JSON.parse(JSON.stringify(mutator.change(mutator.pick(COMMANDS)))) as EngineCommand;
    engines.current().send(command);
    const outputs = await engines.submit(`r${i}`, prompt(5, i), { maxTokens: 3 });
    expect(outputs.flatMap(({ tokens }) => [...tokens])).toEqual(fakeOutput(prompt(5, i), 3));
  }
  await engines.stop();
}, 600_000);
