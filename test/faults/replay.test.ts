/** Engines that die under their requests: every request gets what it would have got, except one that they die of. */
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { FakeBackend, fakeOutput } from "../../engine/fake/backend.ts";
import type { BatchEntry } from "../../engine/backend.ts";
import type { GenerationParams, StepOutput } from "../../engine/protocol.ts";
import type { CostModel } from "../../engine/scheduler/types.ts";
import { GREEDY } from "../support/engine.ts";
import { CRASH, KILL, mortalEngines } from "../support/mortal-engines.ts";
import type { MortalEngines } from "../support/mortal-engines.ts";

const prompt = (length: number, first = 0): number[] => Array.from({ length }, (_, i) => (first + i) % 90);
const seeded = (seed: number): Partial<GenerationParams> => ({
  sampling: { ...GREEDY.sampling, temperature: 1, seed },
});
const tokensOf = (outputs: readonly StepOutput[]): number[] => outputs.flatMap(({ tokens }) => [...tokens]);

/** A request that ends engines once it has six tokens: its prompt is longer than the others ever get. */
const POISON = { prompt: prompt(70), lastPosition: 70 - 1 + 6 };
function poisoned(entries: readonly BatchEntry[], engines: MortalEngines): Promise<void> | undefined {
  if (!entries.some(({ sample, position }) => sample && position === POISON.lastPosition)) return undefined;
  // Not before what it has said is heard.
  setImmediate(() => setImmediate(() => engines.current().die(CRASH)));
  return new Promise(() => undefined);
}

test("whenever engines are killed, every request gets its own output, each token once", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(
        fc.record({
          length: fc.integer({ min: 1, max: 40 }),
          maxTokens: fc.integer({ min: 1, max: 50 }),
          seed: fc.option(fc.nat(1000), { nil: undefined }),
        }),
        { minLength: 1, maxLength: 8 },
      ),
      fc.uniqueArray(fc.integer({ min: 1, max: 120 }), { maxLength: 12 }),
      async (requests, deaths) => {
        let calls = 0;
        const engines = await mortalEngines({
          onRun: (_entries, { current }) => {
            if (deaths.includes(calls++)) current().die(KILL);
          },
        });
        const answers = await Promise.all(
          requests.map(({ length, maxTokens, seed }, i) =>
            engines.submit(`r${i}`, prompt(length, i), {
              maxTokens,
              topLogprobs: 1,
              ...(seed === undefined ? {} : seeded(seed)),
            }),
          ),
        );
        answers.forEach((outputs, i) => {
          const { length = 0, maxTokens = 0, seed } = requests[i] ?? {};
          expect(tokensOf(outputs)).toEqual(fakeOutput(prompt(length, i), maxTokens, seed));
          // Guesses may come true by chance, so that two tokens come together.
          const seen = outputs.flatMap(({ id, start, finish, tokens, logprobs }) =>
            tokens.map((_, k) => [
              id,
              k === 0 && start !== undefined,
              k === tokens.length - 1 ? finish?.reason : undefined,
              tokens.length === logprobs?.length,
            ]),
          );
          expect(seen).toEqual(
            Array.from({ length: maxTokens }, (_, k) => [
              `r${i}`,
              k === 0,
              k === maxTokens - 1 ? "length" : undefined,
              true,
            ]),
          );
          expect(outputs.every(({ tokens }) => tokens.length > 0)).toBe(true);
        });
        expect(engines.client.openRequests).toBe(0);
        await engines.stop();
      },
    ),
    { numRuns: 100 },
  );
});

test("who is in the middle of an answer goes on before who came earlier and has none of it yet", async () => {
  const begun: string[] = [];
  const engines = await mortalEngines({ sizes: { slots: 1 }, onRun: () => undefined });
  const early = await engines.client.submit({
    id: "early",
    prompt: [{ tokens: prompt(5) }],
    addBos: true,
    owner: "tester",
    promptLogprobs: undefined,
    paused: true,
    params: { ...GREEDY, maxTokens: 4 },
  });
  const late = await engines.client.submit({
    id: "late",
    prompt: [{ tokens: prompt(9) }],
    addBos: true,
    owner: "tester",
    promptLogprobs: undefined,
    params: { ...GREEDY, maxTokens: 12 },
  });
  const read = async (name: string, outputs: AsyncIterable<StepOutput>): Promise<number[]> => {
    const tokens: number[] = [];
    for await (const output of outputs) {
      tokens.push(...output.tokens);
      begun.push(name);
      if (name === "late" && tokens.length === 3) {
        engines.client.control("early", { paused: false });
        engines.current().die(KILL);
      }
    }
    return tokens;
  };
  expect(await Promise.all([read("early", early), read("late", late)])).toEqual([
    fakeOutput(prompt(5), 4),
    fakeOutput(prompt(9), 12),
  ]);
  expect(begun.indexOf("early")).toBe(12);
  await engines.stop();
});

test("the next engine is told what calls cost, as the dead one knew it in the end", async () => {
  const { cost, facts } = new FakeBackend();
  const measured = [
    { of: `${facts.fingerprint} and an adapter`, cost },
    { of: "its draft model", cost },
  ];
  let refined: CostModel | undefined;
  const engines = await mortalEngines({
    wrapEmit: (emit) => (event) => {
      if (event.type === "step") refined = event.report.cost ?? refined;
      emit(event.type === "loaded" ? { ...event, facts: { ...event.facts, measured } } : event);
    },
  });
  engines.current().die(KILL);
  await engines.submit("later", prompt(3), { maxTokens: 2 });
  expect(engines.engines[1]?.commands[0]).toMatchObject({ type: "load", options: { measured } });
  await engines.submit("long", prompt(3), { maxTokens: 70 });
  engines.current().die(KILL);
  await engines.submit("last", prompt(3), { maxTokens: 2 });
  expect(refined?.decodeScale).not.toBe(cost?.decodeScale);
  expect(engines.engines[2]?.commands[0]).toMatchObject({
    type: "load",
    options: { measured: [{ of: measured[0]?.of, cost: refined }, measured[1]] },
  });
  await engines.stop();
});

describe("a request that engines die of", () => {
  test("fails alone, after it has been tried alone; the others finish unharmed", async () => {
    const engines = await mortalEngines({ onRun: poisoned });
    const poison = engines.submit("poison", POISON.prompt, { maxTokens: 30 });
    const others = Array.from({ length: 15 }, (_, i) =>
      engines.submit(`ok${i}`, prompt(10 + i, i), { maxTokens: 30, ...seeded(i) }),
    );
    await expect(poison).rejects.toMatchObject({ code: "engine_crashed" });
    for (const [i, outputs] of (await Promise.all(others)).entries())
      expect(tokensOf(outputs)).toEqual(fakeOutput(prompt(10 + i, i), 30, i));
    expect(engines.events.filter((event) => event.startsWith("convict"))).toEqual(["convict poison"]);
    // Two deaths make suspects, two more alone make it sure.
    expect(engines.engines).toHaveLength(5);
    const lonely = engines.engines[3]?.submits ?? [];
    expect(lonely.map(({ id }) => id.split("~")[0])).toEqual(["poison"]);
    await engines.stop();
  });

  test("gives what it had before, then the error", async () => {
    const engines = await mortalEngines({ onRun: poisoned });
    const request = {
      id: "poison",
      prompt: [{ tokens: POISON.prompt }],
      addBos: true,
      owner: "tester",
      promptLogprobs: undefined,
    };
    const stream = await engines.client.submit({ ...request, params: { ...GREEDY, maxTokens: 30 } });
    const tokens: number[] = [];
    const read = async (): Promise<void> => {
      for await (const output of stream) tokens.push(...output.tokens);
    };
    await expect(read()).rejects.toMatchObject({ code: "engine_crashed" });
    expect(tokens).toEqual(fakeOutput(POISON.prompt, 6));
    // Alone it needs no second chance to be tried alone.
    expect(engines.engines).toHaveLength(3);
    await engines.stop();
  });

  test("is found beside another one", async () => {
    const engines = await mortalEngines({ onRun: poisoned });
    const poisons = ["p1", "p2"].map((id) => engines.submit(id, POISON.prompt, { maxTokens: 30 }));
    const other = engines.submit("ok", prompt(5), { maxTokens: 40 });
    for (const poison of poisons) await expect(poison).rejects.toMatchObject({ code: "engine_crashed" });
    expect(tokensOf(await other)).toEqual(fakeOutput(prompt(5), 40));
    await engines.stop();
  });

  test("is no request that was alone when somebody killed the engine a few times", async () => {
    let kills = 0;
    const engines = await mortalEngines({
      onRun: (entries, { current }) => {
        if (kills++ < 20 && entries[0]?.sample === true) current().die(KILL);
      },
    });
    expect(tokensOf(await engines.submit("a", prompt(9), { maxTokens: 5 }))).toEqual(
      fakeOutput(prompt(9), 5),
    );
    await engines.stop();
  });
});

describe("while an engine is started again", () => {
  test("new requests wait as in its queue, up to its length, in order of arrival", async () => {
    const engines = await mortalEngines({ maxQueued: 2 });
    engines.hold = true;
    engines.current().die(KILL);
    await engines.current().exited;
    const waiting = Array.from({ length: 6 }, (_, i) => engines.submit(`r${i}`, prompt(5, i)));
    await expect(engines.submit("late", prompt(5))).rejects.toMatchObject({ code: "queue_full" });
    await engines.revive();
    for (const [i, outputs] of (await Promise.all(waiting)).entries())
      expect(tokensOf(outputs)).toEqual(fakeOutput(prompt(5, i), 8));
    expect(engines.current().submits.map(({ id }) => id)).toEqual(["r0", "r1", "r2", "r3", "r4", "r5"]);
    await engines.stop();
  });

  test("a request keeps its name in the slots of the next engine", async () => {
    const names: (string | undefined)[] = [];
    const engines = await mortalEngines({
      onRun: (entries, { engines: { length }, current, client }) => {
        if (entries[0]?.sample !== true || entries[0].position !== 12) return undefined;
        if (length === 1) return setImmediate(() => current().die(KILL)) && new Promise(() => undefined);
        void client.stats().then(({ slots }) => names.push(slots[0]?.requestId));
        return new Promise((resolve) => setImmediate(() => setImmediate(resolve)));
      },
    });
    await engines.submit("a", prompt(9), { maxTokens: 20 });
    expect(engines.current().submits.map(({ id }) => id)).toEqual(["a~2"]);
    expect(names).toEqual(["a"]);
    await engines.stop();
  });

  test("a request that gets a slot of the next engine is told so by the name that its client knows", async () => {
    const told: string[] = [];
    const engines = await mortalEngines({
      onRun: (_entries, { engines: { length }, current }) =>
        length === 1
          ? setImmediate(() => current().die(KILL)) && new Promise<void>(() => undefined)
          : undefined,
      wrapEmit: (emit) => (event) => {
        if (event.type !== "step") return emit(event);
        // What the first one says of it is not heard.
        const moves = (event.moves ?? []).filter(({ id }) => id !== "a");
        told.push(...moves.map(({ id, to }) => `${id} ${to}`));
        emit({ ...event, moves });
      },
    });
    const params = { ...GREEDY, maxTokens: 2 };
    const said = { id: "a", prompt: [{ tokens: prompt(9) }], addBos: true, params, owner: "tester" };
    const stream = await engines.client.submit({ ...said, promptLogprobs: undefined });
    expect(stream.earlyPhase).toBe("queue");
    for await (const { finish } of stream) if (finish !== undefined) break;
    expect(told).toEqual(["a~2 prefill"]);
    expect(stream.earlyPhase).toBe("prefill");
    await engines.stop();
  });

  test("a cancelled request is forgotten", async () => {
    const engines = await mortalEngines();
    engines.hold = true;
    engines.current().die(KILL);
    await engines.current().exited;
    const abort = new AbortController();
    const cancelled = engines.submit("a", prompt(5), {}, abort.signal);
    abort.abort(new Error("gone"));
    await expect(cancelled).rejects.toThrow("gone");
    await engines.revive();
    expect(tokensOf(await engines.submit("b", prompt(5)))).toEqual(fakeOutput(prompt(5), 8));
    expect(engines.current().submits.map(({ id }) => id)).toEqual(["b"]);
    await engines.stop();
  });

  test("tokenizing waits for the next engine, what the last one was doing does not", async () => {
    const engines = await mortalEngines();
    engines.hold = true;
    engines.current().die(KILL);
    await engines.current().exited;
    const tokens = engines.client.tokenize([{ text: "AB", special: false }], false);
    await expect(engines.client.stats()).rejects.toMatchObject({ code: "engine_exited" });
    await engines.revive();
    expect(await tokens).toEqual([65, 66]);
    await engines.stop();
  });

  test("the next one is asked for the very sizes and device of the last one", async () => {
    const engines = await mortalEngines({ sizes: { contextTokens: 99, prefillChunk: 7 } });
    engines.current().die(KILL);
    await expect.poll(() => engines.engines.length).toBe(2);
    expect(engines.current().commands[0]).toMatchObject({
      type: "load",
      options: {
        contextTokens: 99,
        prefillChunk: 7,
        batchTokens: 32,
        threads: 1,
        gpu: "off",
        gpuLayers: undefined,
      },
    });
    await engines.stop();
  });
});

describe("an engine that is silent while requests are open", () => {
  test("is killed when it has been silent for long enough, and its requests go on", async () => {
    let stuck = false;
    const engines = await mortalEngines({
      stuckAfterMs: 3000,
      onRun: (entries, { engines: { length } }) => {
        if (length > 1 || entries[0]?.sample !== true || entries[0].position !== 12) return undefined;
        stuck = true;
        return new Promise(() => undefined);
      },
    });
    const answer = engines.submit("a", prompt(9), { maxTokens: 20 });
    await expect.poll(() => stuck).toBe(true);
    for (let second = 1; second <= 3; second++) engines.supervisor.tick(1000);
    expect(engines.events).toEqual([]);
    engines.supervisor.tick(1000);
    engines.supervisor.tick(1000);
    expect(engines.events).toEqual(["stuck"]);
    expect(tokensOf(await answer)).toEqual(fakeOutput(prompt(9), 20));
    await engines.stop();
  });

  test("is left alone while nobody waits for it", async () => {
    const engines = await mortalEngines({ stuckAfterMs: 3000 });
    for (let second = 1; second <= 100; second++) engines.supervisor.tick(1000);
    expect(engines.events).toEqual([]);
    await engines.stop();
  });
});
