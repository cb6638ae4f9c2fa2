/** The engine over the fake model: whatever comes when, every request gets its own output and nothing is left. */
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { adapterSet } from "../../engine/adapters.ts";
import type { AdapterUse } from "../../engine/adapters.ts";
import { EngineError } from "../../engine/errors.ts";
import { fakeContinuation, fakeOutput, fakePromptLogprobs } from "../../engine/fake/backend.ts";
import { FAKE_END } from "../../engine/fake/facts.ts";
import { promptLogprobsAt } from "../../engine/prompt-logprobs.ts";
import { traceEvents } from "../../src/routes/trace-events.ts";
import { GREEDY, fakeEngine, submitCommand } from "../support/engine.ts";
import { PriorityClass } from "../../engine/sharing.ts";
import type { GenerationParams } from "../../engine/protocol.ts";
import { traceFaults } from "../support/trace-form.ts";

const prompt = (length: number, first = 0): number[] => Array.from({ length }, (_, i) => (first + i) % 90);

interface PlannedRequest {
  readonly prompt: readonly number[];
  readonly maxTokens: number;
  readonly seed: number | undefined;
  readonly promptLogprobs: number | undefined;
  /** Tokens that an earlier engine has generated; fewer than `maxTokens`. */
  readonly resumed: number;
  /** Native call during which it is submitted. */
  readonly atCall: number;
  /** Native calls after which it is cancelled; undefined: never. */
  readonly cancelAfter: number | undefined;
  readonly owner: string;
  readonly priority: PriorityClass;
  /** Native calls after which it is paused, and so many later goes on; undefined: never. */
  readonly pauseAfter: number | undefined;
  readonly adapters: readonly AdapterUse[];
}

const ADAPTERS = [{ fingerprint: "first" }, { fingerprint: "second" }];
const adapterKey = (uses: readonly AdapterUse[]): string | undefined => adapterSet(uses, ADAPTERS)?.key;

const plannedRequest: fc.Arbitrary<PlannedRequest> = fc
  .record({
    prompt: fc
      .tuple(fc.integer({ min: 1, max: 40 }), fc.integer({ min: 0, max: 2 }))
      .map(([length, family]) => prompt(length, family * 30)),
    maxTokens: fc.integer({ min: 0, max: 50 }),
    resumedShare: fc.option(fc.double({ min: 0, max: 0.999, noNaN: true }), { nil: 0 }),
    seed: fc.option(fc.nat(1000), { nil: undefined }),
    promptLogprobs: fc.option(fc.nat(3), { nil: undefined, freq: 2 }),
    atCall: fc.nat(30),
    cancelAfter: fc.option(fc.nat(10), { nil: undefined, freq: 3 }),
    owner: fc.constantFrom("a", "b"),
    priority: fc.constantFrom(PriorityClass.high, PriorityClass.normal, PriorityClass.background),
    pauseAfter: fc.option(fc.integer({ min: 1, max: 6 }), { nil: undefined, freq: 2 }),
    adapters: fc.constantFrom<readonly AdapterUse[]>(
      [],
      [{ adapter: 0, scale: 0 }],
      [{ adapter: 0, scale: 1 }],
      [
        { adapter: 1, scale: -0.5 },
        { adapter: 0, scale: 1 },
      ],
    ),
  })
  .map(({ resumedShare, ...request }) => ({
    ...request,
    resumed: Math.floor(resumedShare * request.maxTokens),
  }));

const shape = fc.record({
  slots: fc.integer({ min: 1, max: 5 }),
  prefillChunk: fc.integer({ min: 1, max: 16 }),
  itlTargetMs: fc.constantFrom(0.0001, 1000),
  deterministic: fc.boolean(),
  canRewind: fc.boolean(),
  drawsInOrder: fc.boolean(),
  joinedCells: fc.boolean(),
  gatherMs: fc.constantFrom(0, 20),
  // The last tokens decide, so that outputs repeat themselves and guesses come true.
  memory: fc.constantFrom(1, 2, 1000),
  draft: fc.option(fc.record({ mistakes: fc.constantFrom(0, 0.3), endChance: fc.constantFrom(0, 0.1) }), {
    freq: 8,
  }),
});

function paramsOf({ maxTokens, seed }: PlannedRequest): GenerationParams {
  const sampling = { ...GREEDY.sampling, ...(seed === undefined ? {} : { temperature: 1, seed }) };
  return { ...GREEDY, maxTokens, sampling };
}

function truthOf({ prompt: tokens, maxTokens, seed, adapters }: PlannedRequest, memory: number): number[] {
  return fakeContinuation(tokens, maxTokens, { seed, memory, adapters: adapterKey(adapters) });
}

test("every request gets exactly the output it would get alone, whoever else comes and goes", async () => {
  let modelGuesses = 0;
  await fc.assert(
    fc.asyncProperty(
      shape,
      fc.array(plannedRequest, { minLength: 1, maxLength: 12 }),
      async (sizes, requests) => {
        let calls = 0;
        let engine: Awaited<ReturnType<typeof fakeEngine>> | undefined = undefined;
        const act = (): void => {
          requests.forEach((request, i) => {
            if (request.atCall === calls)
              engine?.send({
                ...submitCommand(`r${i}`, request.prompt, paramsOf(request), request.promptLogprobs),
                resume: truthOf(request, sizes.memory).slice(0, request.resumed),
                owner: request.owner,
                priority: request.priority,
                adapters: request.adapters,
              });
            const pauseAt = request.atCall + (request.pauseAfter ?? Infinity);
            if (calls === pauseAt || calls === 2 * pauseAt)
              engine?.send({ type: "control", id: `r${i}`, change: { paused: calls === pauseAt } });
            if (request.cancelAfter !== undefined && request.atCall + request.cancelAfter === calls)
              engine?.send({ type: "cancel", id: `r${i}` });
          });
          calls += 1;
        };
        const { draft, deterministic, canRewind, gatherMs, ...rest } = sizes;
        engine = await fakeEngine(
          // So slow that whatever a draft model really takes is nothing to it.
          {
            ...rest,
            adapters: ADAPTERS,
            canRewind,
            slowness: draft === null ? 1 : 1000,
            onRun: () => engine && act(),
          },
          { deterministic, gatherMs },
          draft !== null && canRewind && !deterministic
            ? { ...draft, slowness: 1, onRun: () => undefined }
            : undefined,
        );
        calls = 0;
        // The fake runs a call only when there is work, so time passes here where it is idle.
        for (let idle = 0; idle <= 41; idle++) {
          const seen = calls;
          act();
          await new Promise((resolve) => setImmediate(resolve));
          if (calls === seen) act();
        }
        await engine.drained();
        requests.forEach((request, i) => {
          const truth = truthOf(request, sizes.memory).slice(request.resumed);
          const tokens = engine?.tokens(`r${i}`) ?? [];
          expect(tokens).toEqual(truth.slice(0, tokens.length));
          const finishes = engine?.outputs(`r${i}`).filter((output) => output.finish !== undefined) ?? [];
          const { promptLogprobs } = engine?.outputs(`r${i}`)[0]?.start ?? {};
          if (promptLogprobs !== undefined) {
            expect(request.prompt.slice(1).map((_, at) => promptLogprobsAt(promptLogprobs, at + 1))).toEqual(
              fakePromptLogprobs(
                request.prompt,
                request.promptLogprobs ?? 0,
                sizes.memory,
                adapterKey(request.adapters),
              ),
            );
          }
          if (request.cancelAfter === undefined) {
            const wanted = request.promptLogprobs !== undefined && request.resumed === 0;
            expect(promptLogprobs !== undefined).toBe(wanted);
            expect(tokens).toEqual(truth);
            expect(finishes.map((output) => output.finish)).toEqual([
              { reason: "length", stopToken: undefined },
            ]);
          } else expect(finishes.length).toBeLessThanOrEqual(1);
        });
        expect(engine.events.filter((event) => event.type === "failed")).toEqual([]);
        const stats = await engine.stats();
        expect([stats.running, stats.queued, engine.backend.openSamplers]).toEqual([0, 0, 0]);
        // It refuses cells that leave a gap, and is not used any more then.
        expect(stats.drafting).toBe(engine.draft === undefined ? undefined : true);
        for (const event of engine.events)
          if (event.type === "step") modelGuesses += event.report.modelGuessesRight ?? 0;
        stats.slots.forEach((slot) => expect(slot.tokens).toBe(engine?.backend.cellCount(slot.id)));
        expect(traceFaults(traceEvents(await engine.timeline(100_000)))).toEqual([]);
        await engine.stop();
      },
    ),
    { numRuns: 150 },
  );
  expect(modelGuesses).toBeGreaterThan(0);
});

describe("one request", () => {
  test("yields its tokens one by one, with start on the first and finish on the last", async () => {
    const engine = await fakeEngine();
    engine.send(submitCommand("a", prompt(20), { maxTokens: 3 }));
    await engine.drained();
    expect(engine.outputs("a").map((o) => [o.tokens.length, o.start !== undefined, o.finish])).toEqual([
      [1, true, undefined],
      [1, false, undefined],
      [1, false, { reason: "length", stopToken: undefined }],
    ]);
    expect(engine.events.find((event) => event.type === "accepted")).toEqual({
      type: "accepted",
      id: "a",
      promptTokens: prompt(20),
      queuePosition: 0,
      allowance: { requests: 1004, requestsLeft: 1003, requestsResetMs: expect.any(Number) },
    });
  });

  test("is told how far its prompt is when it asks, and nobody else is", async () => {
    const engine = await fakeEngine({ prefillChunk: 8 });
    engine.send({ ...submitCommand("a", prompt(30), { maxTokens: 1 }), reportsPrefill: true });
    engine.send(submitCommand("b", prompt(30, 40), { maxTokens: 1 }));
    await engine.drained();
    const told = engine.outputs("a").map(({ prefill, tokens }) => [prefill?.computedTokens, tokens.length]);
    // The last token of a prompt is computed with the first of the answer.
    expect(told).toEqual([
      [0, 0],
      [8, 0],
      [16, 0],
      [24, 0],
      [undefined, 1],
    ]);
    expect(engine.outputs("b")).toHaveLength(1);
    const times = engine.outputs("a").flatMap(({ prefill }) => prefill?.ms ?? []);
    expect(times[0]).toBe(0);
    expect(times).toEqual(times.toSorted((one, other) => one - other));
  });

  test("is told of cached tokens with the first report, and of no progress once it has a token", async () => {
    const engine = await fakeEngine({ prefillChunk: 8, slots: 1 });
    engine.send(submitCommand("a", prompt(30), { maxTokens: 1 }));
    const asked = { reportsPrefill: true };
    engine.send({ ...submitCommand("b", prompt(30), { maxTokens: 1 }), ...asked });
    engine.send({ ...submitCommand("c", prompt(30, 40), { maxTokens: 9 }), ...asked, resume: [5] });
    await engine.drained();
    expect(engine.outputs("b").map(({ prefill }) => prefill)).toEqual([
      { cachedTokens: 29, computedTokens: 29, ms: 0 },
      undefined,
    ]);
    expect(engine.outputs("c").filter(({ prefill }) => prefill !== undefined)).toEqual([]);
  });

  test("ends with a stop token, which is the last of its tokens", async () => {
    const engine = await fakeEngine();
    const truth = fakeOutput(prompt(5), 8);
    const stop = truth[4] ?? -1;
    engine.send(submitCommand("a", prompt(5), { maxTokens: 8, stopTokenIds: [stop] }));
    await engine.drained();
    const firstStop = truth.indexOf(stop);
    expect(engine.tokens("a")).toEqual(truth.slice(0, firstStop + 1));
    expect(engine.outputs("a").at(-1)?.finish).toEqual({ reason: "stop", stopToken: stop });
  });

  test("that is resumed says only what is new, and no start", async () => {
    const engine = await fakeEngine();
    const truth = fakeOutput(prompt(20), 6);
    engine.send({ ...submitCommand("a", prompt(20), { maxTokens: 6 }), resume: truth.slice(0, 4) });
    await engine.drained();
    expect(engine.outputs("a").map((o) => [...o.tokens, o.start, o.finish])).toEqual([
      [truth[4], undefined, undefined],
      [truth[5], undefined, { reason: "length", stopToken: undefined }],
    ]);
  });

  test("runs to the end of its slot when no limit is given", async () => {
    const engine = await fakeEngine({ contextTokens: 30 });
    engine.send(submitCommand("a", prompt(20), { maxTokens: undefined }));
    await engine.drained();
    expect(engine.tokens("a")).toEqual(fakeOutput(prompt(20), 10));
    expect(engine.outputs("a").at(-1)?.finish?.reason).toBe("length");
  });
});

describe("log probabilities of the prompt", () => {
  test("come with the first output, for every token but the first, whatever is cached", async () => {
    const engine = await fakeEngine({ prefillChunk: 4, slots: 1 });
    engine.send(submitCommand("plain", prompt(11), { maxTokens: 2 }));
    engine.send(submitCommand("asked", prompt(11), { maxTokens: 2 }, 2));
    await engine.drained();
    const { start } = engine.outputs("asked")[0] ?? {};
    if (start?.promptLogprobs === undefined) throw new Error("no log probabilities");
    expect(start.cachedTokens).toBe(0);
    const { promptLogprobs } = start;
    expect(prompt(11).map((_, i) => promptLogprobsAt(promptLogprobs, i))).toEqual([
      undefined,
      ...fakePromptLogprobs(prompt(11), 2),
    ]);
    expect(engine.outputs("plain")[0]?.start?.promptLogprobs).toBeUndefined();
    expect(engine.outputs("asked")[1]?.start).toBeUndefined();
  });

  test.each([1, 20])("a prompt of %i tokens alone: no tokens, and `length`", async (length) => {
    const engine = await fakeEngine();
    engine.send(submitCommand("a", prompt(length), { maxTokens: 0 }, 0));
    await engine.drained();
    const outputs = engine.outputs("a");
    expect(outputs).toMatchObject([{ tokens: [], finish: { reason: "length", stopToken: undefined } }]);
    expect(outputs[0]?.start?.promptLogprobs?.logprobs).toHaveLength(length);
    expect(engine.backend.openSamplers).toBe(0);
  });

  test.each([-1, 21, 1.5])("%s alternatives are refused", async (top) => {
    const engine = await fakeEngine();
    engine.send(submitCommand("a", prompt(3), {}, top));
    await engine.drained();
    expect(engine.events).toContainEqual(
      expect.objectContaining({ type: "failed", code: "invalid_request" }),
    );
    expect(engine.backend.openSamplers).toBe(0);
  });
});

describe("failures", () => {
  test("a failing call fails the one request that cannot be computed, and the others go on unharmed", async () => {
    const engine = await fakeEngine({
      onRun: (entries) => {
        if (entries.some((entry) => entry.tokens.includes(89))) throw new Error("bad token");
      },
    });
    for (const first of [0, 30])
      engine.send(submitCommand(`ok${first}`, prompt(12, first), { maxTokens: 6 }));
    // Its last prompt token is fed beside the decodes of the others.
    engine.send(submitCommand("bad", [...prompt(11, 60), 89], { maxTokens: 6 }));
    await engine.drained();
    for (const first of [0, 30])
      expect(engine.tokens(`ok${first}`)).toEqual(fakeOutput(prompt(12, first), 6));
    expect(engine.events.filter((event) => event.type === "failed")).toEqual([
      { type: "failed", id: "bad", code: "internal", message: "bad token", details: undefined },
    ]);
    const stats = await engine.stats();
    stats.slots.forEach((slot) => expect(slot.tokens).toBe(engine.backend.cellCount(slot.id)));
  });

  test.each([
    ["an empty prompt", [], {}, "empty_prompt", "The prompt has no tokens."],
    ["a token outside the vocabulary", [5, 999], {}, "invalid_request", "Token id 999 is not in 0 to 257."],
    [
      "a prompt that fills the slot",
      prompt(128),
      {},
      "context_exceeded",
      "The prompt has 128 tokens, a slot holds 128, and at least one is needed for the output.",
    ],
  ] as const)("%s is refused by name", async (_name, tokens, params, code, message) => {
    const engine = await fakeEngine();
    engine.send(submitCommand("a", tokens, params));
    expect(engine.events.at(-1)).toMatchObject({ type: "failed", id: "a", code, message });
    expect(engine.backend.openSamplers).toBe(0);
  });

  test("a prompt may be as long as the operator allows, and no longer", async () => {
    const engine = await fakeEngine({}, { maxPromptTokens: 20 });
    engine.send(submitCommand("a", prompt(20), { maxTokens: 3 }));
    engine.send(submitCommand("b", prompt(21), { maxTokens: 3 }));
    expect(engine.events.at(-1)).toMatchObject({
      type: "failed",
      id: "b",
      code: "prompt_too_long",
      details: { promptTokens: 21, maxPromptTokens: 20 },
    });
    await engine.drained();
    expect(engine.tokens("a")).toHaveLength(3);
  });

  test("a draining engine finishes what it has and refuses what comes", async () => {
    const engine = await fakeEngine();
    engine.send(submitCommand("a", prompt(20), { maxTokens: 5 }));
    const drained = engine.drained();
    engine.send(submitCommand("b", prompt(20)));
    expect(engine.events.at(-1)).toMatchObject({ type: "failed", id: "b", code: "draining" });
    await drained;
    expect(engine.tokens("a")).toHaveLength(5);
  });
});

test("a cancel during prefill frees the slot after the call in flight and emits nothing", async () => {
  let calls = 0;
  let engine: Awaited<ReturnType<typeof fakeEngine>> | undefined = undefined;
  engine = await fakeEngine({
    onRun: () => {
      calls += 1;
      if (calls === 2) engine?.send({ type: "cancel", id: "a" });
    },
  });
  calls = 0;
  engine.send(submitCommand("a", prompt(60)));
  await engine.drained();
  expect(calls).toBe(2);
  expect(engine.outputs("a")).toEqual([]);
  const stats = await engine.stats();
  expect(stats.slots.map((slot) => [slot.state, slot.tokens])[0]).toEqual(["resident", 16]);
});

test("a token drawn while its request was being cancelled is not emitted", async () => {
  let engine: Awaited<ReturnType<typeof fakeEngine>> | undefined = undefined;
  let decodes = 0;
  engine = await fakeEngine({
    onRun: (entries) => {
      if (entries[0]?.sample === true && engine !== undefined && ++decodes === 3)
        engine.send({ type: "cancel", id: "a" });
    },
  });
  engine.send(submitCommand("a", prompt(1), { maxTokens: 20 }));
  await engine.drained();
  expect([decodes, engine.tokens("a").length]).toEqual([3, 2]);
});

test("one prompt asked for many times at once is computed once, with fewer slots than requests too", async () => {
  const engine = await fakeEngine({ slots: 3 }, { speculate: false });
  for (let i = 0; i < 5; i++) {
    const sampling = { ...GREEDY.sampling, temperature: 1, seed: i };
    engine.send(submitCommand(`r${i}`, prompt(40), { maxTokens: 4, sampling }));
  }
  await engine.drained();
  const prefilled = engine.backend.calls.flat().filter(({ tokens }) => tokens > 1);
  expect(prefilled.reduce((sum, { tokens }) => sum + tokens, 0)).toBe(39);
  for (let i = 0; i < 5; i++) expect(engine.tokens(`r${i}`)).toEqual(fakeOutput(prompt(40), 4, i));
  expect(engine.outputs("r4")[0]?.start?.cachedTokens).toBe(39);
});

test("an output that repeats itself comes several tokens a step, and is what it is one by one", async () => {
  const engine = await fakeEngine({ memory: 1, slots: 2 });
  for (const [i, first] of [0, 40].entries())
    engine.send(submitCommand(`r${i}`, prompt(12, first), { maxTokens: 60, topLogprobs: 1 }));
  await engine.drained();
  for (const [i, first] of [0, 40].entries()) {
    const outputs = engine.outputs(`r${i}`);
    expect(engine.tokens(`r${i}`)).toEqual(fakeOutput(prompt(12, first), 60, undefined, 1));
    expect(outputs.every(({ tokens, logprobs }) => logprobs?.length === tokens.length)).toBe(true);
    expect(outputs.length).toBeLessThan(30);
    const guessed = outputs.filter((output) => (output.guessed ?? 0) > 0);
    expect(guessed.every(({ tokens, guessed: count = 0 }) => tokens.length <= count + 1)).toBe(true);
  }
  const stats = await engine.stats();
  stats.slots.forEach((slot) => expect(slot.tokens).toBe(engine.backend.cellCount(slot.id)));
});

test("a step over adjacent busy slots is one device pass", async () => {
  const engine = await fakeEngine({ slots: 4 }, { speculate: false });
  for (const id of ["a", "b", "c", "d"]) engine.send(submitCommand(id, [id.charCodeAt(0)], { maxTokens: 4 }));
  await engine.drained();
  expect(engine.backend.calls).toEqual(
    Array.from({ length: 4 }, () => [0, 1, 2, 3].map((slot) => ({ slot, tokens: 1 }))),
  );
  expect((await engine.stats()).passes).toBe(4);
});

test("tokens of a step travel in one message", async () => {
  const engine = await fakeEngine({ slots: 4 }, { speculate: false });
  for (const id of ["a", "b", "c", "d"]) engine.send(submitCommand(id, [id.charCodeAt(0)], { maxTokens: 4 }));
  await engine.drained();
  const steps = engine.events.filter((event) => event.type === "step" && event.outputs.length > 0);
  expect(steps).toHaveLength(4);
});

describe("grammars", () => {
  const FAKE_GRAMMAR = "root ::= vowel";
  const allowedTokens = (grammar: string, output: readonly number[]): readonly number[] | undefined => {
    if (grammar !== FAKE_GRAMMAR) throw new EngineError("grammar_rejected", "Not a grammar.");
    if (output.length === 3) return [FAKE_END];
    return [...Buffer.from("aeiou")];
  };

  test("constrain their request alone, and end it where they are complete", async () => {
    const engine = await fakeEngine({ allowedTokens });
    engine.send(submitCommand("free", prompt(20)));
    engine.send(submitCommand("guided", prompt(20), { grammar: FAKE_GRAMMAR }));
    await engine.drained();
    expect(engine.tokens("free")).toEqual(fakeOutput(prompt(20), 8));
    const tokens = engine.tokens("guided");
    expect(String.fromCharCode(...tokens.slice(0, 3))).toMatch(/^[aeiou]{3}$/);
    expect(engine.outputs("guided").at(-1)?.finish).toEqual({ reason: "stop", stopToken: FAKE_END });
    expect(engine.backend.openSamplers).toBe(0);
  });

  test("one that is refused fails at submit, one that leaves nothing fails when it does; others go on", async () => {
    const engine = await fakeEngine({
      allowedTokens: (grammar, output) => (grammar === "dead end" && output.length === 2 ? [] : undefined),
    });
    const refusing = await fakeEngine({ allowedTokens });
    refusing.send(submitCommand("bad", prompt(4), { grammar: "?" }));
    engine.send(submitCommand("other", prompt(20)));
    engine.send(submitCommand("stuck", prompt(20), { grammar: "dead end" }));
    await Promise.all([engine.drained(), refusing.drained()]);
    expect(refusing.events.filter((event) => event.type === "failed")).toMatchObject([
      { id: "bad", code: "grammar_rejected" },
    ]);
    expect(engine.tokens("stuck")).toEqual(fakeOutput(prompt(20), 2));
    expect(engine.events.filter((event) => event.type === "failed")).toMatchObject([
      { id: "stuck", code: "no_token_allowed" },
    ]);
    expect(engine.tokens("other")).toEqual(fakeOutput(prompt(20), 8));
    expect([engine.backend.openSamplers, refusing.backend.openSamplers]).toEqual([0, 0]);
  });

  test("one that leaves not even a first token fails before it is accepted", async () => {
    const engine = await fakeEngine({ allowedTokens: () => [] });
    engine.send(submitCommand("stuck", prompt(4), { grammar: "nothing" }));
    await engine.drained();
    expect(engine.events.filter((event) => "id" in event)).toMatchObject([
      { type: "failed", id: "stuck", code: "no_token_allowed" },
    ]);
    expect(engine.backend.openSamplers).toBe(0);
  });
});

test("gaps stay open where that is asked for, and prefill gets the share that is asked for", async () => {
  const engine = await fakeEngine(
    { slots: 3 },
    {
      speculate: false,
      plugGaps: false,
      minPrefillShare: 0.7,
      prefixFirst: false,
      keepSlots: false,
      prefillOrder: "arrival",
    },
  );
  const { config } = await engine.timeline();
  await engine.stop();
  expect(config).toMatchObject({
    plugGaps: false,
    minPrefillShare: 0.7,
    prefixFirst: false,
    keepSlots: false,
    prefillOrder: "arrival",
  });
});
