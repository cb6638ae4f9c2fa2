/** Cells of a prompt in one call: on a CPU every bit is as if each had a call of its own. */
import { expect, test } from "vitest";
import { loadLlamaBackend } from "../../engine/llama/load.ts";
import { LOAD_OPTIONS } from "../support/engine.ts";
import type { Backend } from "../../engine/backend.ts";
import type { AdapterSet } from "../../engine/adapters.ts";
import type { LoadOptions, TokenId } from "../../engine/protocol.ts";

const ADAPTER = "models/pocket-pirate-lora.gguf";
const OPTIONS: LoadOptions = {
  ...LOAD_OPTIONS,
  modelPath: "models/pocket.gguf",
  contextTokens: 1024,
  slots: 1,
  batchTokens: 256,
};

/** The model's own probabilities behind a prompt that was computed in calls of so many tokens. */
async function behind(
  backend: Backend,
  prompt: readonly TokenId[],
  each: number,
  adapters?: AdapterSet,
): Promise<unknown> {
  backend.truncate(0, 0);
  for (let position = 0; position < prompt.length; position += each) {
    const tokens = Uint32Array.from(prompt.slice(position, position + each));
    await backend.run([{ slot: 0, position, tokens, sample: false }], adapters).done;
  }
  const run = backend.run(
    [{ slot: 0, position: prompt.length, tokens: Uint32Array.of(65), sample: true }],
    adapters,
  );
  await run.done;
  const reader = backend.createLogprobReader(20);
  const [handle] = run.logits;
  const read = handle === undefined ? undefined : await reader.read(handle, 65);
  reader.dispose();
  return read;
}

test.each<[string, Partial<LoadOptions>, number, AdapterSet | undefined]>([
  ["in tiles of flash attention", {}, 64, undefined],
  ["with an adapter", { adapters: [ADAPTER] }, 64, { key: "pirate", uses: [{ adapter: 0, scale: 1 }] }],
  ["without flash attention", { evenSteps: true }, 16, undefined],
])("%s", async (_name, options, cell, adapters) => {
  const backend = await loadLlamaBackend({ ...OPTIONS, ...options }, () => undefined);
  try {
    const prompt = Array.from({ length: 512 }, (_, i) => 33 + ((i * 37) % 90));
    expect(backend.facts.prefillChunk).toBe(cell);
    expect(backend.exactTogether.joinedCells).toBe(true);
    const alone = await behind(backend, prompt, cell, adapters);
    expect(alone).toBeDefined();
    for (const cells of [2, 3, 4])
      expect(await behind(backend, prompt, cells * cell, adapters)).toEqual(alone);
  } finally {
    await backend.close();
  }
});

test("joined also by a runtime for GPUs that finds a driver but no device", async () => {
  const backend = await loadLlamaBackend({ ...OPTIONS, gpu: "auto" }, () => undefined);
  try {
    // A model this small is on the device whole where there is one.
    expect(backend.exactTogether.joinedCells).toBe(backend.facts.gpuLayers === 0);
  } finally {
    await backend.close();
  }
});
