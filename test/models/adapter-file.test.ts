/** Adapters that cannot be applied are told before an engine starts, and why. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { checkAdapterFile } from "../../models/adapter-file.ts";
import { readGgufHeader } from "../../models/gguf-header.ts";
import { ModelFileError } from "../../models/model-file-error.ts";
import { packageRoot } from "../../models/package-root.ts";
import { writeTinyAdapter } from "../support/tiny-gguf.ts";

const POCKET = join(packageRoot, "models/pocket.gguf");
const PIRATE = join(packageRoot, "models/pocket-pirate-lora.gguf");
const folder = mkdtempSync(join(tmpdir(), "weft-adapter-"));
const pocket = readGgufHeader(POCKET);
const FITTING = { "blk.0.attn_q.weight": [128, 128], "blk.3.attn_k.weight": [128, 64] } as const;

afterAll(() => rmSync(folder, { recursive: true }));

test("one that fits is taken", () => {
  expect(readGgufHeader(PIRATE).adapter).toEqual({ type: "lora", invoked: false });
  expect(pocket.adapter).toBeUndefined();
  expect(() => checkAdapterFile(PIRATE, pocket)).not.toThrow();
  const path = join(folder, "fitting.gguf");
  writeTinyAdapter(path, FITTING);
  expect(() => checkAdapterFile(path, pocket)).not.toThrow();
});

test.each([
  [
    "another architecture",
    FITTING,
    { "general.architecture": "qwen2" },
    "was made for a qwen2 model, and this one is llama",
  ],
  [
    "another kind of adapter",
    FITTING,
    { "adapter.type": "ia3" },
    "is an adapter of the type ia3; only lora can be applied",
  ],
  ["a model", FITTING, { "general.type": "model" }, "is no LoRA adapter but a model; serve it with --model"],
  [
    "an invocation",
    FITTING,
    { "adapter.alora.invocation_tokens": [1, 2] },
    "is an adapter that has to be invoked (aLoRA), which cannot be applied",
  ],
  ["no weights", {}, {}, "has no weights"],
  [
    "more layers",
    { "blk.9.attn_q.weight": [128, 128] },
    {},
    "was made for another model: this one has no blk.9.attn_q.weight",
  ],
  [
    "wider layers",
    { "blk.0.attn_q.weight": [256, 256] },
    {},
    "was made for another model: blk.0.attn_q.weight is 128 by 128 in this one, and of another size in the adapter",
  ],
  [
    "its ends exchanged",
    { "blk.0.attn_k.weight": [64, 128] },
    {},
    "blk.0.attn_k.weight is 128 by 64 in this one",
  ],
] as const)("one with %s is refused", (name, weights, metadata, message) => {
  const path = join(folder, `${name}.gguf`);
  writeTinyAdapter(path, weights, metadata);
  expect(() => checkAdapterFile(path, pocket)).toThrow(ModelFileError);
  expect(() => checkAdapterFile(path, pocket)).toThrow(message);
  expect(() => checkAdapterFile(path, pocket)).toThrow(path);
});

test("a file that is cut off, or not there, is refused", () => {
  const path = join(folder, "cut.gguf");
  writeFileSync(path, readFileSync(PIRATE).subarray(0, 100_000));
  expect(() => checkAdapterFile(path, pocket)).toThrow(/ is not a usable GGUF adapter: .* it is cut off/);
  const none = join(folder, "none.gguf");
  expect(() => checkAdapterFile(none, pocket)).toThrow(
    `Cannot open the adapter file ${none}: there is no such file.`,
  );
});
