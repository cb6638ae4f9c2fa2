/**
 * Refuses a context that cannot fit, by arithmetic alone. The runtime finds out by making a context without its
 * tensors, for which it keeps a record of every cell: asked for far too much it takes minutes and gigabytes.
 */
import { EngineError } from "../errors.ts";

export interface ContextSize {
  readonly slots: number;
  /** Of each slot. */
  readonly tokens: number;
  readonly kvType: KvType;
}

export type KvType = "F16" | "Q8_0" | "Q4_0" | "F32";

/** What of a model's header tells the size of its cells. */
export interface CellShape {
  readonly block_count?: number;
  readonly embedding_length?: number;
  readonly attention?: {
    readonly head_count?: number;
    readonly head_count_kv?: number | readonly number[];
    readonly key_length?: number;
    readonly value_length?: number;
  };
}

/** llama.cpp's record of a cell: position, shift, and 256 bits for the sequences it belongs to. */
const RECORD_BYTES = 48;
/** Positions and counts are 32-bit numbers with a sign. */
const MOST_CELLS = 2 ** 31 - 1;
const ELEMENT_BYTES: Readonly<Record<KvType, number>> = { F32: 4, F16: 2, Q8_0: 34 / 32, Q4_0: 18 / 32 };

/**
 * @param shape Undefined where the cells are not in this memory, or are fewer than tokens.
 * @param memoryBytes All there is, swap included: what is in use may be a file's cache, which gives way.
 * @throws {EngineError} `out_of_memory`, with the sum.
 */
export function refuseHopeless(size: ContextSize, shape: CellShape | undefined, memoryBytes: number): void {
  const cells = size.slots * size.tokens;
  const wanted = `${size.slots} slots of ${size.tokens} tokens`;
  const remedy = "Try fewer --slots, a smaller --context or --kv-type q8_0.";
  if (cells > MOST_CELLS) {
    throw new EngineError(
      "out_of_memory",
      `Not enough memory for the context: ${wanted} are ${cells} cells, and llama.cpp counts no further than ${MOST_CELLS}. ${remedy}`,
    );
  }
  const cellBytes = RECORD_BYTES + (shape === undefined ? 0 : tensorBytes(shape, size.kvType));
  const needed = cells * cellBytes;
  if (needed <= memoryBytes) return;
  const perToken = `${Math.round(cellBytes)} bytes a token`;
  throw new EngineError(
    "out_of_memory",
    `Not enough memory for the context: ${wanted} need ${gigabytes(needed)} (${perToken}), and ${gigabytes(memoryBytes)} is all there is. ${remedy}`,
  );
}

/** Keys and values of one token in all layers. */
function tensorBytes(shape: CellShape, kvType: KvType): number {
  const { block_count: layers = 0, embedding_length: width = 0, attention = {} } = shape;
  const { head_count: heads = 1, head_count_kv: kvHeads = heads } = attention;
  const { key_length: keys = width / heads, value_length: values = keys } = attention;
  const allHeads =
    typeof kvHeads === "number" ? layers * kvHeads : kvHeads.reduce((sum, count) => sum + count, 0);
  return allHeads * (keys + values) * ELEMENT_BYTES[kvType];
}

function gigabytes(bytes: number): string {
  return `${(bytes / 1e9).toFixed(1)} GB`;
}
