/** Outputs under a grammar, on a real model: what comes out, what it leaves alone, and what it refuses. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { EngineClient } from "../../engine/client.ts";
import { loadLlamaBackend } from "../../engine/llama/load.ts";
import { forkEngine } from "../../engine/process/fork.ts";
import { TokenTable } from "../../models/text/token-table.ts";
import { GREEDY, LOAD_OPTIONS } from "../support/engine.ts";
import { CHOICE, JSON_OBJECT, TEXT_THEN_DIGIT, hugeGrammar } from "../support/grammars.ts";
import type { Backend, LogitsHandle } from "../../engine/backend.ts";
import type { Finish, GenerationParams, LoadOptions, ModelFacts, PromptPart } from "../../engine/protocol.ts";

const POCKET: LoadOptions = {
  ...LOAD_OPTIONS,
  modelPath: "models/pocket.gguf",
  contextTokens: 512,
  prefillChunk: 32,
  slots: 8,
  // This model is F16: alone it would be computed in another kernel than beside others.
  deterministic: true,
};

let engine: EngineClient;
let facts: ModelFacts;
let table: TokenTable;
let requests = 0;

beforeAll(async () => {
  engine = new EngineClient(
    forkEngine({ entry: new URL("../../dist/engine/process/main.js", import.meta.url) }),
  );
  facts = await engine.load(POCKET);
  table = new TokenTable(facts);
});
afterAll(() => engine.stop());

const chat = (text: string): PromptPart[] => [
  { text: "<|im_start|>", special: true },
  { text: `user\n${text}`, special: false },
  { text: "<|im_end|>", special: true },
  { text: "\n", special: false },
  { text: "<|im_start|>", special: true },
  { text: "assistant\n", special: false },
];

const withSampling = (sampling: Partial<GenerationParams["sampling"]>): GenerationParams["sampling"] => ({
  ...GREEDY.sampling,
  ...sampling,
});

interface Answer {
  readonly text: string;
  readonly tokens: readonly number[];
  readonly reason: string | undefined;
}

async function ask(prompt: string, params: Partial<GenerationParams>): Promise<Answer> {
  const stream = await engine.submit({
    id: `g${requests++}`,
    prompt: chat(prompt),
    addBos: true,
    params: { ...GREEDY, maxTokens: 120, ...params },
    promptLogprobs: undefined,
    owner: "tester",
  });
  const tokens: number[] = [];
  let finish: Finish | undefined;
  for await (const output of stream) {
    tokens.push(...output.tokens);
    finish = output.finish;
  }
  const shown = tokens.filter((token) => token !== finish?.stopToken);
  const text = new TextDecoder().decode(Buffer.concat(shown.map((token) => table.bytes(token))));
  return { text, tokens, reason: finish?.reason };
}

describe("outputs", () => {
  test("a JSON grammar gives JSON from any prompt, greedy or drawn", async () => {
    const prompts = ["Hello", "Count from 1 to 5.", "What is the capital of France?"];
    for (const prompt of prompts) {
      for (const seed of [undefined, 1, 2, 3]) {
        const sampling = withSampling(seed === undefined ? {} : { temperature: 1.2, seed });
        const { text, reason } = await ask(prompt, { grammar: JSON_OBJECT, sampling });
        expect([typeof JSON.parse(text), reason]).toEqual(["object", "stop"]);
      }
    }
  });

  test("a choice is made, and the model makes it", async () => {
    expect(await ask("In one word: What is the capital of France?", { grammar: CHOICE })).toMatchObject({
      text: "Paris",
      reason: "stop",
    });
    expect(await ask("In one word: What is the capital of Italy?", { grammar: CHOICE })).toMatchObject({
      text: "Rome",
    });
  });

  test("free text goes over into what is constrained", async () => {
    const sampling = withSampling({ temperature: 0.8, seed: 11 });
    for (const params of [{}, { sampling }]) {
      const { text } = await ask("Hello", { ...params, grammar: TEXT_THEN_DIGIT });
      expect(text).toMatch(/^[^<]{0,60}<d>[0-9]<\/d>$/);
    }
  });

  test("a grammar that allows what the model says anyway changes nothing", async () => {
    const free = await ask("Count from 1 to 5.", { topLogprobs: 3 });
    expect(free.text).toBe("1, 2, 3, 4, 5");
    const guided = await ask("Count from 1 to 5.", { grammar: `root ::= [0-9, ]*`, topLogprobs: 3 });
    expect(guided).toEqual(free);
  });

  test("the length limit cuts a constrained output too", async () => {
    const { tokens, reason } = await ask("Hello", { grammar: `root ::= "a"{40}`, maxTokens: 5 });
    expect([tokens.length, reason]).toEqual([5, "length"]);
  });

  test("the same request draws the same tokens", async () => {
    const params = { grammar: JSON_OBJECT, sampling: withSampling({ temperature: 1, seed: 5 }) };
    const first = await ask("Tell me a story.", params);
    expect(await ask("Tell me a story.", params)).toEqual(first);
    const greedy = await ask("Tell me a story.", { grammar: JSON_OBJECT });
    expect(await ask("Tell me a story.", { grammar: JSON_OBJECT })).toEqual(greedy);
  });

  test("constrained and free streams side by side get what they get alone", async () => {
    const cases: [string, Partial<GenerationParams>][] = [
      ["Hello", { grammar: JSON_OBJECT }],
      ["Count from 1 to 50.", {}],
      ["Tell me a story.", { grammar: JSON_OBJECT, sampling: withSampling({ temperature: 1, seed: 9 }) }],
      ["Who are you?", { grammar: TEXT_THEN_DIGIT, topLogprobs: 2 }],
      ["Tell me a story.", { sampling: withSampling({ temperature: 1, seed: 4 }) }],
      ["What is the capital of Japan?", { grammar: CHOICE }],
      ["Count from 3 to 12.", { grammar: `root ::= [0-9, ]+ "!"` }],
      [
        "Tell me about a dog.",
        {
          sampling: withSampling({
            temperature: 1,
            seed: 12,
            xtcProbability: 0.6,
            dry: { multiplier: 3, base: 2, allowedLength: 1, lastTokens: 0, breakers: ["\n"] },
          }),
        },
      ],
      ["Say hello.", { sampling: withSampling({ frequencyPenalty: 0.5 }), grammar: TEXT_THEN_DIGIT }],
    ];
    const alone: Answer[] = [];
    for (const [prompt, params] of cases) alone.push(await ask(prompt, { ...params, reusePrefix: false }));
    const together = await Promise.all(cases.map(([prompt, params]) => ask(prompt, params)));
    expect(together).toEqual(alone);
  });
});

describe("refusals", () => {
  test.each([
    ["no grammar at all", "not a grammar"],
    ["no root", `start ::= "a"`],
    ["an unknown rule", `root ::= other`],
    ["left recursion", `root ::= root "a" | "b"`],
    ["a huge text", `root ::= "a" # ${"x".repeat(1 << 20)}`],
  ])("%s is refused at submit", async (_name, grammar) => {
    await expect(ask("Hello", { grammar })).rejects.toMatchObject({ code: "grammar_rejected" });
  });

  test("rows 63 to 65: a request that may draw nothing fails alone", async () => {
    const everything = Array.from({ length: facts.vocabSize }, (_, token) => [token, -100] as const);
    const impossible: Partial<GenerationParams>[] = [
      { grammar: CHOICE, sampling: withSampling({ logitBias: everything }) },
      { grammar: CHOICE, ignoreEos: true },
      { grammar: CHOICE, minTokens: 50, sampling: withSampling({ temperature: 1, seed: 1 }) },
      { sampling: withSampling({ logitBias: everything }) },
      { sampling: withSampling({ logitBias: everything, temperature: 1, topK: 5 }) },
      {
        grammar: `root ::= ""`,
        sampling: withSampling({ logitBias: facts.endTokens.map((token) => [token, -100]) }),
      },
    ];
    const others = ["Count from 1 to 50.", "Hello"];
    const alone = [];
    for (const prompt of others) alone.push(await ask(prompt, {}));
    const [answers, failures] = await Promise.all([
      Promise.all(others.map((prompt) => ask(prompt, {}))),
      Promise.allSettled(impossible.map((params) => ask("What is the capital of France?", params))),
    ]);
    expect(answers).toEqual(alone);
    expect(failures).toEqual(
      impossible.map(() => ({
        status: "rejected",
        reason: expect.objectContaining({ code: "no_token_allowed" }) as unknown,
      })),
    );
  });
});

describe("a request that cannot even begin", () => {
  const banning = (tokens: Iterable<number>): Partial<GenerationParams> => ({
    sampling: withSampling({ logitBias: [...tokens].map((token) => [token, -100] as const) }),
  });
  const submitting = (params: Partial<GenerationParams>): Promise<unknown> =>
    engine
      .submit({
        id: `g${requests++}`,
        prompt: chat("Hello"),
        addBos: true,
        params: { ...GREEDY, maxTokens: 1, ...params },
        promptLogprobs: undefined,
        owner: "tester",
      })
      .then(
        () => "accepted",
        (error: { readonly code: string }) => error.code,
      );
  const tokensFor = (text: string): number[] =>
    Array.from({ length: facts.vocabSize }, (_, token) => token).filter((token) => {
      const piece = table.piece(token);
      return piece !== "" && text.startsWith(piece);
    });

  test("is refused instead of accepted", async () => {
    const parisian = tokensFor("Paris");
    const cases: [Partial<GenerationParams>, string][] = [
      [{ grammar: `root ::= "Paris"`, ...banning(parisian) }, "no_token_allowed"],
      [{ grammar: `root ::= "Paris"`, ...banning(parisian.slice(1)) }, "accepted"],
      [{ grammar: `root ::= "Paris" | "Rome"`, ...banning(parisian) }, "accepted"],
      [{ grammar: `root ::= ""`, ...banning(facts.endTokens) }, "no_token_allowed"],
      [{ grammar: `root ::= ""` }, "accepted"],
      [{ grammar: `root ::= ""`, ignoreEos: true }, "no_token_allowed"],
      [{ grammar: `root ::= "" | "a"`, ignoreEos: true }, "accepted"],
      [banning(Array.from({ length: facts.vocabSize }, (_, token) => token)), "no_token_allowed"],
      [banning(Array.from({ length: facts.vocabSize - 1 }, (_, token) => token)), "accepted"],
      [{ grammar: JSON_OBJECT }, "accepted"],
      [{ grammar: TEXT_THEN_DIGIT, ...banning(parisian) }, "accepted"],
    ];
    for (const [params, outcome] of cases) expect(await submitting(params)).toBe(outcome);
  });
});

describe("the state of a grammar", () => {
  let backend: Backend;
  beforeAll(async () => {
    backend = await loadLlamaBackend({ ...POCKET, slots: 1 }, () => undefined);
  });
  afterAll(() => backend.close());

  async function logitsAfter(text: string): Promise<{ logits: LogitsHandle; position: number }> {
    const tokens = backend.tokenize([{ text, special: false }], false);
    backend.truncate(0, 0);
    const run = backend.run([{ slot: 0, position: 0, tokens, sample: true }]);
    await run.done;
    const [logits] = run.logits;
    if (logits === undefined) throw new Error("no logits");
    return { logits, position: tokens.length };
  }

  test.each([
    ["greedy", {}],
    ["drawn", { temperature: 1.5, seed: 7 }],
  ])("a draw made again draws the same: %s", async (_name, sampling) => {
    const { logits, position } = await logitsAfter("One, two, three,");
    const grammar = `root ::= [a-z]{3,9}`;
    const sampler = backend.createSampler({ ...GREEDY, grammar, sampling: withSampling(sampling) });
    const first = await sampler.sample(logits, position, []);
    const again = [];
    for (let i = 0; i < 5; i++) again.push(await sampler.sample(logits, position, []));
    sampler.dispose();
    expect(again).toEqual(again.map(() => first));
  });

  test("a sampler that starts in the middle of an output goes on where the grammar is", async () => {
    const { logits, position } = await logitsAfter("One, two, three,");
    const grammar = `root ::= "x" "y" "z"`;
    const [x = -1, y = -1, z = -1] = ["x", "y", "z"].map(
      (text) => backend.tokenize([{ text, special: false }], false)[0],
    );
    const sampler = backend.createSampler({ ...GREEDY, grammar });
    expect((await sampler.sample(logits, position, [x, y])).token).toBe(z);
    expect((await sampler.sample(logits, position, [x])).token).toBe(y);
    expect(backend.facts.endTokens).toContain((await sampler.sample(logits, position, [x, y, z])).token);
    await expect(sampler.sample(logits, position, [y])).rejects.toMatchObject({ code: "invalid_request" });
    sampler.dispose();
  });

  test("states are freed with their samplers", async () => {
    const { logits, position } = await logitsAfter("One, two, three,");
    const grammar = hugeGrammar("q");
    const drawOne = async (): Promise<void> => {
      const sampler = backend.createSampler({ ...GREEDY, grammar });
      await sampler.sample(logits, position, []);
      sampler.dispose();
      await new Promise((resolve) => setImmediate(resolve));
    };
    for (let i = 0; i < 16; i++) await drawOne();
    const before = process.memoryUsage().rss;
    for (let i = 0; i < 40; i++) await drawOne();
    // Each state takes four megabytes.
    expect(process.memoryUsage().rss - before).toBeLessThan(80e6);
  });
});
