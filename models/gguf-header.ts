/**
 * Reads a GGUF header and checks that the file can hold what it says, before native code sees it.
 *
 * A count of 2^40 in a header makes the native reader spin for minutes instead of failing; here every count is
 * held against the bytes that are left, and what may be read is bounded.
 */
import { closeSync, constants, fstatSync, openSync, readSync } from "node:fs";
import { checkMetadata } from "./gguf-metadata.ts";
import type { GgufValue } from "./gguf-metadata.ts";
import { GGUF_ARRAY, GGUF_STRING, GGUF_UINT32, TENSOR_BLOCKS, VALUE_BYTES } from "./gguf-types.ts";
import { ModelFileError } from "./model-file-error.ts";

export interface GgufHeader {
  /** `general.architecture`, e.g. "llama". */
  readonly architecture: string;
  /** `general.name`. */
  readonly name: string | undefined;
  /** Tokens the model was trained for. */
  readonly contextLength: number | undefined;
  readonly chatTemplate: string | undefined;
  readonly vocabSize: number | undefined;
  readonly tensorCount: number;
  /** Lengths of the dimensions of each tensor, the fastest first, by its name. */
  readonly shapes: ReadonlyMap<string, readonly number[]>;
  /** Set when the file is no model but an adapter of one. */
  readonly adapter: AdapterHeader | undefined;
  /** Elements of all tensors. */
  readonly parameters: number;
  /** Bytes of all tensors. */
  readonly tensorBytes: number;
  readonly fileBytes: number;
}

export interface AdapterHeader {
  /** `adapter.type`, e.g. "lora". */
  readonly type: string | undefined;
  /** Whether it works only behind tokens that invoke it (aLoRA). */
  readonly invoked: boolean;
}

/** Real models have under 3,000 tensors and under 100 keys. */
const MAX_TENSORS = 65_536;
const MAX_KEYS = 65_536;
/** Names of keys and tensors; real ones are under 64 bytes. */
const MAX_NAME_BYTES = 65_535;
/** The longest real strings are chat templates, some 20 kB. */
const MAX_STRING_BYTES = 16 * 1024 * 1024;
/** Vocabularies of 260,000 tokens take about 15 MB; reading this much takes well under a second. */
const MAX_HEADER_BYTES = 64 * 1024 * 1024;
const MAX_ALIGNMENT = 4096;
const MAX_DIMENSION = 2 ** 40;
/** Dimensions ggml can hold. */
const MAX_DIMENSIONS = 4;
/** The largest models are spread over some 200 files. */
const MAX_PARTS = 1000;
const TOKEN_EMBEDDINGS = "token_embd.weight";
const READ_CHUNK_BYTES = 256 * 1024;
/** "GGUF" as a little-endian number. */
const MAGIC = 0x46554747;

/** Bytes at known positions: a file, or memory in tests. */
export interface ByteSource {
  readonly size: number;
  /** Up to `length` bytes from `offset`; fewer only at the end. */
  read(offset: number, length: number): Uint8Array;
}

/**
 * Of a model in several files it checks all of them, which stand side by side, and adds up what they hold.
 * @param what It is called so in errors.
 * @throws {ModelFileError} `model_not_found` or `model_invalid`, with the path, the reason and the byte.
 */
export function readGgufHeader(path: string, what: "model" | "adapter" = "model"): GgufHeader {
  const first = readPart(path, what, true);
  const parts = otherParts(path, first.splitCount).map((part) => readPart(part, what, false));
  const sum = (of: (header: GgufHeader) => number): number =>
    parts.reduce((total, part) => total + of(part), of(first));
  const { splitCount: _, ...header } = first;
  return {
    ...header,
    tensorCount: sum(({ tensorCount }) => tensorCount),
    shapes: new Map([first, ...parts].flatMap(({ shapes }) => [...shapes])),
    parameters: sum(({ parameters }) => parameters),
    tensorBytes: sum(({ tensorBytes }) => tensorBytes),
    fileBytes: sum(({ fileBytes }) => fileBytes),
  };
}

/** The files of a split model beside its first one, which alone may be named. */
function otherParts(path: string, count: number): string[] {
  if (count <= 1) return [];
  const number = (part: number): string => String(part).padStart(5, "0");
  const ending = `-${number(1)}-of-${number(count)}.gguf`;
  if (count > MAX_PARTS || !path.endsWith(ending)) {
    throw new ModelFileError(
      "model_invalid",
      `${path} is one of ${count} parts of a model; give the first one, whose name ends in ${ending}.`,
    );
  }
  const stem = path.slice(0, -ending.length);
  return Array.from({ length: count - 1 }, (_, i) => `${stem}-${number(i + 2)}-of-${number(count)}.gguf`);
}

/** @param isWhole Whether it has to tell what model it is, as all but later parts do. */
function readPart(path: string, what: string, isWhole: boolean): ParsedHeader {
  let file: number;
  try {
    // Not to wait for a writer should it be a pipe.
    file = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (cause) {
    throw new ModelFileError("model_not_found", `Cannot open the ${what} file ${path}: ${reasonOf(cause)}.`, {
      cause,
    });
  }
  try {
    const stat = fstatSync(file);
    if (!stat.isFile()) throw new ModelFileError("model_not_found", `${path} is not a file.`);
    const source: ByteSource = {
      size: stat.size,
      read(offset, length) {
        const bytes = new Uint8Array(length);
        return bytes.subarray(0, readSync(file, bytes, 0, length, offset));
      },
    };
    return parseGgufHeader(source, isWhole);
  } catch (cause) {
    if (!(cause instanceof ModelFileError) || cause.code !== "model_invalid") throw cause;
    const { offset } = cause;
    const message = `${path} is not a usable GGUF ${what}: ${cause.message} (at byte ${offset ?? 0}). Download it again.`;
    throw new ModelFileError("model_invalid", message, offset === undefined ? {} : { offset });
  } finally {
    closeSync(file);
  }
}

/** A header, and over how many files its model is spread. */
export interface ParsedHeader extends GgufHeader {
  readonly splitCount: number;
}

/**
 * @param isWhole Whether it has to tell what model it is, as all but the later parts of a split model do.
 * @throws {ModelFileError} `model_invalid` with the reason and the byte offset. Never anything else.
 */
export function parseGgufHeader(source: ByteSource, isWhole = true): ParsedHeader {
  const cursor: Cursor = new Cursor(source);
  if (source.size < 24) cursor.fail(source.size === 0 ? "the file is empty" : "the file is too short");
  if (cursor.u32() !== MAGIC) cursor.fail("it does not begin with GGUF");
  const version = cursor.u32();
  if (version !== 2 && version !== 3) cursor.fail(`GGUF version ${version} is not 2 or 3`);
  const tensorCount = cursor.count("tensors", MAX_TENSORS);
  const keyCount = cursor.count("keys", MAX_KEYS);

  const values = new Map<string, GgufValue>();
  for (let index = 0; index < keyCount; index++) {
    const at = cursor.offset;
    const key = cursor.string(MAX_NAME_BYTES);
    // Two readers of one file would take different ones.
    if (values.has(key)) cursor.fail(`the key ${printable(key)} is there twice`, at);
    values.set(key, readValue(cursor, key));
  }
  const named = values.get("general.architecture");
  if (typeof named !== "string" && (isWhole || named !== undefined)) {
    cursor.fail("general.architecture is missing");
  }
  const architecture = named ?? "";
  const alignment = values.get("general.alignment") ?? 32;
  if (typeof alignment !== "number" || !isAlignment(alignment)) {
    cursor.fail("general.alignment is not a power of two up to 4096");
  }
  const tensors = readTensors(cursor, tensorCount, alignment);
  const wrong = checkMetadata(values, architecture, tensors.vocabularyRows);
  if (wrong !== undefined) cursor.fail(wrong);
  const vocabulary = values.get("tokenizer.ggml.tokens");
  return {
    architecture,
    name: textOf(values.get("general.name")),
    contextLength: numberOf(values.get(`${architecture}.context_length`)),
    chatTemplate: textOf(values.get("tokenizer.chat_template")),
    vocabSize: typeof vocabulary === "object" ? vocabulary.length : undefined,
    tensorCount,
    shapes: tensors.shapes,
    adapter:
      values.get("general.type") === "adapter"
        ? { type: textOf(values.get("adapter.type")), invoked: values.has("adapter.alora.invocation_tokens") }
        : undefined,
    parameters: tensors.parameters,
    tensorBytes: tensors.bytes,
    fileBytes: source.size,
    splitCount: numberOf(values.get("split.count")) ?? 1,
  };
}

function readValue(cursor: Cursor, key: string): GgufValue {
  const type = cursor.u32();
  if (type === GGUF_STRING) return cursor.string(MAX_STRING_BYTES);
  if (type !== GGUF_ARRAY) {
    // The native reader ends its process when this one has another type.
    if (key === "general.alignment" && type !== GGUF_UINT32) cursor.fail("general.alignment is no uint32");
    return cursor.scalar(type, key);
  }
  const elementType = cursor.u32();
  const length = cursor.u64();
  if (elementType === GGUF_STRING) {
    // Each string takes 8 bytes at least.
    cursor.require(length * 8, `the array ${printable(key)} of ${length} strings`);
    for (let index = 0; index < length; index++) cursor.skipString();
    return { length, elementType };
  }
  const elementBytes = VALUE_BYTES.get(elementType);
  // Arrays of arrays are in the format, but no model has one.
  if (elementBytes === undefined) cursor.fail(`the array ${printable(key)} has element type ${elementType}`);
  cursor.skip(length * elementBytes, `the array ${printable(key)} of ${length} elements`);
  return { length, elementType };
}

interface Tensors {
  readonly shapes: ReadonlyMap<string, readonly number[]>;
  readonly parameters: number;
  readonly bytes: number;
  /** Rows of the token embeddings; undefined without them. */
  readonly vocabularyRows: number | undefined;
}

interface Extent {
  readonly name: string;
  readonly start: number;
  readonly end: number;
  /** Where the header tells of it. */
  readonly at: number;
}

function readTensors(cursor: Cursor, count: number, alignment: number): Tensors {
  let parameters = 0;
  let bytes = 0;
  let vocabularyRows: number | undefined;
  const extents: Extent[] = [];
  const shapes = new Map<string, readonly number[]>();
  for (let index = 0; index < count; index++) {
    const at = cursor.offset;
    const fullName = cursor.string(MAX_NAME_BYTES);
    const name = printable(fullName);
    if (shapes.has(fullName)) cursor.fail(`the tensor ${name} is there twice`, at);
    const dimensions = cursor.u32();
    if (dimensions < 1 || dimensions > MAX_DIMENSIONS) {
      cursor.fail(`tensor ${name} has ${dimensions} dimensions`);
    }
    let elements = 1;
    let rowElements = 1;
    const shape: number[] = [];
    for (let dimension = 0; dimension < dimensions; dimension++) {
      const length = cursor.u64();
      if (length < 1 || length > MAX_DIMENSION) cursor.fail(`tensor ${name} has a dimension of ${length}`);
      if (dimension === 0) rowElements = length;
      elements *= length;
      shape.push(length);
    }
    shapes.set(fullName, shape);
    if (fullName === TOKEN_EMBEDDINGS && dimensions === 2) vocabularyRows = elements / rowElements;
    const type = cursor.u32();
    const block = TENSOR_BLOCKS.get(type);
    if (block === undefined) cursor.fail(`tensor ${name} has the unknown type ${type}`);
    const [blockElements, blockBytes] = block;
    if (rowElements % blockElements !== 0) cursor.fail(`tensor ${name} has rows of ${rowElements} elements`);
    const size = (elements / blockElements) * blockBytes;
    const start = cursor.u64();
    if (start % alignment !== 0) cursor.fail(`tensor ${name} is not aligned to ${alignment} bytes`);
    extents.push({ name, start, end: start + size, at });
    parameters += elements;
    bytes += size;
  }
  const dataStart = Math.ceil(cursor.offset / alignment) * alignment;
  for (const { name, end, at } of extents) {
    // Numbers past 2^53 lose precision here but stay larger than any file.
    if (dataStart + end > cursor.size) {
      cursor.fail(`tensor ${name} ends at ${dataStart + end}, the file at ${cursor.size}: it is cut off`, at);
    }
  }
  checkOverlaps(cursor, extents);
  return { shapes, parameters, bytes, vocabularyRows };
}

function checkOverlaps(cursor: Cursor, extents: readonly Extent[]): void {
  let last: Extent | undefined;
  for (const extent of extents.toSorted((a, b) => a.start - b.start)) {
    if (last !== undefined && extent.start < last.end) {
      cursor.fail(`tensor ${extent.name} lies over tensor ${last.name}`, extent.at);
    }
    last = extent;
  }
}

/** A position in the header that never passes the end of the file or the budget. */
class Cursor {
  offset = 0;
  readonly size: number;
  readonly #source: ByteSource;
  #chunk: DataView = new DataView(new ArrayBuffer(0));
  #chunkStart = 0;

  constructor(source: ByteSource) {
    this.#source = source;
    this.size = source.size;
  }

  fail(reason: string, at: number = this.offset): never {
    throw new ModelFileError("model_invalid", reason, { offset: at });
  }

  /** Fails unless that many bytes are left of the file and of the budget. */
  require(bytes: number, what: string): void {
    if (bytes > this.size - this.offset) this.fail(`${what} reaches past the end of the file`);
    if (this.offset + bytes > MAX_HEADER_BYTES) this.fail(`${what} makes the header larger than 64 MiB`);
  }

  skip(bytes: number, what: string): void {
    this.require(bytes, what);
    this.offset += bytes;
  }

  u32(): number {
    const at = this.#take(4);
    return this.#chunk.getUint32(at, true);
  }

  u64(): number {
    const at = this.#take(8);
    const value = this.#chunk.getBigUint64(at, true);
    if (value > BigInt(Number.MAX_SAFE_INTEGER)) this.fail(`the number ${value} is absurd`, this.offset - 8);
    return Number(value);
  }

  count(what: string, most: number): number {
    const value = this.u64();
    if (value > most) this.fail(`it claims ${value} ${what}, more than ${most}`, this.offset - 8);
    return value;
  }

  string(mostBytes: number): string {
    const length = this.u64();
    if (length > mostBytes) this.fail(`a string of ${length} bytes is too long`, this.offset - 8);
    this.require(length, `a string of ${length} bytes`);
    const bytes = this.#source.read(this.offset, length);
    if (bytes.length < length) this.fail("the file became shorter while it was read");
    this.offset += length;
    return new TextDecoder().decode(bytes);
  }

  skipString(): void {
    const length = this.u64();
    this.skip(length, `a string of ${length} bytes`);
  }

  /** A value of fixed size, as a number. */
  scalar(type: number, key: string): number {
    const bytes = VALUE_BYTES.get(type);
    if (bytes === undefined) this.fail(`the key ${printable(key)} has the unknown type ${type}`);
    if (type === 4) return this.u32();
    const at = this.#take(bytes);
    if (type === 10) return Number(this.#chunk.getBigUint64(at, true));
    if (type === 5) return this.#chunk.getInt32(at, true);
    if (type === 2) return this.#chunk.getUint16(at, true);
    // Nothing we look for has one of the other types.
    return Number.NaN;
  }

  /** Moves over `bytes` (8 at most) and returns where they are in the chunk. */
  #take(bytes: number): number {
    this.require(bytes, "a number");
    const inChunk = this.offset - this.#chunkStart;
    if (inChunk < 0 || inChunk + bytes > this.#chunk.byteLength) {
      const read = this.#source.read(this.offset, Math.min(READ_CHUNK_BYTES, this.size - this.offset));
      if (read.length < bytes) this.fail("the file became shorter while it was read");
      this.#chunk = new DataView(read.buffer, read.byteOffset, read.byteLength);
      this.#chunkStart = this.offset;
    }
    const at = this.offset - this.#chunkStart;
    this.offset += bytes;
    return at;
  }
}

function isAlignment(value: number): boolean {
  return Number.isInteger(value) && value >= 1 && value <= MAX_ALIGNMENT && (value & (value - 1)) === 0;
}

function textOf(value: GgufValue | undefined): string | undefined {
  return typeof value === "string" ? value : undefined;
}

function numberOf(value: GgufValue | undefined): number | undefined {
  return typeof value === "number" && Number.isFinite(value) ? value : undefined;
}

/** A name out of the file, fit for a terminal. */
function printable(name: string): string {
  return JSON.stringify(name.length > 64 ? `${name.slice(0, 64)}…` : name);
}

function reasonOf(cause: unknown): string {
  const code = cause instanceof Error && "code" in cause ? String(cause.code) : "unknown error";
  if (code === "ENOENT") return "there is no such file";
  if (code === "EACCES") return "this user may not read it";
  return code;
}
