/**
 * Runs random batches through llama.cpp and prints the passes that the pass model predicts for them.
 *
 * Started by the contract test with LLAMA_BATCH_DEBUG, so that llama.cpp tells on standard error what it did.
 */
import { loadLlamaBackend } from "../../engine/llama/load.ts";
import { devicePasses } from "../../engine/scheduler/passes.ts";
import { LOAD_OPTIONS } from "./engine.ts";

const SLOTS = 8;
const BATCH = 48;

let seed = 7;
function random(below: number): number {
  seed = (Math.imul(seed, 1103515245) + 12345) & 0x7fffffff;
  return (seed >>> 8) % below;
}

const backend = await loadLlamaBackend(
  {
    ...LOAD_OPTIONS,
    modelPath: "models/pocket.gguf",
    slots: SLOTS,
    contextTokens: 512,
    batchTokens: BATCH,
    prefillChunk: 16,
    threads: 1,
  },
  () => undefined,
);
for (let batch = 0; batch < 60; batch++) {
  const entries = [];
  let room = BATCH;
  for (let slot = 0; slot < SLOTS; slot++) {
    if (random(10) < 4) continue;
    const count = Math.min(room, random(3) === 0 ? 1 + random(20) : 1);
    if (count === 0) break;
    room -= count;
    entries.push({
      slot,
      position: backend.cellCount(slot),
      tokens: new Uint32Array(count).fill(5),
      sample: random(2) === 0,
    });
  }
  if (entries.length === 0) continue;
  await backend.run(entries).done;
  for (const { slot, position } of entries) if (position > 400) backend.truncate(slot, 0);
  const shape = entries.map(({ slot, tokens }) => ({ slot, tokens: tokens.length }));
  for (const pass of devicePasses(shape, BATCH))
    process.stdout.write(`${pass.slots.join(" ")} x${pass.tokensEach}\n`);
}
await backend.close();
