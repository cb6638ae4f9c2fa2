/** How much of the memory that is free something may take that nobody has given a size. */
import { freemem } from "node:os";

interface Share {
  readonly share: number;
  readonly mostBytes: number;
  /** What it has already of the memory that it is to have a share of. */
  readonly takenBytes?: number;
}

/** @returns Bytes; the limit of a container counts, where the runtime knows of it. */
export function shareOfFree({ share, mostBytes, takenBytes = 0 }: Share): number {
  const freeBytes = process.availableMemory?.() ?? freemem();
  return Math.min(mostBytes, Math.floor((freeBytes + takenBytes) * share));
}
