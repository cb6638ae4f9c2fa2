/** What the engine relies on when it writes the cells of a slot to a file and reads them back. */
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { loadLlamaBackend } from "../../engine/llama/load.ts";
import type { Backend } from "../../engine/backend.ts";
import { GREEDY, LOAD_OPTIONS } from "../support/engine.ts";

const folder = mkdtempSync(join(tmpdir(), "weft-spill-contract-"));
const file = join(folder, "cells");
let backend: Backend;

beforeAll(async () => {
  const options = { ...LOAD_OPTIONS, modelPath: "models/pocket.gguf", contextTokens: 512, prefillChunk: 32 };
  backend = await loadLlamaBackend(options, () => undefined);
});
afterAll(async () => {
  await backend.close();
  rmSync(folder, { recursive: true });
});

const text = (length: number, first = 20): Uint32Array =>
  Uint32Array.from({ length }, (_, i) => first + ((i * 7) % 200));

async function feed(slot: number, tokens: Uint32Array, from = 0): Promise<void> {
  for (let position = from; position < tokens.length; position += 32)
    await backend.run([{ slot, position, tokens: tokens.slice(position, position + 32), sample: false }])
      .done;
}

/** What the model goes on with. */
async function continued(slot: number, position: number, first: number, count = 12): Promise<number[]> {
  const sampler = backend.createSampler(GREEDY, new Uint32Array(0));
  const output = [first];
  while (output.length <= count) {
    const tokens = Uint32Array.of(output.at(-1) ?? 0);
    const run = backend.run([{ slot, position: position + output.length - 1, tokens, sample: true }]);
    await run.done;
    const [logits] = run.logits;
    if (logits === undefined) throw new Error("no logits");
    const { token } = await sampler.sample(logits, position + output.length, output.slice(1));
    output.push(token);
  }
  sampler.dispose();
  return output.slice(1);
}

test("a restored slot goes on as the saved one did, in any slot, whole and cut", async () => {
  const prompt = text(150);
  await feed(0, prompt);
  expect(await backend.saveCells(0, file, prompt)).toBe(statSync(file).size);
  const whole = await continued(0, 150, 33);
  backend.truncate(0, 0);
  await feed(0, prompt.slice(0, 96));
  const cut = await continued(0, 96, 33);
  for (const slot of [0, 3]) {
    backend.truncate(slot, 0);
    await backend.loadCells(slot, file, prompt);
    expect(backend.cellCount(slot)).toBe(150);
    expect(await continued(slot, 150, 33)).toEqual(whole);
    backend.truncate(slot, 96);
    expect(await continued(slot, 96, 33)).toEqual(cut);
  }
});

test("what is saved of a slot does not depend on what is in the others", async () => {
  const prompt = text(70);
  for (const slot of [0, 1, 2]) backend.truncate(slot, 0);
  await feed(1, prompt);
  await backend.saveCells(1, file, prompt);
  const alone = readFileSync(file);
  await feed(0, text(33, 50));
  await feed(2, prompt);
  await backend.saveCells(1, file, prompt);
  expect(readFileSync(file).equals(alone)).toBe(true);
});

test("a file keeps its mode, and takes as many bytes as its cells and no more", async () => {
  const size = async (length: number): Promise<number> => {
    rmSync(file, { force: true });
    writeFileSync(file, "", { mode: 0o600 });
    backend.truncate(0, 0);
    await feed(0, text(length));
    return backend.saveCells(0, file, text(length));
  };
  const [one, two, many] = [await size(1), await size(2), await size(200)];
  expect(statSync(file).mode & 0o777).toBe(0o600);
  expect(many).toBe(one + 199 * (two - one));
});

test("a slot with a queued copy is saved as it was before: the copy runs with the next call", async () => {
  const prompt = text(64);
  for (const slot of [0, 1]) backend.truncate(slot, 0);
  await feed(1, prompt);
  await backend.saveCells(1, file, prompt);
  const right = readFileSync(file);
  backend.truncate(1, 0);
  await feed(0, prompt);
  await feed(1, text(64, 90));
  await backend.copy(0, 1);
  await backend.saveCells(1, file, prompt);
  expect(readFileSync(file).equals(right)).toBe(false);
  backend.truncate(2, 0);
  await feed(2, text(1));
  await backend.saveCells(1, file, prompt);
  expect(readFileSync(file).equals(right)).toBe(true);
});

test("files that are not there, are no such files, or have other tokens are errors, not the end of the process", async () => {
  const prompt = text(40);
  for (const slot of [0, 1]) backend.truncate(slot, 0);
  await feed(0, prompt);
  await backend.saveCells(0, file, prompt);
  const refused = { code: "decode_failed" };
  await expect(backend.saveCells(0, join(folder, "no", "folder"), prompt)).rejects.toMatchObject(refused);
  await expect(backend.loadCells(1, join(folder, "nothing"), prompt)).rejects.toMatchObject(refused);
  await expect(backend.loadCells(1, file, text(39))).rejects.toMatchObject(refused);
  await expect(backend.loadCells(1, file, text(41))).rejects.toMatchObject(refused);
  backend.truncate(1, 0);
  const whole = readFileSync(file);
  // A file that lacks its last bytes does end the process: it is never handed over unchecked.
  for (const bytes of [0, 4, 100]) {
    writeFileSync(file, whole.subarray(0, bytes));
    await expect(backend.loadCells(1, file, prompt)).rejects.toMatchObject(refused);
    backend.truncate(1, 0);
  }
  expect(backend.cellCount(1)).toBe(0);
  await feed(1, prompt);
  expect(backend.cellCount(1)).toBe(40);
});

test("cells are neither saved nor restored while a call runs", async () => {
  for (const slot of [0, 1]) backend.truncate(slot, 0);
  const { done } = backend.run([{ slot: 0, position: 0, tokens: text(20), sample: false }]);
  await expect(backend.saveCells(0, file, text(20))).rejects.toMatchObject({ code: "internal" });
  await expect(backend.loadCells(1, file, text(20))).rejects.toMatchObject({ code: "internal" });
  await done;
});
