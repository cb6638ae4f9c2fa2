/** What the engine relies on when it writes the cells of a slot to a file and reads them back. */
import { createHash } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { addonContextOf } from "../../engine/llama/addon.ts";
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

/** The runtime's own context, without the adapter that refuses what would go wrong there. */
async function openNative() {
  // oxlint-disable-next-line no-restricted-imports -- what the adapter refuses is asked of the runtime itself
  const { getLlama } = await import("node-llama-cpp");
  const llama = await getLlama({ gpu: false, build: "never", logger: () => undefined });
  const model = await llama.loadModel({ modelPath: "models/pocket.gguf" });
  const owner = await model.createContext({ contextSize: 512, sequences: 4, batchSize: 64, threads: 1 });
  const context = addonContextOf(owner);
  const fed = async (slot: number, tokens: Uint32Array): Promise<void> => {
    context.initBatch(tokens.length);
    context.addToBatch(slot, 0, tokens, new Uint32Array(0));
    await context.decodeBatch();
  };
  const saved = async (slot: number, tokens: Uint32Array, path = file): Promise<string> => {
    await context.saveSequenceStateToFile(path, slot, tokens);
    return createHash("sha256")
      .update(readFileSync(path).subarray(16 + 4 * tokens.length))
      .digest("hex");
  };
  return {
    context,
    feed: fed,
    saved,
    /** A file of what a slot has for these tokens. */
    computed: async (slot: number, tokens: Uint32Array) => {
      const path = join(folder, `of-${tokens[0]}`);
      context.disposeSequence(slot);
      await fed(slot, tokens);
      return { path, digest: await saved(slot, tokens, path) };
    },
    dispose: () => llama.dispose(),
  };
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

describe("a slot with a queued copy", () => {
  test("is neither saved, restored nor taken a checkpoint of before a call has run", async () => {
    const prompt = text(64);
    for (const slot of [0, 1, 2]) backend.truncate(slot, 0);
    await feed(1, prompt);
    await backend.saveCells(1, file, prompt);
    const right = readFileSync(file);
    backend.truncate(1, 0);
    await feed(0, prompt);
    await backend.copy(0, 1);
    const refused = { code: "internal", message: expect.stringContaining("queued copy") };
    for (const slot of [0, 1]) {
      await expect(backend.saveCells(slot, file, prompt)).rejects.toMatchObject(refused);
      await expect(backend.loadCells(slot, file, prompt)).rejects.toMatchObject(refused);
      await expect(backend.takeCheckpoint(slot)).rejects.toMatchObject(refused);
    }
    // One that is refused copies nothing.
    const gap = [{ slot: 0, position: 70, tokens: text(1), sample: true }];
    await expect(backend.run(gap).done).rejects.toMatchObject({ code: "decode_failed" });
    await expect(backend.saveCells(1, file, prompt)).rejects.toMatchObject(refused);
    await feed(2, text(1));
    await backend.saveCells(1, file, prompt);
    expect(readFileSync(file).equals(right)).toBe(true);
  });

  test("would be saved as it was before, and what is read into it be overwritten: the copy runs with the next call", async () => {
    const native = await openNative();
    const { context, computed, saved } = native;
    const [prompt, other] = [text(64), text(64, 90)];
    const right = await computed(1, prompt);
    const wrong = await computed(1, other);
    await native.feed(0, prompt);
    await context.copySequenceStateFromOtherSequence(1, 0);
    expect(await saved(1, other)).toBe(wrong.digest);
    await native.feed(2, text(1));
    expect(await saved(1, prompt)).toBe(right.digest);
    await context.copySequenceStateFromOtherSequence(1, 0);
    await context.loadSequenceStateFromFile(wrong.path, 1, other.length);
    expect(await saved(1, other)).toBe(wrong.digest);
    await native.feed(3, text(1));
    expect(await saved(1, prompt)).toBe(right.digest);
    await native.dispose();
  });

  test("may be copied to and from again: copies run in the order in which they were asked for", async () => {
    const [prompt, other] = [text(64), text(64, 90)];
    const saved = async (slot: number, tokens: Uint32Array): Promise<Buffer> => {
      await backend.saveCells(slot, file, tokens);
      return readFileSync(file);
    };
    const computed = async (slot: number, tokens: Uint32Array): Promise<Buffer> => {
      backend.truncate(slot, 0);
      await feed(slot, tokens);
      return saved(slot, tokens);
    };
    for (const slot of [0, 1, 2, 3]) backend.truncate(slot, 0);
    const right = [await computed(1, prompt), await computed(2, other), await computed(3, prompt)];
    await feed(0, prompt);
    await computed(1, other);
    await backend.copy(0, 2);
    await backend.copy(2, 3);
    await backend.copy(1, 2);
    await backend.copy(3, 1);
    backend.truncate(0, 0);
    await feed(0, text(1));
    expect([await saved(1, prompt), await saved(2, other), await saved(3, prompt)]).toEqual(right);
  });
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
