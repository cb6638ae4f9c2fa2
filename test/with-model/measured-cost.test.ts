/** A real engine that is told what an earlier one has measured measures nothing, and hands it on. */
import { expect, test } from "vitest";
import { EngineClient } from "../../engine/client.ts";
import { forkEngine } from "../../engine/process/fork.ts";
import type { LoadOptions, ModelFacts } from "../../engine/protocol.ts";
import { LOAD_OPTIONS } from "../support/engine.ts";

const OPTIONS: LoadOptions = {
  ...LOAD_OPTIONS,
  modelPath: "models/pocket.gguf",
  draftModelPath: "models/pocket-draft.gguf",
  contextTokens: 256,
  threads: 1,
};

async function factsOf(options: LoadOptions): Promise<ModelFacts> {
  const engine = new EngineClient(
    forkEngine({ entry: new URL("../../dist/engine/process/main.js", import.meta.url) }),
  );
  try {
    return await engine.load(options);
  } finally {
    await engine.stop();
  }
}

test("what calls cost is measured once, of the draft model too", async () => {
  const { measured = [] } = await factsOf(OPTIONS);
  expect(measured).toHaveLength(2);
  // No two measurements are the same to the last bit.
  expect((await factsOf({ ...OPTIONS, measured })).measured).toEqual(measured);
  expect((await factsOf(OPTIONS)).measured).not.toEqual(measured);
});
