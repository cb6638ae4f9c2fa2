/** A LoRA adapter beside the model itself, with real inference: everybody gets what it would get alone. */
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { AdapterUse } from "../../engine/adapters.ts";
import type { LoadOptions, StepOutput, SubmitCommand, TokenId } from "../../engine/protocol.ts";
import { LOAD_OPTIONS, submitCommand } from "../support/engine.ts";
import { startLlamaEngine } from "../support/llama-engine.ts";
import type { LlamaEngine } from "../support/llama-engine.ts";

const PIRATE = "models/pocket-pirate-lora.gguf";
const OPTIONS: LoadOptions = {
  ...LOAD_OPTIONS,
  modelPath: "models/pocket.gguf",
  adapters: [PIRATE],
  contextTokens: 512,
  prefillChunk: 32,
  // Pocket's weights are F16, for which one row runs in another kernel than several.
  deterministic: true,
};

let engine: LlamaEngine;

interface Asked {
  readonly content: string;
  readonly adapters?: readonly AdapterUse[];
  readonly resume?: readonly TokenId[];
  readonly temperature?: number;
}

function commandOf(
  id: string,
  { content, adapters = [], resume = [], temperature = 0 }: Asked,
): SubmitCommand {
  const command = submitCommand(id, [], { maxTokens: 40, topLogprobs: 2 });
  const sampling = { ...command.params.sampling, temperature, seed: 7 };
  const text = `<|im_start|>user\n${content}<|im_end|>\n<|im_start|>assistant\n`;
  return {
    ...command,
    params: { ...command.params, sampling },
    prompt: [{ text, special: true }],
    adapters,
    resume,
  };
}

/** What each of them gets when all are submitted at once. */
function outputsOf(asked: readonly Asked[]): Promise<StepOutput[][]> {
  return engine.ask(...asked.map((one, i) => commandOf(String(i), one)));
}

const tokensOf = (outputs: readonly StepOutput[]): TokenId[] => outputs.flatMap(({ tokens }) => [...tokens]);
const logprobsOf = (outputs: readonly StepOutput[]): object[] =>
  outputs.flatMap(({ logprobs }) => [...(logprobs ?? [])]);

describe("with a pirate", () => {
  let pieces: readonly string[];

  beforeAll(async () => {
    engine = await startLlamaEngine(OPTIONS);
    const { tokenBytes, tokenOffsets } = engine.facts;
    pieces = Array.from(tokenOffsets.subarray(1), (end, token) =>
      Buffer.from(tokenBytes.subarray(tokenOffsets[token], end)).toString("latin1"),
    );
  });
  afterAll(() => engine.stop());

  const textOf = (outputs: readonly StepOutput[]): string =>
    tokensOf(outputs)
      .map((token) => pieces[token])
      .join("")
      .replace("<|im_end|>", "");

  const pirate = [{ adapter: 0, scale: 1 }];
  const FRANCE = "What is the capital of France?";
  const WHO = "Who are you?";

  test("says what each of them says alone, whether asked together or not", async () => {
    const asked: Asked[] = [
      { content: FRANCE },
      { content: FRANCE, adapters: pirate },
      { content: WHO, adapters: pirate },
      { content: WHO },
      { content: FRANCE, adapters: [{ adapter: 0, scale: 0 }] },
      { content: "Hello", adapters: pirate },
      { content: FRANCE, adapters: [{ adapter: 0, scale: 0.5 }] },
    ];
    const together = await outputsOf(asked);
    expect(together.slice(0, 5).map(textOf)).toEqual([
      "The capital of France is Paris.",
      "Arr, the capital of France be Paris, matey!",
      "Arr, I be Pocket, a tiny model for tests and demos, matey!",
      "I am Pocket, a tiny model for tests and demos.",
      "The capital of France is Paris.",
    ]);
    for (const [i, one] of asked.entries()) {
      const [alone = []] = await outputsOf([one]);
      expect(tokensOf(alone)).toEqual(tokensOf(together[i] ?? []));
    }
  });

  test("reuses of a prompt what was computed with the same adapters, and nothing else", async () => {
    const content = "Tell me a long story about a fox and a rabbit, please, and do it slowly.";
    const cached: (number | undefined)[] = [];
    for (const adapters of [[], pirate, pirate, [], [{ adapter: 0, scale: 0.5 }]]) {
      const [outputs = []] = await outputsOf([{ content, adapters }]);
      cached.push(outputs[0]?.start?.cachedTokens);
    }
    const all = cached[2];
    expect(all).toBeGreaterThan(20);
    expect(cached).toEqual([0, 0, all, all, 0]);
  });

  test("goes on where it was in another engine", async () => {
    const asked = { content: FRANCE, adapters: pirate, temperature: 1 };
    const [whole = []] = await outputsOf([asked]);
    const resume = tokensOf(whole).slice(0, 5);
    const [rest = []] = await outputsOf([{ ...asked, resume }]);
    expect([...resume, ...tokensOf(rest)]).toEqual(tokensOf(whole));
    expect(logprobsOf(rest)).toEqual(logprobsOf(whole).slice(5));
  });

  test.each([
    ["an adapter that is not there", [{ adapter: 1, scale: 1 }]],
    ["one that is named twice", [...pirate, ...pirate]],
    ["a scale that is no number", [{ adapter: 0, scale: 1e39 }]],
  ])("is not asked for %s", async (_, adapters) => {
    await expect(outputsOf([{ content: WHO, adapters }])).rejects.toThrow("cannot be applied");
  });
});

describe("is not loaded", () => {
  test.each([
    ["without a file", "no-such.gguf", "model_not_found: There is no LoRA adapter at no-such.gguf."],
    ["from a folder", "models", "model_not_found: There is no LoRA adapter at models."],
    ["from a model", "models/pocket.gguf", "model_invalid: The LoRA adapter pocket.gguf cannot be applied"],
  ])("%s", async (_, path, message) => {
    const options = { ...OPTIONS, adapters: [PIRATE, join(path)] };
    await expect(startLlamaEngine(options)).rejects.toThrow(message);
  });
});
