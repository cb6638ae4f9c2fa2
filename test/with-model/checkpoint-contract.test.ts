/** What the engine relies on when it takes a checkpoint of a slot and brings slots back to it. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { Backend } from "../../engine/backend.ts";
import { loadLlamaBackend } from "../../engine/llama/load.ts";
import { GREEDY, LOAD_OPTIONS } from "../support/engine.ts";
import { TINY_DECODERS, writeTinyDecoder } from "../support/tiny-gguf.ts";

const folder = mkdtempSync(join(tmpdir(), "weft-checkpoint-contract-"));
const fileOf = (kind: string): string => join(folder, `${kind}.gguf`);
beforeAll(() => {
  for (const kind of TINY_DECODERS) writeTinyDecoder(fileOf(kind), kind);
});
afterAll(() => rmSync(folder, { recursive: true }));

const text = (length: number, first = 0): Uint32Array =>
  Uint32Array.from({ length }, (_, i) => 3 + ((first + i * 37) % 250));
const joined = (...texts: readonly Uint32Array[]): Uint32Array =>
  Uint32Array.from(texts.flatMap((tokens) => [...tokens]));

describe.each(TINY_DECODERS)("a checkpoint of %s", (kind) => {
  let backend: Backend;
  beforeEach(async () => {
    const options = { ...LOAD_OPTIONS, modelPath: fileOf(kind), slots: 3, contextTokens: 1024 };
    backend = await loadLlamaBackend({ ...options, prefillChunk: 32, threads: 1 }, () => undefined);
  });
  afterEach(() => backend.close());

  async function feed(slot: number, tokens: Uint32Array, from = 0): Promise<void> {
    for (let position = from; position < tokens.length; position += 32)
      await backend.run([{ slot, position, tokens: tokens.slice(position, position + 32), sample: false }])
        .done;
  }

  /** The log probabilities of what the model goes on with, bit by bit. */
  async function continued(slot: number, position: number, count = 6): Promise<unknown[]> {
    const sampler = backend.createSampler({ ...GREEDY, topLogprobs: 3 }, new Uint32Array(0));
    const drawn: unknown[] = [];
    let next = 40;
    for (let i = 0; i < count; i++) {
      const run = backend.run([{ slot, position: position + i, tokens: Uint32Array.of(next), sample: true }]);
      await run.done;
      const [logits] = run.logits;
      if (logits === undefined) throw new Error("no logits");
      const { token, logprobs } = await sampler.sample(logits, position + i + 1, []);
      drawn.push(token, logprobs);
      next = token;
    }
    sampler.dispose();
    return drawn;
  }

  const opening = text(320);
  const tail = text(64, 11);

  test("brings its slot back: it goes on as one that was computed anew, to the bit", async () => {
    await feed(0, joined(opening, tail));
    const cold = await continued(0, 384);
    backend.truncate(0, 0);
    await feed(0, opening);
    const checkpoint = await backend.takeCheckpoint(0);
    expect(checkpoint.bytes).toBeGreaterThan(0);
    await feed(0, joined(opening, text(480, 5)), 320);
    for (let again = 0; again < 2; again++) {
      await backend.restoreCheckpoint(0, checkpoint, 320);
      expect(backend.cellCount(0)).toBe(320);
      await feed(0, joined(opening, tail), 320);
      expect(await continued(0, 384)).toEqual(cold);
    }
    checkpoint.dispose();
  });

  test("brings another slot back that has what it needs, beside its own and others at work", async () => {
    await feed(2, joined(opening, tail));
    const cold = await continued(2, 384);
    backend.truncate(2, 0);
    await feed(0, opening);
    const checkpoint = await backend.takeCheckpoint(0);
    await feed(0, joined(opening, text(96, 5)), 320);
    await feed(1, text(64, 77));
    const { checkpointNeeds: needs } = backend;
    if (needs === "cells") await backend.copy(0, 2);
    if (needs === "own-cells") await feed(2, joined(opening, text(96, 9)));
    if (needs === "none") await feed(2, text(33, 9));
    await backend.restoreCheckpoint(2, checkpoint, 320);
    await feed(2, joined(opening, tail), 320);
    expect(await continued(2, 384)).toEqual(cold);
    const beside = await continued(0, 416);
    backend.truncate(1, 0);
    await feed(1, joined(opening, text(96, 5)));
    expect(await continued(1, 416)).toEqual(beside);
    checkpoint.dispose();
  });
});
