/** Writes an F16 model with its matrices as Q8_0: blocks of 32 values, each a number from -127 to 127, and their scale. */
import { readFileSync, writeFileSync } from "node:fs";
import { GGUF_ARRAY, GGUF_STRING, VALUE_BYTES } from "../../models/gguf-types.ts";

const F16 = 1;
const Q8_0 = 8;
const BLOCK = 32;
const BLOCK_BYTES = 34;
/** As llama.cpp names a file of mostly such weights (`llama_ftype`). */
const MOSTLY_Q8_0 = 7;

interface TensorInfo {
  readonly rows: number;
  readonly rowValues: number;
  readonly type: number;
  readonly offset: number;
  /** Where type and offset are written. */
  readonly at: number;
}

export function writeQuantized(from: string, to: string): void {
  const file = readFileSync(from);
  const { tensors, fileTypeAt, end } = readHeader(file);
  const header = Buffer.from(file.subarray(0, aligned(end)));
  header.writeUInt32LE(MOSTLY_Q8_0, fileTypeAt);
  const parts: Buffer[] = [header];
  let offset = 0;
  tensors.forEach((tensor, i) => {
    const nextOffset = tensors[i + 1]?.offset ?? file.length - aligned(end);
    const start = aligned(end) + tensor.offset;
    const bytes = file.subarray(start, aligned(end) + nextOffset);
    const isMatrix = tensor.type === F16 && tensor.rows > 1 && tensor.rowValues % BLOCK === 0;
    const data = isMatrix ? quantized(bytes, tensor.rows * tensor.rowValues) : Buffer.from(bytes);
    header.writeUInt32LE(isMatrix ? Q8_0 : tensor.type, tensor.at);
    header.writeBigUInt64LE(BigInt(offset), tensor.at + 4);
    parts.push(data, Buffer.alloc(aligned(data.length) - data.length));
    offset += aligned(data.length);
  });
  writeFileSync(to, Buffer.concat(parts));
}

function readHeader(file: Buffer): { tensors: TensorInfo[]; fileTypeAt: number; end: number } {
  let at = 8;
  const u32 = (): number => file.readUInt32LE((at += 4) - 4);
  const u64 = (): number => Number(file.readBigUInt64LE((at += 8) - 8));
  const text = (): string => {
    const length = u64();
    return file.toString("utf8", at, (at += length));
  };
  const skip = (type: number): void => {
    if (type === GGUF_STRING) return void text();
    if (type !== GGUF_ARRAY) return void (at += VALUE_BYTES.get(type) ?? 0);
    const [each, count] = [u32(), u64()];
    for (let i = 0; i < count; i++) skip(each);
  };
  const [tensorCount, keys] = [u64(), u64()];
  let fileTypeAt = 0;
  for (let i = 0; i < keys; i++) {
    const key = text();
    const type = u32();
    if (key === "general.file_type") fileTypeAt = at;
    skip(type);
  }
  const tensors = Array.from({ length: tensorCount }, (): TensorInfo => {
    text();
    const shape = Array.from({ length: u32() }, u64);
    const infoAt = at;
    const [type, offset] = [u32(), u64()];
    const [rowValues = 1, ...others] = shape;
    return {
      rows: others.reduce((product, length) => product * length, 1),
      rowValues,
      type,
      offset,
      at: infoAt,
    };
  });
  return { tensors, fileTypeAt, end: at };
}

/** GGUF's default alignment. */
function aligned(bytes: number): number {
  return Math.ceil(bytes / 32) * 32;
}

function quantized(halves: Buffer, values: number): Buffer {
  const blocks = Buffer.alloc((values / BLOCK) * BLOCK_BYTES);
  for (let block = 0; block * BLOCK < values; block++) {
    const read = Array.from({ length: BLOCK }, (_, i) =>
      fromHalf(halves.readUInt16LE(2 * (block * BLOCK + i))),
    );
    const scale = Math.max(...read.map(Math.abs)) / 127;
    blocks.writeUInt16LE(toHalf(scale), block * BLOCK_BYTES);
    read.forEach((value, i) =>
      blocks.writeInt8(scale === 0 ? 0 : Math.round(value / scale), block * BLOCK_BYTES + 2 + i),
    );
  }
  return blocks;
}

function fromHalf(bits: number): number {
  const [sign, exponent, fraction] = [bits >> 15 === 0 ? 1 : -1, (bits >> 10) & 31, bits & 1023];
  return sign * (exponent === 0 ? fraction * 2 ** -24 : (1 + fraction / 1024) * 2 ** (exponent - 15));
}

/** Of a number from 0 to the largest half. */
function toHalf(value: number): number {
  const exponent = value < 2 ** -14 ? -14 : Math.floor(Math.log2(value));
  const fraction = Math.round(value * 2 ** (10 - exponent));
  // One that rounds up to the next power of two carries into the exponent, and one below the first has none.
  return value < 2 ** -14 ? fraction : ((exponent + 15) << 10) + (fraction - 1024);
}
