/** Tells files apart: models by their ends, since reading all of a large one takes longer than loading it. */
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { open } from "node:fs/promises";
import { pipeline } from "node:stream/promises";

/** How much of either end of a file goes into its fingerprint. */
const FINGERPRINT_BYTES = 1 << 20;

/**
 * @param settings What else may change an output; plain data.
 * @returns 10 hex digits.
 */
export async function fingerprint(path: string, settings: readonly unknown[]): Promise<string> {
  const hash = createHash("sha256");
  const file = await open(path);
  try {
    const { size } = await file.stat();
    const buffer = Buffer.alloc(FINGERPRINT_BYTES);
    for (const position of [0, Math.max(0, size - FINGERPRINT_BYTES)]) {
      const { bytesRead } = await file.read(buffer, 0, FINGERPRINT_BYTES, position);
      hash.update(buffer.subarray(0, bytesRead));
    }
    hash.update(JSON.stringify([size, ...settings]));
  } finally {
    await file.close();
  }
  return hash.digest("hex").slice(0, 10);
}

/**
 * Of all that is in a file: adapters of one model have the same size and may have the same ends.
 * @returns 16 hex digits.
 */
export async function wholeFingerprint(path: string): Promise<string> {
  const hash = createHash("sha256");
  await pipeline(createReadStream(path), hash);
  return hash.digest("hex").slice(0, 16);
}
