/**
 * Pocket with its draft model, made to guess in every step, against pocket alone, for every kind of request, several at
 * once: the same bits with quantized weights, and the same tokens with its own F16 ones.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { AdapterUse } from "../../engine/adapters.ts";
import { createEngine } from "../../engine/engine.ts";
import { loadLlamaBackend } from "../../engine/llama/load.ts";
import { LOAD_OPTIONS, submitCommand } from "../support/engine.ts";
import { writeQuantized } from "../support/quantized-gguf.ts";
import type { Engine } from "../../engine/engine.ts";
import type { BackendLoader } from "../../engine/backend.ts";
import type { CostModel } from "../../engine/scheduler/types.ts";
import type { EngineEvent, GenerationParams, LoadOptions, StepOutput } from "../../engine/protocol.ts";

const SLOTS = 6;
const OPTIONS: Omit<LoadOptions, "modelPath"> = {
  ...LOAD_OPTIONS,
  contextTokens: 512,
  slots: SLOTS,
  prefillChunk: 32,
};
const DRAFT = "models/pocket-draft.gguf";
const PIRATE = "models/pocket-pirate-lora.gguf";

/** A pass that takes so many ms, whatever is in it: guesses of a model whose passes cost nothing always pay. */
function flatCost(passMs: number): CostModel {
  return {
    decodePassMs: Array.from({ length: SLOTS + 1 }, (_, width) => (width === 0 ? 0 : passMs)),
    checkPassMs: Array.from({ length: 17 }, () => passMs),
    prefillCallMs: passMs,
    prefillTokenMs: 0,
    copyMs: passMs,
    decodeScale: 1,
    draftScale: 1,
    prefillScale: 1,
  };
}

const eager: BackendLoader = async (options, onProgress) => {
  const backend = await loadLlamaBackend(options, onProgress);
  return Object.assign(backend, { cost: flatCost(options.modelPath === DRAFT ? 0 : 1e4) });
};

class Session {
  readonly outputs = new Map<string, StepOutput[]>();
  readonly guesses = { right: 0, wrong: 0 };
  readonly #engine: Engine;
  #round = 0;
  #settle: (() => void) | undefined;
  #fail: ((error: Error) => void) | undefined;
  readonly #awaited = new Set<string>();
  readonly loaded: Promise<void>;

  constructor(load: BackendLoader, options: Pick<LoadOptions, "modelPath"> & Partial<LoadOptions>) {
    this.loaded = this.#promise();
    this.#engine = createEngine(load, (event) => this.#receive(event));
    this.#engine.receive({ type: "load", options: { ...OPTIONS, ...options } });
  }

  /** All requests at once, beside one that keeps them company to the end: F16 rows are computed otherwise when alone. */
  async ask(
    requests: readonly Asked[],
    resumed: ReadonlyMap<string, readonly number[]> = new Map(),
  ): Promise<void> {
    this.outputs.clear();
    this.#round += 1;
    const id = `company ${this.#round}`;
    const company = { maxTokens: 450, ignoreEos: true };
    const accompanied = this.#promise();
    this.#engine.receive({
      ...submitCommand(id, [], company),
      prompt: [{ text: "1, 2,", special: false }],
    });
    await accompanied;
    const done = this.#promise();
    for (const { id: own, text, params, adapters = [] } of requests) {
      this.#awaited.add(own);
      const resume = resumed.get(own) ?? [];
      const prompt = [{ text, special: false }];
      this.#engine.receive({
        ...submitCommand(own, [], { topLogprobs: 2, reusePrefix: false, ...params }),
        prompt,
        resume,
        adapters,
      });
    }
    await done;
    this.#engine.receive({ type: "cancel", id });
  }

  async stop(): Promise<void> {
    this.#engine.receive({ type: "stop" });
    await this.#engine.stopped;
  }

  #promise(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#settle = resolve;
      this.#fail = reject;
    });
  }

  #receive(event: EngineEvent): void {
    if (event.type === "loaded") this.#settle?.();
    if (event.type === "load_failed" || event.type === "failed") this.#fail?.(new Error(event.message));
    if (event.type !== "step") return;
    this.guesses.right += event.report.modelGuessesRight ?? 0;
    this.guesses.wrong += event.report.modelGuessesWrong ?? 0;
    for (const output of event.outputs) {
      if (output.start !== undefined && output.id.startsWith("company")) this.#settle?.();
      this.outputs.set(output.id, [...(this.outputs.get(output.id) ?? []), output]);
      if (output.finish !== undefined && this.#awaited.delete(output.id) && this.#awaited.size === 0)
        this.#settle?.();
    }
  }
}

interface Asked {
  readonly adapters?: readonly AdapterUse[];
  readonly id: string;
  readonly text: string;
  readonly params: Partial<GenerationParams>;
}

const { sampling } = submitCommand("", []).params;
const seeded = (seed: number, temperature = 1): GenerationParams["sampling"] => ({
  ...sampling,
  temperature,
  seed,
});
const LONG = { maxTokens: 60, ignoreEos: true };

const REQUESTS: readonly Asked[] = [
  { id: "greedy", text: "One, two, three,", params: LONG },
  { id: "story", text: "Once upon a time there was a fox named", params: LONG },
  { id: "one-token", text: "a", params: LONG },
  {
    id: "seeded",
    text: "The capital of France is",
    params: { ...LONG, sampling: { ...seeded(7), topP: 0.9 } },
  },
  { id: "wild", text: "Monday, Tuesday,", params: { ...LONG, sampling: seeded(8, 1.5) } },
  {
    id: "grammar",
    text: "Reply in JSON with name and age: Bob, 42\n",
    params: { ...LONG, grammar: `root ::= "{" ["] [a-z]{1,20} ["] ": " [0-9]{1,9} "}"`, ignoreEos: false },
  },
  {
    id: "biased",
    text: "1, 2, 3, 4,",
    params: {
      ...LONG,
      sampling: {
        ...sampling,
        logitBias: [
          [19, 4],
          [300, -100],
        ],
      },
    },
  },
  {
    id: "penalties",
    text: "red, blue, green, red,",
    params: {
      maxTokens: 60,
      minTokens: 40,
      sampling: { ...seeded(9), frequencyPenalty: 0.6, repeatPenalty: 1.1 },
    },
  },
  { id: "end", text: "The capital of Japan is", params: { maxTokens: 60 } },
  { id: "short", text: "5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17,", params: { maxTokens: 3 } },
];

/** Tokens, log probabilities and the end: everything that a client sees. */
function saidBy(outputs: readonly StepOutput[] = []) {
  return {
    tokens: outputs.flatMap(({ tokens }) => tokens),
    logprobs: outputs.flatMap(({ logprobs }) => logprobs ?? []),
    finish: outputs.at(-1)?.finish,
  };
}

type Said = ReturnType<typeof saidBy>;

/**
 * Compares what both say, and returns whether it is the same. Without `digits` every bit has to be; with them, of
 * computing that differs in its last bits, a draw that falls on the border between two tokens may turn: up to there
 * both are the same, and there they weigh the same alternatives alike.
 */
function compare(id: string, said: Said, expected: Said, digits: number | undefined): boolean {
  if (digits === undefined) {
    expect([id, said]).toEqual([id, expected]);
    return true;
  }
  const turned = said.tokens.findIndex((token, i) => token !== expected.tokens[i]);
  const { tokens, finish } = expected;
  if (turned === -1) expect([id, said.tokens, said.finish]).toEqual([id, tokens, finish]);
  expected.logprobs.slice(0, turned === -1 ? undefined : turned).forEach(({ logprob }, i) => {
    expect(said.logprobs[i]?.logprob).toBeCloseTo(logprob, digits);
  });
  if (turned === -1) return true;
  const likeliest = (of: Said): number => of.logprobs[turned]?.top[0]?.[1] ?? NaN;
  expect(likeliest(said)).toBeCloseTo(likeliest(expected), digits);
  return false;
}

const folder = mkdtempSync(join(tmpdir(), "weft-draft-"));
const QUANTIZED = join(folder, "pocket-q8_0.gguf");
writeQuantized("models/pocket.gguf", QUANTIZED);
afterAll(() => rmSync(folder, { recursive: true }));

describe.each([
  {
    weights: "quantized weights, guessing by default",
    modelPath: QUANTIZED,
    speculate: undefined,
    digits: undefined,
  },
  // Many F16 rows of a slot are computed otherwise than few, by how much depends on the processor.
  { weights: "F16 weights, told to guess", modelPath: "models/pocket.gguf", speculate: true, digits: 1 },
])("$weights", ({ modelPath, speculate, digits }) => {
  let alone: Session;
  let drafted: Session;

  beforeAll(async () => {
    alone = new Session(eager, { modelPath, speculate: false });
    await alone.loaded;
    drafted = new Session(eager, { modelPath, speculate, draftModelPath: DRAFT });
    await drafted.loaded;
  });
  afterAll(async () => {
    await alone.stop();
    await drafted.stop();
  });

  test("every kind of request says the same, in fewer steps", async () => {
    // A stop token that the model is known to say.
    await alone.ask(REQUESTS);
    const stop = saidBy(alone.outputs.get("story")).tokens[30] ?? 0;
    const stopping = {
      id: "stop",
      text: "Once upon a time there was a fox named",
      params: { ...LONG, stopTokenIds: [stop] },
    };
    const requests = [...REQUESTS, stopping];
    await alone.ask(requests);
    await drafted.ask(requests);
    const turned = requests.filter(({ id }) => {
      const expected = saidBy(alone.outputs.get(id));
      return !compare(id, saidBy(drafted.outputs.get(id)), expected, digits);
    });
    expect(turned.length).toBeLessThanOrEqual(2);
    const steps = (session: Session): number =>
      requests.reduce((sum, { id }) => sum + (session.outputs.get(id)?.length ?? 0), 0);
    expect(steps(drafted)).toBeLessThan(0.6 * steps(alone));
    expect(drafted.guesses.right).toBeGreaterThan(steps(drafted));
  });

  test("a request that is resumed goes on the same way", async () => {
    const requests = REQUESTS.filter(({ id }) => id !== "short" && id !== "end");
    await alone.ask(requests);
    const whole = new Map(requests.map(({ id }) => [id, saidBy(alone.outputs.get(id))]));
    let turned = 0;
    for (const share of [0.1, 0.5, 0.9]) {
      const resumed = new Map(
        Array.from(whole, ([id, { tokens }]) => [id, tokens.slice(0, Math.floor(share * tokens.length))]),
      );
      await drafted.ask(requests, resumed);
      for (const { id } of requests) {
        const { tokens, logprobs, finish } = saidBy(alone.outputs.get(id));
        const had = resumed.get(id)?.length ?? 0;
        const rest = { tokens: tokens.slice(had), logprobs: logprobs.slice(had), finish };
        if (!compare(id, saidBy(drafted.outputs.get(id)), rest, digits)) turned += 1;
      }
    }
    expect(turned).toBeLessThanOrEqual(3);
  });
});

test("requests with an adapter are guessed for, too, and say what they say without", async () => {
  const load = { modelPath: "models/pocket.gguf", adapters: [PIRATE] };
  const adapters = [{ adapter: 0, scale: 1 }];
  const requests = ["Who are you?", "Tell me a story.", "What is the capital of France?"].map(
    (content, i) => ({
      id: `pirate ${i}`,
      text: `<|im_start|>user\n${content}<|im_end|>\n<|im_start|>assistant\n`,
      params: { maxTokens: 40, ignoreEos: true },
      adapters,
    }),
  );
  const said: Said[][] = [];
  const guesses: number[] = [];
  for (const draft of [{ speculate: false }, { speculate: true, draftModelPath: DRAFT }]) {
    const session = new Session(eager, { ...load, ...draft });
    await session.loaded;
    await session.ask(requests);
    said.push(requests.map(({ id }) => saidBy(session.outputs.get(id))));
    guesses.push(session.guesses.right);
    await session.stop();
  }
  const [without = [], drafted = []] = said;
  const turned = without.filter(
    (expected, i) => !compare(`pirate ${i}`, drafted[i] ?? saidBy(), expected, 1),
  );
  expect(turned.length).toBeLessThanOrEqual(1);
  expect(guesses[0]).toBe(0);
  expect(guesses[1]).toBeGreaterThan(20);
});
