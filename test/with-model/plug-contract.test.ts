/** What the planner relies on when it closes a gap: a throw-away token changes neither its slot nor those beside it. */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { loadLlamaBackend } from "../../engine/llama/load.ts";
import type { Backend, BatchEntry } from "../../engine/backend.ts";
import { GREEDY, LOAD_OPTIONS } from "../support/engine.ts";

const CELLS = 70;
const STEPS = 6;
const folder = mkdtempSync(join(tmpdir(), "weft-plug-contract-"));
const file = join(folder, "cells");
let backend: Backend;

beforeAll(async () => {
  const options = { ...LOAD_OPTIONS, modelPath: "models/pocket.gguf", contextTokens: 256 };
  backend = await loadLlamaBackend(options, () => undefined);
});
afterAll(async () => {
  await backend.close();
  rmSync(folder, { recursive: true });
});

const text = (length: number, first: number): Uint32Array =>
  Uint32Array.from({ length }, (_, i) => first + ((i * 7) % 200));

async function feed(slot: number, tokens: Uint32Array): Promise<void> {
  backend.truncate(slot, 0);
  if (tokens.length > 0) await backend.run([{ slot, position: 0, tokens, sample: false }]).done;
}

/** What slots 0 and 2 go on with, with or without a throw-away token between them in each call. */
async function decoded(resident: number, plugged: boolean): Promise<number[][]> {
  const outputs = [0, 2].map(() => [33]);
  await feed(0, text(CELLS, 20));
  await feed(2, text(CELLS, 40));
  const sampler = backend.createSampler(GREEDY, new Uint32Array(0));
  for (let step = 0; step < STEPS; step++) {
    const entries = [0, 2].map((slot, i): BatchEntry => {
      const tokens = Uint32Array.of(outputs[i]?.at(-1) ?? 0);
      return { slot, position: CELLS + step, tokens, sample: true };
    });
    const plug = { slot: 1, position: resident, tokens: Uint32Array.of(99 + step), sample: false };
    const run = backend.run(plugged ? entries.toSpliced(1, 0, plug) : entries);
    await run.done;
    expect(run.logits).toHaveLength(2);
    for (const [i, logits] of run.logits.entries()) {
      const output = outputs[i] ?? [];
      output.push((await sampler.sample(logits, CELLS + step + 1, output.slice(1))).token);
    }
    backend.truncate(1, resident);
  }
  sampler.dispose();
  return outputs;
}

test.each([0, CELLS])(
  "a slot of %i cells holds the same bits behind it, and its neighbours say the same",
  async (resident) => {
    const prompt = text(resident, 60);
    await feed(1, prompt);
    const bits = async (): Promise<Buffer> => {
      await backend.saveCells(1, file, prompt);
      return readFileSync(file);
    };
    const before = await bits();
    const without = await decoded(resident, false);
    expect((await bits()).equals(before)).toBe(true);
    expect(await decoded(resident, true)).toEqual(without);
    expect(backend.cellCount(1)).toBe(resident);
    expect((await bits()).equals(before)).toBe(true);
  },
);
