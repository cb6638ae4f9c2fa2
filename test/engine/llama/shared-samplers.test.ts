/** Native samplers that several requests draw with. */
import { expect, test } from "vitest";
import { SharedSamplers } from "../../../engine/llama/shared-samplers.ts";
import type { AddonSampler, AddonSamplerConfig } from "../../../engine/llama/addon.ts";

/** Notes what is asked of it. */
class NotedSampler implements AddonSampler {
  readonly configs: AddonSamplerConfig[] = [];
  disposals = 0;

  applyConfig(config: AddonSamplerConfig): void {
    if (Number.isNaN(config.temperature)) throw new Error("The temperature is no number.");
    this.configs.push(config);
  }

  dispose(): void {
    this.disposals++;
  }
}

function noted(): { made: NotedSampler[]; shared: SharedSamplers } {
  const made: NotedSampler[] = [];
  const shared = new SharedSamplers(() => {
    const sampler = new NotedSampler();
    made.push(sampler);
    return sampler;
  });
  return { made, shared };
}

function banning(...tokens: number[]): AddonSamplerConfig {
  return {
    temperature: 0,
    tokenBiasKeys: Uint32Array.from(tokens),
    tokenBiasValues: new Float32Array(tokens.length).fill(-Infinity),
  };
}

test("equal options are one sampler, configured once", () => {
  const { made, shared } = noted();
  const [a, b] = [shared.take(banning(1, 2)), shared.take(banning(1, 2))];
  expect(a.sampler).toBe(b.sampler);
  expect(made).toHaveLength(1);
  expect(made[0]?.configs).toEqual([banning(1, 2)]);
});

test.each([
  ["other tokens", banning(1, 2), banning(1, 3)],
  ["other biases", banning(1), { ...banning(1), tokenBiasValues: Float32Array.of(-1) }],
  ["no biases", banning(1), { temperature: 0 }],
])("%s are another sampler", (_name, one, other) => {
  const { shared } = noted();
  expect(shared.take(one).sampler).not.toBe(shared.take(other).sampler);
});

test("the last one to leave frees it, and who comes then gets a new one", () => {
  const { made, shared } = noted();
  const [a, b] = [shared.take(banning()), shared.take(banning())];
  a.release();
  expect(made[0]?.disposals).toBe(0);
  expect(shared.take(banning()).sampler).toBe(b.sampler);
  b.release();
  expect(made[0]?.disposals).toBe(0);
});

test("nothing is kept when nobody draws", () => {
  const { made, shared } = noted();
  shared.take(banning()).release();
  expect(made[0]?.disposals).toBe(1);
  const next = shared.take(banning());
  expect(next.sampler).toBe(made[1]);
  expect(made[1]?.disposals).toBe(0);
});

test("one that does not take its options is freed, and nobody gets it later", () => {
  const { made, shared } = noted();
  const refused = { ...banning(1), temperature: NaN };
  expect(() => shared.take(refused)).toThrow("no number");
  expect(made[0]?.disposals).toBe(1);
  expect(() => shared.take(refused)).toThrow("no number");
  expect(made).toHaveLength(2);
});
