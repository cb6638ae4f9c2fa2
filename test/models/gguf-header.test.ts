import { readFileSync } from "node:fs";
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

/** Pieces of a header: numbers are u32, bigints u64, strings have their length in front. */
function header(...parts: readonly (number | bigint | string)[]): Uint8Array {
  const encoded = parts.map((part) => {
    if (typeof part === "number") return Buffer.from(Uint32Array.of(part).buffer);
    if (typeof part === "bigint") return Buffer.from(BigUint64Array.of(part).buffer);
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

const ARCHITECTURE = ["general.architecture", 8, "llama"] as const;

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

  it("is read or refused, whatever bytes it is made of", () => {
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
