/** A request that is continued from its tokens in a fresh engine: on a CPU every bit is as if it had never stopped. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { LOAD_OPTIONS, submitCommand } from "../support/engine.ts";
import { startLlamaEngine } from "../support/llama-engine.ts";
import type { LlamaEngine } from "../support/llama-engine.ts";
import type { GenerationParams, LoadOptions, StepOutput, SubmitCommand } from "../../engine/protocol.ts";

const TOKENS = 100;
/** Longer than a grid cell, so that it is cut. */
const PROMPT = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24,";

const OPTIONS: LoadOptions = {
  ...LOAD_OPTIONS,
  modelPath: "models/pocket.gguf",
  contextTokens: 512,
  prefillChunk: 32,
  // Pocket's weights are F16, for which one row runs in another kernel than several.
  deterministic: true,
};

let engine: LlamaEngine;
let serial = 0;

beforeAll(async () => {
  engine = await startLlamaEngine(OPTIONS);
});
afterAll(() => engine.stop());

/** What the engine sends for the request, alone and without any cells of an earlier one. */
async function outputsOf(
  params: Partial<GenerationParams>,
  resume: readonly number[],
  by = engine,
): Promise<StepOutput[]> {
  const id = `r${++serial}`;
  const command: SubmitCommand = {
    ...submitCommand(id, [], {
      maxTokens: TOKENS,
      ignoreEos: true,
      topLogprobs: 3,
      reusePrefix: false,
      ...params,
    }),
    prompt: [{ text: PROMPT, special: false }],
    resume,
  };
  const [outputs = []] = await by.ask(command);
  return outputs;
}

const sampling = submitCommand("", []).params.sampling;

test.each<[string, Partial<GenerationParams>]>([
  ["greedy", {}],
  ["seeded", { sampling: { ...sampling, temperature: 1.2, seed: 7, topP: 0.95 } }],
  [
    "with penalties and a minimum",
    {
      minTokens: 60,
      ignoreEos: false,
      sampling: { ...sampling, temperature: 1, seed: 9, frequencyPenalty: 0.7, repeatPenalty: 1.1 },
    },
  ],
  [
    "with XTC and DRY",
    {
      sampling: {
        ...sampling,
        temperature: 1,
        seed: 5,
        xtcProbability: 0.5,
        dry: { multiplier: 2, base: 1.75, allowedLength: 1, lastTokens: 0, breakers: ["\n", "e."] },
      },
    },
  ],
  [
    "under a grammar",
    {
      grammar: `root ::= ( [a-z]{1,9} [0-9] " " ){30,90} "."`,
      sampling: { ...sampling, temperature: 1, seed: 3 },
    },
  ],
])("%s, the rest is the same from wherever it is resumed", async (_name, params) => {
  const whole = (await outputsOf(params, [])).map(({ start: _start, ...output }) => output);
  const tokens = whole.flatMap((output) => output.tokens);
  expect(tokens.length).toBeGreaterThan(60);
  for (let known = 1; known < tokens.length; known += 3) {
    const rest = await outputsOf(params, tokens.slice(0, known));
    expect(rest.map(({ start: _start, ...output }) => ({ ...output, id: whole[0]?.id }))).toEqual(
      whole.slice(known),
    );
  }
});

test("without flash attention, too, whose cells have other bits than decoding", async () => {
  const even = await startLlamaEngine({ ...OPTIONS, prefillChunk: undefined, evenSteps: true });
  try {
    expect(even.facts).toMatchObject({ flashAttention: false, prefillChunk: 16 });
    const whole = (await outputsOf({}, [], even)).map(({ start: _start, ...output }) => output);
    const tokens = whole.flatMap((output) => output.tokens);
    for (let known = 1; known < tokens.length; known += 13) {
      const rest = await outputsOf({}, tokens.slice(0, known), even);
      expect(rest.map(({ start: _start, ...output }) => ({ ...output, id: whole[0]?.id }))).toEqual(
        whole.slice(known),
      );
    }
  } finally {
    await even.stop();
  }
});
