/** An engine with a draft model: the same outputs in fewer steps, when it is asked and when not, and one that fails. */
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { EngineError } from "../../engine/errors.ts";
import { FakeBackend, fakeOutput } from "../../engine/fake/backend.ts";
import { FAKE_END } from "../../engine/fake/facts.ts";
import { createEngine } from "../../engine/engine.ts";
import { vocabularyDifference } from "../../engine/load-draft.ts";
import { GREEDY, LOAD_OPTIONS, fakeEngine, submitCommand } from "../support/engine.ts";
import type { FakeOptions } from "../../engine/fake/backend.ts";
import type { EngineEvent, LoadOptions } from "../../engine/protocol.ts";
import type { StepReport } from "../../engine/step-report.ts";
import type { FakeEngine } from "../support/engine.ts";

/** A pass takes ten seconds, so that whatever a draft model of the usual cost really takes is nothing to it. */
const SLOW: FakeOptions = { slowness: 1000, contextTokens: 512, batchTokens: 64, itlTargetMs: 1e6 };
const CHEAP: FakeOptions = { slowness: 1 };

const prompt = (length: number, first = 0): number[] =>
  Array.from({ length }, (_, i) => (first + i * 7) % 251);

type Counts = Pick<Required<StepReport>, "modelGuessesRight" | "modelGuessesWrong" | "guessesRight">;

function countsOf(engine: FakeEngine): Counts {
  const sum = (name: keyof Counts): number =>
    engine.events.reduce(
      (total, event) => total + (event.type === "step" ? (event.report[name] ?? 0) : 0),
      0,
    );
  return {
    modelGuessesRight: sum("modelGuessesRight"),
    modelGuessesWrong: sum("modelGuessesWrong"),
    guessesRight: sum("guessesRight"),
  };
}

/** Calls of the draft model since it was loaded, as slots and numbers of tokens. */
const shapesOf = ({ draft }: FakeEngine): string[] =>
  (draft?.calls ?? []).map((call) => call.map(({ slot, tokens }) => `${slot}x${tokens}`).join(" "));

test("one that is right brings several tokens a step, for all slots in the same calls", async () => {
  const engine = await fakeEngine(SLOW, {}, CHEAP);
  const lengths = [12, 30, 5];
  for (const [i, length] of lengths.entries())
    engine.send(submitCommand(`r${i}`, prompt(length, i * 50), { maxTokens: 200, topLogprobs: 1 }));
  await engine.drained();
  for (const [i, length] of lengths.entries()) {
    const outputs = engine.outputs(`r${i}`);
    expect(engine.tokens(`r${i}`)).toEqual(fakeOutput(prompt(length, i * 50), 200));
    expect(outputs.every(({ tokens, logprobs }) => logprobs?.length === tokens.length)).toBe(true);
    // Nine tokens a step, once it has caught up with the prompts.
    expect(outputs.length).toBeLessThan(45);
    const right = outputs.reduce(
      (sum, { guessed = 0, tokens }) => sum + Math.min(guessed, tokens.length - 1),
      0,
    );
    expect(right).toBe(200 - outputs.length);
  }
  expect(countsOf(engine).modelGuessesRight).toBe(countsOf(engine).guessesRight);
  expect(shapesOf(engine)).toContain("0x1 1x1 2x1");
  expect((await engine.stats()).drafting).toBe(true);
  await engine.stop();
  expect([engine.draft?.closed, engine.draft?.openSamplers]).toEqual([true, 0]);
});

const asked = fc.record({
  length: fc.integer({ min: 1, max: 60 }),
  family: fc.nat(2),
  maxTokens: fc.integer({ min: 1, max: 80 }),
  seed: fc.option(fc.nat(1000), { nil: undefined, freq: 3 }),
  resumedShare: fc.option(fc.double({ min: 0, max: 0.99, noNaN: true }), { nil: 0 }),
  stopTokens: fc.array(fc.integer({ min: 97, max: 122 }), { maxLength: 1 }),
  atCall: fc.nat(20),
  cancelledAtCall: fc.option(fc.nat(60), { nil: undefined, freq: 4 }),
});

test("outputs are those without it, however wrong it is, whoever comes and goes", async () => {
  let guesses = 0;
  await fc.assert(
    fc.asyncProperty(
      fc.record({
        slots: fc.integer({ min: 1, max: 5 }),
        drawsInOrder: fc.boolean(),
        prefillChunk: fc.constantFrom(4, 16),
      }),
      fc.record({ mistakes: fc.constantFrom(0, 0.1, 0.5), endChance: fc.constantFrom(0, 0.2) }),
      fc.array(asked, { minLength: 1, maxLength: 8 }),
      async (sizes, draft, requests) => {
        let calls = 0;
        let engine: FakeEngine | undefined = undefined;
        const outputOf = ({
          length,
          family,
          maxTokens,
          seed,
          stopTokens,
        }: (typeof requests)[number]): number[] => {
          const whole = fakeOutput(prompt(length, family), maxTokens, seed);
          const stop = whole.findIndex((token) => stopTokens.includes(token));
          return stop < 0 ? whole : whole.slice(0, stop + 1);
        };
        const resumedOf = (request: (typeof requests)[number]): number =>
          Math.floor(request.resumedShare * outputOf(request).length);
        const act = (): void => {
          requests.forEach((request, i) => {
            const { length, family, maxTokens, seed, stopTokens, atCall, cancelledAtCall } = request;
            const sampling = { ...GREEDY.sampling, ...(seed === undefined ? {} : { temperature: 1, seed }) };
            const params = { maxTokens, sampling, stopTokenIds: stopTokens };
            if (atCall === calls)
              engine?.send({
                ...submitCommand(`r${i}`, prompt(length, family), params),
                resume: outputOf(request).slice(0, resumedOf(request)),
              });
            if (cancelledAtCall === calls) engine?.send({ type: "cancel", id: `r${i}` });
          });
          calls += 1;
        };
        const onRun = (): void => {
          if (engine !== undefined) act();
        };
        engine = await fakeEngine({ ...SLOW, ...sizes, onRun }, {}, { ...CHEAP, ...draft });
        for (let idle = 0; idle <= 21; idle++) {
          act();
          await new Promise((resolve) => setImmediate(resolve));
        }
        await engine.drained();
        requests.forEach((request, i) => {
          const truth = outputOf(request).slice(resumedOf(request));
          const tokens = engine?.tokens(`r${i}`) ?? [];
          expect(tokens).toEqual(
            request.cancelledAtCall === undefined ? truth : truth.slice(0, tokens.length),
          );
        });
        const { drafting, slots } = await engine.stats();
        // A fake refuses a call that would leave a gap; the draft model would be given up.
        expect(drafting).toBe(true);
        slots.forEach(({ id, tokens }) => expect(tokens).toBe(engine?.backend.cellCount(id)));
        guesses += countsOf(engine).modelGuessesRight;
        await engine.stop();
      },
    ),
    { numRuns: 100 },
  );
  expect(guesses).toBeGreaterThan(200);
});

describe("is not asked", () => {
  test("when its calls cost as much as the model's own", async () => {
    const engine = await fakeEngine({ ...SLOW, slowness: 1 }, {}, { slowness: 1e6 });
    engine.send(submitCommand("a", prompt(9), { maxTokens: 300 }));
    await engine.drained();
    expect(engine.tokens("a")).toEqual(fakeOutput(prompt(9), 300));
    expect(shapesOf(engine)).toEqual([]);
  });

  test("after a few steps in which it was always wrong", async () => {
    const engine = await fakeEngine(SLOW, {}, { slowness: 500, mistakes: 1 });
    engine.send(submitCommand("a", prompt(9), { maxTokens: 400 }));
    await engine.drained();
    expect(engine.tokens("a")).toEqual(fakeOutput(prompt(9), 400));
    expect(countsOf(engine).modelGuessesRight).toBe(0);
    const tries = engine.outputs("a").filter(({ guessed = 0 }) => guessed > 0).length;
    expect(tries).toBeGreaterThan(0);
    expect(tries).toBeLessThan(40);
  });

  test("for a text that repeats itself", async () => {
    const engine = await fakeEngine({ ...SLOW, memory: 1 }, {}, { ...CHEAP, mistakes: 0.2 });
    engine.send(submitCommand("a", prompt(9), { maxTokens: 400 }));
    await engine.drained();
    expect(engine.tokens("a")).toEqual(fakeOutput(prompt(9), 400, undefined, 1));
    const { guessesRight, modelGuessesRight } = countsOf(engine);
    expect(guessesRight).toBeGreaterThan(300);
    expect(modelGuessesRight).toBeLessThan(60);
  });

  test("for a long prompt with a short answer, which would not pay for catching up", async () => {
    const engine = await fakeEngine({ ...SLOW, slowness: 3 }, {}, { slowness: 1 });
    engine.send(submitCommand("a", prompt(400), { maxTokens: 4 }));
    await engine.drained();
    expect(shapesOf(engine)).toEqual([]);
  });
});

test("one that fails is given up, and nobody fails with it", async () => {
  const engine = await fakeEngine(SLOW, {}, CHEAP);
  let calls = 0;
  const failing = await fakeEngine(
    SLOW,
    {},
    {
      ...CHEAP,
      onRun: () => {
        calls += 1;
        if (calls === 12) throw new EngineError("decode_failed", "Out of order.");
      },
    },
  );
  for (const each of [engine, failing]) {
    for (const i of [0, 1]) each.send(submitCommand(`r${i}`, prompt(10, i), { maxTokens: 60 }));
    await each.drained();
    for (const i of [0, 1]) expect(each.tokens(`r${i}`)).toEqual(fakeOutput(prompt(10, i), 60));
  }
  expect([(await engine.stats()).drafting, (await failing.stats()).drafting]).toEqual([true, false]);
  expect(calls).toBe(12);
  // Its memory is given back at once.
  expect([failing.draft?.closed, failing.draft?.openSamplers]).toEqual([true, 0]);
  await failing.stop();
  expect([failing.draft?.closed, failing.draft?.openSamplers, failing.backend.openSamplers]).toEqual([
    true,
    0,
    0,
  ]);
});

test("a copied prefix, and a slot that is used again, are followed too", async () => {
  const engine = await fakeEngine({ ...SLOW, slots: 2 }, {}, CHEAP);
  for (let round = 0; round < 3; round++) {
    for (const i of [0, 1, 2])
      engine.send(
        submitCommand(`${round}${i}`, [...prompt(40), round, i], { maxTokens: 50, reusePrefix: i !== 2 }),
      );
    await engine.stats();
    while ((await engine.stats()).running > 0) await new Promise((resolve) => setImmediate(resolve));
  }
  for (const round of [0, 1, 2])
    for (const i of [0, 1, 2])
      expect(engine.tokens(`${round}${i}`)).toEqual(fakeOutput([...prompt(40), round, i], 50));
  expect((await engine.stats()).drafting).toBe(true);
  expect(countsOf(engine).modelGuessesRight).toBeGreaterThan(250);
});

describe("a pair that cannot work together is refused at start", () => {
  /** What a load fails with. */
  async function failureOf(
    target: FakeBackend,
    draft: FakeBackend,
    load: Partial<LoadOptions> = {},
  ): Promise<Extract<EngineEvent, { type: "load_failed" }>> {
    return new Promise((resolve, reject) => {
      const engine = createEngine(
        ({ modelPath }) => Promise.resolve(modelPath === "models/small.gguf" ? draft : target),
        (event) => {
          if (event.type === "load_failed") resolve(event);
          if (event.type === "loaded") reject(new Error("It was loaded."));
        },
      );
      engine.receive({
        type: "load",
        options: { ...LOAD_OPTIONS, draftModelPath: "models/small.gguf", ...load },
      });
    });
  }

  test.each<[string, FakeOptions, FakeOptions, Partial<LoadOptions>, string]>([
    ["speculation is off", {}, {}, { speculate: false }, "Add --speculation on to use it all the same"],
    ["outputs must be deterministic", {}, {}, { deterministic: true }, "would never be used"],
    ["the model cannot rewind", { canRewind: false }, {}, {}, "cannot be taken back from fake"],
    ["the draft model cannot rewind", {}, { canRewind: false }, {}, "small.gguf cannot take back"],
    [
      "the draft model has fewer positions",
      { contextTokens: 512 },
      { contextTokens: 64 },
      {},
      "Add --context 64",
    ],
  ])("when %s", async (_case, target, draft, load, message) => {
    const failure = await failureOf(new FakeBackend(target), new FakeBackend(draft), load);
    expect([failure.code, failure.message]).toEqual(["draft_unfit", expect.stringContaining(message)]);
  });

  test("when the vocabularies differ", async () => {
    const [target, draft] = [new FakeBackend(), new FakeBackend()];
    draft.facts.tokenBytes[65] = 66;
    const failure = await failureOf(target, draft);
    expect([failure.code, failure.message]).toEqual([
      "draft_unfit",
      'The draft model small.gguf has another vocabulary than fake: token 65 is "B", not "A". Choose a smaller model of the same family.',
    ]);
    expect([draft.closed, target.closed]).toEqual([true, true]);
  });

  test("but not for a few more tokens at the end of one", () => {
    const { vocabSize, tokenBytes, tokenOffsets } = new FakeBackend().facts;
    const longer = (by: number) => ({
      vocabSize: vocabSize + by,
      tokenBytes,
      tokenOffsets: Uint32Array.of(...tokenOffsets, ...Array.from({ length: by }, () => tokenBytes.length)),
    });
    expect(vocabularyDifference(longer(0), longer(128))).toBeUndefined();
    expect(vocabularyDifference(longer(128), longer(0))).toBeUndefined();
    expect(vocabularyDifference(longer(129), longer(0))).toBe("387 tokens, not 258");
  });
});

test("nothing is guessed behind the end of a text", async () => {
  const engine = await fakeEngine(SLOW, {}, { ...CHEAP, endChance: 1 });
  engine.send(submitCommand("a", prompt(9), { maxTokens: 60, ignoreEos: true }));
  await engine.drained();
  expect(engine.tokens("a")).toEqual(fakeOutput(prompt(9), 60));
  expect(engine.tokens("a")).not.toContain(FAKE_END);
  expect(countsOf(engine)).toEqual({ modelGuessesRight: 0, modelGuessesWrong: 0, guessesRight: 0 });
});
