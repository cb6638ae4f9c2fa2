import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { parseGgufHeader, readGgufHeader } from "../../models/gguf-header.ts";
import type { ByteSource } from "../../models/gguf-header.ts";
import { ModelFileError } from "../../models/model-file-error.ts";
import { packageRoot } from "../../models/package-root.ts";

const pocketPath = join(packageRoot, "models/pocket.gguf");

function memory(bytes: Uint8Array): ByteSource {
  return { size: bytes.length, read: (offset, length) => bytes.slice(offset, offset + length) };
}

/** Pieces of a header: numbers are u32, bigints u64, strings have their length in front, bytes are as they are. */
function header(...parts: readonly (number | bigint | string | Uint8Array)[]): Uint8Array {
  const encoded = parts.map((part) => {
    if (typeof part === "number") return Buffer.from(Uint32Array.of(part).buffer);
    if (typeof part === "bigint") return Buffer.from(BigUint64Array.of(part).buffer);
    if (part instanceof Uint8Array) return part;
    const text = Buffer.from(part);
    return Buffer.concat([Buffer.from(BigUint64Array.of(BigInt(text.length)).buffer), text]);
  });
  return new Uint8Array(Buffer.concat([Buffer.from("GGUF"), ...encoded]));
}

function failureOf(bytes: Uint8Array): ModelFileError | undefined {
  try {
    parseGgufHeader(memory(bytes));
    return undefined;
  } catch (error) {
    if (error instanceof ModelFileError) return error;
    throw error;
  }
}

/** As a uint16. */
const SHORT_2 = Uint8Array.of(2, 0);

const ARCHITECTURE = ["general.architecture", 8, "llama"] as const;

/** The vocabulary's key and type; its length and tokens follow. */
const TOKENS = (elementType: number) => ["tokenizer.ggml.tokens", 9, elementType] as const;

/** With room for tensors. */
function padded(bytes: Uint8Array): Uint8Array {
  return new Uint8Array(Buffer.concat([bytes, Buffer.alloc(512)]));
}

describe("a GGUF header", () => {
  it("yields what is known of the model without loading it", () => {
    const { chatTemplate, ...rest } = readGgufHeader(pocketPath);
    expect(chatTemplate).toContain("<|im_start|>");
    expect(rest).toMatchObject({ architecture: "llama", fileBytes: 2_068_288 });
    expect(rest.vocabSize).toBeGreaterThan(100);
    expect(rest.tensorCount).toBeGreaterThan(10);
    expect(rest.contextLength).toBeGreaterThan(100);
    expect(rest.tensorBytes).toBeLessThan(rest.fileBytes);
  });

  it("is accepted when it says the least", () => {
    expect(parseGgufHeader(memory(header(3, 0n, 1n, ...ARCHITECTURE)))).toMatchObject({
      architecture: "llama",
      tensorCount: 0,
      chatTemplate: undefined,
    });
  });

  it.each([
    ["an empty file", new Uint8Array(), 0, "the file is empty"],
    [
      "another format",
      new TextEncoder().encode("<!doctype html><html><body>"),
      4,
      "it does not begin with GGUF",
    ],
    ["version 1", header(1, 0n, 0n, 0n), 8, "GGUF version 1 is not 2 or 3"],
    ["2^40 tensors", header(3, 2n ** 40n, 0n), 8, "it claims 1099511627776 tensors, more than 65536"],
    ["2^62 keys", header(3, 0n, 2n ** 62n), 16, "the number 4611686018427387904 is absurd"],
    ["no architecture", header(3, 0n, 1n, "a", 4, 1), 41, "general.architecture is missing"],
    ["a key of 2^40 bytes", header(3, 0n, 1n, 2n ** 40n), 24, "a string of 1099511627776 bytes is too long"],
    [
      "a string past the end",
      header(3, 0n, 1n, "a", 8, 99n),
      45,
      "a string of 99 bytes reaches past the end of the file",
    ],
    ["an unknown type", header(3, 0n, 1n, "a", 77), 37, 'the key "a" has the unknown type 77'],
    [
      "an array of 2^40 strings",
      header(3, 0n, 1n, "a", 9, 8, 2n ** 40n),
      49,
      'the array "a" of 1099511627776 strings reaches past the end of the file',
    ],
    [
      "an array of 2^40 numbers",
      header(3, 0n, 1n, "a", 9, 4, 2n ** 40n),
      49,
      'the array "a" of 1099511627776 elements reaches past the end of the file',
    ],
    ["an array of arrays", header(3, 0n, 1n, "a", 9, 9, 1n, 9, 1n), 49, 'the array "a" has element type 9'],
    [
      "an alignment of 3",
      header(3, 0n, 2n, ...ARCHITECTURE, "general.alignment", 4, 3),
      102,
      "general.alignment is not a power of two up to 4096",
    ],
    [
      "a tensor of 9 dimensions",
      header(3, 1n, 1n, ...ARCHITECTURE, "t", 9),
      82,
      'tensor "t" has 9 dimensions',
    ],
    [
      "a dimension of 0",
      header(3, 1n, 1n, ...ARCHITECTURE, "t", 1, 0n),
      90,
      'tensor "t" has a dimension of 0',
    ],
    [
      "an unknown tensor type",
      header(3, 1n, 1n, ...ARCHITECTURE, "t", 1, 32n, 99, 0n),
      94,
      'tensor "t" has the unknown type 99',
    ],
    [
      "rows that are no whole blocks",
      header(3, 1n, 1n, ...ARCHITECTURE, "t", 1, 33n, 2, 0n),
      94,
      'tensor "t" has rows of 33 elements',
    ],
    [
      "an unaligned tensor",
      header(3, 1n, 1n, ...ARCHITECTURE, "t", 1, 32n, 0, 7n),
      102,
      'tensor "t" is not aligned to 32 bytes',
    ],
    [
      "a tensor past the end",
      header(3, 1n, 1n, ...ARCHITECTURE, "t", 1, 32n, 0, 0n),
      69,
      'tensor "t" ends at 256, the file at 102: it is cut off',
    ],
    [
      "an alignment of another type",
      header(3, 0n, 2n, ...ARCHITECTURE, "general.alignment", 5, 32),
      98,
      "general.alignment is no uint32",
    ],
    [
      "a key that is there twice",
      header(3, 0n, 2n, ...ARCHITECTURE, ...ARCHITECTURE),
      69,
      'the key "general.architecture" is there twice',
    ],
    [
      "2^32 - 1 layers",
      header(3, 0n, 2n, ...ARCHITECTURE, "llama.block_count", 4, 2 ** 32 - 1),
      102,
      "llama.block_count is 4294967295, which is not from 1 to 512",
    ],
    [
      "no layers",
      header(3, 0n, 2n, ...ARCHITECTURE, "llama.block_count", 4, 0),
      102,
      "llama.block_count is 0, which is not from 1 to 512",
    ],
    [
      "-1 heads",
      header(3, 0n, 2n, ...ARCHITECTURE, "llama.attention.head_count", 5, 2 ** 32 - 1),
      111,
      "llama.attention.head_count is -1, which is not from 0 to 65536",
    ],
    [
      "more experts used than there are",
      header(3, 0n, 3n, ...ARCHITECTURE, "llama.expert_count", 4, 2, "llama.expert_used_count", 4, 3),
      142,
      "llama.expert_used_count is 3, of 2 experts",
    ],
    [
      "tokens that are numbers",
      header(3, 0n, 2n, ...ARCHITECTURE, ...TOKENS(4), 1n, 7),
      118,
      "tokenizer.ggml.tokens is no array of strings",
    ],
    [
      "fewer scores than tokens",
      header(3, 0n, 3n, ...ARCHITECTURE, ...TOKENS(8), 2n, "a", "b", "tokenizer.ggml.scores", 9, 6, 1n, 0),
      181,
      "tokenizer.ggml.scores has 1 values for 2 tokens",
    ],
    [
      "token types of one byte",
      header(3, 0n, 3n, ...ARCHITECTURE, ...TOKENS(8), 1n, "a", "tokenizer.ggml.token_type", 9, 7, 1n, "x"),
      173,
      "tokenizer.ggml.token_type has values of the wrong type",
    ],
    [
      "a tensor that is there twice",
      header(3, 2n, 1n, ...ARCHITECTURE, "t", 1, 8n, 0, 0n, "t", 1, 8n, 0, 32n),
      102,
      'the tensor "t" is there twice',
    ],
    [
      "embeddings for another vocabulary",
      padded(
        header(3, 1n, 2n, ...ARCHITECTURE, ...TOKENS(8), 1n, "a", "token_embd.weight", 2, 8n, 2n, 0, 0n),
      ),
      180,
      "the embeddings have 2 rows and the vocabulary has 1 tokens",
    ],
    [
      "tensors over each other",
      padded(header(3, 2n, 1n, ...ARCHITECTURE, "b", 1, 16n, 0, 0n, "a", 1, 8n, 0, 32n)),
      102,
      'tensor "a" lies over tensor "b"',
    ],
  ] as const)("is refused with %s", (_name, bytes, offset, reason) => {
    const error = failureOf(bytes);
    expect({ code: error?.code, offset: error?.offset, message: error?.message }).toEqual({
      code: "model_invalid",
      offset,
      message: reason,
    });
  });

  it("is refused wherever the file is cut off", () => {
    const bytes = new Uint8Array(readFileSync(pocketPath));
    for (let length = 0; length < bytes.length; length += 9973) {
      expect(failureOf(bytes.subarray(0, length))?.code).toBe("model_invalid");
    }
  });

  it("row 99: is read or refused, whatever bytes it is made of", () => {
    const bytes = new Uint8Array(readFileSync(pocketPath)).subarray(0, 60_000);
    const edit = fc.tuple(fc.nat(2000), fc.uint8Array({ minLength: 1, maxLength: 8 }));
    fc.assert(
      fc.property(fc.array(edit, { minLength: 1, maxLength: 4 }), (edits) => {
        const mutant = bytes.slice();
        for (const [at, replacement] of edits) mutant.set(replacement, at);
        // Anything but a header or a ModelFileError is thrown on and fails the property.
        expect(failureOf(mutant)?.code).toBeOneOf([undefined, "model_invalid"]);
      }),
      { numRuns: 100 },
    );
  });

  it("is not looked for in what is no file, and found through links", () => {
    const folder = mkdtempSync(join(tmpdir(), "weft-gguf-"));
    const at = (name: string): string => join(folder, name);
    symlinkSync(pocketPath, at("link.gguf"));
    symlinkSync(at("nowhere"), at("dangling.gguf"));
    symlinkSync(at("loop.gguf"), at("loop.gguf"));
    symlinkSync(folder, at("folder.gguf"));
    execFileSync("mkfifo", [at("pipe.gguf")]);
    expect(readGgufHeader(at("link.gguf")).architecture).toBe("llama");
    for (const [name, why] of [
      ["dangling", "there is no such file"],
      ["loop", "ELOOP"],
      ["folder", "is not a file"],
      ["pipe", "is not a file"],
    ] as const) {
      expect(() => readGgufHeader(at(`${name}.gguf`))).toThrow(why);
    }
    expect(() => readGgufHeader("/dev/null")).toThrow("is not a file");
    rmSync(folder, { recursive: true });
  });

  it("of a model in several files is checked in all of them", () => {
    const folder = mkdtempSync(join(tmpdir(), "weft-gguf-"));
    const part = (number: number): string => join(folder, `m-0000${number}-of-00002.gguf`);
    const split = ["split.count", 2, SHORT_2] as const;
    writeFileSync(part(1), header(3, 0n, 2n, ...ARCHITECTURE, ...split));
    expect(() => readGgufHeader(part(1))).toThrow(`Cannot open the model file ${part(2)}`);
    writeFileSync(part(2), padded(header(3, 1n, 1n, ...split, "t", 1, 8n, 0, 0n)));
    expect(readGgufHeader(part(1))).toMatchObject({ architecture: "llama", tensorCount: 1, parameters: 8 });
    writeFileSync(part(2), header(3, 1n, 1n, ...split, "t", 1, 8n, 0, 0n));
    expect(() => readGgufHeader(part(1))).toThrow(/00002-of-00002.gguf is not a usable GGUF.*cut off/);
    writeFileSync(join(folder, "other.gguf"), header(3, 0n, 2n, ...ARCHITECTURE, ...split));
    expect(() => readGgufHeader(join(folder, "other.gguf"))).toThrow("is one of 2 parts of a model");
    rmSync(folder, { recursive: true });
  });

  it("says which file is wrong, why, and at which byte", () => {
    const path = join(packageRoot, "package.json");
    expect(() => readGgufHeader(path)).toThrow(
      `${path} is not a usable GGUF model: it does not begin with GGUF (at byte 4). Download it again.`,
    );
    expect(() => readGgufHeader("no-such-file.gguf")).toThrow(
      "Cannot open the model file no-such-file.gguf: there is no such file.",
    );
    expect(() => readGgufHeader(packageRoot)).toThrow(`${packageRoot} is not a file.`);
  });
});
