/** What the native sampler is told for a draw: hopeless tokens are left out where that changes nothing else. */
import { expect, test } from "vitest";
import { GREEDY_PARAMS } from "../../../engine/greedy-params.ts";
import { leastChance } from "../../../engine/llama/least-chance.ts";
import { LlamaSampler } from "../../../engine/llama/sampler.ts";
import type { AddonSamplerConfig } from "../../../engine/llama/addon.ts";
import type { LogitsHandle } from "../../../engine/backend.ts";
import type { SamplerHost } from "../../../engine/llama/sampler.ts";
import type { GenerationParams } from "../../../engine/protocol.ts";

const VOCABULARY = 49_152;
const WARM = { ...GREEDY_PARAMS.sampling, temperature: 0.7, topK: 0, topP: 1, minP: 0 };

/** The options of the first draw. */
async function configOf(
  sampling: Partial<GenerationParams["sampling"]>,
  more: Partial<GenerationParams> = {},
): Promise<AddonSamplerConfig | undefined> {
  const configs: AddonSamplerConfig[] = [];
  class Noted {
    applyConfig(config: AddonSamplerConfig): void {
      configs.push(config);
    }
    dispose(): void {}
  }
  const host = {
    bindings: { AddonSampler: Noted },
    context: { sampleToken: () => Promise.resolve(7) },
    vocabulary: { vocabSize: VOCABULARY, endTokens: [] },
    contextTokens: 64,
  } as unknown as SamplerHost;
  const sampler = new LlamaSampler(host, { ...GREEDY_PARAMS, sampling: { ...WARM, ...sampling }, ...more });
  const drawn = await sampler.sample(0 as LogitsHandle, 3, []);
  expect(drawn.token).toBe(7);
  return configs[0];
}

test("a plain draw leaves hopeless tokens out", async () => {
  const least = leastChance(WARM, VOCABULARY);
  expect(least).toBeGreaterThan(0);
  expect(await configOf({})).toMatchObject({ temperature: 0.7, minP: least });
  expect(await configOf({ frequencyPenalty: 1 })).toMatchObject({ minP: least });
});

test.each<[string, Partial<GenerationParams["sampling"]>]>([
  // It goes by chances before the temperature, of which those left out may be many.
  ["XTC", { xtcProbability: 1, xtcThreshold: 0.1 }],
  ["top-k", { topK: 40 }],
  ["top-p", { topP: 0.9 }],
  ["temperature 1", { temperature: 1 }],
])("with %s it looks at all", async (_name, sampling) => {
  expect(await configOf(sampling)).not.toHaveProperty("minP");
});

test("an own limit stays as it is", async () => {
  expect(await configOf({ minP: 0.05 })).toMatchObject({ minP: 0.05 });
  expect(await configOf({ minP: 0.05, xtcProbability: 1, xtcThreshold: 0.1 })).toMatchObject({ minP: 0.05 });
});
